//! Distances against those of SimSIMD, which shares no code with them.
//!
//! Both round at each step and sum in orders of their own, so they agree within a tolerance: a sum
//! of n terms, in any order, is off by no more than n roundings of the sum of the terms'
//! magnitudes, and a term by at most three more. The tolerance is what both may be off together.

use half::f16;
use nonius_simd::{available, dot_f16, dot_f32, l2_sq_f16, l2_sq_f32, with_level};
use simsimd::{SpatialSimilarity, capabilities};

/// Even and odd, about the widths of registers and beyond.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=67).chain([100, 127, 128, 129, 255, 384, 385, 960, 961, 1536, 1537])
}

/// Numbers of both signs with all bits of the mantissa in use, of magnitudes below
/// `scale`.
fn numbers(count: usize, scale: f32, seed: &mut u64) -> Vec<f32> {
    (0..count)
        .map(|_| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (bits, shift) = (*seed >> 33, *seed >> 30 & 3);
            let magnitude = (bits % (1 << 24)) as f32 / (1 << 24) as f32;
            let signed = if bits >> 30 == 0 { magnitude } else { -magnitude };
            signed * scale / (1 << shift) as f32
        })
        .collect()
}

/// How far a library may be off.
#[derive(Clone, Copy)]
struct Precision {
    /// The relative error of one rounding.
    rounding: f64,
    /// The absolute error of one rounding where numbers get too small for a relative one.
    underflow: f64,
}

/// Of sums in `f32`.
const SINGLE: Precision =
    Precision { rounding: 1.0 / (1u64 << 24) as f64, underflow: f32::from_bits(1) as f64 };

/// True where SimSIMD sums halves in half precision.
fn sums_in_halves() -> bool {
    capabilities::uses_sapphire() || capabilities::uses_sve_f16()
}

/// Of SimSIMD with halves.
fn halves() -> Precision {
    if sums_in_halves() {
        Precision { rounding: 1.0 / (1u64 << 11) as f64, underflow: f16::from_bits(1).to_f64() }
    } else {
        SINGLE
    }
}

/// Compares results of both libraries. `terms` are the magnitudes that are summed.
fn check(what: &str, ours: f32, theirs: f64, terms: impl Iterator<Item = f64>, peer: Precision) {
    let (mut roundings, mut sum) = (3.0, 0.0);
    for term in terms {
        roundings += 1.0;
        sum += term;
    }
    let off = |by: Precision| roundings * (by.rounding * sum + by.underflow);
    let (tolerance, difference) = (off(SINGLE) + off(peer), (f64::from(ours) - theirs).abs());
    assert!(difference <= tolerance, "{what}: {ours} and {theirs}, of terms of {sum} in all");
}

/// The magnitudes of the terms of products and of squared distances.
fn terms<'a>(x: &'a [f32], y: &'a [f32]) -> [Box<dyn Iterator<Item = f64> + 'a>; 2] {
    let pairs = || x.iter().zip(y).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    // A difference is rounded relative to itself, so its square is what counts.
    [Box::new(pairs().map(|(x, y)| (x * y).abs())), Box::new(pairs().map(|(x, y)| (x - y).powi(2)))]
}

fn check_f32(x: &[f32], y: &[f32]) {
    let theirs = [f32::dot(x, y), f32::l2sq(x, y)].map(|distance| distance.expect("equal lengths"));
    for level in available() {
        let ours = with_level(level, || [dot_f32(x, y), l2_sq_f32(x, y)]);
        for ((ours, theirs), (name, terms)) in
            ours.into_iter().zip(theirs).zip(["dot_f32", "l2_sq_f32"].into_iter().zip(terms(x, y)))
        {
            let what = format!("{name} of {} at {level}", x.len());
            check(&what, ours, theirs, terms, SINGLE);
        }
    }
}

fn check_f16(x: &[f32], y: &[f32]) {
    let [xs, ys] = [x, y].map(|v| v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<f16>>());
    // SimSIMD wants halves on both sides, so the query is rounded as well.
    let [x, y] = [&xs, &ys].map(|v| v.iter().map(|v| v.to_f32()).collect::<Vec<f32>>());
    let [their_x, their_y] =
        [&xs, &ys].map(|v| v.iter().map(|v| simsimd::f16(v.to_bits())).collect::<Vec<_>>());
    let theirs = [simsimd::f16::dot(&their_x, &their_y), simsimd::f16::l2sq(&their_x, &their_y)]
        .map(|distance| distance.expect("equal lengths"));
    for level in available() {
        let ours = with_level(level, || [dot_f16(&x, &ys), l2_sq_f16(&x, &ys)]);
        for ((ours, theirs), (name, terms)) in ours
            .into_iter()
            .zip(theirs)
            .zip(["dot_f16", "l2_sq_f16"].into_iter().zip(terms(&x, &y)))
        {
            let what = format!("{name} of {} at {level}", x.len());
            check(&what, ours, theirs, terms, halves());
        }
    }
}

fn check_zeros_and_itself(x: &[f32], check: fn(&[f32], &[f32])) {
    let zeros = vec![0.0; x.len()];
    check(x, &zeros);
    check(&zeros, x);
    check(x, x);
}

#[test]
fn distances_agree_with_another_library() {
    let mut seed = 1;
    for length in lengths() {
        // The last scales make products that are subnormal, and numbers that are.
        for (x, y) in
            [(1.0, 1.0), (1e15, 1e15), (1e17, 1e-17), (1e-19, 1e-19), (1e-22, 1e-22), (1e-40, 1.0)]
        {
            check_f32(&numbers(length, x, &mut seed), &numbers(length, y, &mut seed));
        }
        check_zeros_and_itself(&numbers(length, 1.0, &mut seed), check_f32);
    }
}

#[test]
fn distances_of_halves_agree_with_another_library() {
    let mut seed = 2;
    for length in lengths() {
        for (x, y) in [(1.0, 1.0), (65504.0, 65504.0), (65504.0, 1e-7), (1e-4, 1e-4), (5e-7, 1.0)] {
            // The largest halves have squares that no half holds.
            if f32::max(x, y) <= 1.0 || !sums_in_halves() {
                check_f16(&numbers(length, x, &mut seed), &numbers(length, y, &mut seed));
            }
        }
        check_zeros_and_itself(&numbers(length, 1.0, &mut seed), check_f16);
    }
}

#[test]
fn zeros_and_overflows_are_those_of_another_library() {
    for length in lengths() {
        let (zeros, large) = (vec![0.0f32; length], vec![1e30f32; length]);
        let opposite = vec![-1e30f32; length];
        for (x, y) in [(&zeros, &zeros), (&zeros, &large), (&large, &large), (&large, &opposite)] {
            let theirs =
                [f32::dot(x, y), f32::l2sq(x, y)].map(|d| d.expect("equal lengths") as f32);
            for level in available() {
                let ours = with_level(level, || [dot_f32(x, y), l2_sq_f32(x, y)]);
                assert_eq!(ours, theirs, "{length} of {:?} and {:?}", x.first(), y.first());
            }
        }
    }
}
