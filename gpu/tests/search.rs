//! What the GPU finds is what the processor finds.

use nonius::random::Random;
use nonius::{
    Index, IndexConfig, Keep, Matrix, Metric, Neighbor, QuantizerSpec, SearchError, SearchParams,
    VectorError,
};
use nonius_gpu::{GpuContext, GpuError, GpuIndex, UploadOptions};

mod common;
use common::context;

/// Vectors around some centres.
fn vectors(rows: usize, dim: usize, seed: u64) -> Matrix {
    let mut random = Random::new(seed, 0);
    let centres: Vec<f32> = (0..8 * dim).map(|_| 2.0 * random.normal() as f32).collect();
    let mut matrix = Matrix::zeros(rows, dim);
    for row in 0..rows {
        let centre = random.below(8) as usize * dim;
        for (i, value) in matrix.row_mut(row).iter_mut().enumerate() {
            // The first dimensions have more to say.
            let size = 3.0 / (1.0 + i as f32 * 0.2);
            *value = size * (centres[centre + i] + random.normal() as f32);
        }
    }
    matrix
}

fn build(vectors: &Matrix, metric: Metric, quantizer: &str, nlist: usize) -> Index {
    let config = IndexConfig {
        metric,
        quantizer: quantizer.parse().unwrap(),
        nlist: Some(nlist),
        keep: Keep::F32,
        ..IndexConfig::default()
    };
    Index::build(&vectors.view(), &config).unwrap()
}

/// The same neighbours, but for ties within rounding, at the same distances.
fn assert_same(found: &[Vec<Neighbor>], expected: &[Vec<Neighbor>], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (query, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{what}, query {query}");
        let size = expected.iter().map(|n| n.distance.abs()).fold(1.0, f32::max);
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (found.distance - expected.distance).abs();
            assert!(
                error <= 1e-4 * size,
                "{what}, query {query}, place {place}: {found:?}, not {expected:?}"
            );
        }
        let last = expected.last().map_or(0.0, |n| n.distance);
        for neighbor in found {
            // One that the processor has not found lies at the edge, within rounding.
            let known = expected.iter().any(|n| n.id == neighbor.id);
            let edge = (neighbor.distance - last).abs() <= 1e-4 * size;
            assert!(known || edge, "{what}, query {query}: {neighbor:?} is none of {expected:?}");
        }
    }
}

/// Bounds so wide that nothing is given up: what is found does not depend on the order of the search.
fn exhaustive(nprobe: usize) -> SearchParams {
    SearchParams { nprobe, confidence: 30.0, ..SearchParams::default() }
}

fn compare(
    context: &GpuContext,
    index: &Index,
    queries: &Matrix,
    k: usize,
    params: &SearchParams,
    chunk: Option<u64>,
) {
    let options = UploadOptions { chunk_bytes: chunk, memory_bytes: None };
    let on_gpu = GpuIndex::upload_with(context, index, &options).unwrap();
    assert_eq!(on_gpu.chunks() > 1, chunk.is_some());
    let found = on_gpu.search_batch(queries.view(), k, params).unwrap();
    let (expected, _) = index.search_batch(queries.view(), k, params).unwrap();
    let what =
        format!("{} {} {}, {k}, {params:?}", index.metric(), index.info().quantizer, index.nlist());
    assert_same(&found, &expected, &what);
}

#[test]
fn all_codes_metrics_and_shapes() {
    let Some(context) = context() else { return };
    for (i, quantizer) in [
        "saq:4", "saq:2.3", "rabitq", "saq:8", "pq:8B", "rvq:11B", "pq4:6B", "opq4:9B", "f16",
        "bf16", "f32",
    ]
    .into_iter()
    .enumerate()
    {
        // Odd sizes, and a dimension that is padded.
        let base = vectors(1501, 28, 10 + i as u64);
        let queries = vectors(21, 28, 10 + i as u64);
        for metric in Metric::ALL {
            for nlist in [1, 13] {
                let index = build(&base, metric, quantizer, nlist);
                compare(context, &index, &queries, 10, &exhaustive(5), None);
            }
        }
    }
}

#[test]
fn one_and_many_results_and_queries() {
    let Some(context) = context() else { return };
    for (quantizer, nlist) in [("saq:4", 9), ("rvq:12B", 9), ("f16", 1), ("saq:1", 1)] {
        let base = vectors(2600, 24, 3);
        let index = build(&base, Metric::L2, quantizer, nlist);
        for (k, rows) in [(1, 1), (1, 70), (3, 9), (1000, 5), (1024, 1), (1500, 4), (9999, 2)] {
            let queries = vectors(rows, 24, 4);
            compare(context, &index, &queries, k, &exhaustive(nlist), None);
            compare(context, &index, &queries, k, &exhaustive(3), None);
        }
        // No queries are none.
        let on_gpu = GpuIndex::upload(context, &index).unwrap();
        let none = Matrix::zeros(0, 24);
        assert!(on_gpu.search_batch(none.view(), 3, &exhaustive(3)).unwrap().is_empty());
    }
}

#[test]
fn parts_of_a_large_batch_follow_each_other() {
    let Some(context) = context() else { return };
    // Several parts and a rest; of the larger index more are candidates than there is room for at first.
    let queries = vectors(530, 16, 18);
    for (quantizer, rows) in [("f16", 300), ("saq:4", 2300)] {
        let index = build(&vectors(rows, 16, 17), Metric::L2, quantizer, 4);
        compare(context, &index, &queries, 10, &exhaustive(4), None);
        let on_gpu = GpuIndex::upload(context, &index).unwrap();
        let mut bad = queries.clone();
        bad.row_mut(520)[2] = f32::INFINITY;
        let error = on_gpu.search_batch(bad.view(), 10, &exhaustive(4)).unwrap_err();
        assert!(matches!(error, GpuError::Search(SearchError::Query(_))), "{error}");
        let rerank = SearchParams { rerank: 20, ..exhaustive(4) };
        let (_, timings) = on_gpu.search_batch_timed(queries.view(), 10, &rerank).unwrap();
        assert_eq!(timings.stats.lists, 4 * 530);
        assert_eq!(timings.stats.reranked, 20 * 530);
    }
}

#[test]
fn several_chunks() {
    let Some(context) = context() else { return };
    let base = vectors(2000, 32, 5);
    let queries = vectors(17, 32, 6);
    for (quantizer, nlist) in [("saq:4", 7), ("saq:4", 1), ("pq:9B", 7), ("bf16", 7), ("f32", 1)] {
        let index = build(&base, Metric::L2, quantizer, nlist);
        for k in [1, 40, 1200] {
            compare(context, &index, &queries, k, &exhaustive(4), Some(20_000));
        }
    }
}

#[test]
fn indexes_larger_than_the_memory() {
    let Some(context) = context() else { return };
    let base = vectors(2000, 32, 5);
    let queries = vectors(17, 32, 6);
    for (quantizer, nlist) in [("saq:4", 30), ("saq:4", 1), ("pq:9B", 30), ("bf16", 7)] {
        let index = build(&base, Metric::L2, quantizer, nlist);
        // Of some shares in several chunks, too.
        for (memory, chunk) in [(12_000, None), (30_000, Some(9_000)), (1 << 30, None)] {
            let options = UploadOptions { chunk_bytes: chunk, memory_bytes: Some(memory) };
            let on_gpu = GpuIndex::upload_with(context, &index, &options).unwrap();
            assert_eq!(on_gpu.chunks() == 0, memory < 1 << 30);
            for (k, rerank) in [(1, 0), (40, 0), (10, 25), (1200, 0)] {
                let params = SearchParams { rerank, ..exhaustive(4) };
                let (found, timings) =
                    on_gpu.search_batch_timed(queries.view(), k, &params).unwrap();
                let (expected, _) = index.search_batch(queries.view(), k, &params).unwrap();
                assert_same(&found, &expected, &format!("{quantizer} {nlist} {memory} {k}"));
                assert_eq!(timings.stats.lists, 17 * nlist.min(4) as u64);
                assert_eq!(timings.stats.reranked > 0, rerank > 0);
            }
        }
        let options = UploadOptions { chunk_bytes: None, memory_bytes: Some(20_000) };
        let on_gpu = GpuIndex::upload_with(context, &index, &options).unwrap();
        let none = Matrix::zeros(0, 32);
        assert!(on_gpu.search_batch(none.view(), 3, &exhaustive(3)).unwrap().is_empty());
        let error = on_gpu.search_batch(queries.view(), 0, &exhaustive(3)).unwrap_err();
        assert!(matches!(error, GpuError::Search(SearchError::ZeroK)), "{error}");
    }
}

#[test]
fn many_dimensions_need_tables_in_slices() {
    let Some(context) = context() else { return };
    let base = vectors(300, 1030, 7);
    let queries = vectors(9, 1030, 8);
    for quantizer in ["erabitq:2", "pq:130B", "pq4:150B", "f16"] {
        let index = build(&base, Metric::L2, quantizer, 3);
        compare(context, &index, &queries, 10, &exhaustive(2), None);
    }
}

#[test]
fn lists_that_are_empty() {
    let Some(context) = context() else { return };
    // Ten points, each many times: most lists have nothing.
    let points = vectors(10, 16, 9);
    let mut base = Matrix::zeros(600, 16);
    for row in 0..600 {
        base.row_mut(row).copy_from_slice(points.row(row % 10));
    }
    let index = build(&base, Metric::L2, "saq:4", 64);
    assert_eq!(index.info().list_sizes.0, 0);
    for k in [1, 10, 61] {
        compare(context, &index, &points, k, &exhaustive(64), None);
    }
}

#[test]
fn ties_go_to_the_smaller_id() {
    let Some(context) = context() else { return };
    let mut base = Matrix::zeros(700, 16);
    for row in 0..700 {
        base.row_mut(row).copy_from_slice(vectors(1, 16, row as u64 % 3).row(0));
    }
    let queries = vectors(1, 16, 1);
    for quantizer in ["saq:4", "f16", "rvq:6B"] {
        for nlist in [1, 4] {
            let index = build(&base, Metric::L2, quantizer, nlist);
            let on_gpu = GpuIndex::upload(context, &index).unwrap();
            for k in [1, 7, 233, 300] {
                let params = exhaustive(nlist);
                let found = on_gpu.search_batch(queries.view(), k, &params).unwrap();
                let (expected, _) = index.search_batch(queries.view(), k, &params).unwrap();
                let ids = |n: &[Neighbor]| n.iter().map(|n| n.id).collect::<Vec<_>>();
                assert_eq!(ids(&found[0]), ids(&expected[0]), "{quantizer} {nlist} {k}");
            }
        }
    }
}

#[test]
fn usual_confidence_finds_as_much_and_rerank_is_exact() {
    let Some(context) = context() else { return };
    let base = vectors(5000, 48, 11);
    let queries = vectors(100, 48, 12);
    let exact = build(&base, Metric::L2, "f16", 1);
    let (truth, _) = exact.search_batch(queries.view(), 10, &exhaustive(1)).unwrap();
    let recall = |found: &[Vec<Neighbor>]| {
        let hits = found.iter().zip(&truth).map(|(found, truth)| {
            truth.iter().filter(|t| found.iter().any(|f| f.id == t.id)).count()
        });
        hits.sum::<usize>() as f64 / 1000.0
    };
    for quantizer in ["saq:4", "saq:2", "rvq:16B"] {
        let index = build(&base, Metric::L2, quantizer, 40);
        let on_gpu = GpuIndex::upload(context, &index).unwrap();
        for (rerank, confidence) in [(0, 2.0), (0, 1.0), (40, 2.0)] {
            let params = SearchParams { nprobe: 20, rerank, confidence, ..SearchParams::default() };
            let (found, timings) = on_gpu.search_batch_timed(queries.view(), 10, &params).unwrap();
            let (expected, _) = index.search_batch(queries.view(), 10, &params).unwrap();
            let (found_recall, expected_recall) = (recall(&found), recall(&expected));
            assert!(
                found_recall >= expected_recall - 0.005,
                "{quantizer} {params:?}: {found_recall}, the processor {expected_recall}"
            );
            // The first stage rules most of them out.
            assert!(
                timings.stats.refined > 0 && timings.stats.refined < timings.stats.scanned / 3,
                "{timings:?}"
            );
            // The same again to the bit.
            assert_eq!(on_gpu.search_batch(queries.view(), 10, &params).unwrap(), found);
        }
    }
}

#[test]
fn unusual_queries() {
    let Some(context) = context() else { return };
    let base = vectors(900, 20, 13);
    for quantizer in ["saq:4", "pq:5B", "f16"] {
        let index = build(&base, Metric::L2, quantizer, 5);
        let mut queries = vectors(6, 20, 14);
        queries.row_mut(0).fill(0.0);
        queries.row_mut(1).fill(1e-30);
        queries.row_mut(2).iter_mut().for_each(|x| *x *= 1e4);
        queries.row_mut(3).copy_from_slice(base.row(77));
        compare(context, &index, &queries, 10, &exhaustive(5), None);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(context) = context() else { return };
    let base = vectors(900, 20, 15);
    let index = build(&base, Metric::L2, "saq:4", 5);
    let on_gpu = GpuIndex::upload(context, &index).unwrap();
    let search = |queries: &Matrix, k, params: &SearchParams| {
        on_gpu.search_batch(queries.view(), k, params).unwrap_err()
    };
    let good = vectors(2, 20, 16);
    let usual = SearchParams::default();
    let search_error = |error| match error {
        GpuError::Search(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(search_error(search(&good, 0, &usual)), SearchError::ZeroK);
    let none = SearchParams { nprobe: 0, ..usual.clone() };
    assert_eq!(search_error(search(&good, 1, &none)), SearchError::ZeroNprobe);
    let mismatch = VectorError::DimMismatch { expected: 20, found: 21 };
    assert_eq!(search_error(search(&vectors(2, 21, 1), 1, &usual)), mismatch.into());
    let mut bad = good.clone();
    bad.row_mut(1)[3] = f32::NAN;
    assert!(matches!(search_error(search(&bad, 1, &usual)), SearchError::Query(_)));
    let patient = SearchParams { patience: 3, ..usual.clone() };
    assert!(matches!(search(&good, 1, &patient), GpuError::Unsupported { .. }));
    // The device still works.
    assert_eq!(on_gpu.search_batch(good.view(), 1, &usual).unwrap().len(), 2);

    let unsupported = [
        ("sq:8", 0.0, 0.0),
        ("lvq:4x8", 0.0, 0.0),
        ("pq6:9B", 0.0, 0.0),
        ("saq:4", 0.5, 0.0),
        ("saq:4", 0.0, 20.0),
    ];
    for (quantizer, spill, outlier_bytes) in unsupported {
        let config = IndexConfig {
            quantizer: quantizer.parse::<QuantizerSpec>().unwrap(),
            nlist: Some(8),
            spill,
            outlier_bytes,
            ..IndexConfig::default()
        };
        let index = Index::build(&base.view(), &config).unwrap();
        let error = GpuIndex::upload(context, &index).unwrap_err();
        assert!(matches!(error, GpuError::Unsupported { .. }), "{error}");
    }
    let tiny = UploadOptions { chunk_bytes: Some(100), memory_bytes: None };
    let error = GpuIndex::upload_with(context, &index, &tiny).unwrap_err();
    assert!(matches!(error, GpuError::TooLarge { limit: 100, .. }), "{error}");
    let tiny = UploadOptions { chunk_bytes: None, memory_bytes: Some(1000) };
    let error = GpuIndex::upload_with(context, &index, &tiny).unwrap_err();
    assert!(matches!(error, GpuError::TooLarge { limit: 1000, .. }), "{error}");
    let error = GpuContext::new(Some("no such adapter")).unwrap_err();
    assert!(matches!(error, GpuError::NoAdapter { .. }) && error.to_string().contains("no such"));
}
