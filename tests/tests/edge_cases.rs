//! Input that is unusual but right: it has the right answers.

use nonius::{
    BuildError, ExactIndex, Index, IndexBuilder, IndexConfig, Keep, Matrix, Metric, Neighbor,
    SearchError, SearchParams, SourceError, VectorError,
};
use nonius_tests::file::samples;
use nonius_tests::{
    QUANTIZERS, all_lists, config, distance, exact, ids, recall, search_all, synthetic,
    without_kept,
};

/// No confidence is too large: then nothing is ruled out, however small a vector is beside the others.
#[test]
fn the_largest_confidence_finds_all() {
    for (name, bytes) in samples() {
        let index = Index::from_bytes(&bytes).unwrap();
        let query: Vec<f32> = (0..index.dim()).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
        for confidence in [1e6, 1e20, f32::MAX] {
            let params = SearchParams { confidence, ..all_lists() };
            let found = index.search(&query, index.len(), &params).unwrap();
            assert_eq!(found.len(), index.len(), "{name} at {confidence}");
        }
    }
}

#[test]
fn odd_dimensions_are_searched_right() {
    for dim in [1, 2, 3, 7, 8, 9, 15, 17, 33, 100] {
        let (base, queries) = synthetic(400, dim, dim as u64);
        for metric in Metric::ALL {
            let truth = exact(&base, &queries, metric, 10);
            for (quantizer, nlist) in
                [("saq:12", 1), ("saq:12", 5), ("erabitq:8", 1), ("erabitq:8", 5), ("saq:4", 5)]
            {
                let what = format!("{dim} {metric} {quantizer} nlist {nlist}");
                let config = IndexConfig { keep: Keep::F32, ..config(metric, quantizer, nlist) };
                let index =
                    Index::build(&base, &config).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!((index.len(), index.dim(), index.nlist()), (400, dim, nlist), "{what}");
                let plan = index.info().plan;
                let dims: usize = plan.iter().map(|s| s.dims).sum();
                assert_eq!(dims, dim.next_multiple_of(8), "{what}: {plan:?}");
                // Everything is a candidate, so rerank gives the exact order.
                let params = SearchParams { rerank: 400, ..all_lists() };
                for (i, found) in search_all(&index, &queries, 10, &params).iter().enumerate() {
                    assert_eq!(found.len(), 10, "{what}");
                    for (found, truth) in found.iter().zip(&truth[i]) {
                        assert_eq!(found, truth, "{what}");
                    }
                }
                // Without rerank: estimates are near the truth, and so is the order.
                let params = all_lists();
                let found = search_all(&index, &queries, 400, &params);
                let mut error = 0.0;
                let mut spread = 0.0;
                for (i, found) in found.iter().enumerate() {
                    let mut all = ids(found);
                    all.sort_unstable();
                    assert_eq!(all, (0..400).collect::<Vec<u64>>(), "{what}");
                    let mean = found.iter().map(|n| f64::from(n.distance)).sum::<f64>() / 400.0;
                    for n in found {
                        let true_distance =
                            distance(metric, queries.row(i), base.row(n.id as usize));
                        error += (f64::from(n.distance) - true_distance).powi(2);
                        spread += (true_distance - mean).powi(2);
                    }
                }
                let relative = (error / spread).sqrt();
                let most = if quantizer == "saq:4" { 0.1 } else { 0.02 };
                assert!(relative < most, "{what}: {relative}");
            }
        }
    }
}

#[test]
fn every_quantizer_takes_every_small_dimension() {
    for dim in [1, 3, 7, 8, 20] {
        let (base, queries) = synthetic(70, dim, 9);
        for metric in Metric::ALL {
            for quantizer in QUANTIZERS.into_iter().chain(["saq:0.25", "saq:4B", "erabitq:13"]) {
                for nlist in [1, 3] {
                    let what = format!("{dim} {metric} {quantizer} nlist {nlist}");
                    let index = Index::build(&base, &config(metric, quantizer, nlist))
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    for found in search_all(&index, &queries, 70, &all_lists()) {
                        let mut all = ids(&found);
                        all.sort_unstable();
                        assert_eq!(all, (0..70).collect::<Vec<u64>>(), "{what}");
                        assert!(found.iter().all(|n| n.distance.is_finite()), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn all_equal_vectors() {
    let row: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin() + 0.2).collect();
    let other: Vec<f32> = (0..12).map(|i| (i as f32 * 1.3).cos()).collect();
    let base = Matrix::new(12, row.repeat(100)).unwrap();
    for metric in Metric::ALL {
        for quantizer in QUANTIZERS {
            for nlist in [1, 7, 100] {
                let what = format!("{metric} {quantizer} nlist {nlist}");
                let index = Index::build(&base, &config(metric, quantizer, nlist))
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                for query in [&row, &other] {
                    let found = index.search(query, 100, &all_lists()).unwrap();
                    let mut all = ids(&found);
                    all.sort_unstable();
                    assert_eq!(all, (0..100).collect::<Vec<u64>>(), "{what}");
                    let truth = distance(metric, query, &row);
                    let scale = distance(Metric::L2, query, &[0.0; 12]).max(1.0);
                    for n in &found {
                        let error = (f64::from(n.distance) - truth).abs();
                        assert!(error < 2e-3 * scale, "{what}: {} {truth}", n.distance);
                    }
                    if nlist == 1 {
                        assert_eq!(ids(&found), (0..100).collect::<Vec<u64>>(), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn more_neighbours_than_vectors_are_all_vectors() {
    let (base, queries) = synthetic(100, 24, 4);
    for metric in Metric::ALL {
        let truth = exact(&base, &queries, metric, usize::MAX);
        assert!(truth.iter().all(|found| found.len() == 100));
        for nlist in [1, 6] {
            let index = Index::build(&base, &config(metric, "saq:4", nlist)).unwrap();
            for k in [100, 101, 5000, usize::MAX] {
                for rerank in [0, 1, usize::MAX] {
                    let params = SearchParams { rerank, ..all_lists() };
                    for (found, truth) in
                        search_all(&index, &queries, k, &params).iter().zip(&truth)
                    {
                        let mut all = ids(found);
                        all.sort_unstable();
                        assert_eq!(all, (0..100).collect::<Vec<u64>>());
                        let better = |a: f32, b: f32| match metric {
                            Metric::InnerProduct => a >= b,
                            _ => a <= b,
                        };
                        let sorted = found.windows(2).all(|w| better(w[0].distance, w[1].distance));
                        assert!(sorted, "{metric} {nlist}");
                        if rerank > 0 {
                            // Half precision may swap what is as good as equal.
                            let same =
                                ids(found).iter().zip(ids(truth)).filter(|&(&a, b)| a == b).count();
                            assert!(same >= 90, "{metric} {nlist} {same}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn duplicate_vectors_come_in_the_order_of_their_ids() {
    // 40 vectors, each eight times; ids fall with the row, so position and id disagree.
    let (distinct, _) = synthetic(40, 16, 7);
    let mut values = Vec::new();
    for copy in 0..8 {
        for row in 0..40 {
            values.extend_from_slice(distinct.row((row + 7 * copy) % 40));
        }
    }
    let base = Matrix::new(16, values).unwrap();
    let original = |row: usize| (row % 40 + 7 * (row / 40)) % 40;
    let falling: Vec<u64> = (0..320).map(|row| 10_000 - 3 * row).collect();
    for metric in Metric::ALL {
        for nlist in [1, 4] {
            for rerank in [0, 64] {
                let config = config(metric, "saq:6", nlist);
                let (index, _) = IndexBuilder::new(&config).ids(&falling).build(&base).unwrap();
                // Only a bound that holds for certain leaves all ties to their ids.
                let params = SearchParams { rerank, confidence: 9.0, ..all_lists() };
                for wanted in 0..40 {
                    let mut copies: Vec<u64> = (0..320)
                        .filter(|&row| original(row) == wanted)
                        .map(|row| falling[row])
                        .collect();
                    copies.sort_unstable();
                    let query = distinct.row(wanted);
                    // The nearest may be another vector under inner product.
                    if metric == Metric::InnerProduct {
                        let found = index.search(query, 320, &params).unwrap();
                        let of_copies: Vec<u64> =
                            ids(&found).into_iter().filter(|id| copies.contains(id)).collect();
                        if nlist == 1 || rerank > 0 && found.len() == 320 {
                            assert_eq!(of_copies, copies, "{metric} {nlist} {rerank}");
                        }
                        continue;
                    }
                    let found = index.search(query, 8, &params).unwrap();
                    let what = format!("{metric} nlist {nlist} rerank {rerank}");
                    assert_eq!(ids(&found), copies, "{what}");
                    // Equal at the boundary too: the smallest ids are kept.
                    let found = index.search(query, 3, &params).unwrap();
                    assert_eq!(ids(&found), copies[..3], "{what}, k = 3");
                }
            }
        }
    }
    let exact = ExactIndex::new(base, Metric::L2).unwrap();
    let found = exact.search(distinct.row(5), 8).unwrap();
    assert!(found.windows(2).all(|w| w[0].id < w[1].id));
}

#[test]
fn zero_vectors_are_fine_under_l2_and_inner_product() {
    let (mut base, queries) = synthetic(90, 8, 8);
    base.row_mut(61).fill(0.0);
    for metric in [Metric::L2, Metric::InnerProduct] {
        for nlist in [1, 5] {
            for quantizer in QUANTIZERS {
                let index = Index::build(&base, &config(metric, quantizer, nlist)).unwrap();
                let found = index.search(&[0.0; 8], 90, &all_lists()).unwrap();
                assert_eq!(found.len(), 90);
                assert!(found.iter().all(|n| n.distance.is_finite()));
                let params = SearchParams { rerank: 90, ..all_lists() };
                let found = index.search(&[0.0; 8], 1, &params).unwrap();
                assert_eq!(found[0].distance, 0.0, "{metric} {quantizer}");
                if metric == Metric::L2 {
                    assert_eq!(found[0].id, 61);
                }
                let found = index.search(queries.row(0), 90, &params).unwrap();
                let zero = found.iter().find(|n| n.id == 61).unwrap();
                let true_distance = distance(metric, queries.row(0), &[0.0; 8]);
                assert!((f64::from(zero.distance) - true_distance).abs() <= 1e-5 * true_distance);
            }
        }
    }
    // Nothing but zeros.
    let zeros = Matrix::zeros(50, 8);
    for metric in [Metric::L2, Metric::InnerProduct] {
        for nlist in [1, 3] {
            let index = Index::build(&zeros, &config(metric, "saq:4", nlist)).unwrap();
            let found = index.search(&[1.0; 8], 50, &all_lists()).unwrap();
            let expected = if metric == Metric::L2 { 8.0 } else { 0.0 };
            assert_eq!(found.len(), 50);
            assert!(found.iter().all(|n| (n.distance - expected).abs() < 1e-3), "{found:?}");
        }
    }
}

#[test]
fn ids_of_64_bits_come_back_whole() {
    let (base, _) = synthetic(60, 8, 11);
    for nlist in [1, 4] {
        let config = config(Metric::L2, "saq:8", nlist);
        let large: Vec<u64> = (0..60)
            .map(|i| match i {
                0 => u64::MAX,
                1 => 0,
                2 => u64::from(u32::MAX),
                3 => u64::from(u32::MAX) + 1,
                _ => (i << 33) + i,
            })
            .collect();
        let (index, wide) = IndexBuilder::new(&config).ids(&large).build(&base).unwrap();
        for row in 0..60 {
            let found = index.search(base.row(row), 1, &all_lists()).unwrap();
            assert_eq!(found[0].id, large[row]);
        }
        // Ids that fit take four bytes, others eight.
        let small: Vec<u64> = (0..60).map(|i| u64::from(u32::MAX) - i).collect();
        let (index, narrow) = IndexBuilder::new(&config).ids(&small).build(&base).unwrap();
        for row in 0..60 {
            let found = index.search(base.row(row), 1, &all_lists()).unwrap();
            assert_eq!(found[0].id, small[row]);
        }
        assert_eq!(wide.bytes_per_vector - narrow.bytes_per_vector, 4.0);
    }
}

#[test]
fn one_vector_and_two_vectors() {
    for dim in [1, 5, 64] {
        let one: Vec<f32> = (0..dim).map(|i| 0.3 + (i as f32).sin()).collect();
        let two: Vec<f32> = (0..dim).map(|i| -0.4 + (i as f32 * 0.9).cos()).collect();
        let both = [&one[..], &two[..]].concat();
        for metric in Metric::ALL {
            for quantizer in QUANTIZERS {
                let what = format!("{dim} {metric} {quantizer}");
                let index = Index::from_slice(dim, &one, &config(metric, quantizer, 1))
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                let found = index.search(&two, 10, &SearchParams::default()).unwrap();
                assert_eq!(ids(&found), [0], "{what}");
                let close = |found: f32, truth: f64| {
                    let scale = distance(Metric::L2, &two, &one).max(1.0);
                    (f64::from(found) - truth).abs() < 1e-3 * scale
                };
                let truth = distance(metric, &two, &one);
                assert!(close(found[0].distance, truth), "{what}: {found:?} {truth}");
                for nlist in [1, 2] {
                    let index = Index::from_slice(dim, &both, &config(metric, quantizer, nlist))
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    let params = SearchParams { rerank: 2, ..SearchParams::default() };
                    let found = index.search(&two, 10, &params).unwrap();
                    assert_eq!(found.len(), 2, "{what}");
                    for n in &found {
                        let vector = if n.id == 0 { &one } else { &two };
                        let truth = distance(metric, &two, vector);
                        assert!(close(n.distance, truth), "{what}: {found:?} {truth}");
                    }
                }
            }
        }
    }
}

/// Scaling everything by a power of two changes nothing but the scale.
#[test]
fn huge_and_tiny_values_are_searched_as_well_as_others() {
    let (base, queries) = synthetic(600, 16, 12);
    let scaled = |matrix: &Matrix, factor: f32| {
        Matrix::new(16, matrix.data().iter().map(|x| x * factor).collect()).unwrap()
    };
    let mut failures = Vec::new();
    for metric in Metric::ALL {
        let truth: Vec<Vec<u64>> =
            exact(&base, &queries, metric, 10).iter().map(|found| ids(found)).collect();
        for quantizer in ["saq:4", "erabitq:4", "saq:1"] {
            for nlist in [1, 6] {
                let config = without_kept(config(metric, quantizer, nlist));
                let usual = Index::build(&base, &config).unwrap();
                let reach = recall(&truth, &search_all(&usual, &queries, 10, &all_lists()), 10);
                // 2^60 is about 1e18, 2^-60 about 1e-18.
                for exponent in [60, 30, -20, -30, -45, -60] {
                    let factor = 2.0f32.powi(exponent);
                    let what = format!("{metric} {quantizer} nlist {nlist} 2^{exponent}");
                    let index = match Index::build(&scaled(&base, factor), &config) {
                        Ok(index) => index,
                        Err(error) => {
                            failures.push(format!("{what}: {error}"));
                            continue;
                        }
                    };
                    let far = scaled(&queries, factor);
                    let found = search_all(&index, &far, 10, &all_lists());
                    let here = recall(&truth, &found, 10);
                    if here < reach - 0.02 {
                        failures.push(format!("{what}: recall {here}, unscaled {reach}"));
                    }
                    if found.iter().flatten().any(|n| !n.distance.is_finite()) {
                        failures.push(format!("{what}: a distance is not finite"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn values_of_very_different_size_in_one_set() {
    // Clusters at scales from 1e-6 to 1e6; the nearest is the vector itself.
    let (small, _) = synthetic(300, 12, 13);
    let values: Vec<f32> = (0..300)
        .flat_map(|row| {
            let factor = 10f32.powi(row % 13 - 6);
            small.row(row as usize).iter().map(move |x| x * factor)
        })
        .collect();
    let base = Matrix::new(12, values).unwrap();
    for nlist in [1, 13] {
        let config = IndexConfig { keep: Keep::F32, ..config(Metric::L2, "saq:8", nlist) };
        let index = Index::build(&base, &config).unwrap();
        let params = SearchParams { rerank: 300, ..all_lists() };
        for row in 0..300 {
            let found = index.search(base.row(row), 1, &params).unwrap();
            assert_eq!((found[0].id, found[0].distance), (row as u64, 0.0));
        }
    }
}

/// Norms whose squares are just inside `f32`, on opposite sides: relative to the mean, or to each
/// other, squares are outside. Either that is refused as too large, or searching works; a file
/// that cannot be opened must not come out.
#[test]
fn norms_at_the_edge_of_f32_are_refused_or_searched() {
    for (scale, metric) in
        [(1.8e19f32, Metric::L2), (1.8e19, Metric::InnerProduct), (1e19, Metric::L2)]
    {
        for nlist in [1, 2] {
            let mut values = Vec::new();
            for row in 0..12 {
                let sign = if row % 3 == 0 { -1.0 } else { 1.0 };
                let mut vector = [0.0; 8];
                vector[0] = sign * scale;
                vector[row % 7 + 1] = 1e15 * row as f32;
                values.extend_from_slice(&vector);
            }
            let base = Matrix::new(8, values).unwrap();
            let config = without_kept(config(metric, "saq:4", nlist));
            let what = format!("{scale:e} {metric} nlist {nlist}");
            match IndexBuilder::new(&config).build(&base) {
                Err(BuildError::Source(SourceError::Vector(VectorError::TooLarge { .. }))) => {}
                Err(error) => panic!("{what}: {error}"),
                Ok((index, _)) => {
                    for row in 0..12 {
                        let found = index.search(base.row(row), 12, &all_lists()).unwrap();
                        assert_eq!(found.len(), 12, "{what}");
                        assert!(found.iter().all(|n| !n.distance.is_nan()), "{what}: {found:?}");
                        // The own side comes first.
                        let same = |n: &Neighbor| n.id.is_multiple_of(3) == (row % 3 == 0);
                        let own = if row % 3 == 0 { 4 } else { 8 };
                        assert!(found[..own].iter().all(same), "{what}: {found:?}");
                    }
                }
            }
        }
    }
}

/// A few vectors ten times as long as the others, whether training sees them or not: they are
/// found, and the search for others does not suffer.
#[test]
fn outliers_are_found_and_do_no_harm() {
    let (usual, _) = synthetic(3000, 32, 61);
    let outliers = [13, 977, 1500, 2998];
    let mut base = usual.clone();
    for row in outliers {
        base.row_mut(row).iter_mut().for_each(|x| *x *= 10.0);
    }
    let queries = Matrix::new(32, usual.data()[32..32 * 51].to_vec()).unwrap();
    let reach = |base: &Matrix, config: &IndexConfig| {
        let index = Index::build(base, config).unwrap();
        let truth: Vec<Vec<u64>> =
            exact(base, &queries, Metric::L2, 10).iter().map(|found| ids(found)).collect();
        (recall(&truth, &search_all(&index, &queries, 10, &all_lists()), 10), index)
    };
    for quantizer in ["saq:4", "saq:8", "erabitq:4"] {
        for nlist in [1, 30] {
            // With so few rows to train on, none of the outliers is among them, or one.
            for training_rows in [200, 3000] {
                let config = IndexConfig {
                    training_rows,
                    ..without_kept(config(Metric::L2, quantizer, nlist))
                };
                let what = format!("{quantizer} nlist {nlist} trained on {training_rows}");
                let (without, _) = reach(&usual, &config);
                let (with, index) = reach(&base, &config);
                assert!(with > without - 0.04, "{what}: recall {with}, {without} without");
                for row in outliers {
                    let found = index.search(base.row(row), 1, &all_lists()).unwrap();
                    assert_eq!(found[0].id, row as u64, "{what}");
                }
            }
        }
    }
}

/// Queries that are longer than the vectors by many orders of magnitude: so far that estimates
/// overflow they are refused, and up to there all vectors are found.
#[test]
fn queries_far_away_find_all_or_are_refused() {
    let (usual, _) = synthetic(60, 26, 14);
    for factor in [1.0, 65_536.0] {
        // Values that grow along the dimensions: residuals are as large as the vectors.
        let values: Vec<f32> = (0..60 * 26).map(|i| (i % 38) as f32 * factor).collect();
        let grown = Matrix::new(26, values).unwrap();
        for base in [&usual, &grown] {
            for quantizer in QUANTIZERS {
                for (metric, nlist) in [(Metric::L2, 1), (Metric::InnerProduct, 2)] {
                    let config = without_kept(config(metric, quantizer, nlist));
                    let index = Index::build(base, &config).unwrap();
                    for exponent in 0..62 {
                        let length = 2f32.powi(exponent);
                        let query: Vec<f32> =
                            (0..26).map(|i| (i as f32 * 0.7).sin() * length / 3.0).collect();
                        let what = format!("{metric} {quantizer} at 2^{exponent}, {factor}");
                        match index.search(&query, 60, &all_lists()) {
                            Ok(found) => {
                                assert_eq!(found.len(), 60, "{what}");
                                assert!(found.iter().all(|n| n.distance.is_finite()), "{what}");
                            }
                            Err(SearchError::Query(VectorError::TooLarge { .. })) => {
                                assert!(exponent > 40, "{what}");
                            }
                            Err(error) => panic!("{what}: {error:?}"),
                        }
                    }
                }
            }
        }
    }
}
