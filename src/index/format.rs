//! The sections of an index: how what a search needs is written, read and checked.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use half::f16;

use nonius_simd::{BLOCK, Panels8};

use super::codecs;
use super::config::Keep;
use super::outliers::Outliers;
use super::rank::FINER;
use super::sums::Checks;
use crate::error::OpenError;
use crate::quantizer::additive;
use crate::quantizer::codec::{Codec, Encoder, Layout};
use crate::quantizer::frame::{Frame, RotationView};
use crate::quantizer::saq::{self, SegmentConstants};
use crate::quantizer::scalar::{Range as ValueRange, SCAN_BITS};
use crate::quantizer::view::Centroid;
use crate::quantizer::{AdditiveCode, CodeSize, Family, QuantizerSpec};
use crate::storage::{Container, HeaderFields, Section, SectionKind};
use crate::train::RowsI16;

/// A quantizer's code in the header.
pub(crate) fn code_of(family: Family) -> u32 {
    match family {
        Family::Saq => 1,
        Family::Additive => 2,
        Family::Scalar => 3,
        Family::Float => 4,
    }
}

/// Section `meta`, little-endian as all of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Meta {
    /// Lists.
    pub(crate) nlist: u64,
    /// Blocks of 32 vectors or copies in all lists.
    pub(crate) blocks: u64,
    /// Dimensions after rotation.
    pub(crate) dims: u32,
    /// 0 none, 1 f16, 2 f32.
    pub(crate) keep: u32,
    /// Bytes of an id: 4 or 8.
    pub(crate) id_bytes: u32,
    /// Bytes of the additive factor: 1, 2 or 4, or 0 where there is none.
    pub(crate) additive_bytes: u32,
    /// 1 where vectors are relative to centroids, 0 where they are relative to the mean.
    pub(crate) lists: u32,
    /// The quantizer as the user named it: 0 `saq:B`, 1 `saq:NB`, 2 one segment, 3 `rvq:B`,
    /// 4 `rvq:NB`, 5 `pq:B`, 6 `pq:NB`, 7 `opq:B`, 8 `opq:NB`, 9 `prq:PxB`, 10 `prq:PxNB`, 11 `sq:b`,
    /// 12 `lvq:b`, 13 `lvq:4xb`, 14 `f16`, 15 `bf16`, 16 `f32`.
    pub(crate) spec: u32,
    /// Its number: bits as the bits of an `f64`, bytes, or bits.
    pub(crate) spec_value: u64,
    /// What vectors are multiplied by, a power of two.
    pub(crate) scale: f32,
    pub(crate) additive_low: f32,
    pub(crate) additive_step: f32,
    pub(crate) correction: f32,
    pub(crate) shift_step: f32,
    pub(crate) noise: f32,
    pub(crate) near_mean: f32,
    pub(crate) near_deviation: f32,
    /// Copies in all lists.
    pub(crate) spilled: u64,
    /// Bits of a place that number the vectors of a list.
    pub(crate) number_bits: u32,
    /// Additive quantizers: how many centroids make a vector.
    pub(crate) columns: u32,
    /// Additive and scalar quantizers: what inner products with what codes stand for are multiplied by.
    pub(crate) weight: f32,
    /// Additive quantizers: how many parts the dimensions are cut into.
    pub(crate) parts: u32,
    /// The parts that the user asked for, for specs 9 and 10.
    pub(crate) spec_parts: u32,
    /// Additive quantizers: bits of a column, from 1 to 12.
    pub(crate) column_bits: u32,
}

/// One entry of section `segments`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SegmentEntry {
    pub(crate) dims: u32,
    pub(crate) bits: u32,
    pub(crate) scan_bits: u32,
    pub(crate) constants: SegmentConstants,
}

/// One entry of section `list-factors`: what ranking needs of a list beside the packed centroid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ListFactors {
    /// The squared norm of the centroid.
    pub(crate) norm_sq: f32,
    /// The part of the list's rank that does not depend on the query.
    pub(crate) key: f32,
    /// What the packed centroid is multiplied by.
    pub(crate) inverse: f32,
    /// The sum of the packed centroid's values.
    pub(crate) sum: i32,
}

/// One entry of section `list-table`; there is one more than there are lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ListEntry {
    /// The position of the list's first vector.
    pub(crate) vector: u64,
    /// The number of the list's first block.
    pub(crate) block: u64,
    /// The number of the list's first copy.
    pub(crate) copy: u64,
}

impl ListEntry {
    /// The entry that follows a list of so many vectors and copies.
    pub(crate) fn after(self, vectors: u64, copies: u64) -> ListEntry {
        ListEntry {
            vector: self.vector + vectors,
            block: self.block + (vectors + copies).div_ceil(BLOCK as u64),
            copy: self.copy + copies,
        }
    }
}

/// How the place of a vector is written: the number of its list, and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceCode {
    /// Bits of the number within the list.
    pub(crate) number_bits: u32,
    /// Bytes of the whole: 4 or 8.
    pub(crate) bytes: usize,
}

impl PlaceCode {
    /// For `nlist` lists and numbers of `number_bits` bits.
    pub(crate) fn new(nlist: u64, number_bits: u32) -> PlaceCode {
        let list_bits = u64::BITS - (nlist.max(1) - 1).leading_zeros();
        PlaceCode { number_bits, bytes: if list_bits + number_bits <= 32 { 4 } else { 8 } }
    }

    /// The bits that number the vectors of lists of at most so many.
    pub(crate) fn bits_for(largest: u64) -> u32 {
        u64::BITS - (largest.max(1) - 1).leading_zeros()
    }

    pub(crate) fn encode(self, list: u32, number: u64) -> u64 {
        u64::from(list) << self.number_bits | number
    }

    #[inline(always)]
    fn decode(self, place: u64) -> (usize, usize) {
        let number = place & ((1 << self.number_bits) - 1);
        ((place >> self.number_bits) as usize, number as usize)
    }
}

impl Meta {
    /// What an encoder and its name say; the rest is zero.
    pub(crate) fn of(encoder: &Encoder, spec: &QuantizerSpec) -> Meta {
        let (kind, parts) = match *spec {
            QuantizerSpec::Saq(_) => (0, 0),
            QuantizerSpec::OneSegment { .. } => (2, 0),
            QuantizerSpec::Rvq { .. } => (3, 0),
            QuantizerSpec::Pq { .. } => (5, 0),
            QuantizerSpec::Opq { .. } => (7, 0),
            QuantizerSpec::ProductRvq { parts, .. } => (9, parts as u32),
            QuantizerSpec::Sq { .. } => (11, 0),
            QuantizerSpec::Lvq { second: 0, .. } => (12, 0),
            QuantizerSpec::Lvq { .. } => (13, 0),
            QuantizerSpec::F16 => (14, 0),
            QuantizerSpec::Bf16 => (15, 0),
            QuantizerSpec::F32 => (16, 0),
        };
        let (spec, spec_value) = match (spec.size(), *spec) {
            (Some(CodeSize::Bits(bits)), _) => (kind, bits.to_bits()),
            (Some(CodeSize::Bytes(bytes)), _) => (kind + 1, bytes as u64),
            (None, QuantizerSpec::Lvq { second, .. }) if second > 0 => (kind, u64::from(second)),
            (None, spec) => (kind, spec.bits(0) as u64),
        };
        let frame = encoder.frame();
        let meta = Meta {
            dims: frame.dims as u32,
            additive_bytes: frame.additive.bytes as u32,
            lists: u32::from(frame.lists),
            spec,
            spec_value,
            spec_parts: parts,
            scale: frame.scale,
            additive_low: frame.additive.low,
            additive_step: frame.additive.step,
            ..Meta::default()
        };
        match encoder {
            Encoder::Saq(saq, _) => Meta {
                correction: saq.model.correction,
                shift_step: saq.model.shift_step,
                noise: saq.model.noise,
                near_mean: saq.model.near.mean,
                near_deviation: saq.model.near.deviation,
                ..meta
            },
            Encoder::Additive(additive) => Meta {
                columns: additive.model.columns() as u32,
                parts: additive.model.parts.len() as u32,
                column_bits: additive.model.bits,
                weight: additive.model.weight,
                ..meta
            },
            Encoder::Scalar(scalar, _) => Meta { weight: scalar.model.weight, ..meta },
            Encoder::Float(_) => meta,
        }
    }

    fn quantizer(&self) -> Result<QuantizerSpec, OpenError> {
        let bits = CodeSize::Bits(f64::from_bits(self.spec_value));
        let bytes = CodeSize::Bytes(usize::try_from(self.spec_value).unwrap_or(usize::MAX));
        let few = u32::try_from(self.spec_value).unwrap_or(u32::MAX);
        let parts = self.spec_parts as usize;
        let columns = self.column_bits;
        let spec = match self.spec {
            0 => QuantizerSpec::Saq(bits),
            1 => QuantizerSpec::Saq(bytes),
            2 => QuantizerSpec::OneSegment { bits: few },
            3 => QuantizerSpec::Rvq { size: bits, bits: columns },
            4 => QuantizerSpec::Rvq { size: bytes, bits: columns },
            5 => QuantizerSpec::Pq { size: bits, bits: columns },
            6 => QuantizerSpec::Pq { size: bytes, bits: columns },
            7 => QuantizerSpec::Opq { size: bits, bits: columns },
            8 => QuantizerSpec::Opq { size: bytes, bits: columns },
            9 => QuantizerSpec::ProductRvq { parts, size: bits, bits: columns },
            10 => QuantizerSpec::ProductRvq { parts, size: bytes, bits: columns },
            11 => QuantizerSpec::Sq { bits: few },
            12 => QuantizerSpec::Lvq { bits: few, second: 0 },
            13 if few > 0 => QuantizerSpec::Lvq { bits: SCAN_BITS, second: few },
            14 if few == 16 => QuantizerSpec::F16,
            15 if few == 16 => QuantizerSpec::Bf16,
            16 if few == 32 => QuantizerSpec::F32,
            other => {
                return Err(OpenError::corrupt(
                    "meta",
                    format!("unknown quantizer {other} of {few} bits"),
                ));
            }
        };
        if !matches!(self.spec, 9 | 10) && parts != 0 {
            let message = format!("expected no parts of {spec}, found {parts}");
            return Err(OpenError::corrupt("meta", message));
        }
        if spec.column_bits().is_none() && columns != 0 {
            let message = format!("expected no bits of columns of {spec}, found {columns}");
            return Err(OpenError::corrupt("meta", message));
        }
        spec.validate().map_err(|e| OpenError::corrupt("meta", e.to_string()))?;
        Ok(spec)
    }
}

/// Whole numbers of 4 or 8 bytes.
pub(crate) enum Numbers {
    Four(Section<u32>),
    Eight(Section<u64>),
}

impl Numbers {
    fn open(container: &Container, kind: SectionKind, bytes: usize) -> Result<Self, OpenError> {
        Ok(match bytes {
            4 => Numbers::Four(container.shared(kind)?),
            _ => Numbers::Eight(container.shared(kind)?),
        })
    }

    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        match self {
            Numbers::Four(numbers) => u64::from(numbers[at]),
            Numbers::Eight(numbers) => numbers[at],
        }
    }

    /// The bytes of a number.
    pub(super) fn width(&self) -> usize {
        match self {
            Numbers::Four(_) => 4,
            Numbers::Eight(_) => 8,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Numbers::Four(numbers) => size_of_val(&**numbers),
            Numbers::Eight(numbers) => size_of_val(&**numbers),
        }
    }
}

/// The vectors kept for rerank, row by row, by position.
pub(crate) enum Kept {
    None,
    F16(Section<f16>),
    F32(Section<f32>),
}

/// Everything of an index file, checked.
pub(crate) struct Parts {
    pub(crate) container: Container,
    pub(crate) codec: Codec,
    pub(crate) layout: Layout,
    pub(crate) spec: QuantizerSpec,
    pub(crate) count: usize,
    pub(crate) nlist: usize,
    pub(crate) keep: Keep,
    /// `dim` values.
    pub(crate) mean: Section<f32>,
    /// `dims x dim`, packed; empty where vectors are not rotated.
    pub(crate) rotation: Section<i16>,
    /// `dims` values, or none.
    pub(crate) rotation_scales: Section<f32>,
    /// `nlist x dims`; empty where there is one list around the mean.
    pub(crate) centroids: Section<i16>,
    /// The same in eight bits, packed.
    pub(crate) centroids_packed: Section<i8>,
    /// `nlist`; empty where there is one list around the mean.
    pub(crate) list_factors: Section<ListFactors>,
    pub(crate) list_table: Section<ListEntry>,
    pub(crate) scan: Section<u8>,
    pub(crate) rest: Section<u8>,
    /// The ids of all vectors, by position.
    pub(crate) ids: Numbers,
    /// The places of the vectors that copies are of, by the number of the copy.
    pub(crate) spilled: Numbers,
    pub(crate) place: PlaceCode,
    pub(crate) kept: Kept,
    /// Vectors that searches compare exactly instead of by their codes.
    pub(crate) outliers: Option<Outliers>,
    /// The state of checks against checksums of lists, if they are asked for.
    pub(crate) checks: Option<Checks>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("count", &self.count)
            .field("dim", &self.frame().dim)
            .field("metric", &self.frame().metric)
            .field("spec", &self.spec)
            .field("nlist", &self.nlist)
            .finish_non_exhaustive()
    }
}

/// The lengths in bytes of all sections, in file order; `turned`: vectors are rotated; of so many outliers.
pub(crate) fn section_lengths(
    dim: usize,
    turned: bool,
    layout: &Layout,
    meta: &Meta,
    count: u64,
    outliers: u64,
) -> Option<Vec<(SectionKind, u64, u32)>> {
    let wide = |n: usize| n as u64;
    let dims = u64::from(meta.dims);
    let rows = if turned { dims } else { 0 };
    let relative = if meta.lists == 1 { meta.nlist } else { 0 };
    let packed = |rows: u64, depth: u64| -> Option<u64> {
        rows.checked_next_multiple_of(16)?.checked_mul(depth)
    };
    let value_bytes = wide(keep_of(meta.keep)?.value_bytes());
    let place = PlaceCode::new(meta.nlist, meta.number_bits);
    let mut lengths = vec![(SectionKind::Meta, wide(size_of::<Meta>()), 64)];
    match layout {
        Layout::Saq(layout) => {
            let bytes = wide(layout.segments.len() * size_of::<SegmentEntry>());
            lengths.push((SectionKind::Segments, bytes, 64));
        }
        Layout::Additive(layout) => {
            let rows = wide(layout.columns * layout.centroids());
            let offsets = if layout.additive_bytes == 0 { rows * 4 } else { 0 };
            let (dims, columns) = (meta.dims as usize, layout.columns);
            let parts = additive::cut(dim, dims, columns, meta.parts as usize, layout.centroids());
            let values = parts.iter().map(|part| part.packed_values()).sum::<usize>();
            lengths.push((SectionKind::CodebookOffsets, offsets, 64));
            lengths.push((SectionKind::CodebookScales, rows * 4, 64));
            lengths.push((SectionKind::Codebooks, 2 * wide(values), 64));
        }
        Layout::Scalar(layout) => {
            let bytes = if layout.grid.own { 0 } else { dims * wide(size_of::<ValueRange>()) };
            lengths.push((SectionKind::Ranges, bytes, 64));
        }
        Layout::Float(_) => {}
    }
    lengths.extend([
        (SectionKind::Mean, wide(dim) * 4, 64),
        (SectionKind::RotationScales, rows * 4, 64),
        (SectionKind::Rotation, packed(rows, 2 * wide(dim).next_multiple_of(2))?, 64),
        (SectionKind::ListFactors, relative.checked_mul(16)?, 64),
        (SectionKind::CentroidsPacked, packed(relative, dims)?, 64),
        (SectionKind::Centroids, relative.checked_mul(dims)?.checked_mul(2)?, 64),
        (SectionKind::ListTable, meta.nlist.checked_add(1)?.checked_mul(24)?, 64),
        (SectionKind::ListChecksums, list_checksums(meta)?, 64),
        (SectionKind::Scan, meta.blocks.checked_mul(wide(layout.block_bytes()))?, 4096),
        (SectionKind::Spilled, meta.spilled.checked_mul(wide(place.bytes))?, 4096),
        (SectionKind::Rest, count.checked_mul(wide(layout.rest_bytes()))?, 4096),
        (SectionKind::Ids, count.checked_mul(u64::from(meta.id_bytes))?, 4096),
        (SectionKind::Kept, count.checked_mul(wide(dim))?.checked_mul(value_bytes)?, 4096),
    ]);
    if outliers > 0 {
        let values = outliers.checked_mul(wide(dim))?.checked_mul(4)?;
        lengths.push((SectionKind::OutlierPositions, outliers.checked_mul(8)?, 4096));
        lengths.push((SectionKind::OutlierVectors, values, 4096));
    }
    Some(lengths)
}

/// The length of section `list-checksums`: a number for each list, and one for its kept vectors.
fn list_checksums(meta: &Meta) -> Option<u64> {
    meta.nlist.checked_mul(if meta.keep > 0 { 8 } else { 4 })
}

fn keep_of(code: u32) -> Option<Keep> {
    Keep::ALL.get(code as usize).copied()
}

/// The code of a choice of kept vectors.
pub(crate) fn keep_code(keep: Keep) -> u32 {
    Keep::ALL.iter().position(|&k| k == keep).unwrap_or(0) as u32
}

/// The entries of section `segments`.
pub(crate) fn segment_entries(model: &saq::Model) -> Vec<SegmentEntry> {
    model
        .plan
        .iter()
        .zip(&model.scan_bits)
        .zip(&model.constants)
        .map(|((segment, &scan_bits), &constants)| SegmentEntry {
            dims: segment.dims as u32,
            bits: segment.bits,
            scan_bits,
            constants,
        })
        .collect()
}

pub(super) fn finite(what: &'static str, values: &[f32]) -> Result<(), OpenError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(OpenError::corrupt(what, format!("value {at} is {}", values[at]))),
    }
}

/// Reads and checks the small sections of a container, and the sizes of the large ones.
pub(crate) fn parse(container: Container) -> Result<Parts, OpenError> {
    let header: HeaderFields = container.header().fields;
    let (dim, metric) = (header.dim, header.metric);
    let count = usize::try_from(header.count)
        .map_err(|_| OpenError::corrupt("header", format!("{} vectors", header.count)))?;
    let meta = container.typed::<Meta>(SectionKind::Meta)?;
    let [meta] = meta else {
        return Err(OpenError::corrupt(
            "meta",
            format!("expected one entry, found {}", meta.len()),
        ));
    };
    let meta = *meta;
    let spec = meta.quantizer()?;
    if header.quantizer != code_of(spec.family()) {
        return Err(OpenError::corrupt(
            "header",
            format!(
                "expected quantizer code {} for {spec}, found {}",
                code_of(spec.family()),
                header.quantizer
            ),
        ));
    }
    let keep = keep_of(meta.keep)
        .ok_or_else(|| OpenError::corrupt("meta", format!("unknown keep {}", meta.keep)))?;
    let expect = |ok: bool, what: &str, found: u64| {
        if ok { Ok(()) } else { Err(OpenError::corrupt("meta", format!("{what}, found {found}"))) }
    };
    expect(meta.nlist >= 1 && meta.nlist <= u64::from(u32::MAX), "nlist out of range", meta.nlist)?;
    expect(meta.lists <= 1, "lists is 0 or 1", u64::from(meta.lists))?;
    expect(meta.lists == 1 || meta.nlist == 1, "one list around the mean", meta.nlist)?;
    expect(meta.lists == 1 || meta.spilled == 0, "copies without lists", meta.spilled)?;
    expect(meta.number_bits <= 32, "at most 32 bits", u64::from(meta.number_bits))?;
    expect(matches!(meta.id_bytes, 4 | 8), "ids of 4 or 8 bytes", u64::from(meta.id_bytes))?;
    expect(
        matches!(meta.additive_bytes, 0 | 1 | 2 | 4),
        "additive factors of 0, 1, 2 or 4 bytes",
        u64::from(meta.additive_bytes),
    )?;
    expect(
        meta.dims as usize == dim.next_multiple_of(8),
        "the dimension rounded up to a multiple of 8",
        u64::from(meta.dims),
    )?;
    finite(
        "meta",
        &[
            meta.additive_low,
            meta.additive_step,
            meta.correction,
            meta.shift_step,
            meta.noise,
            meta.near_mean,
            meta.near_deviation,
            meta.weight,
        ],
    )?;
    expect(
        meta.scale.is_normal() && meta.scale > 0.0,
        "a scale that is a positive number",
        u64::from(meta.scale.to_bits()),
    )?;
    let additive = AdditiveCode {
        low: meta.additive_low,
        step: meta.additive_step,
        bytes: meta.additive_bytes as usize,
    };
    expect(
        matches!(additive.bytes, 1 | 2) == (additive.step > 0.0),
        "additive factors of as many bytes as their step says",
        u64::from(meta.additive_bytes),
    )?;
    let frame = Frame {
        metric,
        dim,
        dims: meta.dims as usize,
        scale: meta.scale,
        lists: meta.lists == 1,
        additive,
    };
    let codec = codecs::read(&container, &meta, spec, frame)?;
    let layout = codec.layout();
    let place = PlaceCode::new(meta.nlist, meta.number_bits);

    let turned = !container.section(SectionKind::RotationScales)?.is_empty();
    let outliers = Outliers::count(&container)?;
    let lengths = section_lengths(dim, turned, &layout, &meta, header.count, outliers)
        .ok_or_else(|| OpenError::corrupt("meta", "sizes overflow"))?;
    for (kind, expected, _) in lengths {
        if kind.skippable() && container.optional(kind).is_none() {
            continue;
        }
        let found = container.section(kind)?.len() as u64;
        if found != expected {
            return Err(OpenError::corrupt(
                kind.name(),
                format!("expected {expected} bytes, found {found}"),
            ));
        }
    }

    let mean = container.shared::<f32>(SectionKind::Mean)?;
    let rotation_scales = container.shared::<f32>(SectionKind::RotationScales)?;
    let list_factors = container.shared::<ListFactors>(SectionKind::ListFactors)?;
    finite("mean", &mean)?;
    finite("rotation-scales", &rotation_scales)?;
    for f in &*list_factors {
        finite("list-factors", &[f.norm_sq, f.key, f.inverse])?;
    }
    let list_table = container.shared::<ListEntry>(SectionKind::ListTable)?;
    let mut expected = ListEntry { vector: 0, block: 0, copy: 0 };
    for (i, pair) in list_table.windows(2).enumerate() {
        let bad = |message: &str| OpenError::corrupt("list-table", format!("list {i}: {message}"));
        if pair[0] != expected {
            return Err(bad("does not start where the list before it ends"));
        }
        if pair[1].vector > header.count || pair[1].copy > meta.spilled {
            return Err(bad("ends beyond the last vector or copy"));
        }
        let vectors = pair[1].vector.checked_sub(pair[0].vector);
        let copies = pair[1].copy.checked_sub(pair[0].copy);
        expected = match (vectors, copies) {
            (Some(vectors), Some(copies)) => expected.after(vectors, copies),
            _ => return Err(bad("ends before it starts")),
        };
    }
    let end = ListEntry { vector: header.count, block: meta.blocks, copy: meta.spilled };
    if list_table.last() != Some(&end) || expected != end {
        return Err(OpenError::corrupt("list-table", "lists do not add up to all vectors"));
    }

    Ok(Parts {
        layout,
        codec,
        spec,
        count,
        nlist: meta.nlist as usize,
        keep,
        mean,
        rotation: container.shared(SectionKind::Rotation)?,
        rotation_scales,
        centroids: container.shared(SectionKind::Centroids)?,
        centroids_packed: container.shared(SectionKind::CentroidsPacked)?,
        list_factors,
        list_table,
        scan: container.shared(SectionKind::Scan)?,
        rest: container.shared(SectionKind::Rest)?,
        ids: Numbers::open(&container, SectionKind::Ids, meta.id_bytes as usize)?,
        spilled: Numbers::open(&container, SectionKind::Spilled, place.bytes)?,
        place,
        kept: match keep {
            Keep::None => Kept::None,
            Keep::F16 => Kept::F16(container.shared(SectionKind::Kept)?),
            Keep::F32 => Kept::F32(container.shared(SectionKind::Kept)?),
        },
        outliers: Outliers::open(&container, metric, dim, header.count)?,
        checks: None,
        container,
    })
}

impl Parts {
    /// What codes mean, whatever the quantizer.
    #[inline]
    pub(crate) fn frame(&self) -> &Frame {
        self.codec.frame()
    }

    /// The id at a position.
    #[inline]
    pub(crate) fn id(&self, position: usize) -> u64 {
        self.ids.get(position)
    }

    /// True where lists hold copies of vectors of other lists.
    #[inline]
    pub(crate) fn has_copies(&self) -> bool {
        self.spilled.bytes() > 0
    }

    /// The list of the vector that a copy is of, and its number there, as the file says: neither
    /// is checked.
    #[inline]
    pub(crate) fn spilled(&self, copy: usize) -> (usize, usize) {
        self.place.decode(self.spilled.get(copy))
    }

    /// For each copy from number `first` on the value of its vector's list; not a number if the
    /// file names a list that there is not.
    pub(crate) fn of_spilled_lists(&self, first: usize, of_list: &[f32], out: &mut [f32]) {
        let place = self.place;
        let value = |at: u64| of_list.get(place.decode(at).0).copied().unwrap_or(f32::NAN);
        let copies = first..first + out.len();
        match &self.spilled {
            Numbers::Four(places) => {
                for (out, &at) in out.iter_mut().zip(&places[copies]) {
                    *out = value(u64::from(at));
                }
            }
            Numbers::Eight(places) => {
                for (out, &at) in out.iter_mut().zip(&places[copies]) {
                    *out = value(at);
                }
            }
        }
    }

    /// Asks for the id at a position.
    #[inline]
    pub(crate) fn fetch_id(&self, position: usize) {
        match &self.ids {
            Numbers::Four(ids) => nonius_simd::prefetch(&ids[position..=position]),
            Numbers::Eight(ids) => nonius_simd::prefetch(&ids[position..=position]),
        }
    }

    /// Asks for the places of some copies.
    pub(crate) fn fetch_spilled(&self, copies: Range<usize>) {
        match &self.spilled {
            Numbers::Four(places) => nonius_simd::prefetch(&places[copies]),
            Numbers::Eight(places) => nonius_simd::prefetch(&places[copies]),
        }
    }

    /// Centres and rotates vectors (`rows x dim`), which `rows` holds quantized afterwards, into
    /// `out` (`rows x dims`); `product` is a buffer.
    pub(crate) fn rotate(
        &self,
        vectors: &[f32],
        rows: &mut RowsI16,
        product: &mut Vec<i32>,
        out: &mut Vec<f32>,
    ) {
        let &Frame { dim, dims, .. } = self.frame();
        out.resize(vectors.len() / dim * dims, 0.0);
        let (packed, inverse) = (&self.rotation, &self.rotation_scales);
        let rotation = RotationView::new(dims, dim, packed, inverse, self.codec.is_exact());
        rotation.apply(&self.mean, vectors, rows, product, out);
    }

    /// The centroids in the layout of the kernels.
    pub(crate) fn centroid_panels(&self) -> Panels8<'_> {
        Panels8::new(self.nlist, self.frame().dims, &self.centroids_packed)
    }

    /// The rotated centroid of a list, if vectors are relative to centroids.
    pub(crate) fn centroid(&self, list: usize) -> Option<Centroid<'_>> {
        let dims = self.frame().dims;
        self.frame().lists.then(|| {
            let f = &self.list_factors[list];
            Centroid {
                values: &self.centroids[list * dims..(list + 1) * dims],
                unit: f.inverse / FINER,
                norm_sq: f.norm_sq,
            }
        })
    }

    /// Asks for the kept vector at a position.
    #[inline]
    pub(crate) fn fetch_kept(&self, position: usize) {
        let row = position * self.frame().dim..(position + 1) * self.frame().dim;
        match &self.kept {
            Kept::F16(kept) => nonius_simd::prefetch(&kept[row]),
            Kept::F32(kept) => nonius_simd::prefetch(&kept[row]),
            Kept::None => {}
        }
    }

    /// Where a list starts and ends.
    #[inline]
    pub(crate) fn list_range(&self, list: usize) -> [ListEntry; 2] {
        [self.list_table[list], self.list_table[list + 1]]
    }

    /// Bytes of codes, factors, ids, copies and outliers for each vector, padding of blocks included.
    pub(crate) fn bytes_per_vector(&self) -> f64 {
        let bytes = self.scan.len() + self.rest.len() + self.ids.bytes() + self.spilled.bytes();
        let bytes = bytes + self.outliers.as_ref().map_or(0, Outliers::bytes);
        bytes as f64 / self.count.max(1) as f64
    }
}
