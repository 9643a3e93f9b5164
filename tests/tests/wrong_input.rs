//! Wrong vectors, queries and parameters: each is a typed error that says what is wrong.

use nonius::{
    BlockSource, BuildError, ExactIndex, Index, IndexBuilder, IndexConfig, Keep, Matrix,
    MatrixView, Metric, Quantizer, QuantizerConfig, QuantizerSpec, SearchError, SearchParams,
    SourceError, VectorError,
};
use nonius_tests::{
    all_lists, bits, build_error, config, files_in, ids, says, synthetic, without_kept,
};

#[test]
fn an_empty_source_is_refused() {
    let empty = Matrix::new(8, Vec::new()).unwrap();
    for nlist in [None, Some(1), Some(4)] {
        let config = IndexConfig { nlist, ..IndexConfig::default() };
        let error = build_error(&empty, &config);
        assert!(matches!(error, BuildError::Empty), "{error:?}");
        says(&error, &["no vectors"]);
    }
    let error = Index::from_slice(8, &[], &IndexConfig::default()).unwrap_err();
    assert!(matches!(error, BuildError::Empty), "{error:?}");
    let none = BlockSource::new(0, 8, std::iter::empty::<Vec<f32>>);
    assert!(matches!(build_error(&none, &IndexConfig::default()), BuildError::Empty));
    let exact = ExactIndex::new(empty, Metric::L2).unwrap();
    assert!(exact.is_empty());
    assert_eq!(exact.search(&[0.0; 8], 3).unwrap(), []);
}

#[test]
fn dimensions_out_of_range_are_refused() {
    assert_eq!(Matrix::new(0, Vec::new()).unwrap_err(), VectorError::Dim { found: 0 });
    let too_wide = nonius::MAX_DIM + 1;
    for dim in [0, too_wide, usize::MAX] {
        let source = BlockSource::new(10, dim, std::iter::empty::<Vec<f32>>);
        let error = build_error(&source, &IndexConfig::default());
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::Vector(VectorError::Dim { found })) if found == dim
            ),
            "{error:?}"
        );
        says(&error, &[&dim.to_string(), "65536"]);
    }
    let error = Index::from_slice(3, &[1.0, 2.0, 3.0, 4.0], &IndexConfig::default()).unwrap_err();
    assert!(
        matches!(
            error,
            BuildError::Source(SourceError::Vector(VectorError::Ragged { dim: 3, values: 4 }))
        ),
        "{error:?}"
    );
    says(&error, &["4 values", "dimension 3"]);
}

#[test]
fn a_dimension_beyond_training_is_a_configuration_error() {
    let wide = Matrix::zeros(2, 8200);
    let error = build_error(&wide, &IndexConfig::default());
    assert!(matches!(error, BuildError::Config(_)), "{error:?}");
    says(&error, &["quantizer", "8192", "8200"]);
}

#[test]
fn a_query_of_another_dimension_is_refused() {
    let (base, _) = synthetic(300, 16, 1);
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 4)).unwrap();
    let truth = ExactIndex::new(base, Metric::L2).unwrap();
    for dim in [0, 1, 15, 17, 160] {
        let query = vec![0.5; dim];
        let expected = SearchError::Query(VectorError::DimMismatch { expected: 16, found: dim });
        let mut searcher = index.searcher();
        assert_eq!(searcher.search(&query, 3, &all_lists()).unwrap_err(), expected);
        assert_eq!(index.search(&query, 3, &all_lists()).unwrap_err(), expected);
        assert_eq!(truth.search(&query, 3).unwrap_err(), expected);
        if dim > 0 {
            let batch = Matrix::new(dim, vec![0.5; 40 * dim]).unwrap();
            let error = index.search_batch(batch.view(), 3, &all_lists()).unwrap_err();
            assert_eq!(error, expected);
            assert_eq!(truth.search_batch(batch.view(), 3).unwrap_err(), expected);
        }
        says(&expected, &["dimension 16", &format!("found {dim}")]);
        // The searcher is not spoilt by a failure.
        assert_eq!(searcher.search(&[0.5; 16], 3, &all_lists()).unwrap().len(), 3);
    }
}

#[test]
fn nan_and_infinity_are_named_by_row_and_column() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![1.0; 50 * 8];
        values[37 * 8 + 5] = value;
        let error = Index::from_slice(8, &values, &IndexConfig::default()).unwrap_err();
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::Vector(VectorError::NonFinite {
                    row: 37,
                    column: 5,
                    ..
                }))
            ),
            "{error:?}"
        );
        says(&error, &["row 37", "column 5", &value.to_string()]);
        assert!(Matrix::new(8, values.clone()).is_err());
        assert!(MatrixView::new(8, &values).is_err());
    }
}

#[test]
fn a_query_with_nan_or_infinity_is_refused() {
    let (base, _) = synthetic(100, 8, 2);
    for metric in Metric::ALL {
        let index = Index::build(&base, &config(metric, "saq:4", 2)).unwrap();
        let truth = ExactIndex::new(base.clone(), metric).unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut query = [0.25; 8];
            query[6] = value;
            for error in [
                index.search(&query, 1, &all_lists()).unwrap_err(),
                truth.search(&query, 1).unwrap_err(),
            ] {
                assert!(
                    matches!(
                        error,
                        SearchError::Query(VectorError::NonFinite { row: 0, column: 6, .. })
                    ),
                    "{error:?}"
                );
                says(&error, &["query", "column 6"]);
            }
        }
    }
}

#[test]
fn fewer_vectors_than_lists_are_refused() {
    let (base, _) = synthetic(20, 8, 3);
    let error = build_error(&base, &config(Metric::L2, "saq:4", 21));
    assert!(matches!(error, BuildError::TooFewVectors { nlist: 21, rows: 20 }), "{error:?}");
    says(&error, &["nlist is 21", "20 vectors"]);
    let error = build_error(&base, &config(Metric::L2, "saq:4", usize::MAX));
    assert!(matches!(error, BuildError::TooFewVectors { rows: 20, .. }), "{error:?}");
    // As many lists as vectors is no error, and every list has one.
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 20)).unwrap();
    assert_eq!(index.info().list_sizes, (1, 1));
    for row in 0..20 {
        let params = SearchParams { nprobe: 1, ..SearchParams::default() };
        let found = index.search(base.row(row), 5, &params).unwrap();
        assert_eq!(ids(&found), [row as u64]);
    }
}

#[test]
fn zero_and_too_many() {
    let (base, queries) = synthetic(200, 16, 5);
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 5)).unwrap();
    let query = queries.row(0);
    let default = SearchParams::default();
    assert_eq!(index.search(query, 0, &default).unwrap_err(), SearchError::ZeroK);
    says(&SearchError::ZeroK, &["k is 0"]);
    let exact = ExactIndex::new(base.clone(), Metric::L2).unwrap();
    assert_eq!(exact.search(query, 0).unwrap_err(), SearchError::ZeroK);
    let none = SearchParams { nprobe: 0, ..default.clone() };
    assert_eq!(index.search(query, 1, &none).unwrap_err(), SearchError::ZeroNprobe);
    says(&SearchError::ZeroNprobe, &["nprobe is 0"]);
    let error = index.search_batch(queries.view(), 0, &default).unwrap_err();
    assert_eq!(error, SearchError::ZeroK);
    for ratio in [0.0, 0.99, -2.0, f32::NAN, f32::INFINITY] {
        let params = SearchParams { centroid_ratio: Some(ratio), ..default.clone() };
        let error = index.search(query, 3, &params).unwrap_err();
        says(&error, &["centroid_ratio", &ratio.to_string()]);
    }
    for confidence in [-1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let params = SearchParams { confidence, ..default.clone() };
        let error = index.search(query, 1, &params).unwrap_err();
        assert!(matches!(error, SearchError::Confidence { .. }), "{error:?}");
        says(&error, &["confidence", &confidence.to_string()]);
    }
    // More lists than there are means all.
    let five = SearchParams { nprobe: 5, ..default.clone() };
    for nprobe in [6, 1000, usize::MAX] {
        let more = SearchParams { nprobe, ..default.clone() };
        for i in 0..queries.rows() {
            let found = index.search(queries.row(i), 10, &more).unwrap();
            assert_eq!(bits(&found), bits(&index.search(queries.row(i), 10, &five).unwrap()));
        }
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let (base, _) = synthetic(50, 8, 6);
    let good = IndexConfig::default();
    for (wrong, field) in [
        (IndexConfig { nlist: Some(0), ..good.clone() }, "nlist"),
        (IndexConfig { spill: -0.1, ..good.clone() }, "spill"),
        (IndexConfig { spill: 1.5, ..good.clone() }, "spill"),
        (IndexConfig { spill: f64::NAN, ..good.clone() }, "spill"),
        (IndexConfig { training_rows: 0, ..good.clone() }, "training_rows"),
        (IndexConfig { kmeans_iterations: 0, ..good.clone() }, "kmeans_iterations"),
        (IndexConfig { quantizer: QuantizerSpec::saq(0.1), ..good.clone() }, "quantizer"),
        (IndexConfig { quantizer: QuantizerSpec::saq(13.0), ..good.clone() }, "quantizer"),
        (IndexConfig { quantizer: QuantizerSpec::saq(f64::NAN), ..good.clone() }, "quantizer"),
        (IndexConfig { quantizer: QuantizerSpec::saq_bytes(3), ..good.clone() }, "quantizer"),
        (
            IndexConfig { quantizer: QuantizerSpec::saq_bytes(usize::MAX), ..good.clone() },
            "quantizer",
        ),
        (IndexConfig { quantizer: QuantizerSpec::extended_rabitq(0), ..good.clone() }, "quantizer"),
        (
            IndexConfig { quantizer: QuantizerSpec::extended_rabitq(14), ..good.clone() },
            "quantizer",
        ),
    ] {
        let error = build_error(&base, &wrong);
        match &error {
            BuildError::Config(inner) => assert_eq!(inner.field, field),
            _ => panic!("{error:?}"),
        }
        says(&error, &[field]);
    }
}

#[test]
fn thresholds_beams_and_weights_that_make_no_sense_are_refused() {
    let (base, _) = synthetic(300, 12, 3);
    for (threshold, metric, quantizer, fact) in [
        (0.0, Metric::Cosine, "pq:6B", "between 0 and 1"),
        (1.0, Metric::Cosine, "pq:6B", "between 0 and 1"),
        (-0.1, Metric::InnerProduct, "pq:6B", "found -0.1"),
        (f32::NAN, Metric::InnerProduct, "pq:6B", "found NaN"),
        (0.2, Metric::L2, "pq:6B", "found l2"),
        (0.2, Metric::Cosine, "saq:4", "found saq:4"),
        (0.2, Metric::InnerProduct, "sq:8", "found sq:8"),
    ] {
        let config = IndexConfig { anisotropic: Some(threshold), ..config(metric, quantizer, 1) };
        let error = build_error(&base, &config);
        assert!(matches!(error, BuildError::Config(_)), "{error:?}");
        says(&error, &["anisotropic", fact]);
        let config = QuantizerConfig {
            metric,
            quantizer: config.quantizer,
            anisotropic: config.anisotropic,
            ..QuantizerConfig::default()
        };
        says(&Quantizer::train(base.view(), &config).unwrap_err(), &["anisotropic", fact]);
    }
    for (beam, quantizer, fact) in [
        (0, "rvq:6B", "1 to 64, found 0"),
        (65, "prq:2x6B", "found 65"),
        (8, "pq:6B", "found pq:6B"),
    ] {
        let config = IndexConfig { beam: Some(beam), ..config(Metric::L2, quantizer, 1) };
        let error = build_error(&base, &config);
        assert!(matches!(error, BuildError::Config(_)), "{error:?}");
        says(&error, &["beam", fact]);
        let config = QuantizerConfig {
            quantizer: config.quantizer,
            beam: config.beam,
            ..QuantizerConfig::default()
        };
        says(&Quantizer::train(base.view(), &config).unwrap_err(), &["beam", fact]);
    }
    let good = vec![1.0f32; 300];
    let with = |at: usize, weight: f32| {
        let mut weights = good.clone();
        weights[at] = weight;
        weights
    };
    for (weights, quantizer, fact) in [
        (good[1..].to_vec(), "pq:6B", "300 rows, found 299"),
        (Vec::new(), "rvq:6B", "found 0"),
        (with(7, -1.0), "pq:6B", "found -1 in row 7"),
        (with(299, f32::NAN), "pq:6B", "found NaN in row 299"),
        (with(0, f32::INFINITY), "opq:6B", "found inf in row 0"),
        (vec![0.0; 300], "prq:2x8B", "above 0"),
        (good.clone(), "saq:4", "found saq:4"),
        (good.clone(), "lvq:4", "found lvq:4"),
    ] {
        let config = config(Metric::L2, quantizer, 1);
        let error = IndexBuilder::new(&config).weights(&weights).build(&base).unwrap_err();
        assert!(matches!(error, BuildError::Config(_)), "{error:?}");
        says(&error, &["weights", fact]);
        let config = QuantizerConfig { quantizer: config.quantizer, ..QuantizerConfig::default() };
        let error = Quantizer::train_weighted(base.view(), &weights, &config).unwrap_err();
        says(&error, &["weights", fact]);
    }
}

#[test]
fn zero_vectors_have_no_direction() {
    let (mut base, _) = synthetic(90, 8, 8);
    base.row_mut(61).fill(0.0);
    let zero_row = |error: BuildError| {
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::Vector(VectorError::ZeroVector { row: 61 }))
            ),
            "{error:?}"
        );
        says(&error, &["row 61", "zero vector", "cosine"]);
    };
    zero_row(build_error(&base, &config(Metric::Cosine, "saq:4", 1)));
    // Also where the row is not trained on.
    let blind = IndexConfig { training_rows: 2, seed: 1, ..config(Metric::Cosine, "saq:4", 1) };
    zero_row(build_error(&base, &blind));
    assert_eq!(
        ExactIndex::new(base.clone(), Metric::Cosine).unwrap_err(),
        VectorError::ZeroVector { row: 61 }
    );

    base.row_mut(61).fill(-0.5);
    let index = Index::build(&base, &config(Metric::Cosine, "saq:4", 1)).unwrap();
    let error = index.search(&[0.0; 8], 1, &all_lists()).unwrap_err();
    assert_eq!(error, SearchError::Query(VectorError::ZeroVector { row: 0 }));
    says(&error, &["query", "zero vector"]);
    // Small is not zero.
    let tiny = base.row(61).iter().map(|x| x * 1e-30).collect::<Vec<f32>>();
    assert_eq!(index.search(&tiny, 1, &all_lists()).unwrap()[0].id, 61);
}

#[test]
fn ids_that_repeat_are_named() {
    let (base, _) = synthetic(50, 8, 10);
    let config = config(Metric::L2, "saq:4", 1);
    let folder = tempfile::tempdir().unwrap();
    let mut repeated: Vec<u64> = (0..50).map(|i| i + 7_000_000_000).collect();
    repeated[41] = repeated[3];
    let builder = || IndexBuilder::new(&config).ids(&repeated);
    for error in [
        builder().build(&base).unwrap_err(),
        builder().write(&base, folder.path().join("index")).unwrap_err(),
    ] {
        assert!(matches!(error, BuildError::DuplicateId { id: 7_000_000_003 }), "{error:?}");
        says(&error, &["7000000003", "more than one"]);
    }
    for count in [0, 49, 51] {
        let wrong: Vec<u64> = (0..count).collect();
        let error = IndexBuilder::new(&config).ids(&wrong).build(&base).unwrap_err();
        assert!(
            matches!(error, BuildError::IdCount { ids, rows: 50 } if ids as u64 == count),
            "{error:?}"
        );
        says(&error, &[&format!("{count} ids"), "50 vectors"]);
    }
    assert_eq!(files_in(folder.path()), Vec::<String>::new());
}

#[test]
fn norms_beyond_f32_are_refused() {
    let (mut base, _) = synthetic(80, 16, 14);
    base.row_mut(33)[2] = 3e19;
    for metric in Metric::ALL {
        let config = without_kept(config(metric, "saq:4", 1));
        let error = build_error(&base, &config);
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::Vector(VectorError::TooLarge { row: 33 }))
            ),
            "{error:?}"
        );
        says(&error, &["row 33", "norm"]);
        let blind = IndexConfig { training_rows: 2, seed: 1, ..config };
        let error = build_error(&base, &blind);
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::Vector(VectorError::TooLarge { row: 33 }))
            ),
            "{error:?}"
        );
        let error = ExactIndex::new(base.clone(), metric).unwrap_err();
        assert_eq!(error, VectorError::TooLarge { row: 33 });
    }
    base.row_mut(33)[2] = 0.0;
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 1)).unwrap();
    let error = index.search(&[2e19; 16], 1, &all_lists()).unwrap_err();
    assert_eq!(error, SearchError::Query(VectorError::TooLarge { row: 0 }));
}

#[test]
fn values_beyond_half_precision_need_f32() {
    let (mut base, _) = synthetic(70, 8, 15);
    base.row_mut(19)[4] = -70_000.0;
    for metric in [Metric::L2, Metric::InnerProduct] {
        let half = IndexConfig { keep: Keep::F16, ..config(metric, "saq:4", 1) };
        let error = build_error(&base, &half);
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::BeyondHalf {
                    row: 19,
                    column: 4,
                    value: -70_000.0
                })
            ),
            "{error:?}"
        );
        says(&error, &["row 19", "column 4", "-70000", "65504", "f32"]);
        for keep in [Keep::F32, Keep::None] {
            let index = Index::build(&base, &IndexConfig { keep, ..half.clone() }).unwrap();
            assert_eq!(index.len(), 70);
        }
    }
    // Cosine scales to unit norm first.
    Index::build(&base, &config(Metric::Cosine, "saq:4", 1)).unwrap();
    // The largest value of half precision, and what rounds to it.
    base.row_mut(19)[4] = 65_504.0;
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 1)).unwrap();
    let params = SearchParams { rerank: 70, ..all_lists() };
    let found = index.search(base.row(19), 1, &params).unwrap();
    assert_eq!(found[0].id, 19);
}
