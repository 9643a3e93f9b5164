//! Data that makes arithmetic hard: every quantizer takes it, finds everything, and what comes out is a
//! number.

use nonius::random::Random;
use nonius::{
    Index, IndexConfig, Keep, Matrix, Metric, Quantizer, QuantizerConfig, QuantizerSpec, Saq,
    SaqConfig, SearchParams,
};
use nonius_tests::{QUANTIZERS, all_lists, bits, config, exact, ids, spec, without_kept};

const ROWS: usize = 80;
const DIM: usize = 20;

/// Normal values, row by row.
fn normal(seed: u64) -> Matrix {
    let mut random = Random::new(seed, 1);
    Matrix::new(DIM, (0..ROWS * DIM).map(|_| random.normal() as f32).collect()).unwrap()
}

/// The values of a matrix, changed one by one: `change` is told row, column and value.
fn changed(matrix: &Matrix, change: impl Fn(usize, usize, f32) -> f32) -> Matrix {
    let values = matrix.data().iter().enumerate();
    Matrix::new(DIM, values.map(|(i, &x)| change(i / DIM, i % DIM, x)).collect()).unwrap()
}

/// Combinations of so many directions.
fn of_rank(rank: usize) -> Matrix {
    let (weights, directions) = (normal(2), normal(3));
    changed(&weights, |row, column, _| {
        (0..rank).map(|r| weights.row(row)[r] * directions.row(r)[column]).sum()
    })
}

/// The hard sets, by name.
fn sets() -> Vec<(&'static str, Matrix)> {
    let usual = normal(1);
    vec![
        (
            "half of the dimensions constant",
            changed(&usual, |_, c, x| if c % 2 == 0 { 7.5 } else { x }),
        ),
        ("one dimension that varies", changed(&usual, |_, c, x| if c == 11 { x } else { -2.0 })),
        ("rank 1", of_rank(1)),
        ("rank 3", of_rank(3)),
        ("rank 3, far from the origin", changed(&of_rank(3), |_, _, x| x + 1000.0)),
        ("two vectors, over and over", changed(&usual, |r, c, _| usual.row(r % 2)[c])),
        (
            "one dimension a million times the others",
            changed(&usual, |_, c, x| if c == 3 { x * 1e6 } else { x }),
        ),
        ("signs alone", changed(&usual, |_, _, x| x.signum())),
        ("mostly zeros", changed(&usual, |r, c, x| if (r + c) % 7 == 0 { x } else { 0.0 })),
        ("the smallest normal numbers", changed(&usual, |_, _, x| x * 1e-37)),
        ("denormal numbers", changed(&usual, |_, _, x| x * 1e-42)),
        (
            "denormal beside large ones",
            changed(&usual, |_, c, x| if c < 10 { x * 1e-42 } else { x * 1e3 }),
        ),
        ("norms whose squares are just inside", changed(&usual, |_, _, x| x * 2e17)),
    ]
}

#[test]
fn every_quantizer_finds_all_of_every_hard_set() {
    let mut turn = 0;
    for (name, base) in sets() {
        for metric in Metric::ALL {
            let truth = exact(&base, &base, metric, 1);
            for quantizer in QUANTIZERS.into_iter().chain(["opq4:8B", "bf16", "lvq:4x1"]) {
                // Flat and in lists by turns: there are many cases.
                turn += 1;
                let (nlist, spill) = [(1, 0.0), (3, 1.0)][turn % 2];
                let what = format!("{name}: {metric} {quantizer} nlist {nlist}");
                let config =
                    IndexConfig { keep: Keep::F32, spill, ..config(metric, quantizer, nlist) };
                let index =
                    Index::build(&base, &config).unwrap_or_else(|error| panic!("{what}: {error}"));
                index.verify().unwrap();
                for row in (0..ROWS).step_by(9) {
                    let found = index.search(base.row(row), ROWS, &all_lists()).unwrap();
                    let mut all = ids(&found);
                    all.sort_unstable();
                    assert!(all.iter().copied().eq(0..ROWS as u64), "{what}: {all:?}");
                    assert!(found.iter().all(|n| n.distance.is_finite()), "{what}: {found:?}");
                    // Among all estimates rerank finds the truth.
                    let params = SearchParams { rerank: ROWS, ..all_lists() };
                    let found = index.search(base.row(row), 1, &params).unwrap();
                    let best = truth[row][0].distance;
                    let error = (found[0].distance - best).abs();
                    let scale = best.abs().max(f32::MIN_POSITIVE);
                    // For cosine the distance to itself is 0 but for rounding.
                    let slack = if metric == Metric::Cosine { 1e-6 } else { 0.0 };
                    assert!(error <= 1e-5 * scale + slack, "{what}, row {row}: {found:?}, {best}");
                }
            }
        }
    }
}

/// The same set gives the same bytes and answers on the second build, also where sums cancel.
#[test]
fn hard_sets_are_built_the_same_twice() {
    for (name, base) in sets() {
        for quantizer in ["saq:4", "erabitq:8", "rvq:12B", "opq:9B", "lvq:4x8"] {
            let config = without_kept(config(Metric::L2, quantizer, 3));
            let [one, two] = [(); 2].map(|()| Index::build(&base, &config).unwrap());
            assert!(one.as_bytes() == two.as_bytes(), "{name}: {quantizer}");
            let found =
                [&one, &two].map(|index| index.search(base.row(5), 9, &all_lists()).unwrap());
            assert_eq!(bits(&found[0]), bits(&found[1]), "{name}: {quantizer}");
        }
    }
}

/// Without an index: what is decoded and estimated is a number, and decoding comes near where there are
/// bits enough.
#[test]
fn codes_of_hard_sets_stand_for_numbers() {
    for (name, base) in sets() {
        let largest = base.data().iter().fold(0f32, |most, x| most.max(x.abs()));
        for (quantizer, within) in [
            ("saq:12", 0.004),
            ("saq:8", 0.03),
            ("erabitq:12", 0.004),
            ("erabitq:8", 0.03),
            ("saq:4", 0.3),
            ("pq:12B", 1.0),
            ("rvq:12B", 1.0),
            ("pq3:12B", 1.5),
            ("sq:8", 0.2),
            ("lvq:4x8", 0.01),
            ("f16", 0.002),
        ] {
            let what = format!("{name}: {quantizer}");
            let quantizer: QuantizerSpec = spec(quantizer);
            let (decoded, estimates): (Vec<Vec<f32>>, Vec<f32>) = match quantizer {
                QuantizerSpec::Saq(_) | QuantizerSpec::OneSegment { .. } => {
                    let config = SaqConfig { quantizer, ..SaqConfig::default() };
                    let saq = Saq::train(base.view(), &config).unwrap();
                    let codes = saq.encode(base.view()).unwrap();
                    let found = saq.estimate(&codes, base.row(0)).unwrap();
                    (
                        (0..ROWS).map(|i| saq.decode(&codes, i)).collect(),
                        found.iter().flat_map(|e| [e.distance, e.deviation]).collect(),
                    )
                }
                _ => {
                    let config = QuantizerConfig { quantizer, ..QuantizerConfig::default() };
                    let trained = Quantizer::train(base.view(), &config).unwrap();
                    let codes = trained.encode(base.view()).unwrap();
                    (
                        (0..ROWS).map(|i| trained.decode(&codes, i)).collect(),
                        trained.estimate(&codes, base.row(0)).unwrap(),
                    )
                }
            };
            assert!(estimates.iter().all(|x| x.is_finite()), "{what}: {estimates:?}");
            for (row, decoded) in decoded.iter().enumerate() {
                for (&x, &y) in base.row(row).iter().zip(decoded) {
                    let error = (x - y).abs();
                    assert!(error <= within * largest, "{what}: {y} for {x} in row {row}");
                }
            }
        }
    }
}

/// The most dimensions that vectors may have, for quantizers that take them, and what the others say.
#[test]
fn the_most_dimensions() {
    let vectors = |dim: usize, rows: usize| {
        let mut random = Random::new(dim as u64, 5);
        Matrix::new(dim, (0..rows * dim).map(|_| random.normal() as f32).collect()).unwrap()
    };
    for (quantizer, most) in [
        ("f16", 65_536),
        ("bf16", 65_536),
        ("f32", 65_536),
        ("pq:6B", 65_536),
        ("pq4:5B", 65_536),
        ("sq:4", 16_384),
        ("lvq:4x8", 16_384),
    ] {
        let spec: QuantizerSpec = quantizer.parse().unwrap();
        assert_eq!(spec.max_dim(), most, "{quantizer}");
        let base = vectors(most, 6);
        for (metric, nlist) in [(Metric::L2, 1), (Metric::InnerProduct, 2), (Metric::Cosine, 2)] {
            let what = format!("{most} {quantizer} {metric} {nlist}");
            let index = Index::build(&base, &config(metric, quantizer, nlist))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let opened = Index::from_bytes(index.as_bytes()).unwrap();
            opened.verify().unwrap();
            for row in 0..6 {
                let found = opened.search(base.row(row), 7, &all_lists()).unwrap();
                assert_eq!(found.len(), 6, "{what}");
                assert!(found.iter().all(|n| n.distance.is_finite()), "{what}: {found:?}");
                assert_eq!(found[0].id, row as u64, "{what}: {found:?}");
            }
        }
    }
    for quantizer in ["saq:4", "rabitq", "opq:6B", "rvq:6B", "prq:2x6B", "sq:4", "lvq:4x8"] {
        let spec: QuantizerSpec = quantizer.parse().unwrap();
        let dim = spec.max_dim() + 1;
        let error = Index::build(&vectors(dim, 2), &config(Metric::L2, quantizer, 1)).unwrap_err();
        let (most, found) = (spec.max_dim().to_string(), dim.to_string());
        let text = error.to_string();
        assert!(text.contains(&most) && text.contains(&found), "{quantizer}: {text}");
    }
}

/// Dimensions from 1 to those of embeddings, with fewer vectors than dimensions.
#[test]
fn more_dimensions_than_vectors() {
    for dim in [1, 2, 9, 255, 257, 520, 1030] {
        let mut random = Random::new(dim as u64, 4);
        let base =
            Matrix::new(dim, (0..6 * dim).map(|_| random.normal() as f32).collect()).unwrap();
        for quantizer in ["saq:4", "rabitq", "lvq:4x8", "f16", "pq:6B"] {
            for metric in [Metric::L2, Metric::Cosine] {
                let what = format!("{dim} {quantizer} {metric}");
                let index = Index::build(&base, &config(metric, quantizer, 1))
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let opened = Index::from_bytes(index.as_bytes()).unwrap();
                for row in 0..6 {
                    let found = opened.search(base.row(row), 7, &all_lists()).unwrap();
                    assert_eq!(found.len(), 6, "{what}");
                    assert!(found.iter().all(|n| n.distance.is_finite()), "{what}: {found:?}");
                    // In many dimensions vectors are far from each other, however short the code.
                    assert!(dim < 256 || found[0].id == row as u64, "{what}: {found:?}");
                }
            }
        }
    }
}
