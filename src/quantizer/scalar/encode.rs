//! From vectors to records.

use nonius_simd::{Vectorize, dot_f32, field_bytes, level};

use super::{Ends, Grid, Layout, Model, Range, SCAN_BITS};
use crate::matrix::subtract;
use crate::quantizer::blocks::fields;
use crate::quantizer::estimate::Estimate;
use crate::quantizer::frame::{Lists, Rotation, additive_base};

/// A trained quantizer, ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) model: Model,
    /// The mean that is subtracted from every vector: `dim` values.
    pub(crate) mean: Vec<f32>,
    /// That of queries: the identity.
    pub(crate) rotation: Rotation,
    /// Of each of `dims` dimensions; none where each vector has its own.
    pub(crate) ranges: Vec<Range>,
    /// What estimates take from what codes leave.
    pub(super) estimate: Estimate,
}

/// Buffers for encoding, one set a thread.
#[derive(Default)]
pub(crate) struct EncodeScratch {
    scaled: Vec<f32>,
    o: Vec<f32>,
    left: Vec<f32>,
    codes: Vec<u16>,
}

impl Encoder {
    /// Encodes rows of `dim` values (finite; of unit norm for cosine) into records.
    ///
    /// `lists` gives each row's list; without it rows are relative to the mean. Records are as long
    /// as the layout, which is the model's, says.
    pub(crate) fn encode_rows(
        &self,
        layout: &Layout,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        scratch: &mut EncodeScratch,
        records: &mut [u8],
    ) {
        let Encoder { model, mean, ranges, estimate, .. } = self;
        let frame = &model.frame;
        let (dim, dims) = (frame.dim, frame.dims);
        let EncodeScratch { scaled, o, left, codes } = scratch;
        let rows = frame.scaled(rows, scaled);
        o.resize(dims, 0.0);
        left.resize(dims, 0.0);
        codes.resize(dims, 0);
        let records = records.chunks_exact_mut(layout.record_bytes());
        for (i, (row, record)) in rows.chunks_exact(dim).zip(records).enumerate() {
            for ((o, x), mean) in o.iter_mut().zip(row).zip(mean) {
                *o = x - mean;
            }
            o[dim..].fill(0.0);
            let mut base = [0.0];
            additive_base(frame.metric, mean, row, &[dot_f32(o, o)], &mut base);
            let centroid = lists.map(|lists| {
                let list = lists.of_row[i] as usize;
                &lists.centroids.rotated[list * dims..(list + 1) * dims]
            });
            if let Some(c) = centroid {
                subtract(o, c);
            }
            let grid = model.grid;
            let ends = level().vectorize(Round { grid, o, ranges, codes, left });
            let factor = estimate.factor(frame, base[0], o, left, centroid);
            let (tops, rest) = record.split_at_mut(layout.additive_start());
            level().vectorize(Pack { grid, codes, tops, rest: &mut rest[layout.additive_bytes..] });
            frame.additive.write(factor, rest);
            if grid.own {
                let own = &mut rest[layout.additive_bytes..][..Ends::BYTES];
                own.copy_from_slice(ends.bytes().as_flattened());
            }
        }
    }
}

/// Rounds a residual to codes.
pub(super) struct Round<'a> {
    pub(super) grid: Grid,
    pub(super) o: &'a [f32],
    pub(super) ranges: &'a [Range],
    pub(super) codes: &'a mut [u16],
    /// What codes leave of the residual.
    pub(super) left: &'a mut [f32],
}

impl Vectorize for Round<'_> {
    /// Of vectors that have ranges of their own.
    type Output = Ends;

    #[inline(always)]
    fn run(self) -> Ends {
        let Round { grid, o, ranges, codes, left } = self;
        let last = ((1u32 << grid.bits()) - 1) as f32;
        let outs = codes.iter_mut().zip(left);
        if !grid.own {
            for ((&x, range), (code, left)) in o.iter().zip(ranges).zip(outs) {
                let steps = (x - range.low) / range.step;
                *code = nearest(steps, last);
                *left = x - (range.low + range.step * f32::from(*code));
            }
            return Ends::default();
        }
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for &x in o {
            least = if x < least { x } else { least };
            most = if x > most { x } else { most };
        }
        let ends = Ends::around(least, most);
        let Range { low, step } = grid.range(ends);
        // All values may be one and the same, or too near to each other.
        let inverse = if step > 1e-30 { 1.0 / step } else { 0.0 };
        for (&x, (code, left)) in o.iter().zip(outs) {
            *code = nearest((x - low) * inverse, last);
            *left = x - (low + step * f32::from(*code));
        }
        ends
    }
}

/// The nearest whole number from 0 to `last`, which is below 2^16; of two the even one.
#[inline(always)]
pub(super) fn nearest(steps: f32, last: f32) -> u16 {
    // From here on numbers are whole, and lie in the lowest bits: unlike a conversion, which has to heed
    // what is no number, this is a vector operation.
    const WHOLE: f32 = (1u32 << 23) as f32;
    let steps = if steps > 0.0 { steps } else { 0.0 };
    let steps = if steps < last { steps } else { last };
    (steps + WHOLE).to_bits() as u16
}

/// Packs codes into a record: the upper bits of all dimensions, and the fields of the others behind the
/// ends in `rest`.
struct Pack<'a> {
    grid: Grid,
    codes: &'a [u16],
    tops: &'a mut [u8],
    rest: &'a mut [u8],
}

impl Vectorize for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Pack { grid, codes, tops, rest } = self;
        let rest_bits = grid.rest_bits();
        debug_assert_eq!(SCAN_BITS, 4);
        for (byte, pair) in tops.iter_mut().zip(codes.as_chunks::<2>().0) {
            *byte = (pair[0] >> rest_bits | pair[1] >> rest_bits << 4) as u8;
        }
        let mut at = if grid.own { Ends::BYTES } else { 0 };
        for (width, shift) in fields(rest_bits) {
            let count = field_bytes(width, codes.len());
            let out = &mut rest[at..at + count];
            at += count;
            if width == 1 {
                for (byte, codes) in out.iter_mut().zip(codes.as_chunks::<8>().0) {
                    *byte = 0;
                    for (bit, code) in codes.iter().enumerate() {
                        *byte |= ((code >> shift & 1) as u8) << bit;
                    }
                }
                continue;
            }
            let mask = (1u16 << width) - 1;
            out.fill(0);
            // Fields of four and two bits are apart by the number of bytes.
            for (part, codes) in codes.chunks_exact(count).enumerate() {
                for (byte, code) in out.iter_mut().zip(codes) {
                    *byte |= ((code >> shift & mask) as u8) << (part as u32 * width);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::blocks::field_place;
    use crate::random::Random;

    #[test]
    fn codes_are_the_nearest_values() {
        let mut random = Random::new(5, 0);
        for (dims, grid) in [
            (8, Grid { own: false, first: 4, second: 0 }),
            (40, Grid { own: false, first: 6, second: 0 }),
            (24, Grid { own: true, first: 8, second: 0 }),
            (64, Grid { own: true, first: 4, second: 8 }),
        ] {
            let ranges: Vec<Range> = (0..dims)
                .map(|i| Range { low: -1.0 - i as f32, step: 0.01 * (i + 1) as f32 })
                .collect();
            let o: Vec<f32> = (0..dims).map(|_| 2.0 * random.normal() as f32).collect();
            let (mut codes, mut left) = (vec![0; dims], vec![0.0; dims]);
            let round = Round { grid, o: &o, ranges: &ranges, codes: &mut codes, left: &mut left };
            let ends = level().vectorize(round);
            let last = (1i32 << grid.bits()) - 1;
            for i in 0..dims {
                let range = if grid.own { grid.range(ends) } else { ranges[i] };
                let value = |code: i32| range.low + range.step * code as f32;
                let found = i32::from(codes[i]);
                assert!((0..=last).contains(&found));
                assert!((left[i] - (o[i] - value(found))).abs() < 1e-5);
                for other in [found - 1, found + 1] {
                    if (0..=last).contains(&other) {
                        let better = (o[i] - value(other)).abs() + 1e-5 < left[i].abs();
                        assert!(!better, "{} is nearer to {other} than to {found}", o[i]);
                    }
                }
                if grid.own {
                    assert!(left[i].abs() <= 0.51 * range.step);
                }
            }
        }
    }

    #[test]
    fn what_is_packed_is_where_the_kernels_look_for_it() {
        let mut random = Random::new(6, 0);
        for rest_bits in 0..=8 {
            for dims in [8usize, 24, 48] {
                let grid = Grid { own: true, first: 4, second: rest_bits };
                let codes: Vec<u16> =
                    (0..dims).map(|_| random.below(1 << grid.bits()) as u16).collect();
                let mut tops = vec![99; dims / 2];
                let mut rest = vec![99; Ends::BYTES + dims * rest_bits as usize / 8];
                let pack = Pack { grid, codes: &codes, tops: &mut tops, rest: &mut rest };
                level().vectorize(pack);
                let fields_of = &rest[Ends::BYTES..];
                for (i, &code) in codes.iter().enumerate() {
                    let mut found = u16::from(tops[i / 2] >> (4 * (i % 2)) & 15) << rest_bits;
                    let mut at = 0;
                    for (width, shift) in fields(rest_bits) {
                        let (byte, bit) = field_place(width, dims, i);
                        let field = fields_of[at + byte] >> bit & ((1u16 << width) - 1) as u8;
                        found |= u16::from(field) << shift;
                        at += field_bytes(width, dims);
                    }
                    assert_eq!(found, code, "dimension {i} of {dims}, {rest_bits} bits");
                }
            }
        }
    }
}
