//! Inner products of the centroids of different levels.
//!
//! The squared distance of a vector to a sum of centroids is made of its inner products with each of them, and of
//! theirs with each other (Babenko and Lempitsky, "Additive Quantization", CVPR 2014, equation 6). With both in tables a
//! beam search extends sums by nothing but additions.

use nonius_simd::{Vectorize, level, prefetch_later};
use rayon::prelude::*;

use super::levels::Levels;
use crate::train::{ROUND, RowsI16};

/// More than this is not held: tables of more levels come from memory for every few vectors, and a search of what
/// sums leave takes no longer. 32 levels of 256 centroids fit.
const MOST_BYTES: usize = 1 << 26;

/// Tables pay where there are at least so many dimensions for each level: a level takes additions for each of those before it
/// with tables, and for each dimension without.
const DIMS: usize = 8;

/// Columns of the tables that are added up at a time, if there are so many: those of two levels, and the sums of some
/// hundred paths, then fit into the second cache.
const TILE: usize = 64;

/// Products that are added up in 16 bits, before their sum goes on in 32: none is larger than this part of what those hold.
const TOGETHER: usize = 4;

/// The row of a table that is not there.
const ZEROS: [i16; TILE] = [0; TILE];

/// Products in a cache line.
const LINE: usize = 64 / size_of::<i16>();

/// The inner products of all centroids of each level with those of the levels before.
#[derive(Clone, Debug)]
pub(super) struct Cross {
    centroids: usize,
    of_levels: Vec<OfLevel>,
}

/// Those of one level.
#[derive(Clone, Debug)]
struct OfLevel {
    /// What a unit of the products is worth.
    unit: f32,
    /// For each [`TILE`] of this level's centroids, and in it for each centroid of the levels before, a row of products.
    products: Vec<i16>,
}

impl Cross {
    /// The tables of some levels; none where there is one level, or where they do not pay.
    pub(super) fn new(levels: &Levels) -> Option<Cross> {
        let (count, centroids) = (levels.levels(), levels.centroids());
        let pairs = count * count.saturating_sub(1) / 2;
        let bytes = pairs * centroids * centroids * size_of::<i16>();
        if pairs == 0 || bytes > MOST_BYTES || levels.dims() < DIMS * count {
            return None;
        }
        let of_level = |number: usize| {
            let mut rows = RowsI16::new();
            let before = number * centroids * levels.dims();
            rows.quantize(levels.dims(), &levels.values()[..before]);
            let mut dots = Vec::new();
            rows.multiply(levels.panels(number), &mut dots);
            let mut products = vec![0; dots.len()];
            let inverse = levels.inverses(number);
            let round = Round { rows: &rows, inverse, dots, products: &mut products };
            let unit = level().vectorize(round);
            OfLevel { unit, products }
        };
        Some(Cross { centroids, of_levels: (1..count).into_par_iter().map(of_level).collect() })
    }

    /// Adds to the scores of each path (`paths x centroids`) the inner products of the centroids of level
    /// `level_number`, which is not the first, with those that the path names of the levels before, times `weight`;
    /// `sums` is a buffer.
    #[inline(always)]
    pub(super) fn add(
        &self,
        level_number: usize,
        paths: &[u16],
        weight: f32,
        sums: &mut Vec<i32>,
        scores: &mut [f32],
    ) {
        let OfLevel { unit, products } = &self.of_levels[level_number - 1];
        let weight = weight * unit;
        let width = TILE.min(self.centroids);
        let count = paths.len() / level_number;
        sums.resize(count * width, 0);
        let table = self.centroids * width;
        let share = (TOGETHER * table).div_ceil(count.max(1)).next_multiple_of(LINE);
        let tiles = products.chunks_exact(level_number * table);
        for (tile, products) in tiles.enumerate() {
            sums.fill(0);
            let mut groups = products.chunks(TOGETHER * table).enumerate();
            while let Some((group, tables)) = groups.next() {
                // The rows of tables are read here and there; what comes next is asked for as it lies in memory.
                let mut coming = groups.clone().next().unwrap_or_default().1.chunks(share);
                let paths = paths.chunks_exact(level_number);
                for (path, sums) in paths.zip(sums.chunks_exact_mut(width)) {
                    prefetch_later(coming.next().unwrap_or_default());
                    let codes = &path[group * TOGETHER..];
                    let row = |number: usize| match codes.get(number) {
                        Some(&code) => {
                            &tables[number * table + usize::from(code) * width..][..width]
                        }
                        None => &ZEROS[..width],
                    };
                    add_rows([row(0), row(1), row(2), row(3)], sums);
                }
            }
            let scores = scores.chunks_exact_mut(self.centroids);
            for (scores, sums) in scores.zip(sums.chunks_exact(width)) {
                for (score, &sum) in scores[tile * width..][..width].iter_mut().zip(sums) {
                    *score += weight * sum as f32;
                }
            }
        }
    }
}

/// Adds rows of products to sums.
#[inline(always)]
fn add_rows(rows: [&[i16]; TOGETHER], sums: &mut [i32]) {
    let [a, b, c, d] = rows;
    let rows = a.iter().zip(b).zip(c.iter().zip(d));
    for (sum, ((a, b), (c, d))) in sums.iter_mut().zip(rows) {
        *sum += i32::from(a.wrapping_add(*b).wrapping_add(c.wrapping_add(*d)));
    }
}

/// Rounds inner products to what 16 bits hold of a sum of several, and returns what a unit of them is worth.
struct Round<'a> {
    rows: &'a RowsI16,
    /// What each column is multiplied by.
    inverse: &'a [f32],
    dots: Vec<i32>,
    products: &'a mut [i16],
}

impl Vectorize for Round<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        let Round { rows, inverse, dots, products } = self;
        let columns = inverse.len();
        let mut largest = 0.0f32;
        for (dots, row) in dots.chunks_exact(columns).zip(rows.inverse()) {
            for (&dot, inverse) in dots.iter().zip(inverse) {
                let size = (dot as f32 * (row * inverse)).abs();
                largest = if size > largest { size } else { largest };
            }
        }
        let unit = largest / (i16::MAX as usize / TOGETHER) as f32;
        let scale = if unit > 0.0 { unit.recip() } else { 0.0 };
        let width = TILE.min(columns);
        let tiles = products.chunks_exact_mut(rows.rows() * width);
        for ((tile, products), inverse) in tiles.enumerate().zip(inverse.chunks_exact(width)) {
            let dots = dots.chunks_exact(columns).map(|dots| &dots[tile * width..][..width]);
            let rows = dots.zip(rows.inverse()).zip(products.chunks_exact_mut(width));
            for ((dots, row), products) in rows {
                for ((product, &dot), inverse) in products.iter_mut().zip(dots).zip(inverse) {
                    let rounded = dot as f32 * (row * inverse) * scale + ROUND;
                    *product = rounded.to_bits() as i16;
                }
            }
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn scores_are_those_of_the_sums() {
        let mut random = Random::new(3, 0);
        for (dims, count, most) in [(16, 2, 256), (32, 4, 16), (40, 3, 32), (41, 5, 64)] {
            let values: Vec<f32> =
                (0..count * most * dims).map(|_| random.normal() as f32).collect();
            let levels = Levels::new(dims, most, &values);
            let cross = Cross::new(&levels).unwrap();
            let mut sums = Vec::new();
            for length in 1..count {
                let paths: Vec<u16> = (0..3 * length).map(|i| (i * 7 % most) as u16).collect();
                let mut scores = vec![1.0; 3 * most];
                cross.add(length, &paths, 2.0, &mut sums, &mut scores);
                for (path, scores) in paths.chunks_exact(length).zip(scores.chunks_exact(most)) {
                    let mut sum = vec![0.0; dims];
                    for (number, &code) in path.iter().enumerate() {
                        crate::matrix::add(&mut sum, levels.centroid(number, code));
                    }
                    for (code, score) in scores.iter().enumerate() {
                        let centroid = levels.centroid(length, code as u16);
                        let exact = nonius_simd::dot_f32(&sum, centroid);
                        let bound = 1e-3 * dims as f32;
                        assert!((score - 1.0 - 2.0 * exact).abs() < bound, "{score} {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn there_are_none_of_one_level_of_few_dimensions_and_of_too_many() {
        let of = |dims: usize, levels: usize, most: usize| {
            Cross::new(&Levels::new(dims, most, &vec![0.5; levels * most * dims])).is_some()
        };
        assert!(!of(24, 1, 256) && of(24, 2, 256) && of(24, 3, 16));
        assert!(!of(16, 3, 16) && !of(24, 3, 4096));
    }

    #[test]
    fn zeros_and_tiny_and_huge_centroids_have_tables() {
        for scale in [0.0f32, 1e-30, 1e15] {
            let levels = Levels::new(24, 16, &vec![scale; 3 * 16 * 24]);
            let cross = Cross::new(&levels).unwrap();
            let mut scores = vec![0.0; 16];
            cross.add(2, &[3, 5], 1.0, &mut Vec::new(), &mut scores);
            let exact = 48.0 * scale * scale;
            assert!(scores.iter().all(|score| (score - exact).abs() <= 1e-3 * exact), "{scores:?}");
        }
    }
}
