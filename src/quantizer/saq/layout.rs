//! Where the bits of a vector lie.
//!
//! The bits of a code are split in two. The top bits of the leading segments, the *first stage*,
//! go into blocks of 32 vectors that one pass of [`nonius_simd::scan_blocks`] reads; beside them
//! lie the additive factor and the scales of these segments. The *rest*, the other bits and the
//! other scales, lies row by row and is read for survivors only. Bits come from the top, so what
//! is read first is the code of the same vector at fewer bits.
//!
//! A **record** is the row-major form of one vector, which encoding produces:
//!
//! ```text
//! first-stage groups (two a byte) | additive factor | shift | scales | rest: scales | bits
//! ```
//!
//! A **block** holds the first four parts of 32 records, interleaved; see `FORMAT.md`.

use std::ops::Range;

use nonius_simd::{BLOCK, BoundPiece, Fields, GROUP};

use super::plan::Segment;
use super::scale::{self, ScaleFormat};
use crate::quantizer::blocks::{Sums, field_place, fields, groups_of, pack_groups, pieces};

/// One segment and where its parts lie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SegmentLayout {
    /// The first dimension.
    pub(crate) start: usize,
    /// The number of dimensions, a multiple of 8.
    pub(crate) dims: usize,
    /// Bits of a dimension.
    pub(crate) bits: u32,
    /// Bits of a dimension that belong to the first stage: 0, 1 or 2.
    pub(crate) scan_bits: u32,
    /// The first group of 4 bits in the first stage.
    pub(crate) group: usize,
    /// Groups of 4 bits in the first stage.
    pub(crate) groups: usize,
    /// Where the scale lies, in bytes: among the factors of a vector if the first stage reads the
    /// segment, else in its row of the rest.
    pub(crate) scale: usize,
    /// Bytes of the scale.
    pub(crate) scale_bytes: usize,
    /// Where the rest of the bits starts in a row of rests, in bytes.
    pub(crate) rest: usize,
    /// Its inner product's sums, in [`Layout::sums`].
    pub(crate) sums: Range<usize>,
}

impl SegmentLayout {
    /// Bits of a dimension that are left to the rest.
    pub(crate) fn rest_bits(&self) -> u32 {
        self.bits - self.scan_bits
    }

    /// The magnitude of `u` from which the first stage's outer level stands for a coordinate.
    /// With one bit or less there is no outer level, and the boundary lies out of reach.
    #[inline(always)]
    pub(crate) fn boundary(&self) -> f32 {
        if self.scan_bits == 2 { (1u32 << (self.bits - 2)) as f32 } else { f32::INFINITY }
    }

    /// The scale, in the segment's unit, that is stored at the start of `bytes`.
    pub(crate) fn decode_scale(&self, bytes: &[u8]) -> f32 {
        let code = match self.scale_bytes {
            1 => u32::from(bytes[0]),
            _ => u32::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        };
        ScaleFormat::of_bits(self.bits).decode(code)
    }
}

/// The layout of all vectors of an index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// The segments, in order of dimensions.
    pub(crate) segments: Vec<SegmentLayout>,
    /// Dimensions after rotation: a multiple of 8.
    pub(crate) dims: usize,
    /// Groups of 4 bits in the first stage.
    pub(crate) groups: usize,
    /// Bytes of the additive factor: 2, or 4 where its range is too wide for 16 bits.
    pub(crate) additive_bytes: usize,
    /// Bytes of the first stage's shift: 1 where there are lists, 0 where there is one.
    pub(crate) shift_bytes: usize,
    /// Bytes of the factors of a vector in its block.
    pub(crate) factor_bytes: usize,
    /// Bytes of the rest of a vector: scales and bits.
    pub(crate) rest_bytes: usize,
    /// The dimensions of each segment.
    pub(crate) lengths: Vec<usize>,
    /// Inner products with the codes of all segments.
    pub(crate) sums: Sums,
    /// The groups of the first stage in pieces that [`nonius_simd::bound_blocks`] takes: of a long
    /// segment there are several.
    pub(crate) pieces: Vec<BoundPiece>,
    /// The segment of each piece.
    pub(crate) piece_segments: Vec<usize>,
}

impl Layout {
    /// Lays out a plan. `scan_bits[i]` is the number of first-stage bits of segment `i`.
    pub(crate) fn new(
        plan: &[Segment],
        scan_bits: &[u32],
        additive_bytes: usize,
        shift_bytes: usize,
    ) -> Layout {
        let mut layout = Layout {
            segments: Vec::with_capacity(plan.len()),
            dims: 0,
            groups: 0,
            additive_bytes,
            shift_bytes,
            factor_bytes: additive_bytes + shift_bytes,
            rest_bytes: 0,
            lengths: plan.iter().map(|segment| segment.dims).collect(),
            sums: Sums::default(),
            pieces: Vec::new(),
            piece_segments: Vec::new(),
        };
        for (s, (segment, &scan_bits)) in plan.iter().zip(scan_bits).enumerate() {
            let groups = segment.dims * scan_bits as usize / 4;
            let scale_bytes = scale::bytes(segment.bits);
            let scales =
                if scan_bits > 0 { &mut layout.factor_bytes } else { &mut layout.rest_bytes };
            let scale = *scales;
            *scales += scale_bytes;
            layout.segments.push(SegmentLayout {
                start: layout.dims,
                dims: segment.dims,
                bits: segment.bits,
                scan_bits,
                group: layout.groups,
                groups,
                scale,
                scale_bytes,
                rest: 0,
                sums: 0..0,
            });
            layout.dims += segment.dims;
            layout.groups += groups;
            layout.piece_segments.extend(pieces(groups).map(|_| s));
        }
        let factors_start = layout.factors_start();
        for segment in &layout.segments {
            let format = ScaleFormat::of_bits(segment.bits).bits();
            let scales = factors_start + segment.scale * BLOCK;
            let pieces = pieces(segment.groups);
            layout.pieces.extend(pieces.map(|groups| BoundPiece { groups, scales, format }));
        }
        // The bits come after all scales.
        for segment in &mut layout.segments {
            let (start, dims) = (segment.start, segment.dims);
            let mut parts = Vec::new();
            if segment.scan_bits > 0 {
                let tops = Fields::in_groups(segment.scan_bits, dims, segment.group, start);
                parts.push((tops, segment.rest_bits()));
            }
            segment.rest = layout.rest_bytes;
            for (width, place) in fields(segment.rest_bits()) {
                parts.push((Fields::in_row(width, dims, layout.rest_bytes, start), place));
                layout.rest_bytes += nonius_simd::field_bytes(width, dims);
            }
            segment.sums = layout.sums.push(&parts);
        }
        layout
    }

    /// Where the scale of a segment lies in a record.
    pub(crate) fn scale_start(&self, segment: &SegmentLayout) -> usize {
        let start = if segment.scan_bits > 0 { self.group_bytes() } else { self.rest_start() };
        start + segment.scale
    }

    /// Bytes of the first-stage groups of a record.
    pub(crate) fn group_bytes(&self) -> usize {
        self.groups / 2
    }

    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(&self) -> usize {
        self.group_bytes() + self.factor_bytes + self.rest_bytes
    }

    /// Where the rest starts in a record.
    pub(crate) fn rest_start(&self) -> usize {
        self.group_bytes() + self.factor_bytes
    }

    /// Where the factors lie in a block.
    pub(crate) fn factors_start(&self) -> usize {
        self.groups * GROUP
    }

    /// Bytes of a block of 32 vectors: groups and factors.
    pub(crate) fn block_bytes(&self) -> usize {
        self.factors_start() + self.factor_bytes * BLOCK
    }

    /// The factors of a vector in its block as (offset, bytes).
    fn factors(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        [(0, self.additive_bytes), (self.additive_bytes, self.shift_bytes)]
            .into_iter()
            .filter(|factor| factor.1 > 0)
            .chain(
                self.segments.iter().filter(|s| s.scan_bits > 0).map(|s| (s.scale, s.scale_bytes)),
            )
    }

    /// Interleaves the first parts of up to 32 records, `stride` bytes apart, into a block.
    /// Missing vectors are zero.
    pub(crate) fn pack_block(&self, records: &[u8], stride: usize, block: &mut [u8]) {
        block.fill(0);
        let (codes, factors) = block.split_at_mut(self.factors_start());
        pack_groups(records, stride, self.group_bytes(), codes);
        for (v, record) in records.chunks_exact(stride).enumerate() {
            let from = &record[self.group_bytes()..self.rest_start()];
            for (offset, bytes) in self.factors() {
                factors[offset * BLOCK + v * bytes..][..bytes]
                    .copy_from_slice(&from[offset..offset + bytes]);
            }
        }
    }

    /// The inverse of [`pack_block`](Layout::pack_block) for vector `v` of a block: fills all of
    /// a record but its rest.
    pub(crate) fn unpack_block(&self, block: &[u8], v: usize, record: &mut [u8]) {
        let (codes, factors) = block.split_at(self.factors_start());
        record[..self.group_bytes()].fill(0);
        for (number, group) in groups_of(codes, v).enumerate() {
            record[number / 2] |= group << (4 * (number % 2));
        }
        let start = self.group_bytes();
        for (offset, bytes) in self.factors() {
            record[start + offset..start + offset + bytes]
                .copy_from_slice(&factors[offset * BLOCK + v * bytes..][..bytes]);
        }
    }

    /// The row-major record of vector `v` of a block; `rest` is its row of the rest.
    pub(crate) fn record(&self, block: &[u8], v: usize, rest: &[u8]) -> Vec<u8> {
        let mut record = vec![0; self.record_bytes()];
        self.unpack_block(block, v, &mut record);
        record[self.rest_start()..].copy_from_slice(rest);
        record
    }

    /// The code of each dimension of vector `v` of a block; `rest` is its row of the rest.
    pub(crate) fn numbers(&self, block: &[u8], v: usize, rest: &[u8]) -> Vec<u16> {
        let mut codes = vec![0; self.dims];
        self.unpack_codes(&self.record(block, v, rest), &mut codes);
        codes
    }

    /// The codes of a record, dimension by dimension.
    pub(crate) fn unpack_codes(&self, record: &[u8], codes: &mut [u16]) {
        for segment in &self.segments {
            let codes = &mut codes[segment.start..segment.start + segment.dims];
            codes.fill(0);
            let bits = segment.scan_bits;
            if bits > 0 {
                let per_byte = 8 / bits as usize;
                let bytes = &record[segment.group / 2..];
                for (i, code) in codes.iter_mut().enumerate() {
                    let byte = bytes[i / per_byte] >> (bits as usize * (i % per_byte));
                    *code = u16::from(byte & ((1 << bits) - 1)) << segment.rest_bits();
                }
            }
            let mut at = self.rest_start() + segment.rest;
            for (width, shift) in fields(segment.rest_bits()) {
                let bytes = &record[at..at + nonius_simd::field_bytes(width, segment.dims)];
                at += bytes.len();
                for (i, code) in codes.iter_mut().enumerate() {
                    let (byte, bit) = field_place(width, segment.dims, i);
                    let field = bytes[byte] >> bit & ((1 << width) - 1) as u8;
                    *code |= u16::from(field) << shift;
                }
            }
        }
    }

    /// The inverse of [`unpack_codes`](Layout::unpack_codes). Factors stay as they are.
    #[cfg(test)]
    pub(crate) fn pack_codes(&self, codes: &[u16], record: &mut [u8]) {
        record[..self.group_bytes()].fill(0);
        let rest_start = self.rest_start();
        record[rest_start..].fill(0);
        for segment in &self.segments {
            let codes = &codes[segment.start..segment.start + segment.dims];
            let bits = segment.scan_bits as usize;
            for (i, &code) in codes.iter().enumerate() {
                if bits > 0 {
                    let top = (code >> segment.rest_bits()) as u8;
                    record[segment.group / 2 + i * bits / 8] |= top << (i * bits % 8);
                }
                let mut at = rest_start + segment.rest;
                for (width, shift) in fields(segment.rest_bits()) {
                    let (byte, bit) = field_place(width, segment.dims, i);
                    let field = (code >> shift) as u8 & ((1u16 << width) - 1) as u8;
                    record[at + byte] |= field << bit;
                    at += nonius_simd::field_bytes(width, segment.dims);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    pub(crate) fn layouts() -> Vec<Layout> {
        let plan = |list: &[(usize, u32)]| -> Vec<Segment> {
            list.iter().map(|&(dims, bits)| Segment { dims, bits }).collect()
        };
        vec![
            Layout::new(&plan(&[(8, 1)]), &[1], 2, 0),
            Layout::new(&plan(&[(8, 13), (16, 5), (8, 0)]), &[2, 2, 0], 4, 1),
            Layout::new(
                &plan(&[(48, 7), (128, 5), (96, 4), (80, 2), (32, 0)]),
                &[2, 2, 0, 0, 0],
                2,
                1,
            ),
            Layout::new(&plan(&[(24, 3), (8, 1)]), &[1, 1], 2, 1),
            Layout::new(&plan(&[(16, 0)]), &[0], 2, 0),
        ]
    }

    #[test]
    fn codes_and_blocks_round_trip() {
        let mut random = Random::new(4, 0);
        for layout in layouts() {
            let stride = layout.record_bytes();
            for count in [1, 15, 16, 17, 31, 32] {
                let mut records = vec![0u8; count * stride];
                let mut all = Vec::new();
                for record in records.chunks_exact_mut(stride) {
                    record.fill_with(|| random.next_u64() as u8);
                    let codes: Vec<u16> = layout
                        .segments
                        .iter()
                        .flat_map(|s| std::iter::repeat_n(s.bits, s.dims))
                        .map(|bits| (random.next_u64() & ((1 << bits) - 1)) as u16)
                        .collect();
                    layout.pack_codes(&codes, record);
                    all.push(codes);
                }
                let mut block = vec![0u8; layout.block_bytes()];
                layout.pack_block(&records, stride, &mut block);
                for (v, record) in records.chunks_exact(stride).enumerate() {
                    let mut codes = vec![0; layout.dims];
                    layout.unpack_codes(record, &mut codes);
                    assert_eq!(codes, all[v]);
                    let mut back = record.to_vec();
                    back[..layout.rest_start()].fill(0);
                    layout.unpack_block(&block, v, &mut back);
                    assert_eq!(back, record);
                }
            }
        }
    }

    #[test]
    fn every_bit_is_counted() {
        for layout in layouts() {
            let bits: usize = layout.segments.iter().map(|s| s.dims * s.bits as usize).sum();
            let scales: usize = layout.segments.iter().map(|s| s.scale_bytes).sum();
            let factors = layout.additive_bytes + layout.shift_bytes + scales;
            assert_eq!(layout.record_bytes(), bits / 8 + factors);
            assert_eq!(layout.block_bytes(), BLOCK * layout.rest_start());
            assert_eq!(
                layout.pieces.iter().map(|piece| piece.groups).sum::<usize>(),
                layout.groups
            );
        }
    }
}
