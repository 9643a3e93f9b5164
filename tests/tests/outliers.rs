//! Vectors that are kept whole because their codes miss them by most.

use std::collections::BTreeSet;

use nonius::random::Random;
use nonius::{
    BuildError, Index, IndexBuilder, IndexConfig, Keep, Matrix, Metric, Neighbor, Quantizer,
    QuantizerConfig, SearchParams,
};
use nonius_tests::file::{kind, place, places, u64_at};
use nonius_tests::{all_lists, bits, config, exact, ids, spec, synthetic};

/// The positions of the outliers, by the format.
fn positions(index: &Index) -> Vec<usize> {
    let bytes = index.as_bytes();
    let section = place(&places(bytes), kind::OUTLIER_POSITIONS);
    (0..section.length).step_by(8).map(|at| u64_at(bytes, section.offset + at) as usize).collect()
}

/// The ids of the outliers.
fn outliers(index: &Index) -> BTreeSet<u64> {
    positions(index).into_iter().map(|position| index.raw().id(position)).collect()
}

/// Vectors around some centres, and every fiftieth far from all.
fn with_strangers(rows: usize, dim: usize) -> Matrix {
    let (mut base, _) = synthetic(rows, dim, 3);
    let mut random = Random::new(5, 0);
    for row in (7..rows).step_by(50) {
        for value in base.row_mut(row) {
            *value += 3.0 * random.normal() as f32;
        }
    }
    base
}

fn bytes_for(count: usize, rows: usize, dim: usize) -> f64 {
    (count * (4 * dim + 8)) as f64 / rows as f64
}

const KINDS: [&str; 8] = ["saq:2", "rvq:6B", "pq:5B", "pq4:6B", "sq:4", "lvq:4x4", "f16", "rabitq"];

/// Relative to the largest distances there are.
fn assert_near(found: f32, expected: f32, norm_sq: f32, what: &str) {
    assert!((found - expected).abs() <= 1e-5 * norm_sq, "{what}: {found}, exactly {expected}");
}

/// As many vectors as fit into the budget are outliers, and what searches find of them is exact. Every vector is
/// found once, by single searches as by batches.
#[test]
fn outliers_are_compared_exactly_and_found_once() {
    let (rows, dim) = (700, 24);
    let base = with_strangers(rows, dim);
    let queries = Matrix::new(dim, base.data()[..40 * dim].to_vec()).unwrap();
    for metric in Metric::ALL {
        let truth = exact(&base, &queries, metric, rows);
        for quantizer in KINDS {
            for (nlist, spill) in [(1, 0.0), (9, 0.0), (9, 1.0)] {
                let config = IndexConfig {
                    outlier_bytes: bytes_for(100, rows, dim) + 0.01,
                    spill,
                    keep: Keep::None,
                    ..config(metric, quantizer, nlist)
                };
                let what = format!("{metric} {quantizer} {nlist} {spill}");
                let (index, report) = IndexBuilder::new(&config).build(&base).unwrap();
                let outliers = outliers(&index);
                assert_eq!([outliers.len(), report.outliers, index.info().outliers], [100; 3]);
                let without = IndexConfig { outlier_bytes: 0.0, ..config.clone() };
                let without = Index::build(&base, &without).unwrap();
                let more = index.info().bytes_per_vector - without.info().bytes_per_vector;
                assert!((more - bytes_for(100, rows, dim)).abs() < 1e-9, "{what}: {more}");
                assert_eq!(report.bytes_per_vector, index.info().bytes_per_vector);

                let (found, _) = index.search_batch(queries.view(), rows, &all_lists()).unwrap();
                for (q, found) in found.iter().enumerate() {
                    let unique: BTreeSet<u64> = ids(found).into_iter().collect();
                    assert_eq!((found.len(), unique.len()), (rows, rows), "{what}");
                    let by_id = |list: &[Neighbor]| {
                        let mut by_id = list.to_vec();
                        by_id.sort_by_key(|n| n.id);
                        by_id
                    };
                    let norm_sq = truth[q].iter().map(|n| n.distance.abs()).fold(1.0, f32::max);
                    for (found, truth) in by_id(found).iter().zip(by_id(&truth[q])) {
                        if outliers.contains(&found.id) {
                            assert_near(found.distance, truth.distance, norm_sq, &what);
                        }
                    }
                }
                for nprobe in [1, 3, 9] {
                    let params = SearchParams { nprobe, ..SearchParams::default() };
                    let (batch, _) = index.search_batch(queries.view(), 10, &params).unwrap();
                    for (q, query) in queries.data().chunks_exact(dim).enumerate() {
                        let one = index.search(query, 10, &params).unwrap();
                        assert_eq!(bits(&one), bits(&batch[q]), "{what} nprobe {nprobe}");
                        let unique: BTreeSet<u64> = ids(&one).into_iter().collect();
                        assert_eq!(unique.len(), one.len(), "{what} nprobe {nprobe}");
                    }
                }
            }
        }
    }
}

/// They are the vectors with the largest errors.
#[test]
fn outliers_are_what_codes_miss_by_most() {
    let (rows, dim) = (600, 24);
    let base = with_strangers(rows, dim);
    // (Errors of 16 bits are those of the measurement itself.)
    for quantizer in KINDS.into_iter().filter(|&name| name != "f16") {
        let config = IndexConfig {
            outlier_bytes: bytes_for(60, rows, dim) + 0.01,
            ..config(Metric::L2, quantizer, 1)
        };
        let index = Index::build(&base, &config).unwrap();
        let outliers = outliers(&index);
        let alone = QuantizerConfig { quantizer: spec(quantizer), ..QuantizerConfig::default() };
        let alone = Quantizer::train(base.view(), &alone).unwrap();
        let codes = alone.encode(base.view()).unwrap();
        let mut errors: Vec<(f32, u64)> = (0..rows)
            .map(|i| {
                let decoded = alone.decode(&codes, i);
                (nonius_simd::l2_sq_f32(&decoded, base.row(i)), i as u64)
            })
            .collect();
        errors.sort_by(|a, b| b.0.total_cmp(&a.0));
        // Sums in another order: at the border it may be one or the other.
        let least = errors[59].0;
        for &(error, id) in &errors {
            let is = outliers.contains(&id);
            let right = if is { error > 0.99 * least } else { error < 1.01 * least };
            assert!(right, "{quantizer}: {id} with {error}, the 60th {least}: {is}");
        }
    }
}

/// With a budget for all of a vector a search is exact.
#[test]
fn all_vectors_may_be_outliers() {
    let (base, queries) = synthetic(300, 20, 9);
    for metric in Metric::ALL {
        let truth = exact(&base, &queries, metric, 10);
        let config =
            IndexConfig { outlier_bytes: 1e300, keep: Keep::F32, ..config(metric, "pq:5B", 6) };
        let (index, report) = IndexBuilder::new(&config).build(&base).unwrap();
        assert_eq!(report.outliers, 300);
        let (found, _) = index.search_batch(queries.view(), 10, &all_lists()).unwrap();
        for (found, truth) in found.iter().zip(&truth) {
            assert_eq!(ids(found), ids(truth), "{metric}");
        }
        let rerank = SearchParams { rerank: 20, ..all_lists() };
        let (found, _) = index.search_batch(queries.view(), 10, &rerank).unwrap();
        for (found, truth) in found.iter().zip(&truth) {
            assert_eq!(ids(found), ids(truth), "{metric} with rerank");
        }
    }
}

/// What they are for: among vectors of very different norms the long ones have the largest inner products with most
/// queries, and the largest errors. Sentence embeddings, whose lengths are lognormal here.
#[test]
fn long_vectors_are_told_apart() {
    let rows = 5000;
    let set = nonius_tests::wordnet();
    let dim = set.base.dim();
    let mut base = Matrix::new(dim, set.base.data()[..rows * dim].to_vec()).unwrap();
    let mut random = Random::new(11, 0);
    for row in 0..rows {
        let factor = (0.6 * random.normal()).exp() as f32;
        base.row_mut(row).iter_mut().for_each(|x| *x *= factor);
    }
    let queries = set.some_queries(200);
    let truth: Vec<Vec<u64>> =
        exact(&base, &queries, Metric::InnerProduct, 10).iter().map(|found| ids(found)).collect();
    for quantizer in ["rvq:6B", "saq:0.5"] {
        let config = IndexConfig { keep: Keep::None, ..config(Metric::InnerProduct, quantizer, 1) };
        let recall = |outlier_bytes| {
            let config = IndexConfig { outlier_bytes, ..config.clone() };
            let index = Index::build(&base, &config).unwrap();
            let (found, _) = index.search_batch(queries.view(), 10, &all_lists()).unwrap();
            nonius_tests::recall(&truth, &found, 10)
        };
        let (without, with) = (recall(0.0), recall(30.0));
        // A hundredth of the vectors.
        assert!(1.0 - with < 0.75 * (1.0 - without), "{quantizer}: {with}, {without} without");
    }
}

/// A build into a file, whose outliers wait in a temporary file, has the bytes of one in memory, and leaves nothing
/// behind.
#[test]
fn files_have_the_bytes_of_builds_in_memory() {
    let base = with_strangers(3000, 24);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.nonius");
    for (quantizer, nlist) in [("rvq:6B", 1), ("saq:2.5", 20)] {
        let config =
            IndexConfig { outlier_bytes: 12.0, spill: 0.3, ..config(Metric::L2, quantizer, nlist) };
        let index = Index::build(&base, &config).unwrap();
        assert_eq!(index.info().outliers, 12 * 3000 / (4 * 24 + 8));
        IndexBuilder::new(&config).write(&base, &path).unwrap();
        assert!(std::fs::read(&path).unwrap() == index.as_bytes(), "{quantizer}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_budget_that_is_none_is_refused_and_a_small_one_has_no_sections() {
    let (base, _) = synthetic(50, 8, 1);
    for outlier_bytes in [-1.0, f64::NAN, f64::INFINITY] {
        let config = IndexConfig { outlier_bytes, ..config(Metric::L2, "pq:5B", 1) };
        match Index::build(&base, &config) {
            Err(BuildError::Config(error)) => {
                let text = error.to_string();
                assert!(text.contains("outlier_bytes") && text.contains("found"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Not enough for one.
    let small = IndexConfig { outlier_bytes: 0.7, ..config(Metric::L2, "pq:5B", 1) };
    let index = Index::build(&base, &small).unwrap();
    assert_eq!(index.info().outliers, 0);
    let plain = Index::build(&base, &config(Metric::L2, "pq:5B", 1)).unwrap();
    assert!(index.as_bytes() == plain.as_bytes());
}
