//! The centroids of all levels of a part, and the search for the best sum of them.

use std::ops::Range;

use nonius_simd::{Panels, Panels8, Vectorize, l2_sq_f32, level};

use super::cross::Cross;
use crate::matrix::{add, subtract};
use crate::train::{Direct, RowsI7, RowsI8, RowsI16, shifted_dot};

/// Vectors whose beams are extended at once.
const ROWS: usize = 16;

/// The same where there are tables: what is read of these serves so many vectors,
const TABLE_ROWS: usize = 64;

/// or fewer, for no more than so many scores.
const TABLE_SCORES: usize = 1 << 18;

/// Vectors that are compared with all centroids at once where there is one level.
const SINGLE_ROWS: usize = 64;

/// The centroids of all levels of a part, rounded to 16 bits.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    dims: usize,
    /// Centroids of a level.
    centroids: usize,
    /// As [`Panels`]: `levels * centroids x dims`. Where there are several levels, the centroids of each fill
    /// whole panels, so each has its own.
    packed: Vec<i16>,
    /// What each packed row is multiplied by.
    inverse: Vec<f32>,
    /// The centroids as they are after rounding: `levels * centroids x dims`.
    values: Vec<f32>,
    /// Their squared norms.
    norms_sq: Vec<f32>,
    /// The same in 8 bits, for the search.
    coarse: Coarse,
    /// The same where there is one level.
    direct: Direct,
    /// What the beam search goes by instead of the residuals of sums, if it is there.
    cross: Option<Cross>,
}

/// Centroids in 8 bits: good enough to say which sums to go on with, and twice as fast.
#[derive(Clone, Debug)]
struct Coarse {
    /// As [`Panels8`]; each level has its own.
    packed: Vec<i8>,
    inverse: Vec<f32>,
    sums: Vec<i32>,
}

impl Levels {
    /// Rounds the centroids of levels that have `most` each, `levels * most x dims`.
    pub(super) fn new(dims: usize, most: usize, centroids: &[f32]) -> Levels {
        let mut rows = RowsI16::new();
        rows.quantize(dims, centroids);
        let values: Vec<f32> = rows
            .values()
            .chunks_exact(rows.depth())
            .zip(rows.inverse())
            .flat_map(|(row, &inverse)| row[..dims].iter().map(move |&x| f32::from(x) * inverse))
            .collect();
        let norms_sq = values.chunks_exact(dims).map(|c| nonius_simd::dot_f32(c, c)).collect();
        let mut rows8 = RowsI8::default();
        rows8.quantize(dims, &values);
        let coarse = Coarse {
            packed: Panels8::pack(rows8.rows(), rows8.depth(), rows8.values()),
            inverse: rows8.inverse().to_vec(),
            sums: rows8.sums().to_vec(),
        };
        let single = centroids.len() == most * dims;
        let direct = Direct::new(dims, if single { &values } else { &[] });
        Levels {
            dims,
            centroids: most,
            packed: Panels::pack(rows.rows(), rows.depth(), rows.values()),
            inverse: rows.inverse().to_vec(),
            values,
            norms_sq,
            coarse,
            direct,
            cross: None,
        }
    }

    /// The same with tables for the beam search, which pay where there are more than a few vectors.
    pub(super) fn with_tables(mut self) -> Levels {
        self.cross = Cross::new(&self);
        self
    }

    /// Centroids of a level.
    pub(super) fn centroids(&self) -> usize {
        self.centroids
    }

    /// Dimensions of centroids.
    pub(super) fn dims(&self) -> usize {
        self.dims
    }

    /// As [`Panels`]: `levels * centroids x dims`.
    pub(super) fn packed(&self) -> &[i16] {
        &self.packed
    }

    /// What each packed row is multiplied by.
    pub(super) fn inverse(&self) -> &[f32] {
        &self.inverse
    }

    /// The squared norms of all centroids.
    pub(super) fn norms_sq(&self) -> &[f32] {
        &self.norms_sq
    }

    /// All centroids after rounding: `levels * centroids x dims`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// How many centroids make a vector.
    pub(super) fn levels(&self) -> usize {
        self.inverse.len().div_ceil(self.centroids)
    }

    /// A centroid of a level.
    #[inline(always)]
    pub(super) fn centroid(&self, level: usize, code: u16) -> &[f32] {
        let at = (level * self.centroids + usize::from(code)) * self.dims;
        &self.values[at..at + self.dims]
    }

    /// Encodes vectors (`n x dims`) into `codes` (`n x levels`): a beam search that keeps the
    /// `beam` best sums after every level. `residuals` (`n x dims`) gets what the sums leave.
    pub(super) fn encode(
        &self,
        vectors: &[f32],
        beam: usize,
        scratch: &mut BeamScratch,
        codes: &mut [u16],
        residuals: &mut [f32],
    ) {
        let (dims, levels) = (self.dims, self.levels());
        if levels == 1 {
            // Nothing to search: one look finds the nearest.
            residuals.copy_from_slice(vectors);
            let mut nearest = [0; SINGLE_ROWS];
            for (vectors, codes) in
                vectors.chunks(SINGLE_ROWS * dims).zip(codes.chunks_mut(SINGLE_ROWS))
            {
                let nearest = &mut nearest[..codes.len()];
                self.direct.find(vectors, nearest);
                for (code, &number) in codes.iter_mut().zip(&*nearest) {
                    *code = number as u16;
                }
            }
            self.subtract_sums(codes, residuals);
            return;
        }
        let together = match self.cross {
            Some(_) => (TABLE_SCORES / (beam.max(1) * self.centroids)).clamp(1, TABLE_ROWS),
            None => ROWS,
        };
        let rows = vectors.chunks(together * dims).zip(codes.chunks_mut(together * levels));
        for ((vectors, codes), residuals) in rows.zip(residuals.chunks_mut(together * dims)) {
            self.search(vectors, beam, scratch, codes, residuals);
        }
    }

    /// Chooses every centroid of `codes` (`n x levels`) again, given the others. `residuals` (`n x
    /// dims`) are the vectors, and then what the sums leave of them.
    pub(super) fn improve(
        &self,
        scratch: &mut BeamScratch,
        codes: &mut [u16],
        residuals: &mut [f32],
    ) {
        let (dims, levels) = (self.dims, self.levels());
        self.subtract_sums(codes, residuals);
        let rows = codes.chunks_mut(ROWS * levels).zip(residuals.chunks_mut(ROWS * dims));
        for (codes, residuals) in rows {
            self.sweep(scratch, codes, residuals);
        }
    }

    /// The beam search for some vectors.
    fn search(
        &self,
        vectors: &[f32],
        beam: usize,
        scratch: &mut BeamScratch,
        codes: &mut [u16],
        residuals: &mut [f32],
    ) {
        let Some(cross) = &self.cross else {
            self.search_residuals(vectors, beam, scratch, codes, residuals);
            return;
        };
        let BeamScratch { rows, product, scores, sums, entries, next, .. } = scratch;
        rows.quantize(self.dims, vectors);
        rows.multiply(Panels8::new(self.inverse.len(), self.dims, &self.coarse.packed), product);
        level().vectorize(Walk {
            levels: self,
            cross,
            beam,
            rows,
            product,
            scores,
            sums,
            entries,
            next,
        });
        let levels = self.levels();
        let paths = entries.paths.chunks_exact(entries.width * levels);
        for (path, paths) in codes.chunks_exact_mut(levels).zip(paths) {
            path.copy_from_slice(&paths[..levels]);
        }
        residuals.copy_from_slice(vectors);
        self.subtract_sums(codes, residuals);
    }

    /// Subtracts from each vector (`n x dims`) the centroids that its code (`n x levels`) names, in the order of levels.
    fn subtract_sums(&self, codes: &[u16], vectors: &mut [f32]) {
        let paths = codes.chunks_exact(self.levels());
        for (path, vector) in paths.zip(vectors.chunks_exact_mut(self.dims)) {
            for (level_number, &code) in path.iter().enumerate() {
                subtract(vector, self.centroid(level_number, code));
            }
        }
    }

    /// The beam search by what sums leave.
    fn search_residuals(
        &self,
        vectors: &[f32],
        beam: usize,
        scratch: &mut BeamScratch,
        codes: &mut [u16],
        residuals: &mut [f32],
    ) {
        let (dims, levels) = (self.dims, self.levels());
        let count = vectors.len() / dims;
        let BeamScratch { rows, product, entries, next, .. } = scratch;
        entries.start(vectors);
        for level_number in 0..levels {
            rows.quantize(dims, &entries.residuals);
            rows.multiply(self.coarse_panels(level_number), product);
            level().vectorize(Extend {
                levels: self,
                level_number,
                beam,
                rows,
                product,
                entries,
                next,
            });
            std::mem::swap(entries, next);
        }
        let width = entries.width;
        for v in 0..count {
            let first = v * width;
            let path = &entries.paths[first * levels..(first + 1) * levels];
            codes[v * levels..(v + 1) * levels].copy_from_slice(path);
            residuals[v * dims..(v + 1) * dims]
                .copy_from_slice(&entries.residuals[first * dims..(first + 1) * dims]);
        }
    }

    /// Chooses the best centroid of each level in turn, the others given.
    fn sweep(&self, scratch: &mut BeamScratch, codes: &mut [u16], residuals: &mut [f32]) {
        let (dims, levels) = (self.dims, self.levels());
        let BeamScratch { rows, product, scores, nearest, .. } = scratch;
        for level_number in 0..levels {
            let paths = || codes.chunks_exact(levels).map(|path| path[level_number]);
            for (residual, code) in residuals.chunks_exact_mut(dims).zip(paths()) {
                add(residual, self.centroid(level_number, code));
            }
            rows.quantize(dims, residuals);
            rows.multiply(self.coarse_panels(level_number), product);
            level().vectorize(Nearest {
                levels: self,
                level_number,
                rows,
                product,
                scores,
                nearest,
            });
            let paths = codes.chunks_exact_mut(levels).zip(&*nearest);
            for (residual, (path, &nearest)) in residuals.chunks_exact_mut(dims).zip(paths) {
                let code = &mut path[level_number];
                let old = self.centroid(level_number, *code);
                if nearest != *code {
                    let new = self.centroid(level_number, nearest);
                    // So few bits only propose.
                    if l2_sq_f32(residual, new) < l2_sq_f32(residual, old) {
                        *code = nearest;
                    }
                }
                subtract(residual, self.centroid(level_number, *code));
            }
        }
    }

    /// The centroids of a level, of which there are several.
    pub(super) fn panels(&self, level_number: usize) -> Panels<'_> {
        let size = self.packed.len() / self.levels();
        let packed = &self.packed[level_number * size..(level_number + 1) * size];
        Panels::new(self.centroids, self.dims, packed)
    }

    /// The same in 8 bits.
    fn coarse_panels(&self, level_number: usize) -> Panels8<'_> {
        let size = self.coarse.packed.len() / self.levels();
        let packed = &self.coarse.packed[level_number * size..(level_number + 1) * size];
        Panels8::new(self.centroids, self.dims, packed)
    }

    /// What the packed rows of a level are multiplied by.
    pub(super) fn inverses(&self, level_number: usize) -> &[f32] {
        &self.inverse[self.rows_of(level_number)]
    }

    /// Where the centroids of a level are among all.
    #[inline(always)]
    fn rows_of(&self, level_number: usize) -> Range<usize> {
        level_number * self.centroids..(level_number + 1) * self.centroids
    }

    /// For each centroid of a level the squared distance to a row, less the row's squared norm: from the
    /// products of integers, of which those of the row stand for `inverse` times its values.
    #[inline(always)]
    fn coarse_scores(&self, level_number: usize, inverse: f32, products: &[i32], out: &mut [f32]) {
        let range = self.rows_of(level_number);
        let Coarse { inverse: inverses, sums, .. } = &self.coarse;
        let centroids = self.norms_sq[range.clone()].iter().zip(&inverses[range.clone()]);
        let products = products.iter().zip(&sums[range]);
        let weight = 2.0 * inverse;
        for ((out, (&product, &sum)), (&norm_sq, &inverse)) in
            out.iter_mut().zip(products).zip(centroids)
        {
            *out = norm_sq - (weight * inverse) * shifted_dot(product, sum);
        }
    }
}

/// Buffers of [`Levels::encode`].
#[derive(Default)]
pub(super) struct BeamScratch {
    rows: RowsI7,
    product: Vec<i32>,
    scores: Vec<f32>,
    sums: Vec<i32>,
    nearest: Vec<u16>,
    entries: Entries,
    next: Entries,
}

/// The sums that a search goes on with: `width` for each vector, best first.
#[derive(Default)]
struct Entries {
    width: usize,
    /// What each leaves of its vector: `dims` values.
    residuals: Vec<f32>,
    /// The codes so far: a number for each level.
    paths: Vec<u16>,
    /// The score of each, where tables are searched.
    sums: Vec<f32>,
    /// Best candidates of a vector: score and number.
    best: Vec<(f32, u32)>,
    scores: Vec<f32>,
}

impl Entries {
    fn start(&mut self, vectors: &[f32]) {
        self.width = 1;
        self.residuals.clear();
        self.residuals.extend_from_slice(vectors);
        self.paths.clear();
    }
}

/// The whole beam search for some vectors, by tables: scores are squared distances less the vector's squared norm.
struct Walk<'a> {
    levels: &'a Levels,
    cross: &'a Cross,
    beam: usize,
    /// The vectors and their inner products with all centroids.
    rows: &'a RowsI7,
    product: &'a [i32],
    /// Buffers.
    scores: &'a mut Vec<f32>,
    sums: &'a mut Vec<i32>,
    /// The sums that were kept, when it is over.
    entries: &'a mut Entries,
    next: &'a mut Entries,
}

impl Vectorize for Walk<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Walk { levels, cross, beam, rows, product, scores, sums, entries, next } = self;
        let (count, centroids) = (rows.rows(), levels.centroids);
        let padded = product.len() / count;
        scores.resize(centroids, 0.0);
        let alone = &mut scores[..centroids];
        entries.start(&[]);
        entries.sums.clear();
        entries.sums.resize(count, 0.0);
        for level_number in 0..levels.levels() {
            let width = entries.width;
            let candidates = width * centroids;
            next.scores.resize(count * candidates, 0.0);
            let of_vectors = next.scores.chunks_exact_mut(candidates);
            for (v, scores) in of_vectors.enumerate() {
                let dots = &product[v * padded + level_number * centroids..][..centroids];
                levels.coarse_scores(level_number, rows.inverse()[v], dots, alone);
                let of_sums = entries.sums[v * width..(v + 1) * width].iter();
                for (scores, &sum) in scores.chunks_exact_mut(centroids).zip(of_sums) {
                    for (score, alone) in scores.iter_mut().zip(&*alone) {
                        *score = sum + alone;
                    }
                }
            }
            if level_number > 0 {
                cross.add(level_number, &entries.paths, 2.0, sums, &mut next.scores);
            }
            next.width = beam.clamp(1, candidates);
            next.paths.clear();
            next.sums.clear();
            for (v, scores) in next.scores.chunks_exact(candidates).enumerate() {
                smallest(scores, next.width, &mut next.best);
                for &(score, number) in &next.best {
                    let entry = v * width + number as usize / centroids;
                    let path = entry * level_number..(entry + 1) * level_number;
                    next.paths.extend_from_slice(&entries.paths[path]);
                    next.paths.push((number as usize % centroids) as u16);
                    next.sums.push(score);
                }
            }
            std::mem::swap(entries, next);
        }
    }
}

/// Extends every sum by every centroid of a level, and keeps the best of each vector.
struct Extend<'a> {
    levels: &'a Levels,
    level_number: usize,
    beam: usize,
    rows: &'a RowsI7,
    product: &'a [i32],
    entries: &'a Entries,
    next: &'a mut Entries,
}

impl Vectorize for Extend<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Extend { levels, level_number, beam, rows, product, entries, next } = self;
        let (dims, width, centroids) = (levels.dims, entries.width, levels.centroids);
        let count = rows.rows() / width;
        let candidates = width * centroids;
        next.width = beam.clamp(1, candidates);
        next.residuals.clear();
        next.paths.clear();
        next.scores.resize(candidates, 0.0);
        for v in 0..count {
            for b in 0..width {
                let entry = v * width + b;
                let scores = &mut next.scores[b * centroids..(b + 1) * centroids];
                let product = &product[entry * centroids..(entry + 1) * centroids];
                levels.coarse_scores(level_number, rows.inverse()[entry], product, scores);
                let norm_sq = rows.norms_sq()[entry];
                for score in scores {
                    *score += norm_sq;
                }
            }
            smallest(&next.scores, next.width, &mut next.best);
            for &(_, number) in &next.best {
                let entry = v * width + number as usize / centroids;
                let code = (number as usize % centroids) as u16;
                let centroid = levels.centroid(level_number, code);
                let residual = &entries.residuals[entry * dims..(entry + 1) * dims];
                next.residuals.extend(residual.iter().zip(centroid).map(|(x, c)| x - c));
                let path = entry * level_number..(entry + 1) * level_number;
                next.paths.extend_from_slice(&entries.paths[path]);
                next.paths.push(code);
            }
        }
    }
}

/// Leaves the `count` smallest scores and their numbers in `best`, ascending; of equal ones those
/// of the smallest numbers.
#[inline(always)]
fn smallest(scores: &[f32], count: usize, best: &mut Vec<(f32, u32)>) {
    const LANES: usize = 16;
    best.clear();
    let mut worst = f32::INFINITY;
    for (chunk, scores) in scores.chunks(LANES).enumerate() {
        // Numbers only rise, so an equal score is no better.
        let mut any = best.len() < count;
        for &score in scores {
            any |= score < worst;
        }
        if !any {
            continue;
        }
        for (i, &score) in scores.iter().enumerate() {
            if best.len() == count {
                if score.total_cmp(&worst).is_ge() {
                    continue;
                }
                best.pop();
            }
            let at = best.partition_point(|entry| entry.0.total_cmp(&score).is_le());
            best.insert(at, (score, (chunk * LANES + i) as u32));
            if best.len() == count {
                worst = best[count - 1].0;
            }
        }
    }
}

/// Finds the centroid of a level that is nearest to each row, as far as 7 bits of it tell.
struct Nearest<'a> {
    levels: &'a Levels,
    level_number: usize,
    rows: &'a RowsI7,
    product: &'a [i32],
    /// A buffer.
    scores: &'a mut Vec<f32>,
    nearest: &'a mut Vec<u16>,
}

impl Vectorize for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Nearest { levels, level_number, rows, product, scores, nearest } = self;
        scores.resize(levels.centroids, 0.0);
        let scores = &mut scores[..];
        nearest.clear();
        for (product, &inverse) in product.chunks_exact(levels.centroids).zip(rows.inverse()) {
            levels.coarse_scores(level_number, inverse, product, scores);
            let mut least = f32::INFINITY;
            for &score in &*scores {
                least = if score < least { score } else { least };
            }
            let at = scores.iter().position(|&score| score == least);
            nearest.push(at.unwrap_or(0) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::additive::CENTROIDS;
    use crate::random::Random;

    fn normal(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    fn energy(values: &[f32]) -> f64 {
        values.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
    }

    fn encode(codebooks: &Levels, vectors: &[f32], beam: usize) -> (Vec<u16>, Vec<f32>) {
        let rows = vectors.len() / codebooks.dims;
        let mut codes = vec![0; rows * codebooks.levels()];
        let mut residuals = vec![0.0; vectors.len()];
        let mut scratch = BeamScratch::default();
        codebooks.encode(vectors, beam, &mut scratch, &mut codes, &mut residuals);
        (codes, residuals)
    }

    /// What `codes` leave after some sweeps.
    fn improve(codebooks: &Levels, vectors: &[f32], codes: &mut [u16], sweeps: usize) -> Vec<f32> {
        let mut residuals = Vec::new();
        for _ in 0..sweeps {
            residuals = vectors.to_vec();
            codebooks.improve(&mut BeamScratch::default(), codes, &mut residuals);
        }
        residuals
    }

    #[test]
    fn residuals_are_what_the_named_centroids_leave() {
        for (dims, levels, rows, most) in [
            (8, 1, 1, 256),
            (8, 3, 15, 256),
            (24, 4, 33, 256),
            (40, 5, 130, 16),
            (33, 3, 65, 256),
            (8, 3, 9, 16),
            (8, 1, 5, 2),
            (9, 2, 20, 1024),
        ] {
            let codebooks = Levels::new(dims, most, &normal(levels * most * dims, 1));
            let with_tables = codebooks.clone().with_tables();
            let vectors = normal(rows * dims, 2);
            let efforts = [(1, 0), (3, 0), (1, 2), (8, 1)];
            for (codebooks, (beam, sweeps)) in [&codebooks, &with_tables]
                .into_iter()
                .flat_map(|codebooks| efforts.map(|effort| (codebooks, effort)))
            {
                let (mut codes, mut residuals) = encode(codebooks, &vectors, beam);
                if sweeps > 0 && levels > 1 {
                    residuals = improve(codebooks, &vectors, &mut codes, sweeps);
                }
                for v in 0..rows {
                    let mut left = vectors[v * dims..(v + 1) * dims].to_vec();
                    for level in 0..levels {
                        subtract(&mut left, codebooks.centroid(level, codes[v * levels + level]));
                    }
                    for (a, b) in left.iter().zip(&residuals[v * dims..]) {
                        assert!((a - b).abs() < 1e-4, "{a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_level_finds_the_nearest_centroid() {
        let dims = 16;
        let codebooks = Levels::new(dims, CENTROIDS, &normal(CENTROIDS * dims, 3));
        let vectors = normal(100 * dims, 4);
        let (codes, _) = encode(&codebooks, &vectors, 1);
        for (vector, &code) in vectors.chunks_exact(dims).zip(&codes) {
            let distance = |c: u16| nonius_simd::l2_sq_f32(vector, codebooks.centroid(0, c));
            let least = (0..256).map(distance).fold(f32::INFINITY, f32::min);
            // The search is in 8 bits.
            assert!(distance(code) <= least * 1.02);
        }
    }

    #[test]
    fn wider_beams_and_sweeps_leave_less() {
        let (dims, levels) = (48, 6);
        // Later levels are smaller, as trained ones are.
        let mut centroids = normal(levels * CENTROIDS * dims, 5);
        for (level, values) in centroids.chunks_exact_mut(CENTROIDS * dims).enumerate() {
            values.iter_mut().for_each(|x| *x *= 0.8f32.powi(level as i32));
        }
        let codebooks = Levels::new(dims, CENTROIDS, &centroids);
        let vectors = normal(300 * dims, 6);
        let with_tables = codebooks.clone().with_tables();
        for codebooks in [&codebooks, &with_tables] {
            let by_beam = [1, 2, 4, 16].map(|beam| energy(&encode(codebooks, &vectors, beam).1));
            assert!(by_beam.windows(2).all(|pair| pair[1] < pair[0]), "{by_beam:?}");
            let (codes, left) = encode(codebooks, &vectors, 4);
            let improved =
                |sweeps| energy(&improve(codebooks, &vectors, &mut codes.clone(), sweeps));
            assert!(improved(1) < energy(&left));
            // Sums of floats differ a little by their order.
            assert!(improved(3) <= 1.000001 * improved(1));
        }
        // By tables or by residuals, what is found is about as good.
        let of = |codebooks| energy(&encode(codebooks, &vectors, 8).1);
        assert!(of(&with_tables) < 1.01 * of(&codebooks));
    }

    #[test]
    fn zeros_equal_centroids_and_huge_values_have_codes() {
        let (dims, levels) = (8, 3);
        let codebooks = Levels::new(dims, CENTROIDS, &vec![0.0; levels * CENTROIDS * dims]);
        let (codes, residuals) = encode(&codebooks, &[1.0; 8 * 3], 4);
        // All are as good: the first one is taken.
        assert!(codes.iter().all(|&code| code == 0));
        assert_eq!(residuals, [1.0; 8 * 3]);
        let codebooks = Levels::new(dims, CENTROIDS, &normal(levels * CENTROIDS * dims, 7));
        for value in [0.0, 1e18] {
            let (mut codes, _) = encode(&codebooks, &[value; 8], 4);
            improve(&codebooks, &[value; 8], &mut codes, 1);
        }
    }

    #[test]
    fn the_smallest_are_those_of_a_sort() {
        let mut random = Random::new(8, 0);
        for len in [1usize, 15, 16, 17, 300] {
            for distinct in [1, 3, 1000] {
                let scores: Vec<f32> = (0..len).map(|_| random.below(distinct) as f32).collect();
                let mut sorted: Vec<(f32, u32)> =
                    scores.iter().enumerate().map(|(i, &s)| (s, i as u32)).collect();
                sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                for count in [1, 2, 8, len] {
                    let mut best = Vec::new();
                    smallest(&scores, count.min(len), &mut best);
                    assert_eq!(best, sorted[..count.min(len)], "{count} of {len}");
                }
            }
        }
    }

    #[test]
    fn every_level_finds_the_same_codes() {
        let (dims, levels) = (32, 4);
        let values = normal(levels * CENTROIDS * dims, 9);
        let vectors = normal(40 * dims, 10);
        let of = |tables: bool| {
            let levels = Levels::new(dims, CENTROIDS, &values);
            let levels = if tables { levels.with_tables() } else { levels };
            let (mut codes, _) = encode(&levels, &vectors, 5);
            let left = improve(&levels, &vectors, &mut codes, 1);
            (codes, left)
        };
        for tables in [false, true] {
            let expected = of(tables);
            for simd in nonius_simd::available() {
                assert_eq!(nonius_simd::with_level(simd, || of(tables)), expected, "{simd}");
            }
        }
    }
}
