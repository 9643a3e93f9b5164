//! The same distances by SimSIMD, a library in C that chooses its instruction set by itself. It is
//! a development dependency, so this file is a module of the programs that measure and not of the
//! library.

use half::f16;
use nonius_benches::cases::{Case, DIMENSIONS, distances, half_distances};
use simsimd::SpatialSimilarity;

/// The library's name.
pub(crate) const NAME: &str = "simsimd";

/// Its cases; kernel and shape are those of Nonius that they stand beside.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dim in DIMENSIONS {
        let half = |x: f32| simsimd::f16(f16::from_f32(x).to_bits());
        cases.extend(distances(dim, [dot, l2_sq], |x| x));
        cases.extend(half_distances(dim, [dot, l2_sq], half, half));
    }
    cases
}

fn dot<T: SpatialSimilarity>(x: &[T], y: &[T]) -> f32 {
    T::dot(x, y).expect("equal lengths") as f32
}

fn l2_sq<T: SpatialSimilarity>(x: &[T], y: &[T]) -> f32 {
    T::l2sq(x, y).expect("equal lengths") as f32
}
