//! Training: how dimensions are turned and cut, codebooks for each part, and what estimates take
//! from the codes.

use rayon::prelude::*;

use super::encode::{EncodeScratch, Encoder};
use super::parts::{Codebooks, Part, PartScratch, columns_of, cut, gather, scatter};
use super::residual::{self, ROUNDS, energy};
use super::rotation;
use super::{Model, anisotropic};
use crate::error::{BuildError, ConfigError};
use crate::index::Encoding;
use crate::metric::Metric;
use crate::quantizer::estimate::{Added, Estimate};
use crate::quantizer::factor::AdditiveCode;
use crate::quantizer::frame::{
    Frame, ListCentroids, Lists, Options, Rotation, TrainingSet, additive_code, estimate_noise,
    random_rotation, residuals, spun, turned,
};
use crate::quantizer::pairs::Count;
use crate::quantizer::{CODEBOOK_BYTES, QuantizerSpec};
use crate::train::Pca;

/// Rows that tell how much codes leave.
const MEASURED: usize = 1 << 13;

/// Rows that one task encodes.
const TASK: usize = 256;

/// The beam that stands for an [`Encoding`].
fn usual_beam(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Full => 5,
        Encoding::Fast => 3,
    }
}

/// How a quantizer turns dimensions.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// Not at all.
    No,
    /// To principal components.
    Principal,
    /// To principal components that are dealt out to the parts.
    Dealt,
    /// So that the parts leave least.
    Learnt,
}

/// What one quantizer does otherwise than another.
struct Recipe {
    turn: Turn,
    /// The number of parts; none for as many as columns.
    parts: Option<usize>,
    /// Bits of a column.
    bits: u32,
}

impl Recipe {
    fn of(spec: &QuantizerSpec) -> Recipe {
        let bits = spec.column_bits().unwrap_or(8);
        match *spec {
            QuantizerSpec::Pq { .. } => Recipe { turn: Turn::No, parts: None, bits },
            QuantizerSpec::Opq { .. } => Recipe { turn: Turn::Learnt, parts: None, bits },
            QuantizerSpec::ProductRvq { parts, .. } => {
                Recipe { turn: Turn::Dealt, parts: Some(parts), bits }
            }
            _ => Recipe { turn: Turn::Principal, parts: Some(1), bits },
        }
    }

    /// The parts of `dims` dimensions, of which the last ones beyond `dim` are zero, for codes of so many
    /// bytes.
    fn cut(&self, dim: usize, dims: usize, code_bytes: usize) -> Vec<Part> {
        let (columns, centroids) = (code_bytes * 8 / self.bits as usize, 1 << self.bits);
        match self.parts {
            Some(parts) => cut(dim, dims, columns, parts.min(columns).min(dim), centroids),
            None => cut(dim, dims, columns.min(dim), columns.min(dim), centroids),
        }
    }
}

/// The sample rows that training looks at, for vectors without lists; more are as good as none.
pub(crate) fn training_rows(spec: &QuantizerSpec) -> usize {
    match Recipe::of(spec) {
        // Nothing is learnt but codebooks of one level.
        Recipe { turn: Turn::No, parts: None, bits } => residual::rows_of_single(1 << bits),
        _ => usize::MAX,
    }
}

/// Trains a quantizer; `progress` is told how much is done of how much, and may end it.
pub(crate) fn train(
    set: &TrainingSet<'_>,
    spec: &QuantizerSpec,
    options: &Options,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), BuildError>,
) -> Result<Encoder, BuildError> {
    let Options { encoding, anisotropic, beam, seed } = *options;
    let dim = set.sample.dim();
    let dims = dim.next_multiple_of(8);
    let budget = spec.budget(dim).unwrap_or(0);
    if budget > *CODEBOOK_BYTES.end() {
        let message = format!(
            "{spec} is {budget} bytes in {dim} dimensions; expected {}",
            CODEBOOK_BYTES.end()
        );
        return Err(ConfigError::new("quantizer", message).into());
    }
    let recipe = Recipe::of(spec);
    let residuals = residuals(set);
    let pca = match recipe.turn {
        Turn::No => None,
        _ => Some(Pca::fit(residuals.view())?),
    };
    let last = ROUNDS + if anisotropic.is_some() { anisotropic::ROUNDS } else { 0 };
    // There is always a column.
    let least = recipe.bits.div_ceil(8) as usize;
    let code_bytes = |additive_bytes: usize| budget.saturating_sub(additive_bytes).max(least);
    // The fewer bytes the additive factor takes, the more columns. How fine it has to be is known when there
    // are codes; then parts lose their last levels, or, if there are to be fewer parts, all is done again.
    let factorless = recipe.parts.is_none() && set.lists.is_none();
    let mut additive_bytes = usize::from(!factorless);
    let (mut parts, learnt, basis, vectors, mut begun) = loop {
        let parts = recipe.cut(dim, dims, code_bytes(additive_bytes));
        let columns = columns_of(&parts);
        let learnt = match recipe.turn {
            Turn::Learnt => rotation::Effort::of(&parts).iterations,
            _ => 0,
        };
        let steps = learnt + columns + last;
        let basis = match (&pca, recipe.turn) {
            (None, _) => None,
            (Some(pca), Turn::Principal) => Some(pca.components.clone()),
            (Some(pca), Turn::Dealt) => Some(rotation::deal(pca, &parts)),
            (Some(pca), _) => {
                Some(rotation::learn(pca, &residuals, set.weights, &parts, seed, &mut |done| {
                    progress(done, steps)
                })?)
            }
        };
        let vectors = turned(basis.as_ref(), &residuals, dims);
        let (mut begun, mut left_sq) = (Vec::with_capacity(parts.len()), 0.0);
        let mut own = Vec::new();
        for part in &parts {
            gather(&vectors, dims, part.range(), &mut own);
            let seed = seed.wrapping_add(part.column as u64);
            let mut report = |level| progress(learnt + part.column + level, steps);
            let of_part = residual::begin(part, &own, set.weights, set.metric, seed, &mut report)?;
            left_sq += of_part.left_sq;
            begun.push(of_part);
        }
        if factorless {
            break (parts, learnt, basis, vectors, begun);
        }
        let rows = residuals.rows() as f64;
        let (whole_sq, left_sq) = (energy(dims, &vectors) / rows, left_sq / rows);
        let noise = estimate_noise(set.metric, dims, whole_sq, left_sq);
        // Its range is known later.
        let needed = additive_code(set, noise, &[1, 2]).bytes;
        if needed <= additive_bytes {
            break (parts, learnt, basis, vectors, begun);
        }
        additive_bytes = needed;
        if recipe.cut(dim, dims, code_bytes(needed)).len() == parts.len() {
            break (parts, learnt, basis, vectors, begun);
        }
    };
    drop((residuals, pca));
    let shorter = recipe.cut(dim, dims, code_bytes(additive_bytes));
    for ((part, begun), shorter) in parts.iter().zip(&mut begun).zip(&shorter) {
        if shorter.levels < part.levels {
            begun.truncate(part, shorter.levels);
        }
    }
    parts = shorter;

    let columns = columns_of(&parts);
    let beam = beam.unwrap_or_else(|| usual_beam(encoding));
    let (mut centroids, mut rare) = (Vec::with_capacity(parts.len()), Vec::new());
    let mut own = Vec::new();
    for (part, begun) in parts.iter().zip(begun) {
        gather(&vectors, dims, part.range(), &mut own);
        let steps = learnt + columns + last;
        let done = learnt + columns;
        let mut report = |round| progress(done + round, steps);
        let (of_part, has_rare) = begun.finish(part, &own, set.weights, &mut report)?;
        centroids.push(of_part);
        rare.push(has_rare);
    }

    // Rounding to integers, of vectors and of list centroids, wants even dimensions.
    let (rotation, vectors) = match &basis {
        None => (Rotation::none(dims), vectors),
        Some(basis) => {
            let rotation = Rotation::of(&spun(basis, seed, parts.iter().map(|part| part.dims)));
            let mut turned = vec![0.0; vectors.len()];
            for ((number, part), centroids) in parts.iter().enumerate().zip(&mut centroids) {
                let spin = Rotation::of(&random_rotation(part.dims, seed, number as u64));
                let zeros = vec![0.0; part.dims];
                gather(&vectors, dims, part.range(), &mut own);
                *centroids = spin.apply(&zeros, centroids);
                scatter(part.range(), &spin.apply(&zeros, &own), &mut turned, dims);
            }
            (rotation, turned)
        }
    };
    for ((part, centroids), rare) in parts.iter().zip(&mut centroids).zip(rare) {
        if rare {
            gather(&vectors, dims, part.range(), &mut own);
            residual::use_all(part, &own, beam, centroids);
        }
    }
    let ratio = anisotropic.map(|threshold| anisotropic::ratio(threshold, dim));
    let directions = ratio.map(|_| {
        let mut directions = match factorless {
            true => rotation.apply(&vec![0.0; dim], set.sample.data()),
            false => vectors.clone(),
        };
        anisotropic::to_directions(dims, &mut directions);
        directions
    });
    if let (Some(ratio), Some(directions)) = (ratio, &directions) {
        for round in 0..anisotropic::ROUNDS {
            progress(learnt + columns + ROUNDS + round, learnt + columns + last)?;
            let codebooks = Codebooks::new(&parts, &centroids);
            let (codes, mut left) = encode(&codebooks, &vectors, beam, Some((ratio, directions)));
            let weights = set.weights;
            anisotropic::fit(&parts, ratio, directions, weights, &codes, &mut left, &mut centroids);
        }
    }
    let codebooks = Codebooks::new(&parts, &centroids);
    let left_of = |rows: &[u32]| {
        let of_rows = |values: &[f32]| -> Vec<f32> {
            let of_row = |&row: &u32| &values[row as usize * dims..][..dims];
            rows.iter().flat_map(|row| of_row(row).iter().copied()).collect()
        };
        let some = directions.as_deref().map(of_rows);
        encode(&codebooks, &of_rows(&vectors), beam, ratio.zip(some.as_deref())).1
    };
    let fit =
        |added| Estimate::fit(set, &rotation, dims, &vectors, added, (Count::MANY, seed), left_of);
    let (estimate, mean_left_sq) = if !factorless {
        (fit(Added::Own { least: 0.0 }), 0.0)
    } else if set.metric == Metric::InnerProduct || ratio.is_some() {
        // Of inner products codes leave nothing on average, and anisotropic ones know norms better.
        (Estimate::PLAIN, 0.0)
    } else {
        let some: Vec<u32> = (0..set.sample.rows().min(MEASURED) as u32).collect();
        let left_sq = energy(dims, &left_of(&some)) / some.len().max(1) as f64;
        (fit(Added::Mean { left_sq }), left_sq as f32)
    };
    let mut encoder = Encoder {
        model: Model {
            frame: Frame {
                metric: set.metric,
                dim,
                dims,
                // The sample is in the model's units already.
                scale: 1.0,
                lists: set.lists.is_some(),
                additive: if factorless { AdditiveCode::NONE } else { AdditiveCode::EXACT },
            },
            bits: recipe.bits,
            parts,
            weight: estimate.weight,
        },
        mean: set.mean.to_vec(),
        rotated_mean: rotation.apply(&vec![0.0; dim], set.mean),
        rotation,
        codebooks,
        estimate,
        mean_left_sq,
        beam,
        ratio,
    };
    if matches!(additive_bytes, 1 | 2) {
        let (low, high) = found_range(&encoder, set);
        encoder.model.frame.additive = AdditiveCode::spanning(low, high, additive_bytes);
    }
    encoder.model.frame.scale = set.scale;
    Ok(encoder)
}

/// The range of the additive factors that some of the sample have, and a little more.
fn found_range(encoder: &Encoder, set: &TrainingSet<'_>) -> (f32, f32) {
    const SOME: usize = 4096;
    let dim = set.sample.dim();
    let layout = encoder.model.layout();
    let rows = set.sample.rows().min(SOME);
    let mut records = vec![0; rows * layout.record_bytes()];
    let centroids =
        set.lists.map(|(centroids, _)| ListCentroids::new(&encoder.rotation, set.mean, centroids));
    records
        .par_chunks_mut(TASK * layout.record_bytes())
        .zip(set.sample.data().par_chunks(TASK * dim))
        .enumerate()
        .for_each_init(EncodeScratch::default, |scratch, (task, (records, values))| {
            let count = records.len() / layout.record_bytes();
            let lists = match (&centroids, set.lists) {
                (Some(centroids), Some((_, of_row))) => {
                    Some(Lists { of_row: &of_row[task * TASK..task * TASK + count], centroids })
                }
                _ => None,
            };
            encoder.encode_rows(&values[..count * dim], lists.as_ref(), scratch, records);
        });
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for record in records.chunks_exact(layout.record_bytes()) {
        let value = encoder.model.frame.additive.read(&record[layout.code_bytes()..]);
        low = low.min(value);
        high = high.max(value);
    }
    let margin = 0.1 * (high - low);
    (low - margin, high + margin)
}

/// Codes of vectors and what they leave; `anisotropic` are a ratio and the vectors' directions.
fn encode(
    codebooks: &Codebooks,
    vectors: &[f32],
    beam: usize,
    anisotropic: Option<(f32, &[f32])>,
) -> (Vec<u16>, Vec<f32>) {
    let (dims, columns) = (codebooks.dims(), codebooks.columns());
    let mut left = vec![0.0; vectors.len()];
    let mut codes = vec![0; vectors.len() / dims * columns];
    vectors
        .par_chunks(TASK * dims)
        .zip(codes.par_chunks_mut(TASK * columns))
        .zip(left.par_chunks_mut(TASK * dims))
        .enumerate()
        .for_each_init(
            || (PartScratch::default(), anisotropic::Scratch::default()),
            |(scratch, buffers), (task, ((vectors, codes), left))| {
                codebooks.encode(vectors, beam, scratch, codes, left);
                if let Some((ratio, directions)) = anisotropic {
                    let directions = &directions[task * TASK * dims..][..vectors.len()];
                    anisotropic::choose(codebooks, ratio, directions, buffers, codes, left);
                }
            },
        );
    (codes, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::MatrixView;
    use crate::metric::Metric;
    use crate::quantizer::additive::residual::tests::sums;

    fn set(sample: MatrixView<'_>, metric: Metric) -> TrainingSet<'_> {
        const NO_MEAN: [f32; 64] = [0.0; 64];
        let mean = &NO_MEAN[..sample.dim()];
        TrainingSet { sample, mean, lists: None, metric, scale: 1.0, weights: None }
    }

    const OPTIONS: Options =
        Options { encoding: Encoding::Full, anisotropic: None, beam: None, seed: 1 };

    fn train_on(dim: usize, values: &[f32], name: &str) -> Result<Encoder, BuildError> {
        let sample = MatrixView::new(dim, values).unwrap();
        let spec: QuantizerSpec = name.parse().unwrap();
        train(&set(sample, Metric::L2), &spec, &OPTIONS, &mut |_, _| Ok(()))
    }

    #[test]
    fn few_equal_and_zero_vectors_are_trained_on() {
        // Norms of which no factor of one or two bytes is fine enough.
        let wide = (0..900u32).map(|i| ((i * i) as f32).sin() * 10f32.powf((i / 9) as f32 / 12.0));
        for (dim, values) in [
            (3, vec![1.0; 3]),
            (5, vec![0.0; 5 * 40]),
            (8, vec![2.5; 8 * 300]),
            (1, (0..500).map(|i| i as f32).collect()),
            (9, wide.collect()),
        ] {
            for (name, most) in
                [("rvq:6B", 5), ("prq:4x5B", 4), ("prq:2x9B", 8), ("pq:5B", 5), ("opq:9B", 9)]
            {
                let Encoder { model, estimate, codebooks, .. } =
                    train_on(dim, &values, name).unwrap();
                let columns = model.columns();
                assert!((1..=most).contains(&columns), "{name}: {columns}");
                assert_eq!(
                    (codebooks.columns(), codebooks.dims()),
                    (columns, dim.next_multiple_of(8))
                );
                assert!(model.weight.is_finite() && estimate.share.is_finite());
                // A factor of more bytes leaves too few columns for as many parts.
                if dim == 9 && name == "prq:4x5B" {
                    assert!(columns < 4 && model.parts.len() == columns, "{columns}");
                }
            }
        }
    }

    #[test]
    fn too_many_bytes_are_refused_and_cancelling_ends_it() {
        let values = sums(300, 64, 0.1);
        let mut wide = Vec::new();
        for row in values.chunks_exact(64) {
            (0..16).for_each(|_| wide.extend_from_slice(row));
        }
        let (sample, some) =
            (MatrixView::new(1024, &wide).unwrap(), MatrixView::new(64, &values).unwrap());
        let mean = vec![0.0; 1024];
        let set = TrainingSet { sample, mean: &mean, ..set(some, Metric::L2) };
        let spec: QuantizerSpec = "rvq:4".parse().unwrap();
        let error = train(&set, &spec, &OPTIONS, &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("256"), "{error}");
        let spec = QuantizerSpec::rvq_bytes(8);
        let mut calls = 0;
        let mut progress = |done, total| {
            calls += 1;
            assert!(done < total);
            if done == 3 { Err(BuildError::Cancelled) } else { Ok(()) }
        };
        let error = train(&set, &spec, &OPTIONS, &mut progress).unwrap_err();
        assert!(matches!(error, BuildError::Cancelled) && calls == 4, "{error} after {calls}");
    }
}
