//! What codes of each quantizer mean, read from the sections and checked.

use super::format::{Meta, SegmentEntry, finite};
use crate::error::OpenError;
use crate::quantizer::codec::Codec;
use crate::quantizer::float;
use crate::quantizer::frame::Frame;
use crate::quantizer::saq::{self, MAX_BITS, Near, Segment};
use crate::quantizer::scalar::{self, Grid, Range};
use crate::quantizer::{CODEBOOK_BYTES, Family, MAX_FIELDS, QuantizerSpec, additive};
use crate::storage::{Container, SectionKind};

/// The most bits of the code of an additive quantizer.
const MAX_CODE_BITS: u32 = 8 * *CODEBOOK_BYTES.end() as u32;

/// Reads what the quantizer `spec` needs beside `frame`.
pub(super) fn read(
    container: &Container,
    meta: &Meta,
    spec: QuantizerSpec,
    frame: Frame,
) -> Result<Codec, OpenError> {
    match spec.family() {
        Family::Saq => saq_codec(container, meta, frame),
        Family::Additive => additive_codec(container, meta, spec, frame),
        Family::Scalar => scalar_codec(container, meta, spec, frame),
        Family::Float => float_codec(container, meta, spec, frame),
    }
}

fn expect(ok: bool, what: &str, found: u64) -> Result<(), OpenError> {
    if ok { Ok(()) } else { Err(OpenError::corrupt("meta", format!("{what}, found {found}"))) }
}

/// Quantizers without codebooks have none of their numbers.
fn no_columns(meta: &Meta) -> Result<(), OpenError> {
    expect(meta.columns == 0, "no columns", u64::from(meta.columns))?;
    expect(meta.parts == 0, "no parts", u64::from(meta.parts))
}

/// Quantizers other than SAQ have none of its numbers.
fn only_saq(meta: &Meta) -> Result<(), OpenError> {
    let Meta { correction, shift_step, noise, near_mean, near_deviation, .. } = *meta;
    for value in [correction, shift_step, noise, near_mean, near_deviation] {
        if value.to_bits() != 0 {
            let message = format!("expected 0 where only SAQ has a number, found {value}");
            return Err(OpenError::corrupt("meta", message));
        }
    }
    Ok(())
}

/// Reads and checks what codes of SAQ mean.
fn saq_codec(container: &Container, meta: &Meta, frame: Frame) -> Result<Codec, OpenError> {
    let bytes = u64::from(meta.additive_bytes);
    expect(matches!(bytes, 2 | 4), "additive factors of 2 or 4 bytes", bytes)?;
    no_columns(meta)?;
    expect(meta.weight.to_bits() == 0, "no weight", u64::from(meta.weight.to_bits()))?;
    let entries = container.typed::<SegmentEntry>(SectionKind::Segments)?;
    let (mut plan, mut scan_bits, mut constants) = (Vec::new(), Vec::new(), Vec::new());
    let mut dims = 0usize;
    for (i, e) in entries.iter().enumerate() {
        let bad =
            |message: String| OpenError::corrupt("segments", format!("segment {i}: {message}"));
        let segment_dims = e.dims as usize;
        if segment_dims == 0 || !segment_dims.is_multiple_of(8) || segment_dims > MAX_FIELDS {
            return Err(bad(format!(
                "{segment_dims} dimensions; expected a multiple of 8 up to {MAX_FIELDS}"
            )));
        }
        if e.bits > MAX_BITS {
            return Err(bad(format!("{} bits; expected at most {MAX_BITS}", e.bits)));
        }
        if e.scan_bits > e.bits.min(2) {
            return Err(bad(format!("{} first-stage bits of {}", e.scan_bits, e.bits)));
        }
        let values: &[f32; 7] = bytemuck::cast_ref(&e.constants);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(bad("a constant is not finite".to_owned()));
        }
        dims += segment_dims;
        plan.push(Segment { dims: segment_dims, bits: e.bits });
        scan_bits.push(e.scan_bits);
        constants.push(e.constants);
    }
    if dims != meta.dims as usize {
        return Err(OpenError::corrupt(
            "segments",
            format!("expected {} dimensions in all, found {dims}", meta.dims),
        ));
    }
    let model = saq::Model {
        frame,
        plan,
        scan_bits,
        constants,
        correction: meta.correction,
        near: Near { mean: meta.near_mean, deviation: meta.near_deviation },
        shift_step: meta.shift_step,
        noise: meta.noise,
    };
    Ok(Codec::Saq { layout: model.layout(), model: Box::new(model) })
}

/// Reads and checks what codes of an additive quantizer mean.
fn additive_codec(
    container: &Container,
    meta: &Meta,
    spec: QuantizerSpec,
    frame: Frame,
) -> Result<Codec, OpenError> {
    let Meta { columns, parts, .. } = *meta;
    let bits = meta.column_bits;
    let most = MAX_CODE_BITS / bits;
    if !(1..=most).contains(&columns) {
        let message = format!("expected 1 to {most} columns of {bits} bits, found {columns}");
        return Err(OpenError::corrupt("meta", message));
    }
    let most = (columns as usize).min(frame.dim);
    let expected = match spec {
        QuantizerSpec::ProductRvq { parts, .. } => parts.min(most),
        QuantizerSpec::Pq { .. } | QuantizerSpec::Opq { .. } => columns as usize,
        _ => 1,
    };
    if parts as usize != expected || expected > most {
        let message =
            format!("expected {expected} parts of {columns} columns for {spec}, found {parts}");
        return Err(OpenError::corrupt("meta", message));
    }
    if frame.additive.bytes == 0 && (parts != columns || frame.lists) {
        let message = "expected additive factors, found none".to_owned();
        return Err(OpenError::corrupt("meta", message));
    }
    only_saq(meta)?;
    let inverse = container.shared::<f32>(SectionKind::CodebookScales)?;
    finite("codebook-scales", &inverse)?;
    let offsets = container.shared::<f32>(SectionKind::CodebookOffsets)?;
    finite("codebook-offsets", &offsets)?;
    let parts = additive::cut(frame.dim, frame.dims, columns as usize, parts as usize, 1 << bits);
    Ok(Codec::Additive {
        model: additive::Model { frame, bits, parts, weight: meta.weight },
        codebooks: container.shared(SectionKind::Codebooks)?,
        inverse,
        offsets,
    })
}

/// Reads and checks what codes of a scalar quantizer mean.
fn scalar_codec(
    container: &Container,
    meta: &Meta,
    spec: QuantizerSpec,
    frame: Frame,
) -> Result<Codec, OpenError> {
    no_columns(meta)?;
    only_saq(meta)?;
    let dims = frame.dims;
    expect(dims <= MAX_FIELDS, "at most 16,384 dimensions", dims as u64)?;
    expect(frame.additive.bytes > 0, "additive factors", 0)?;
    let grid = Grid::of(&spec);
    let ranges = container.shared::<Range>(SectionKind::Ranges)?;
    for range in &*ranges {
        finite("ranges", &[range.low, range.step])?;
    }
    let model = scalar::Model { frame, grid, weight: meta.weight };
    Ok(Codec::Scalar { layout: model.layout(), model: Box::new(model), ranges })
}

/// Reads and checks what floats mean.
fn float_codec(
    container: &Container,
    meta: &Meta,
    spec: QuantizerSpec,
    frame: Frame,
) -> Result<Codec, OpenError> {
    no_columns(meta)?;
    only_saq(meta)?;
    expect(meta.weight.to_bits() == 0, "no weight", u64::from(meta.weight.to_bits()))?;
    let bytes = frame.additive.bytes as u64;
    expect(bytes == 0, "no additive factors", bytes)?;
    let model = float::Model { frame, format: float::Format::of(&spec) };
    Ok(Codec::Float { model, mean: container.shared(SectionKind::Mean)? })
}
