//! What codes stand for and how far they are off: learnt from the sample's near and far pairs.

use rayon::prelude::*;

use nonius_simd::{BLOCK, Vectorize, level};

use super::encode::EncodeScratch;
use super::layout::{Layout, SegmentLayout};
use super::{Encoder, Near, SegmentConstants};
use crate::quantizer::frame::{ListCentroids, Lists, TrainingSet};
use crate::quantizer::pairs::Pairs;

/// Sums over the vectors of the pairs, one set a segment.
#[derive(Clone, Default)]
struct Sums {
    count: f64,
    /// Of |ô - o|^2, |first stage - o|^2 and |o|^2, each over dims * scale^2, and their squares.
    full: [f64; 2],
    scan: [f64; 2],
    norm: [f64; 2],
}

/// 32 vectors one after the other: residuals (`BLOCK x dims`), codes (`BLOCK x dims`), and for each segment the
/// scales.
struct Block {
    o: Vec<f32>,
    u: Vec<f32>,
    scales: Vec<[f32; BLOCK]>,
}

/// A vector of a block.
struct Vector<'a> {
    o: &'a [f32],
    u: &'a [f32],
    scales: &'a [[f32; BLOCK]],
    lane: usize,
}

impl Vector<'_> {
    fn scale(&self, segment: usize) -> f32 {
        self.scales[segment][self.lane]
    }
}

/// The sample's vectors that constants are learnt from, encoded.
struct Encoded {
    /// Their rows in the sample, ascending.
    rows: Vec<u32>,
    blocks: Vec<Block>,
    centroids: Option<ListCentroids>,
}

impl Encoded {
    /// Encodes the second vectors of all pairs, or if there are no pairs the first rows.
    fn of(encoder: &Encoder, set: &TrainingSet<'_>, pairs: &Pairs, layout: &Layout) -> Encoded {
        let dim = set.sample.dim();
        let mut wanted: Vec<u32> = pairs.near.iter().chain(&pairs.far).map(|&(_, x)| x).collect();
        if wanted.is_empty() {
            wanted = (0..set.sample.rows().min(1024) as u32).collect();
        }
        wanted.sort_unstable();
        wanted.dedup();
        let centroids = set
            .lists
            .map(|(centroids, _)| ListCentroids::new(&encoder.rotation, set.mean, centroids));
        let stride = layout.record_bytes();
        let blocks = wanted
            .par_chunks(BLOCK)
            .map_init(EncodeScratch::default, |scratch, rows| {
                let mut values = Vec::with_capacity(rows.len() * dim);
                for &row in rows {
                    values.extend_from_slice(set.sample.row(row as usize));
                }
                let of_row: Vec<u32> = match set.lists {
                    Some((_, of_row)) => rows.iter().map(|&row| of_row[row as usize]).collect(),
                    None => Vec::new(),
                };
                let lists = centroids.as_ref().map(|c| Lists { of_row: &of_row, centroids: c });
                let mut records = vec![0; rows.len() * stride];
                encoder.encode_rows(layout, &values, lists.as_ref(), scratch, &mut records);
                let scales = layout
                    .segments
                    .iter()
                    .zip(&encoder.model.constants)
                    .map(|(segment, constants)| {
                        let mut scales = [0.0; BLOCK];
                        for (scale, record) in scales.iter_mut().zip(records.chunks_exact(stride)) {
                            *scale = segment.read_scale(layout, record) * constants.unit;
                        }
                        scales
                    })
                    .collect();
                let last = scratch.last_block();
                Block { o: by_vector(last.o), u: by_vector(last.u), scales }
            })
            .collect();
        Encoded { rows: wanted, blocks, centroids }
    }

    fn vector(&self, i: usize) -> Vector<'_> {
        let (Block { o, u, scales }, lane) = (&self.blocks[i / BLOCK], i % BLOCK);
        let dims = o.len() / BLOCK;
        let own = lane * dims..(lane + 1) * dims;
        Vector { o: &o[own.clone()], u: &u[own], scales, lane }
    }

    fn vectors(&self) -> impl Iterator<Item = Vector<'_>> {
        (0..self.rows.len()).map(|i| self.vector(i))
    }

    /// A row of the sample.
    fn find(&self, row: u32) -> Option<Vector<'_>> {
        Some(self.vector(self.rows.binary_search(&row).ok()?))
    }
}

/// Vectors that lie side by side, one after the other.
fn by_vector(lanes: &[[f32; BLOCK]]) -> Vec<f32> {
    (0..BLOCK).flat_map(|j| lanes.iter().map(move |lanes| lanes[j])).collect()
}

/// Learns what codes stand for and how far they are off.
pub(super) fn learn_constants(
    encoder: &mut Encoder,
    set: &TrainingSet<'_>,
    pairs: &Pairs,
    corrected: bool,
) {
    let layout = encoder.model.layout();
    let encoded = Encoded::of(encoder, set, pairs, &layout);
    for (s, segment) in layout.segments.iter().enumerate() {
        learn_segment(s, segment, &encoded, &mut encoder.model.constants[s]);
    }
    learn_pairs(encoder, set, pairs, &encoded, &layout, corrected);
}

/// The levels of a segment's first stage, the norm, and the errors.
fn learn_segment(
    s: usize,
    segment: &SegmentLayout,
    encoded: &Encoded,
    constants: &mut SegmentConstants,
) {
    let range = segment.start..segment.start + segment.dims;
    let count = segment.dims as f64;
    let scales = encoded.vectors().map(|vector| f64::from(vector.scale(s)));
    constants.typical = (scales.sum::<f64>() / encoded.rows.len().max(1) as f64) as f32;
    if segment.bits == 0 {
        // The stored norm is the scale.
        constants.norm = (1.0 / count).sqrt() as f32;
        constants.full_error = constants.norm;
        constants.scan_error = constants.norm;
        return;
    }
    // The first stage's levels: the mean of o where the code's top bits are equal, up to
    // sign; then stretched so that <first stage, o> = |o|^2 on average.
    let boundary = segment.boundary();
    // A vector that has nothing in the segment does not count.
    let parts = || {
        encoded.vectors().filter(|vector| vector.scale(s) > 0.0).map(|vector| Scaled {
            o: vector.o[range.clone()].as_chunks().0,
            u: vector.u[range.clone()].as_chunks().0,
            scale: f64::from(vector.scale(s)),
            boundary,
        })
    };
    let mut moments = Moments::default();
    for part in parts() {
        level().vectorize(AddMoments { part, moments: &mut moments });
    }
    let (weight, sum) = (moments.weight.each_ref().map(total), moments.sum.each_ref().map(total));
    let energy = total(&moments.energy);
    let mean = [sum[0] / weight[0].max(1.0), sum[1] / weight[1].max(1.0)];
    let projected = mean[0] * sum[0] + mean[1] * sum[1];
    let stretch = if projected > 0.0 { energy / projected } else { 1.0 };
    let levels = [(mean[0] * stretch) as f32, (mean[1] * stretch) as f32];

    let mut sums = Sums::default();
    for part in parts() {
        let mut errors = Errors::default();
        level().vectorize(AddErrors { part, levels, errors: &mut errors });
        sums.count += 1.0;
        for (sum, lanes) in [
            (&mut sums.full, errors.full),
            (&mut sums.scan, errors.scan),
            (&mut sums.norm, errors.norm),
        ] {
            let value = total(&lanes) / count;
            sum[0] += value;
            sum[1] += value * value;
        }
    }
    // An upper value: errors of single vectors scatter around the mean, and the bound has to
    // hold for nearly all of them.
    let upper = |sum: [f64; 2]| -> f32 {
        let n = sums.count.max(1.0);
        let mean = sum[0] / n;
        let deviation = (sum[1] / n - mean * mean).max(0.0).sqrt();
        (mean + deviation).sqrt() as f32
    };
    constants.levels = levels;
    constants.full_error = upper(sums.full);
    constants.scan_error = if segment.scan_bits > 0 { upper(sums.scan) } else { upper(sums.norm) };
    constants.norm = (sums.norm[0] / sums.count.max(1.0)).sqrt() as f32;
}

/// Sums that do not wait for each other.
const LANES: usize = 8;

fn total(lanes: &[f64; LANES]) -> f64 {
    lanes.iter().sum()
}

/// A vector's part of a segment.
#[derive(Clone, Copy)]
struct Scaled<'a> {
    o: &'a [[f32; LANES]],
    u: &'a [[f32; LANES]],
    scale: f64,
    /// See [`SegmentLayout::boundary`].
    boundary: f32,
}

impl Scaled<'_> {
    /// Calls `each` with a lane, a coordinate in units of the scale, its code, and whether the first stage's outer
    /// level stands for it.
    #[inline(always)]
    fn for_each(self, mut each: impl FnMut(usize, f64, f32, bool)) {
        for (o, u) in self.o.iter().zip(self.u) {
            for j in 0..LANES {
                each(j, f64::from(o[j]) / self.scale, u[j], u[j].abs() >= self.boundary);
            }
        }
    }
}

/// Of the coordinates of vectors in units of their scale, those that the first stage's inner level stands for and
/// those of the outer one: how many, and the sums of their magnitudes, signed by the code's.
#[derive(Default)]
struct Moments {
    weight: [[f64; LANES]; 2],
    sum: [[f64; LANES]; 2],
    /// The sum of all squares.
    energy: [f64; LANES],
}

struct AddMoments<'a> {
    part: Scaled<'a>,
    moments: &'a mut Moments,
}

impl Vectorize for AddMoments<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Moments { weight, sum, energy } = self.moments;
        self.part.for_each(|j, o, u, is_outer| {
            let size = o * f64::from(u.signum());
            let outer = if is_outer { 1.0 } else { 0.0 };
            for (level, counts) in [1.0 - outer, outer].into_iter().enumerate() {
                weight[level][j] += counts;
                sum[level][j] += counts * size;
            }
            energy[j] += o * o;
        });
    }
}

/// The squared errors of all bits and of the first stage's, and the squared norm, in units of the scale.
#[derive(Default)]
struct Errors {
    full: [f64; LANES],
    scan: [f64; LANES],
    norm: [f64; LANES],
}

struct AddErrors<'a> {
    part: Scaled<'a>,
    levels: [f32; 2],
    errors: &'a mut Errors,
}

impl Vectorize for AddErrors<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (Errors { full, scan, norm }, [inner, outer]) = (self.errors, self.levels);
        self.part.for_each(|j, o, u, is_outer| {
            let level = if is_outer { outer } else { inner };
            let off = f64::from(u) - o;
            let first_off = f64::from(level.copysign(u)) - o;
            full[j] += off * off;
            scan[j] += first_off * first_off;
            norm[j] += o * o;
        });
    }
}

/// From the pairs: what near ones share where the first stage does not look, the correction for
/// dropped dimensions, and the step of the shifts.
fn learn_pairs(
    encoder: &mut Encoder,
    set: &TrainingSet<'_>,
    pairs: &Pairs,
    encoded: &Encoded,
    layout: &Layout,
    corrected: bool,
) {
    let (dim, dims) = (set.sample.dim(), encoder.model.frame.dims);
    let mut near_sums = [0.0f64; 3];
    let mut fit = [0.0f64; 2];
    let (mut shifts, mut shift_count) = ([0.0f64; 2], 0.0f64);
    let mut query = vec![0.0f32; dim];
    for (pairs, near) in [(&pairs.near, true), (&pairs.far, false)] {
        for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
            query.copy_from_slice(set.sample.row(pairs[0].0 as usize));
            let rotated = encoder.rotation.apply(set.mean, &query);
            for &(_, x) in pairs {
                let Some(vector) = encoded.find(x) else { continue };
                let centroid = match (&encoded.centroids, set.lists) {
                    (Some(c), Some((_, of_row))) => {
                        Some(&c.rotated[of_row[x as usize] as usize * dims..][..dims])
                    }
                    _ => None,
                };
                let q =
                    |d: usize| f64::from(rotated[d]) - centroid.map_or(0.0, |c| f64::from(c[d]));
                let (mut kept, mut kept_q, mut kept_x) = (0.0, 0.0, 0.0);
                let (mut tail, mut tail_q, mut tail_x) = (0.0, 0.0, 0.0);
                let (mut unseen, mut unseen_q) = (0.0, 0.0);
                let mut shift = 0.0;
                for (s, segment) in layout.segments.iter().enumerate() {
                    let (mut dot, mut qq, mut estimate) = (0.0, 0.0, 0.0);
                    let scale = f64::from(vector.scale(s));
                    let levels = encoder.model.constants[s].levels;
                    let boundary = segment.boundary();
                    for d in segment.start..segment.start + segment.dims {
                        let (o, u) = (f64::from(vector.o[d]), vector.u[d]);
                        dot += q(d) * o;
                        qq += q(d) * q(d);
                        if segment.bits > 0 {
                            estimate += q(d) * scale * f64::from(u);
                        }
                        if let Some(c) = centroid {
                            let level = levels[usize::from(u.abs() >= boundary)].copysign(u);
                            let first = if segment.scan_bits > 0 { f64::from(level) } else { 0.0 };
                            let full = if segment.bits > 0 { f64::from(u) } else { 0.0 };
                            shift += f64::from(c[d]) * scale * (first - full);
                        }
                    }
                    if segment.scan_bits == 0 {
                        unseen += dot;
                        unseen_q += qq;
                    }
                    if segment.bits == 0 {
                        tail += dot;
                        tail_q += qq;
                        tail_x += scale * scale;
                    } else {
                        kept += estimate;
                        kept_q += qq;
                        // What the search knows of the norm of the kept dimensions.
                        let norm = f64::from(encoder.model.constants[s].norm) * scale;
                        kept_x += norm * norm * segment.dims as f64;
                    }
                }
                let size = encoder.model.size(layout, |s| vector.scale(s));
                if near && unseen_q > 0.0 && size > 0.0 {
                    let share = unseen / (unseen_q.sqrt() * f64::from(size));
                    near_sums[0] += 1.0;
                    near_sums[1] += share;
                    near_sums[2] += share * share;
                }
                if kept_q > 0.0 && kept_x > 0.0 {
                    let cosine = (kept / (kept_q * kept_x).sqrt()).clamp(0.0, 1.0);
                    let feature = cosine * cosine * (tail_q * tail_x).sqrt();
                    fit[0] += feature * tail;
                    fit[1] += feature * feature;
                }
                let shift = f64::from(encoder.model.frame.alpha()) * shift;
                shift_count += 1.0;
                shifts[0] += shift;
                shifts[1] += shift * shift;
            }
        }
    }
    let n = near_sums[0].max(1.0);
    let mean = near_sums[1] / n;
    encoder.model.near = Near {
        mean: mean as f32,
        deviation: (near_sums[2] / n - mean * mean).max(0.0).sqrt() as f32,
    };
    if fit[1] > 0.0 && corrected {
        encoder.model.correction = (fit[0] / fit[1]).clamp(0.0, 2.0) as f32;
    }
    // A sixteenth of a standard deviation a step: codes reach eight to either side.
    encoder.model.shift_step = ((shifts[1] / shift_count.max(1.0)).sqrt() / 16.0).max(1e-30) as f32;
}
