//! Encoding by a device: it rotates and adjusts, and puts the bits of codes where they belong; the processor rounds rows
//! before and adds factors afterwards.
//!
//! Every operation of [`encode_segment`](super::adjust::encode_segment) is one that a device can be made to round
//! as the processor does, so that records are the same. It says for which rows it is not sure; some of the others
//! are encoded here as well, and if a single byte of these differs, the device is not asked again.

use std::sync::atomic::{AtomicBool, Ordering};

use nonius_simd::BLOCK;

use super::Encoder;
use super::adjust::{GAUSSIAN_STEP, Lanes, dropped_norm_sq, fraction_of};
use super::encode::{EncodeScratch, Norms, Shares, Sums};
use super::layout::Layout;
use super::rotate::RoundedRows;
use super::scale::ScaleFormat;
use crate::accelerator::{
    Accelerator, DeviceCodes, DeviceEncoder, DeviceRotation, DeviceRows, DeviceSegment, Integers,
    LoadedEncoder, RecordByte, UNSURE,
};
use crate::error::DeviceError;
use crate::quantizer::blocks::fields;
use crate::quantizer::frame::{ListCentroids, Lists, additive_base};

/// Of so many rows one is encoded here as well.
const CHECKED: usize = 256;

/// The range of what enters a device's arithmetic, beside zero: within it no result is below the range of normal floats.
const RANGE: std::ops::RangeInclusive<f32> = 1e-15..=1e6;

/// Buffers for encoding by a device, one set a thread.
#[derive(Default)]
pub(crate) struct DeviceScratch {
    scaled: Vec<f32>,
    rounded: RoundedRows,
    codes: DeviceCodes,
    again: Again,
}

/// Rows that are encoded here.
#[derive(Default)]
struct Again {
    scratch: EncodeScratch,
    numbers: Vec<usize>,
    values: Vec<f32>,
    of_row: Vec<u32>,
    records: Vec<u8>,
}

impl Encoder {
    /// Loads this encoder to a device; none where the processor encodes.
    pub(crate) fn load<'d>(
        &self,
        device: &'d dyn Accelerator,
        layout: &Layout,
        centroids: Option<&ListCentroids>,
    ) -> Result<Option<Box<dyn LoadedEncoder + 'd>>, DeviceError> {
        let coarse = self.coarse.as_ref().map_or(&[][..], |coarse| coarse.rows());
        let signed: Vec<i8> = coarse.iter().map(|&x| (x ^ 128) as i8).collect();
        match self.for_device(layout, &signed, centroids) {
            Some(encoder) => device.load_encoder(&encoder),
            None => Ok(None),
        }
    }

    /// What a device needs of this encoder, whose rotation in eight bits is `signed`; none where its numbers are out of
    /// the range in which a device's arithmetic is exact, or there is no code.
    fn for_device<'a>(
        &'a self,
        layout: &Layout,
        signed: &'a [i8],
        centroids: Option<&'a ListCentroids>,
    ) -> Option<DeviceEncoder<'a>> {
        let dim = self.model.frame.dim;
        let mut rotations = Vec::new();
        let fine = self.fine_dims();
        if fine > 0 {
            let depth = dim.next_multiple_of(2);
            rotations.push(DeviceRotation {
                start: 0,
                depth,
                rows: Integers::Sixteen(&self.rotation.rows[..fine * depth]),
                scales: &self.rotation.inverse[..fine],
            });
        }
        if let Some(coarse) = &self.coarse
            && fine < self.rotated
        {
            rotations.push(DeviceRotation {
                start: fine,
                depth: dim.next_multiple_of(4),
                rows: Integers::Eight(signed),
                scales: coarse.scales(),
            });
        }
        let coded = layout.segments.iter().take_while(|segment| segment.start < self.rotated);
        let segments: Vec<DeviceSegment> = coded
            .zip(&self.model.constants)
            .zip(&self.along)
            .map(|((segment, constants), &along)| {
                let format = ScaleFormat::of_bits(segment.bits);
                let try_count = self.effort.tries(segment.bits);
                DeviceSegment {
                    start: segment.start,
                    dims: segment.dims,
                    bits: segment.bits,
                    unit: constants.unit,
                    least: dropped_norm_sq(segment.dims, constants.unit, format),
                    gaussian_step: GAUSSIAN_STEP[segment.bits as usize],
                    tries: std::array::from_fn(|i| fraction_of(i as u32, try_count)),
                    try_count,
                    visits: self.effort.visits(format, segment.dims),
                    along: along * segment.dims as f32,
                    scale_shift: format.shift,
                    scale_base: format.base,
                    scale_max: format.max,
                    levels: constants.read_levels(segment),
                    boundary: segment.boundary(),
                }
            })
            .collect();
        let fits = |x: f32| x == 0.0 || RANGE.contains(&x.abs());
        let in_range = segments.iter().all(|segment| {
            segment.bits > 0
                && segment.try_count as usize <= DeviceSegment::MOST_TRIES
                && RANGE.contains(&segment.unit)
                && RANGE.contains(&segment.along)
                && segment.levels.into_iter().all(fits)
        });
        let scales = rotations.iter().flat_map(|rotation| rotation.scales);
        if segments.is_empty() || !in_range || !scales.copied().all(fits) {
            return None;
        }
        Some(DeviceEncoder {
            dims: layout.dims,
            rotations,
            segments,
            centroids: centroids.map(|centroids| &centroids.rotated[..]),
            record: record_bytes(layout),
        })
    }

    /// [`encode_rows`](Encoder::encode_rows) by a device that has loaded this encoder; no more rows than it takes at a
    /// time. Returns of how many rows the record is the device's. Clears `trusted`, and encodes all rows here, where the
    /// device's codes are not those of the processor.
    pub(crate) fn encode_by(
        &self,
        device: &dyn LoadedEncoder,
        trusted: &AtomicBool,
        layout: &Layout,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        scratch: &mut DeviceScratch,
        records: &mut [u8],
    ) -> Result<usize, DeviceError> {
        let model = &self.model;
        let dim = model.frame.dim;
        let DeviceScratch { scaled, rounded, codes, again } = scratch;
        let own = rows;
        let rows = model.frame.scaled(rows, scaled);
        let count = rows.len() / dim;
        let of_row = lists.map_or(&[][..], |lists| lists.of_row);
        let mut values: Vec<(Integers<'_>, &[f32])> = Vec::new();
        self.round_rows(rows, rounded);
        let RoundedRows { rows: fine, rows8, .. } = &*rounded;
        if self.fine_dims() > 0 {
            values.push((Integers::Sixteen(fine.values()), fine.inverse()));
        }
        if self.coarse.is_some() && self.fine_dims() < self.rotated {
            values.push((Integers::Eight(rows8.values()), rows8.inverse()));
        }
        let norms_sq = rounded.norms_sq();
        device.encode(&DeviceRows { count, values: &values, lists: of_row }, codes)?;
        let stride = layout.record_bytes();
        let (sent, parts) = (stride.next_multiple_of(4), DeviceCodes::PARTS);
        let coded = layout.segments.iter().filter(|segment| segment.start < self.rotated).count();
        let complete = codes.records.len() >= count * sent
            && codes.parts.len() >= coded * parts * count
            && records.len() == count * stride;
        if !complete {
            let found = (codes.records.len(), codes.parts.len());
            return Err(format!("answers for {count} rows are {found:?} bytes and words").into());
        }

        again.numbers.clear();
        for (number, records) in records.chunks_mut(BLOCK * stride).enumerate() {
            let first = number * BLOCK;
            let lanes = records.len() / stride;
            let rows = &rows[first * dim..(first + lanes) * dim];
            let norms_sq = &norms_sq[first..first + lanes];
            let lists = lists
                .map(|l| Lists { of_row: &l.of_row[first..first + lanes], centroids: l.centroids });
            let mut additive = [0.0; BLOCK];
            additive_base(model.frame.metric, &self.mean, rows, norms_sq, &mut additive);
            let norms = Norms::of(self, rows, norms_sq, lists.as_ref());
            for (j, record) in records.chunks_exact_mut(stride).enumerate() {
                record.copy_from_slice(&codes.records[(first + j) * sent..][..stride]);
            }
            let mut sure = [true; BLOCK];
            let mut sums = Sums::default();
            for (s, (segment, constants)) in
                layout.segments.iter().zip(&model.constants).enumerate()
            {
                let scale_code = if segment.start >= self.rotated {
                    sums.add_dropped(&norms, constants.unit)
                } else {
                    let words = |i: usize| {
                        let at = (s * parts + i) * count + first;
                        &codes.parts[at..at + lanes]
                    };
                    let floats = |i: usize| -> Lanes {
                        let mut out = [0.0; BLOCK];
                        for (out, &word) in out.iter_mut().zip(words(i)) {
                            *out = f32::from_bits(word);
                        }
                        out
                    };
                    let format = ScaleFormat::of_bits(segment.bits);
                    let (mut code, mut scale) = ([0; BLOCK], [0.0; BLOCK]);
                    for (j, &word) in words(1).iter().enumerate() {
                        sure[j] &= word != UNSURE;
                        code[j] = word.min(format.max);
                        let unit = if code[j] == 0 { 0.0 } else { constants.unit };
                        scale[j] = format.decode(code[j]) * unit;
                    }
                    sums.add_norms(&floats(0));
                    if lists.is_some() {
                        let shares = Shares { o: floats(2), code: floats(3), first: floats(4) };
                        sums.add_shares(&scale, &shares);
                    }
                    code
                };
                let place = layout.scale_start(segment);
                for (record, code) in records.chunks_exact_mut(stride).zip(scale_code) {
                    let bytes = code.to_le_bytes();
                    record[place..place + segment.scale_bytes]
                        .copy_from_slice(&bytes[..segment.scale_bytes]);
                }
            }
            let place = layout.group_bytes();
            for (j, record) in records.chunks_exact_mut(stride).enumerate() {
                let (code, shift) = sums.factors(model, additive[j], j);
                let (factor, rest) = record[place..].split_at_mut(layout.additive_bytes);
                factor.copy_from_slice(&code[..layout.additive_bytes]);
                if layout.shift_bytes == 1 {
                    rest[0] = shift;
                }
            }
            // Below the range the product with the scale of a dimension is none that a device has.
            for (_, factors) in &values {
                for (sure, factor) in sure.iter_mut().zip(&factors[first..first + lanes]) {
                    *sure &= *factor == 0.0 || RANGE.contains(factor);
                }
            }
            let unsure = (0..lanes).filter(|&j| !sure[j] || (first + j).is_multiple_of(CHECKED));
            again.numbers.extend(unsure.map(|j| 2 * (first + j) + usize::from(sure[j])));
        }
        if !again.encode(self, layout, own, lists, records) {
            trusted.store(false, Ordering::Relaxed);
            self.encode_rows(layout, own, lists, &mut again.scratch, records);
            return Ok(0);
        }
        Ok(count - again.numbers.len())
    }
}

impl Again {
    /// Encodes the rows of `numbers`, twice their number and one more where the device has been sure of its record; false
    /// if one of these was another.
    fn encode(
        &mut self,
        saq: &Encoder,
        layout: &Layout,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        records: &mut [u8],
    ) -> bool {
        let (dim, stride) = (saq.model.frame.dim, layout.record_bytes());
        self.values.clear();
        self.of_row.clear();
        for number in &self.numbers {
            let row = number / 2;
            self.values.extend_from_slice(&rows[row * dim..][..dim]);
            self.of_row.extend(lists.map(|lists| lists.of_row[row]));
        }
        let lists = lists.map(|l| Lists { of_row: &self.of_row, centroids: l.centroids });
        self.records.resize(self.numbers.len() * stride, 0);
        saq.encode_rows(layout, &self.values, lists.as_ref(), &mut self.scratch, &mut self.records);
        let mut same = true;
        for (number, own) in self.numbers.iter().zip(self.records.chunks_exact(stride)) {
            let record = &mut records[number / 2 * stride..][..stride];
            same &= number % 2 == 0 || record == own;
            record.copy_from_slice(own);
        }
        same
    }
}

/// Where the bits of codes go: as [`encode_rows`](Encoder::encode_rows) packs them.
fn record_bytes(layout: &Layout) -> Vec<RecordByte> {
    let mut record = vec![RecordByte::default(); layout.record_bytes()];
    for segment in &layout.segments {
        let byte = |dim: usize, far: usize, shift: u32, width: u32| RecordByte {
            dim: (segment.start + dim) as u32,
            far: far as u32,
            shift,
            width,
        };
        let scan_bits = segment.scan_bits as usize;
        let first = &mut record[segment.group / 2..][..segment.groups / 2];
        for (k, out) in first.iter_mut().enumerate() {
            *out = byte(k * 8 / scan_bits.max(1), 1, segment.rest_bits(), segment.scan_bits);
        }
        let mut at = layout.rest_start() + segment.rest;
        for (width, shift) in fields(segment.rest_bits()) {
            let count = nonius_simd::field_bytes(width, segment.dims);
            for (k, out) in record[at..at + count].iter_mut().enumerate() {
                // Fields of four and two bits are apart by the number of bytes; single bits are adjacent.
                *out = match width {
                    1 => byte(8 * k, 1, shift, width),
                    _ => byte(k, count, shift, width),
                };
            }
            at += count;
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::LoadedCentroids;
    use crate::error::BuildError;
    use crate::index::{Index, IndexBuilder, IndexConfig};
    use crate::matrix::Matrix;
    use crate::random::Random;

    /// What a device may do wrong.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wrong {
        /// It is not sure of anything.
        Unsure,
        /// It answers with codes of its own.
        Invents,
        /// It answers too little.
        Short,
        /// It fails.
        Fails,
    }

    impl Accelerator for Wrong {
        fn load<'a>(
            &'a self,
            _: usize,
            _: &[f32],
            _: &[f32],
        ) -> Result<Box<dyn LoadedCentroids + 'a>, DeviceError> {
            Err("centroids are not asked for".into())
        }

        fn load_encoder<'a>(
            &'a self,
            encoder: &DeviceEncoder<'_>,
        ) -> Result<Option<Box<dyn LoadedEncoder + 'a>>, DeviceError> {
            let of_row = (encoder.record.len(), encoder.segments.len());
            Ok(Some(Box::new(Loaded { wrong: *self, of_row })))
        }
    }

    struct Loaded {
        wrong: Wrong,
        of_row: (usize, usize),
    }

    impl LoadedEncoder for Loaded {
        fn most_rows(&self) -> usize {
            70
        }

        fn encode(
            &self,
            rows: &DeviceRows<'_>,
            codes: &mut DeviceCodes,
        ) -> Result<(), DeviceError> {
            let (bytes, segments) = self.of_row;
            assert!((1..=70).contains(&rows.count));
            codes.records = vec![7; rows.count * bytes.next_multiple_of(4)];
            let word = if self.wrong == Wrong::Unsure { UNSURE } else { 1.0f32.to_bits() };
            codes.parts = vec![word; rows.count * segments * DeviceCodes::PARTS];
            match self.wrong {
                Wrong::Fails => return Err("out of order".into()),
                Wrong::Short => codes.parts.truncate(1),
                Wrong::Unsure | Wrong::Invents => {}
            }
            Ok(())
        }
    }

    fn vectors() -> Matrix {
        let mut random = Random::new(5, 0);
        Matrix::new(20, (0..300 * 20).map(|_| random.normal() as f32).collect()).unwrap()
    }

    /// Two lists: these few are compared without a device.
    fn config(nlist: usize) -> IndexConfig {
        IndexConfig { nlist: Some(nlist), ..IndexConfig::default() }
    }

    #[test]
    fn a_device_that_is_wrong_changes_nothing() {
        let vectors = vectors();
        for nlist in [1, 2] {
            let alone = Index::build(&vectors.view(), &config(nlist)).unwrap();
            for wrong in [Wrong::Unsure, Wrong::Invents] {
                let config = config(nlist);
                let builder = IndexBuilder::new(&config).accelerator(&wrong);
                let (index, report) = builder.build(&vectors.view()).unwrap();
                assert_eq!(report.by_device, 0, "{wrong:?}");
                assert!(index.as_bytes() == alone.as_bytes(), "{wrong:?}, {nlist} lists");
            }
        }
    }

    #[test]
    fn a_device_that_does_not_answer_ends_the_build() {
        let vectors = vectors();
        for (wrong, message) in
            [(Wrong::Short, "answers for 70 rows"), (Wrong::Fails, "out of order")]
        {
            let config = config(1);
            let builder = IndexBuilder::new(&config).accelerator(&wrong);
            let error = builder.build(&vectors.view()).unwrap_err();
            assert!(matches!(error, BuildError::Device(_)), "{error:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    /// Every bit of a code has its place, and codes packed so are those of the layout.
    #[test]
    fn places_are_those_of_the_layout() {
        let mut random = Random::new(6, 0);
        let plan = [(48, 7), (128, 5), (96, 4), (80, 2), (24, 1), (32, 0)];
        let plan = plan.map(|(dims, bits)| crate::quantizer::saq::Segment { dims, bits });
        let layout = Layout::new(&plan, &[2, 2, 1, 0, 1, 0], 2, 1);
        let bits = layout.segments.iter().flat_map(|s| std::iter::repeat_n(s.bits, s.dims));
        let codes: Vec<u16> =
            bits.map(|bits| (random.next_u64() & ((1 << bits) - 1)) as u16).collect();
        let record: Vec<u8> = record_bytes(&layout)
            .iter()
            .map(|at| {
                (0..8u32.checked_div(at.width).unwrap_or(0)).fold(0, |byte, part| {
                    let code = u32::from(codes[(at.dim + part * at.far) as usize]);
                    let bits = code >> at.shift & ((1 << at.width) - 1);
                    byte | (bits << (part * at.width)) as u8
                })
            })
            .collect();
        let mut expected = vec![0; layout.record_bytes()];
        layout.pack_codes(&codes, &mut expected);
        assert_eq!(record, expected);
    }
}
