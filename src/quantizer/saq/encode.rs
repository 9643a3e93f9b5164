//! From vectors to records: rotation, adjustment and packing, 32 vectors at a time.

use nonius_simd::{BLOCK, Vectorize};

use super::adjust::{Effort, Lanes, SegmentCode, encode_segment};
use super::layout::{Layout, SegmentLayout};
use super::rotate::RotatedLanes;
use super::scale::ScaleFormat;
use super::{Encoder, Model, SegmentConstants};
use crate::quantizer::blocks::fields;
use crate::quantizer::frame::{Lists, additive_base};
use crate::train::ROUND;

/// Buffers for encoding, one set a thread.
#[derive(Default)]
pub(crate) struct EncodeScratch {
    scaled: Vec<f32>,
    rotated: RotatedLanes,
    /// Residuals: dims x 32.
    o: Vec<Lanes>,
    /// Centroids of the lanes: dims x 32.
    c: Vec<Lanes>,
    /// Codes as half-integers: dims x 32.
    u: Vec<Lanes>,
    /// Codes of a segment: dims x 32.
    codes: Vec<[u16; BLOCK]>,
    /// The bytes of 32 records, byte by byte.
    bytes: Vec<[u8; BLOCK]>,
}

impl Encoder {
    /// Encodes rows of `dim` values (finite; of unit norm for cosine) into records.
    ///
    /// `lists` gives each row's list; without it rows are relative to the mean. Records are
    /// `layout.record_bytes()` long, where `layout` is the model's.
    pub(crate) fn encode_rows(
        &self,
        layout: &Layout,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        scratch: &mut EncodeScratch,
        records: &mut [u8],
    ) {
        let stride = layout.record_bytes();
        let all = rows;
        for (chunk, rows) in rows.chunks(BLOCK * self.model.frame.dim).enumerate() {
            let first = chunk * BLOCK;
            let count = rows.len() / self.model.frame.dim;
            if let Some(next) = all.get((first + BLOCK) * self.model.frame.dim..) {
                nonius_simd::prefetch_later(&next[..next.len().min(BLOCK * self.model.frame.dim)]);
            }
            let mut additive = [0.0; BLOCK];
            let mut scaled = std::mem::take(&mut scratch.scaled);
            let rows = self.model.frame.scaled(rows, &mut scaled);
            self.rotate_lanes(rows, &mut scratch.rotated);
            let norms_sq = scratch.rotated.norms_sq();
            additive_base(self.model.frame.metric, &self.mean, rows, norms_sq, &mut additive);
            let lists = lists
                .map(|l| Lists { of_row: &l.of_row[first..first + count], centroids: l.centroids });
            let norms = Norms::of(self, rows, norms_sq, lists.as_ref());
            scratch.scaled = scaled;
            nonius_simd::level().vectorize(EncodeBlock {
                saq: self,
                layout,
                lists: lists.as_ref(),
                scratch,
                count,
                additive,
                norms,
                records: &mut records[first * stride..(first + count) * stride],
            });
        }
    }
}

/// Squared norms of each lane.
pub(super) struct Norms {
    /// Of the vector relative to the mean.
    pub(super) x: Lanes,
    /// Of its centroid relative to the mean.
    pub(super) c: Lanes,
    /// Of the difference of the two.
    pub(super) o: Lanes,
}

impl Norms {
    /// Of up to 32 rows, whose own norms are `norms_sq`; the others are needed where dimensions are dropped.
    pub(super) fn of(
        saq: &Encoder,
        rows: &[f32],
        norms_sq: &[f32],
        lists: Option<&Lists<'_>>,
    ) -> Norms {
        let mut norms = Norms { x: [0.0; BLOCK], c: [0.0; BLOCK], o: [0.0; BLOCK] };
        norms.x[..norms_sq.len()].copy_from_slice(norms_sq);
        norms.o = norms.x;
        let dim = saq.model.frame.dim;
        if let Some(Lists { of_row, centroids }) = lists
            && saq.rotated < saq.model.frame.dims
        {
            for (i, (row, &list)) in rows.chunks_exact(dim).zip(*of_row).enumerate() {
                let list = list as usize;
                let origin = &centroids.origins[list * dim..][..dim];
                norms.o[i] = nonius_simd::l2_sq_f32(row, origin);
                norms.c[i] = centroids.norms_sq[list];
            }
        }
        norms
    }
}

/// What of the segments of 32 vectors goes into their factors.
#[derive(Default)]
pub(super) struct Sums {
    /// `<centroid, code - o>`, with all bits.
    full: Lanes,
    /// The same with the bits of the first stage.
    first: Lanes,
    /// `|o|^2` over the segments so far.
    seen_sq: Lanes,
    /// `<centroid, o>` over the segments so far.
    seen_dot: Lanes,
}

impl Sums {
    /// Adds the squared norms of a segment.
    #[inline(always)]
    pub(super) fn add_norms(&mut self, norm_sq: &Lanes) {
        for j in 0..BLOCK {
            self.seen_sq[j] += norm_sq[j];
        }
    }

    /// Adds a segment's inner products with the centroid.
    #[inline(always)]
    pub(super) fn add_shares(&mut self, scale: &Lanes, shares: &Shares) {
        for j in 0..BLOCK {
            self.full[j] += scale[j] * shares.code[j] - shares.o[j];
            self.first[j] += scale[j] * shares.first[j] - shares.o[j];
            self.seen_dot[j] += shares.o[j];
        }
    }

    /// Adds a segment that is dropped: what the others leave of the norm, of which the codes are returned, and of the
    /// inner product with the centroid.
    #[inline(always)]
    pub(super) fn add_dropped(&mut self, norms: &Norms, unit: f32) -> [u32; BLOCK] {
        let mut left_sq = [0.0f32; BLOCK];
        for j in 0..BLOCK {
            let left = norms.o[j] - self.seen_sq[j];
            left_sq[j] = if left > 0.0 { left } else { 0.0 };
            let left_dot = 0.5 * (norms.x[j] - norms.c[j] - norms.o[j]) - self.seen_dot[j];
            self.full[j] -= left_dot;
            self.first[j] -= left_dot;
        }
        norm_codes(&left_sq, unit)
    }

    /// The codes of the additive factor of a lane, `additive` without the part of the code, and of its shift.
    #[inline(always)]
    pub(super) fn factors(&self, model: &Model, additive: f32, j: usize) -> ([u8; 4], u8) {
        let alpha = model.frame.alpha();
        let mut code = [0; 4];
        model.frame.additive.write(additive + alpha * self.full[j], &mut code);
        (code, model.encode_shift(alpha * (self.first[j] - self.full[j])))
    }
}

struct EncodeBlock<'a> {
    saq: &'a Encoder,
    layout: &'a Layout,
    lists: Option<&'a Lists<'a>>,
    scratch: &'a mut EncodeScratch,
    count: usize,
    /// The additive factors without the part of the code.
    additive: Lanes,
    norms: Norms,
    records: &'a mut [u8],
}

impl Vectorize for EncodeBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let EncodeBlock { saq, layout, lists, scratch, count, additive, norms, records } = self;
        let model = &saq.model;
        let EncodeScratch { rotated, o, c, u, codes, bytes, .. } = scratch;
        o.resize(layout.dims, [0.0; BLOCK]);
        if let Some(lists) = lists {
            c.resize(layout.dims, [0.0; BLOCK]);
            for (lane, &list) in lists.of_row.iter().enumerate() {
                let centroid =
                    &lists.centroids.rotated[list as usize * layout.dims..][..layout.dims];
                for (c, &value) in c.iter_mut().zip(centroid) {
                    c[lane] = value;
                }
            }
        }
        u.resize(layout.dims, [0.0; BLOCK]);
        bytes.resize(layout.record_bytes(), [0; BLOCK]);
        let mut sums = Sums::default();
        for ((segment, constants), &along) in
            layout.segments.iter().zip(&model.constants).zip(&saq.along)
        {
            let range = segment.start..segment.start + segment.dims;
            let u = &mut u[range.clone()];
            let mut scale = [0.0f32; BLOCK];
            let scale_code = if segment.start >= saq.rotated {
                // Dropped dimensions are not even rotated: what is needed of them is what the
                // others leave of the norm and of the inner product with the centroid.
                u.fill([0.0; BLOCK]);
                sums.add_dropped(&norms, constants.unit)
            } else {
                let o = &mut o[range.clone()];
                saq.coordinates(rotated, range.clone(), o);
                if lists.is_some() {
                    // One flat loop: of two nested ones the compiler would vectorise the outer,
                    // with gathers.
                    let c = c[range.clone()].as_flattened();
                    for (o, c) in o.as_flattened_mut().iter_mut().zip(c) {
                        *o -= c;
                    }
                }
                let mut code = SegmentCode::new(u);
                if segment.bits == 0 {
                    code.u.fill([0.0; BLOCK]);
                    for o in o.iter() {
                        for j in 0..BLOCK {
                            code.norm_sq[j] += o[j] * o[j];
                        }
                    }
                    code.scale_code = norm_codes(&code.norm_sq, constants.unit);
                } else {
                    let format = ScaleFormat::of_bits(segment.bits);
                    let unit = constants.unit;
                    encode_segment(o, segment.bits, unit, format, saq.effort, along, &mut code);
                }
                scale = code.scale;
                sums.add_norms(&code.norm_sq);
                code.scale_code
            };
            let place = layout.scale_start(segment);
            for j in 0..BLOCK {
                bytes[place][j] = scale_code[j] as u8;
            }
            if segment.scale_bytes == 2 {
                for j in 0..BLOCK {
                    bytes[place + 1][j] = (scale_code[j] >> 8) as u8;
                }
            }
            if lists.is_some() && segment.start < saq.rotated {
                let shares = shares(&o[range.clone()], u, &c[range], constants, segment);
                sums.add_shares(&scale, &shares);
            }
            pack_segment(layout, segment, u, codes, bytes);
        }
        let place = layout.group_bytes();
        for j in 0..BLOCK {
            let (code, shift) = sums.factors(model, additive[j], j);
            for (k, &byte) in code[..layout.additive_bytes].iter().enumerate() {
                bytes[place + k][j] = byte;
            }
            if layout.shift_bytes == 1 {
                bytes[place + layout.additive_bytes][j] = shift;
            }
        }
        scatter(bytes, layout.record_bytes(), count, records);
    }
}

/// Turns bytes by 32 lanes into the records of `count` lanes, `stride` bytes each.
#[inline(always)]
fn scatter(bytes: &[[u8; BLOCK]], stride: usize, count: usize, records: &mut [u8]) {
    // Eight bytes of a lane make one word: the lanes are independent, so this runs in vectors.
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, rows) in words.iter().enumerate() {
        let mut packed = [0u64; BLOCK];
        for (i, row) in rows.iter().enumerate() {
            for j in 0..BLOCK {
                packed[j] |= u64::from(row[j]) << (8 * i);
            }
        }
        for (record, word) in records.chunks_exact_mut(stride).zip(packed) {
            record[8 * index..8 * index + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
    let start = 8 * words.len();
    for (j, record) in records.chunks_exact_mut(stride).take(count).enumerate() {
        for (byte, lanes) in record[start..].iter_mut().zip(tail) {
            *byte = lanes[j];
        }
    }
}

/// The stored norms of a dropped segment.
#[inline(always)]
fn norm_codes(norm_sq: &Lanes, unit: f32) -> [u32; BLOCK] {
    let format = ScaleFormat::of_bits(0);
    let mut codes = [0; BLOCK];
    for j in 0..BLOCK {
        let norm = norm_sq[j].sqrt() / unit;
        codes[j] = if norm < format.decode(1) * 0.5 { 0 } else { format.encode(norm) };
    }
    codes
}

/// Inner products with the centroid over a segment.
pub(super) struct Shares {
    /// Of the residual.
    pub(super) o: Lanes,
    /// Of the code, in units of the scale.
    pub(super) code: Lanes,
    /// Of the first stage's part of the code, in units of the scale.
    pub(super) first: Lanes,
}

#[inline(always)]
fn shares(
    o: &[Lanes],
    u: &[Lanes],
    c: &[Lanes],
    constants: &SegmentConstants,
    segment: &SegmentLayout,
) -> Shares {
    let mut of_o = [0.0f32; BLOCK];
    let mut of_u = [0.0f32; BLOCK];
    let mut of_level = [0.0f32; BLOCK];
    let [inner, outer] = constants.read_levels(segment);
    let boundary = segment.boundary();
    for ((o, u), c) in o.iter().zip(u).zip(c) {
        for j in 0..BLOCK {
            let level = if u[j].abs() < boundary { inner } else { outer };
            of_o[j] += c[j] * o[j];
            of_u[j] += c[j] * u[j];
            of_level[j] += c[j] * level.copysign(u[j]);
        }
    }
    Shares { o: of_o, code: of_u, first: of_level }
}

/// Packs the code of a segment, 32 records side by side.
#[inline(always)]
fn pack_segment(
    layout: &Layout,
    segment: &SegmentLayout,
    u: &[Lanes],
    codes: &mut Vec<[u16; BLOCK]>,
    bytes: &mut [[u8; BLOCK]],
) {
    if segment.bits == 0 {
        return;
    }
    let half = ((1u32 << segment.bits) - 1) as f32 * 0.5;
    codes.resize(segment.dims, [0; BLOCK]);
    for (code, u) in codes.as_flattened_mut().iter_mut().zip(u.as_flattened()) {
        *code = ((u + half) + ROUND).to_bits() as u16;
    }
    let rest_bits = segment.rest_bits();
    let out = &mut bytes[segment.group / 2..][..segment.groups / 2];
    match segment.scan_bits {
        1 => pack_fields::<8, 1>(codes, rest_bits, 8, 1, out),
        2 => pack_fields::<4, 2>(codes, rest_bits, 4, 1, out),
        _ => {}
    }
    let mut at = layout.rest_start() + segment.rest;
    for (width, shift) in fields(rest_bits) {
        let count = nonius_simd::field_bytes(width, segment.dims);
        let out = &mut bytes[at..at + count];
        // Fields of four and two bits are apart by the number of bytes; single bits are adjacent.
        match width {
            1 => pack_fields::<8, 1>(codes, shift, 8, 1, out),
            2 => pack_fields::<4, 2>(codes, shift, 1, count, out),
            _ => pack_fields::<2, 4>(codes, shift, 1, count, out),
        }
        at += count;
    }
}

/// Packs `PARTS` fields of `WIDTH` bits, found `shift` bits up in the codes, into each byte: byte
/// `k` takes the codes `k * near + part * far`.
#[inline(always)]
fn pack_fields<const PARTS: usize, const WIDTH: usize>(
    codes: &[[u16; BLOCK]],
    shift: u32,
    near: usize,
    far: usize,
    out: &mut [[u8; BLOCK]],
) {
    let mask = (1u16 << WIDTH) - 1;
    for (k, out) in out.iter_mut().enumerate() {
        let mut packed = [0u16; BLOCK];
        for part in 0..PARTS {
            let code = &codes[k * near + part * far];
            for j in 0..BLOCK {
                packed[j] |= (code[j] >> shift & mask) << (part * WIDTH);
            }
        }
        for j in 0..BLOCK {
            out[j] = packed[j] as u8;
        }
    }
}

/// What encoding a block computed, for training.
pub(crate) struct TrainingBlock<'a> {
    /// Rotated residuals: dims x 32.
    pub(crate) o: &'a [Lanes],
    /// Codes as half-integers: dims x 32.
    pub(crate) u: &'a [Lanes],
}

impl EncodeScratch {
    /// The residuals and codes of the block that was encoded last.
    pub(crate) fn last_block(&self) -> TrainingBlock<'_> {
        TrainingBlock { o: &self.o, u: &self.u }
    }
}

/// The effort that stands for an [`Encoding`](crate::Encoding).
pub(crate) fn effort(encoding: crate::index::Encoding) -> Effort {
    match encoding {
        crate::index::Encoding::Full => Effort { steps: 3, sweeps: 1 },
        crate::index::Encoding::Fast => Effort { steps: 2, sweeps: 0 },
    }
}
