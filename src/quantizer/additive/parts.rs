//! The parts that dimensions and bytes of a code are cut into, and the codebooks of all of them.

use std::ops::Range;

use nonius_simd::Panels;

use super::levels::{BeamScratch, Levels};

/// Dimensions that are encoded by themselves, and the bytes of the code for them: its columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// The first of its dimensions.
    pub(crate) start: usize,
    /// How many dimensions it has.
    pub(crate) dims: usize,
    /// The first of its columns.
    pub(crate) column: usize,
    /// How many columns it has: centroids that make its part of a vector.
    pub(crate) levels: usize,
    /// The centroids of a level, a power of two; 16 or more where there are several levels.
    pub(crate) centroids: usize,
}

impl Part {
    /// Its dimensions.
    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.start + self.dims
    }

    /// Its columns.
    pub(crate) fn columns(self) -> Range<usize> {
        self.column..self.column + self.levels
    }

    /// The rows of its centroids among those of all parts.
    pub(crate) fn rows(self) -> Range<usize> {
        self.column * self.centroids..(self.column + self.levels) * self.centroids
    }

    /// The values of its packed centroids, as [`Panels`].
    pub(crate) fn packed_values(self) -> usize {
        Panels::packed_len(self.levels * self.centroids, self.dims)
    }
}

/// Cuts dimensions and columns into `count` parts, from 1 to the smaller of `dim` and `columns`: as
/// evenly as can be, the first ones one larger. Dimensions from `dim` to `dims` go to the last. Each level
/// has so many `centroids`.
pub(crate) fn cut(
    dim: usize,
    dims: usize,
    columns: usize,
    count: usize,
    centroids: usize,
) -> Vec<Part> {
    let share = |all: usize, part: usize| all / count + usize::from(part < all % count);
    let mut parts = Vec::with_capacity(count);
    let (mut start, mut column) = (0, 0);
    for number in 0..count {
        let levels = share(columns, number);
        let own = if number + 1 == count { dims - start } else { share(dim, number) };
        parts.push(Part { start, dims: own, column, levels, centroids });
        start += own;
        column += levels;
    }
    parts
}

/// The columns of all parts.
pub(crate) fn columns_of(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.levels).sum()
}

/// Columns of rows of `stride` values.
pub(super) fn gather<T: Copy>(rows: &[T], stride: usize, columns: Range<usize>, out: &mut Vec<T>) {
    out.clear();
    for row in rows.chunks_exact(stride) {
        out.extend_from_slice(&row[columns.clone()]);
    }
}

/// Puts back what [`gather`] took.
pub(super) fn scatter<T: Copy>(columns: Range<usize>, values: &[T], rows: &mut [T], stride: usize) {
    for (row, values) in rows.chunks_exact_mut(stride).zip(values.chunks_exact(columns.len())) {
        row[columns.clone()].copy_from_slice(values);
    }
}

/// The codebooks of all parts.
#[derive(Clone, Debug)]
pub(crate) struct Codebooks {
    parts: Vec<Part>,
    levels: Vec<Levels>,
}

/// Buffers of [`Codebooks::encode`].
#[derive(Default)]
pub(super) struct PartScratch {
    beam: BeamScratch,
    vectors: Vec<f32>,
    codes: Vec<u16>,
    residuals: Vec<f32>,
}

impl Codebooks {
    /// Rounds the centroids of each part, `levels * centroids x dims`.
    pub(super) fn new(parts: &[Part], centroids: &[Vec<f32>]) -> Codebooks {
        let of_part = |(part, centroids): (&Part, &Vec<f32>)| {
            Levels::new(part.dims, part.centroids, centroids).with_tables()
        };
        let levels = parts.iter().zip(centroids).map(of_part).collect();
        Codebooks { parts: parts.to_vec(), levels }
    }

    /// The columns of a code.
    pub(super) fn columns(&self) -> usize {
        columns_of(&self.parts)
    }

    /// The dimensions of all parts.
    pub(super) fn dims(&self) -> usize {
        self.parts.iter().map(|part| part.dims).sum()
    }

    /// All centroids as [`Panels`](nonius_simd::Panels), part after part.
    pub(crate) fn packed(&self) -> Vec<i16> {
        self.levels.iter().flat_map(|levels| levels.packed().iter().copied()).collect()
    }

    /// What the packed rows are multiplied by.
    pub(crate) fn inverse(&self) -> Vec<f32> {
        self.levels.iter().flat_map(|levels| levels.inverse().iter().copied()).collect()
    }

    /// Each part with its centroids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Part, &Levels)> {
        self.parts.iter().copied().zip(&self.levels)
    }

    /// Encodes vectors (`n x dims`) into `codes` (`n x columns`), each part by
    /// [`Levels::encode`]. `residuals` (`n x dims`) gets what the sums leave.
    pub(super) fn encode(
        &self,
        vectors: &[f32],
        beam: usize,
        scratch: &mut PartScratch,
        codes: &mut [u16],
        residuals: &mut [f32],
    ) {
        let (dims, columns) = (self.dims(), self.columns());
        if let [levels] = &self.levels[..] {
            levels.encode(vectors, beam, &mut scratch.beam, codes, residuals);
            return;
        }
        let rows = vectors.len() / dims;
        for (part, levels) in self.iter() {
            gather(vectors, dims, part.range(), &mut scratch.vectors);
            scratch.codes.resize(rows * part.levels, 0);
            scratch.residuals.resize(rows * part.dims, 0.0);
            let PartScratch { beam: buffers, vectors, codes: own, residuals: left } = scratch;
            levels.encode(vectors, beam, buffers, own, left);
            scatter(part.columns(), own, codes, columns);
            scatter(part.range(), left, residuals, dims);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::additive::CENTROIDS;
    use crate::random::Random;

    #[test]
    fn parts_cover_all_dimensions_and_columns() {
        for dim in [1usize, 2, 7, 8, 17, 100, 384] {
            let dims = dim.next_multiple_of(8);
            for columns in [1, 2, 5, 16, 96, 255] {
                for count in 1..=columns.min(dim) {
                    let parts = cut(dim, dims, columns, count, CENTROIDS);
                    assert_eq!(parts.len(), count);
                    let (mut start, mut column) = (0, 0);
                    for part in &parts {
                        assert_eq!((part.start, part.column), (start, column));
                        assert!(part.dims > 0 && part.levels > 0);
                        assert!(part.levels.abs_diff(columns / count) <= 1);
                        start += part.dims;
                        column += part.levels;
                    }
                    assert_eq!((start, column), (dims, columns), "{count} parts");
                    for part in &parts[..count - 1] {
                        assert!(part.dims.abs_diff(dim / count) <= 1);
                    }
                }
            }
        }
    }

    #[test]
    fn every_part_is_encoded_by_itself() {
        let mut random = Random::new(1, 0);
        let mut normal =
            |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
        let (dim, dims, columns) = (21, 24, 5);
        let vectors = normal(70 * dims);
        for (count, most) in
            [(1, 256), (2, 256), (3, 256), (5, 256), (1, 16), (2, 512), (5, 16), (5, 2)]
        {
            let parts = cut(dim, dims, columns, count, most);
            let centroids: Vec<Vec<f32>> =
                parts.iter().map(|part| normal(part.levels * most * part.dims)).collect();
            let codebooks = Codebooks::new(&parts, &centroids);
            assert_eq!((codebooks.dims(), codebooks.columns()), (dims, columns));
            let (mut codes, mut left) = (vec![0; 70 * columns], vec![0.0; vectors.len()]);
            codebooks.encode(&vectors, 4, &mut PartScratch::default(), &mut codes, &mut left);
            for (v, vector) in vectors.chunks_exact(dims).enumerate() {
                let code = &codes[v * columns..(v + 1) * columns];
                let mut sum = vec![0.0; dims];
                for (part, levels) in codebooks.iter() {
                    for (level, &code) in code[part.columns()].iter().enumerate() {
                        crate::matrix::add(&mut sum[part.range()], levels.centroid(level, code));
                    }
                }
                for ((x, sum), left) in vector.iter().zip(&sum).zip(&left[v * dims..]) {
                    assert!((x - sum - left).abs() < 1e-4, "{x} {sum} {left}");
                }
                for ((part, levels), own) in codebooks.iter().zip(&centroids) {
                    if part.levels == 1 {
                        // The nearest, up to rounding.
                        let x = &vector[part.range()];
                        let found = levels.centroid(0, code[part.column]);
                        let least = own
                            .chunks_exact(part.dims)
                            .map(|c| nonius_simd::l2_sq_f32(x, c))
                            .fold(f32::INFINITY, f32::min);
                        assert!(nonius_simd::l2_sq_f32(x, found) <= least * 1.001 + 1e-4);
                    }
                }
            }
        }
    }
}
