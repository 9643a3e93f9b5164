//! Encoding one segment of 32 vectors at once: the step, the code and its adjustment.
//!
//! The paper's code adjustment (CAQ, section 3) starts from the grid of a vector's largest
//! coordinate and moves coordinates one step up or down while the cosine between the vector and
//! its code rises. We keep the coordinate descent and change three things:
//!
//! - Several steps are tried first, between the one of the largest coordinate and the one that is
//!   best for a Gaussian; this is worth more than further sweeps.
//! - The scale that will be *stored* is part of the objective. Once it is known, the step is
//!   changed as rounding changed the scale. Then, with `u` the code (half-integers), `t` the step
//!   and `S` the stored scale, a sweep lowers
//!
//!   ```text
//!   |u - o/t|^2 + mu * (<u, o> - |o|^2 / S)^2
//!   ```
//!
//!   The first term is the error across `o`, which the cosine measures; the second is the error
//!   along `o`, which biases the distances of near neighbours and which a coarse scale would
//!   otherwise leave.
//! - 32 vectors go side by side, one a lane, so that the serial dependency through `<u, o>` costs
//!   nothing: every operation below works on all lanes.

use nonius_simd::BLOCK;

use super::scale::{BYTE, ScaleFormat};

/// One value for each of 32 vectors.
pub(crate) type Lanes = [f32; BLOCK];

/// The best step of a uniform grid of 1 to 13 bits for a Gaussian of unit variance (index 0 is
/// unused).
pub(crate) const GAUSSIAN_STEP: [f32; 14] = [
    0.0, 1.596, 0.9957, 0.586, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308, 0.0166, 0.008_92, 0.004_78,
    0.002_55, 0.001_36,
];

/// How hard the encoder tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Steps that are tried.
    pub(crate) steps: u32,
    /// Sweeps of coordinate descent. Without any, an eighth of the dimensions is visited where
    /// scales have one byte: enough to take back most of the error along the vector.
    pub(crate) sweeps: u32,
}

impl Effort {
    /// How many steps are tried for codes of so many bits.
    #[inline(always)]
    pub(super) fn tries(self, bits: u32) -> u32 {
        if bits == 1 { 1 } else { self.steps.max(1) }
    }

    /// How many dimensions of a segment coordinate descent visits.
    #[inline(always)]
    pub(super) fn visits(self, format: ScaleFormat, dims: usize) -> usize {
        match self.sweeps {
            0 if format == BYTE => dims / 8,
            sweeps => dims * sweeps as usize,
        }
    }
}

/// How far along from the smaller to the larger step a try is: nearer to the smaller one, which is the better one
/// more often.
#[inline(always)]
pub(super) fn fraction_of(attempt: u32, tries: u32) -> f32 {
    (attempt as f32 + 0.35) / tries as f32
}

/// The squared norm up to which lanes are too small for the smallest scale, and dropped: their code stands for zero.
#[inline(always)]
pub(super) fn dropped_norm_sq(dims: usize, unit: f32, format: ScaleFormat) -> f32 {
    let tiny = unit * format.decode(1) * 0.25;
    dims as f32 * tiny * tiny
}

/// The code of a segment of 32 vectors.
pub(crate) struct SegmentCode<'a> {
    /// For each dimension and lane the value `u` that the code stands for, in units of the
    /// scale: the code minus `(2^bits - 1) / 2`.
    pub(crate) u: &'a mut [Lanes],
    /// The stored code of each lane's scale.
    pub(crate) scale_code: [u32; BLOCK],
    /// The scale that it stands for.
    pub(crate) scale: Lanes,
    /// The squared norm of each lane.
    pub(crate) norm_sq: Lanes,
}

impl SegmentCode<'_> {
    /// A place for a code, in which only `u` has a meaning yet.
    pub(crate) fn new(u: &mut [Lanes]) -> SegmentCode<'_> {
        SegmentCode { u, scale_code: [0; BLOCK], scale: [0.0; BLOCK], norm_sq: [0.0; BLOCK] }
    }
}

/// The half-integer nearest to `x`, within `-limit..=limit`.
#[inline(always)]
fn nearest(x: f32, limit: f32) -> f32 {
    // Comparisons rather than `clamp`, whose care for NaN would double the work.
    let above = if x > -limit { x } else { -limit };
    let clamped = if above < limit { above } else { limit };
    clamped.floor() + 0.5
}

/// Encodes `o` (a segment's dimensions by 32 lanes) with `bits` bits; `unit` is the unit of the
/// stored scales. `along` is how much the error along the vector weighs against the error across
/// it, per dimension: the squared cosine that near neighbours have to the vector.
#[inline(always)]
pub(crate) fn encode_segment(
    o: &[Lanes],
    bits: u32,
    unit: f32,
    format: ScaleFormat,
    effort: Effort,
    along: f32,
    code: &mut SegmentCode<'_>,
) {
    let dims = o.len() as f32;
    let limit = ((1u32 << bits) - 1) as f32 * 0.5;
    let mut norm_sq = [0.0; BLOCK];
    let mut largest = [0.0f32; BLOCK];
    for o in o {
        for j in 0..BLOCK {
            norm_sq[j] += o[j] * o[j];
            let magnitude = o[j].abs();
            largest[j] = if magnitude > largest[j] { magnitude } else { largest[j] };
        }
    }
    code.norm_sq = norm_sq;
    let dropped = dropped_norm_sq(o.len(), unit, format);
    let mut live = [false; BLOCK];
    let (mut low, mut span) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
    for j in 0..BLOCK {
        live[j] = norm_sq[j] > dropped;
        let safe_norm = if live[j] { norm_sq[j] } else { dims };
        let of_gaussian = (safe_norm / dims).sqrt() * GAUSSIAN_STEP[bits as usize];
        let of_largest = if live[j] { largest[j] / (limit + 0.5) } else { of_gaussian };
        low[j] = of_gaussian.min(of_largest) * 0.97;
        span[j] = of_gaussian.max(of_largest) * 1.03 - low[j];
        norm_sq[j] = safe_norm;
    }

    // Try steps; keep the one with the smallest error across, for each lane. What rounding the
    // scale does along the vector is mended afterwards.
    let inverse_unit = 1.0 / unit;
    let tries = effort.tries(bits);
    let mut best = [f32::INFINITY; BLOCK];
    let mut inverse_step = [0.0f32; BLOCK];
    let mut scale = [0.0f32; BLOCK];
    let mut scale_code = [1u32; BLOCK];
    for attempt in 0..tries {
        let fraction = fraction_of(attempt, tries);
        let mut inverse = [0.0f32; BLOCK];
        for j in 0..BLOCK {
            inverse[j] = 1.0 / (low[j] + span[j] * fraction);
        }
        let (mut dot, mut square) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for o in o {
            for j in 0..BLOCK {
                let u = nearest(o[j] * inverse[j], limit);
                dot[j] += u * o[j];
                square[j] += u * u;
            }
        }
        for j in 0..BLOCK {
            let exact = if live[j] { norm_sq[j] / dot[j] } else { unit };
            let stored_code = format.encode(exact * inverse_unit);
            let stored = format.decode(stored_code) * unit;
            // Quotients first: the squares of huge vectors would overflow.
            let across = (norm_sq[j] / dot[j]) * (square[j] / dot[j]);
            // The best scale is nearly proportional to the step: change the step as rounding
            // changed the scale. A vector that is too small for the smallest scale gets a code in
            // units of that one: coarser, but not longer than the vector.
            let off = exact / stored;
            let mended = if off < 0.98 { 1.0 / stored } else { inverse[j] * off.min(1.02) };
            let better = across < best[j];
            best[j] = if better { across } else { best[j] };
            inverse_step[j] = if better { mended } else { inverse_step[j] };
            scale[j] = if better { stored } else { scale[j] };
            scale_code[j] = if better { stored_code } else { scale_code[j] };
        }
    }
    for (o, u) in o.iter().zip(code.u.iter_mut()) {
        for j in 0..BLOCK {
            u[j] = nearest(o[j] * inverse_step[j], limit);
        }
    }

    // Coordinate descent. At one bit there is no step to compare with: a sign is worth its
    // coordinate's magnitude in units of the scale.
    let visits = effort.visits(format, o.len());
    // A loop of its own: in the one before, the compiler would keep the sums in memory.
    let mut dot = [0.0f32; BLOCK];
    if visits > 0 {
        for (o, u) in o.iter().zip(code.u.iter()) {
            for j in 0..BLOCK {
                dot[j] += u[j] * o[j];
            }
        }
    }
    let (mut mu, mut excess) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
    for j in 0..BLOCK {
        mu[j] = if live[j] { along * dims / norm_sq[j] } else { 0.0 };
        excess[j] = if live[j] { dot[j] - norm_sq[j] / scale[j] } else { 0.0 };
        if bits == 1 {
            inverse_step[j] = 1.0 / scale[j];
        }
    }
    for start in (0..visits).step_by(o.len()) {
        for (o, u) in o.iter().zip(code.u.iter_mut()).take(visits - start) {
            for j in 0..BLOCK {
                let pull = o[j] * mu[j];
                let slope = o[j] * inverse_step[j] - u[j] - pull * excess[j];
                let step = if slope < 0.0 { -1.0f32 } else { 1.0 };
                let gain = slope.abs() * 2.0 - 1.0 - pull * o[j];
                let target = u[j] + step;
                let accept = (gain > 0.0) & (target.abs() <= limit);
                let step = if accept { step } else { 0.0 };
                u[j] += step;
                excess[j] += step * o[j];
            }
        }
    }
    for j in 0..BLOCK {
        code.scale_code[j] = if live[j] { scale_code[j] } else { 0 };
        code.scale[j] = if live[j] { scale[j] } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::saq::scale::PAIR;
    use crate::random::Random;

    fn gaussian(dims: usize, seed: u64) -> Vec<Lanes> {
        let mut random = Random::new(seed, 0);
        (0..dims).map(|_| std::array::from_fn(|_| random.normal() as f32)).collect()
    }

    struct Quality {
        /// Mean of 1/cos^2 - 1.
        across: f64,
        /// Root mean square of `scale * <u, o> / |o|^2 - 1`.
        along: f64,
    }

    fn encode(o: &[Lanes], bits: u32, effort: Effort) -> (Vec<Lanes>, [u32; BLOCK], Quality) {
        let format = ScaleFormat::of_bits(bits);
        let mut u = vec![[0.0; BLOCK]; o.len()];
        let mut code = SegmentCode::new(&mut u);
        encode_segment(o, bits, GAUSSIAN_STEP[bits as usize], format, effort, 0.4, &mut code);
        let (scale, scale_code) = (code.scale, code.scale_code);
        let (mut across, mut along) = (0.0, 0.0);
        for j in 0..BLOCK {
            let sum = |f: &dyn Fn(usize) -> f64| (0..o.len()).map(f).sum::<f64>();
            let uo = sum(&|i| f64::from(u[i][j]) * f64::from(o[i][j]));
            let uu = sum(&|i| f64::from(u[i][j]).powi(2));
            let oo = sum(&|i| f64::from(o[i][j]).powi(2));
            across += oo * uu / (uo * uo) - 1.0;
            along += (f64::from(scale[j]) * uo / oo - 1.0).powi(2);
        }
        let quality =
            Quality { across: across / BLOCK as f64, along: (along / BLOCK as f64).sqrt() };
        (u, scale_code, quality)
    }

    const FULL: Effort = Effort { steps: 6, sweeps: 2 };

    #[test]
    fn codes_are_half_integers_in_range() {
        for bits in 1..=13 {
            let o = gaussian(24, u64::from(bits));
            let (u, _, _) = encode(&o, bits, FULL);
            let limit = ((1u32 << bits) - 1) as f32 / 2.0;
            for u in u.as_flattened() {
                assert!(u.abs() <= limit && (u + 0.5).fract() == 0.0, "{u} at {bits} bits");
            }
        }
    }

    #[test]
    fn errors_match_the_published_quality() {
        // sqrt(1/cos^2 - 1) of CAQ with six sweeps on Gaussian data of 128 dimensions, with a
        // hundredth of slack for the sample.
        for (bits, published) in [(2, 0.3628), (3, 0.1933), (4, 0.1014), (5, 0.0511), (8, 0.0063)] {
            let (_, _, quality) = encode(&gaussian(128, 5), bits, FULL);
            let error = quality.across.sqrt();
            assert!(error < published * 1.03, "{bits} bits: {error} against {published}");
        }
    }

    #[test]
    fn the_error_along_the_vector_is_small() {
        for (bits, most) in [(1, 0.01), (2, 0.007), (3, 0.0035), (4, 0.002), (5, 0.001), (8, 2e-4)]
        {
            let (_, _, quality) = encode(&gaussian(64, 9), bits, FULL);
            assert!(quality.along < most, "{bits} bits: {}", quality.along);
        }
    }

    #[test]
    fn effort_pays() {
        for bits in 2..=6 {
            let o = gaussian(64, 11);
            let dims = 64.0 * 0.4;
            let cost = |effort| {
                let (_, _, quality) = encode(&o, bits, effort);
                quality.across + dims * quality.along.powi(2)
            };
            let quick = cost(Effort { steps: 1, sweeps: 0 });
            let full = cost(FULL);
            assert!(full < quick, "{bits} bits: {full} against {quick}");
        }
    }

    /// Vectors far smaller than the unit have coarse codes, but none that are longer than they are by more than
    /// the smallest steps: half of one from rounding, and one more by the descent.
    #[test]
    fn small_vectors_are_not_enlarged() {
        for bits in 1..=13 {
            let mut o = gaussian(24, 90 + u64::from(bits));
            // Down to half of the norm that is dropped.
            for o in &mut o {
                for (j, o) in o.iter_mut().enumerate() {
                    *o *= 0.5f32.powf(j as f32 * 0.75);
                }
            }
            let format = ScaleFormat::of_bits(bits);
            let (mut u, unit) = (vec![[0.0; BLOCK]; o.len()], GAUSSIAN_STEP[bits as usize]);
            let limit = ((1u32 << bits) - 1) as f32 / 2.0;
            let mut code = SegmentCode::new(&mut u);
            encode_segment(&o, bits, unit, format, FULL, 0.4, &mut code);
            let (scale, scale_code) = (code.scale, code.scale_code);
            let mut smallest = 0;
            for j in (0..BLOCK).filter(|&j| scale_code[j] == 1) {
                smallest += 1;
                for (o, u) in o.iter().zip(&u) {
                    let error = (u[j] * scale[j] - o[j]).abs();
                    // Of the largest values what the bits do not reach is cut off.
                    let cut = (o[j].abs() - limit * scale[j]).max(0.0);
                    let most = 1.51 * scale[j] + cut;
                    assert!(error <= most, "{bits} bits, lane {j}: {} {}", o[j], u[j]);
                }
            }
            assert!(smallest > 0, "{bits} bits: {scale_code:?}");
        }
    }

    #[test]
    fn zeros_and_extremes_are_safe() {
        for bits in [1, 2, 4, 5, 8, 13] {
            let mut o = gaussian(16, 1);
            for o in &mut o {
                o[0] = 0.0;
                o[1] = 1e-30;
                o[2] *= 1e-20;
                o[3] *= 1e18;
            }
            for (i, o) in o.iter_mut().enumerate() {
                o[4] = if i == 3 { 5.0 } else { 0.0 };
                o[5] = 1.0;
            }
            let format = ScaleFormat::of_bits(bits);
            let mut u = vec![[0.0; BLOCK]; o.len()];
            let mut code = SegmentCode::new(&mut u);
            encode_segment(&o, bits, GAUSSIAN_STEP[bits as usize], format, FULL, 0.4, &mut code);
            assert_eq!(&code.scale_code[..3], &[0, 0, 0]);
            assert_eq!(&code.scale[..3], &[0.0; 3]);
            assert_eq!(code.scale_code[3], format.max);
            assert!(code.scale.iter().all(|s| s.is_finite()));
            assert!(u.as_flattened().iter().all(|u| u.is_finite()));
        }
    }

    #[test]
    fn every_level_gives_the_same_code() {
        struct Run<'a>(&'a [Lanes], u32);
        impl nonius_simd::Vectorize for Run<'_> {
            type Output = (Vec<Lanes>, [u32; BLOCK]);
            #[inline(always)]
            fn run(self) -> Self::Output {
                let mut u = vec![[0.0; BLOCK]; self.0.len()];
                let mut code = SegmentCode::new(&mut u);
                let format = if self.1 <= 4 { BYTE } else { PAIR };
                encode_segment(self.0, self.1, 0.3, format, FULL, 0.4, &mut code);
                let scale_code = code.scale_code;
                (u, scale_code)
            }
        }
        for bits in 1..=13 {
            let o = gaussian(40, 77);
            let plain = nonius_simd::Level::Scalar.vectorize(Run(&o, bits));
            for level in nonius_simd::available() {
                assert_eq!(level.vectorize(Run(&o, bits)), plain, "{level}, {bits} bits");
            }
        }
    }
}
