//! Build, save, open and search, on the shipped set: recall, distances, and that every way to the
//! same index gives the same answers.

use std::sync::OnceLock;

use nonius::{
    BlockSource, FetchVector, Index, IndexBuilder, IndexConfig, Keep, Matrix, MatrixView, Metric,
    Neighbor, SearchParams, Searcher, SourceError,
};
use nonius_tests::{
    all_lists, bits, config, distance, exact, files_in, ids, recall, search_all, synthetic,
    without_kept, wordnet,
};
use rayon::ThreadPoolBuilder;

/// The shipped set at 4 bits with f16 vectors, built once for each metric.
fn index(metric: Metric) -> &'static Index {
    static INDEXES: [OnceLock<Index>; 3] = [const { OnceLock::new() }; 3];
    INDEXES[metric as usize].get_or_init(|| {
        let config = IndexConfig { metric, ..IndexConfig::default() };
        let index = Index::build(&wordnet().base, &config).unwrap();
        assert_eq!((index.len(), index.dim(), index.metric()), (10_000, 384, metric));
        assert_eq!(index.nlist(), IndexConfig::default_nlist(10_000));
        assert_eq!(index.keep(), Keep::F16);
        index
    })
}

/// The exact 100 nearest of each of the first queries, computed once for each metric.
fn truth(metric: Metric) -> &'static [Vec<Neighbor>] {
    static TRUTHS: [OnceLock<Vec<Vec<Neighbor>>>; 3] = [const { OnceLock::new() }; 3];
    TRUTHS[metric as usize].get_or_init(|| {
        let set = wordnet();
        exact(&set.base, &set.queries, metric, 100)
    })
}

#[test]
fn recall_on_the_shipped_set() {
    let set = wordnet();
    for metric in Metric::ALL {
        let index = index(metric);
        let truth: Vec<Vec<u64>> = truth(metric).iter().map(|found| ids(found)).collect();
        if metric == Metric::L2 {
            // Half precision and ties aside, the truth that is shipped.
            let same = truth.iter().zip(&set.truth).filter(|(a, b)| a[..10] == b[..10]).count();
            assert!(same >= 490, "{same} of 500");
        }
        let reach = |params: &SearchParams| {
            recall(&truth, &search_all(index, &set.queries, 10, params), 10)
        };
        let default = reach(&SearchParams::default());
        assert!(default >= 0.9, "{metric}: {default} by default");
        let plain = reach(&all_lists());
        assert!(plain >= 0.95, "{metric}: {plain} without rerank");
        let reranked = reach(&SearchParams { rerank: 50, ..all_lists() });
        assert!(reranked >= 0.99, "{metric}: {reranked} with rerank");
        // Fewer lists find less, but not much less.
        let mut before = 0.0;
        for nprobe in [1, 4, 16, 64, index.nlist()] {
            let here = reach(&SearchParams { nprobe, rerank: 50, ..SearchParams::default() });
            assert!(here >= before - 0.002, "{metric}: {here} at nprobe {nprobe}, {before} before");
            before = here;
        }
        assert!(before >= 0.99, "{metric}: {before}");
    }
}

#[test]
fn distances_have_the_sign_and_scale_of_the_metric() {
    let set = wordnet();
    for metric in Metric::ALL {
        let index = index(metric);
        for (query, truth) in truth(metric).iter().enumerate().take(100) {
            let vector = set.queries.row(query);
            let estimated = index.search(vector, 50, &all_lists()).unwrap();
            let reranked =
                index.search(vector, 50, &SearchParams { rerank: 100, ..all_lists() }).unwrap();
            for found in [&estimated, &reranked] {
                let best_first = found.windows(2).all(|w| match metric {
                    Metric::InnerProduct => w[0].distance >= w[1].distance,
                    _ => w[0].distance <= w[1].distance,
                });
                assert!(best_first, "{metric}: {found:?}");
            }
            let true_distance =
                |n: &Neighbor| distance(metric, vector, set.base.row(n.id as usize));
            for n in &reranked {
                let exact = true_distance(n);
                let error = (f64::from(n.distance) - exact).abs() / exact.abs();
                assert!(error < 1e-3, "{metric}: {n:?} {exact}");
            }
            // Vectors have unit norm: an estimate's standard error is about half a percent.
            for n in &estimated {
                let error = (f64::from(n.distance) - true_distance(n)).abs();
                assert!(error < 0.03, "{metric}: {n:?} {}", true_distance(n));
            }
            let best = truth[0].distance;
            assert!((reranked[0].distance - best).abs() < 1e-3 * best.abs(), "{metric}");
        }
    }
}

#[test]
fn estimates_are_right_on_average() {
    let set = wordnet();
    for metric in Metric::ALL {
        let index = index(metric);
        let (mut error, mut bias, mut count) = (0.0, 0.0, 0.0);
        for query in 0..100 {
            let vector = set.queries.row(query);
            for n in index.search(vector, 100, &all_lists()).unwrap() {
                let exact = distance(metric, vector, set.base.row(n.id as usize));
                let off = f64::from(n.distance) - exact;
                error += off.abs();
                bias += off;
                count += 1.0;
            }
        }
        // In units of squared distances, of which cosine distances and products are a half.
        let unit = if metric == Metric::L2 { 1.0 } else { 0.5 };
        assert!(error / count < 0.01 * unit, "{metric}: {}", error / count);
        assert!(f64::abs(bias / count) < 0.005 * unit, "{metric}: {}", bias / count);
    }
}

#[test]
fn every_way_to_an_index_gives_the_same_answers() {
    let set = wordnet();
    let queries = set.some_queries(40);
    let folder = tempfile::tempdir().unwrap();
    for metric in Metric::ALL {
        let built = index(metric);
        let config = IndexConfig { metric, ..IndexConfig::default() };
        let (written, saved) = (folder.path().join("written"), folder.path().join("saved"));
        let report = IndexBuilder::new(&config).write(&set.base, &written).unwrap();
        built.save(&saved).unwrap();
        let bytes = std::fs::read(&written).unwrap();
        assert!(bytes == built.as_bytes(), "{metric}: built in memory and into a file");
        assert!(bytes == std::fs::read(&saved).unwrap(), "{metric}: saved");
        assert_eq!(report.file_bytes, bytes.len() as u64);
        let opened = [
            Index::open(&written).unwrap(),
            Index::read(&saved).unwrap(),
            Index::from_bytes(&bytes).unwrap(),
        ];
        // A mapped file that is replaced stays what it was.
        std::fs::write(folder.path().join("other"), b"x").unwrap();
        std::fs::rename(folder.path().join("other"), &written).unwrap();
        for params in [all_lists(), SearchParams { rerank: 20, ..SearchParams::default() }] {
            let expected = search_all(built, &queries, 10, &params);
            for index in &opened {
                assert_eq!(index.info(), built.info());
                index.verify().unwrap();
                let found = search_all(index, &queries, 10, &params);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(bits(found), bits(expected), "{metric}");
                }
            }
        }
    }
}

#[test]
fn the_report_and_the_info_say_what_there_is() {
    let set = wordnet();
    for (quantizer, nlist, keep, value_bytes) in
        [("saq:4", 100, Keep::F16, 2), ("saq:2", 1, Keep::None, 0), ("rabitq", 1, Keep::F32, 4)]
    {
        let rows = 3000;
        let base = Matrix::new(384, set.base.data()[..rows * 384].to_vec()).unwrap();
        let config = IndexConfig { keep, ..config(Metric::Cosine, quantizer, nlist) };
        let (index, report) = IndexBuilder::new(&config).build(&base).unwrap();
        let info = index.info();
        assert_eq!((report.vectors, report.dim, report.nlist), (rows, 384, nlist));
        assert_eq!((info.vectors, info.dim, info.nlist), (rows, 384, nlist));
        assert_eq!((report.metric, info.metric), (Metric::Cosine, Metric::Cosine));
        assert_eq!((report.quantizer, info.quantizer), (config.quantizer, config.quantizer));
        assert_eq!((info.keep, index.keep()), (keep, keep));
        assert_eq!(report.plan, info.plan);
        assert_eq!(report.bytes_per_vector, info.bytes_per_vector);
        assert_eq!(report.file_bytes, info.file_bytes);
        assert_eq!(info.file_bytes, index.as_bytes().len() as u64);
        assert_eq!(report.plan.iter().map(|s| s.dims).sum::<usize>(), 384);
        let length = |name: &str| {
            info.sections.iter().find(|s| s.0 == name).unwrap_or_else(|| panic!("no {name}")).2
        };
        assert_eq!(length("kept"), (rows * 384 * value_bytes) as u64);
        assert_eq!(length("ids"), 4 * rows as u64);
        let of_vectors = length("scan") + length("rest") + length("ids");
        assert_eq!(info.bytes_per_vector, of_vectors as f64 / rows as f64);
        // Blocks of 32 are padded, at most one a list.
        assert!(info.bytes_per_vector >= (info.code_bytes + 4) as f64);
        let padding = 32.0 * nlist as f64 / rows as f64;
        assert!(info.bytes_per_vector <= (info.code_bytes + 4) as f64 * (1.0 + padding));
        assert!(info.list_sizes.0 >= 1 && info.list_sizes.1 <= rows);
        assert!(report.total_seconds >= report.train_seconds && report.train_seconds > 0.0);
        assert_eq!(report.inertia.is_empty(), nlist == 1);
        assert!(report.inertia.windows(2).all(|w| w[1] <= w[0] * 1.001), "{:?}", report.inertia);
    }
}

/// With copies in second lists: fewer vectors are seen for the same recall, nothing is found twice,
/// distances are those of the vectors themselves, and with all lists the answers are the same.
#[test]
fn second_lists_find_more() {
    let set = wordnet();
    let queries = set.some_queries(200);
    for (metric, quantizer) in [
        (Metric::L2, "saq:4"),
        (Metric::InnerProduct, "saq:3"),
        (Metric::Cosine, "erabitq:2"),
        (Metric::L2, "pq4:64B"),
    ] {
        let truth: Vec<Vec<u64>> = truth(metric)[..200].iter().map(|found| ids(found)).collect();
        let build = |spill| {
            let config = IndexConfig { spill, ..config(metric, quantizer, 200) };
            IndexBuilder::new(&config).build(&set.base).unwrap()
        };
        let (plain, report) = build(0.0);
        assert_eq!((report.spilled, plain.info().spilled), (0, 0));
        let reach = |index: &Index, nprobe: usize| {
            let params = SearchParams { nprobe, ..SearchParams::default() };
            let (found, stats) = index.search_batch(queries.view(), 10, &params).unwrap();
            (recall(&truth, &found, 10), stats.scanned / 200, found)
        };
        // Rounds end elsewhere, so which candidates are given up differs unless none is.
        let sure = SearchParams { confidence: 50.0, ..all_lists() };
        let (all, _) = plain.search_batch(queries.view(), 10, &sure).unwrap();
        for spill in [0.3, 1.0] {
            let (index, report) = build(spill);
            let info = index.info();
            assert_eq!(report.spilled, info.spilled as u64);
            assert_eq!(report.bytes_per_vector, info.bytes_per_vector);
            assert!((info.spilled as f64 / 10_000.0 - spill).abs() < 0.03, "{}", info.spilled);
            // Copies have the first stage's bits, a few bytes of factors, and a place.
            let bytes = info.bytes_per_vector - plain.info().bytes_per_vector;
            let least = spill * (info.first_stage_bits as f64 / 8.0 + 4.0);
            assert!(bytes > 0.8 * least && bytes < 1.6 * least + 4.0, "{bytes} of {least}");
            index.verify().unwrap();
            let (found, _) = index.search_batch(queries.view(), 10, &sure).unwrap();
            for (found, all) in found.iter().zip(&all) {
                assert_eq!(bits(found), bits(all), "{metric} {quantizer} {spill}");
            }
            // Fewer lists for the same recall, and not more to read.
            let (of_plain, scanned, _) = reach(&plain, 24);
            let (of_copies, seen, _) = reach(&index, if spill == 1.0 { 14 } else { 21 });
            assert!(
                of_copies >= of_plain && (seen as f64) < 1.2 * scanned as f64,
                "{metric} {quantizer} {spill}: {of_copies} with {seen}, {of_plain} with {scanned}"
            );
            let (_, _, found) = reach(&index, 3);
            for (query, found) in found.iter().enumerate().take(5) {
                let mut distinct = ids(found);
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), 10);
                // Each distance is what the vector's own list gives.
                let whole = plain.search(queries.row(query), 10_000, &all_lists()).unwrap();
                for found in found {
                    let own = whole.iter().find(|own| own.id == found.id).unwrap();
                    assert_eq!(own.distance.to_bits(), found.distance.to_bits());
                }
            }
            let mut searcher = index.searcher();
            let params = SearchParams { nprobe: 5, rerank: 30, ..SearchParams::default() };
            let (batch, _) = index.search_batch(queries.view(), 10, &params).unwrap();
            for (i, found) in batch.iter().enumerate() {
                let alone = searcher.search(queries.row(i), 10, &params).unwrap();
                assert_eq!(bits(found), bits(alone));
            }
        }
    }
}

/// Searches that stop early search fewer lists; those that would not have stopped are the same.
#[test]
fn searches_may_stop_early() {
    let set = wordnet();
    let queries = set.some_queries(100);
    let truth: Vec<Vec<u64>> = truth(Metric::L2)[..100].iter().map(|found| ids(found)).collect();
    let config = config(Metric::L2, "saq:4", 200);
    for spill in [0.0, 1.0] {
        let index = Index::build(&set.base, &IndexConfig { spill, ..config.clone() }).unwrap();
        let all = SearchParams { nprobe: 100, ..SearchParams::default() };
        let search = |params: &SearchParams| {
            let (found, stats) = index.search_batch(queries.view(), 10, params).unwrap();
            let found_bits: Vec<_> = found.iter().map(|found| bits(found)).collect();
            (recall(&truth, &found, 10), stats.lists, found_bits)
        };
        let (of_all, lists, found) = search(&all);
        assert_eq!(lists, 100 * 100);
        for params in [
            SearchParams { patience: 100, ..all.clone() },
            SearchParams { centroid_ratio: Some(100.0), ..all.clone() },
        ] {
            assert_eq!(search(&params), (of_all, lists, found.clone()), "{params:?}");
        }
        let mut before = (of_all, lists);
        for params in [
            SearchParams { patience: 30, ..all.clone() },
            SearchParams { patience: 10, ..all.clone() },
            SearchParams { patience: 1, ..all.clone() },
        ] {
            let (recall, lists, _) = search(&params);
            assert!(recall <= before.0 && lists < before.1, "{params:?}: {recall}, {lists}");
            assert!(recall > 0.5 && lists >= 100, "{params:?}: {recall}, {lists}");
            before = (recall, lists);
        }
        let mut before = (of_all, lists);
        for ratio in [1.1, 1.05, 1.0] {
            let params = SearchParams { centroid_ratio: Some(ratio), ..all.clone() };
            let (recall, lists, _) = search(&params);
            assert!(recall <= before.0 && lists < before.1, "{ratio}: {recall}, {lists}");
            assert!(recall > 0.3 && lists >= 100, "{ratio}: {recall}, {lists}");
            before = (recall, lists);
        }
        // At a ratio of one there are those that are nearer than the ten nearest are on average.
        assert!(before.1 < 100 * 10, "{}", before.1);
    }
    // Inner products rank lists by something else, and the ratio is of distances all the same.
    let products = IndexConfig { metric: Metric::InnerProduct, ..config.clone() };
    let index = Index::build(&set.base, &products).unwrap();
    let lists = |ratio| {
        let params = SearchParams { nprobe: 100, centroid_ratio: ratio, ..SearchParams::default() };
        index.search_batch(queries.view(), 10, &params).unwrap().1.lists
    };
    let found = [None, Some(100.0), Some(1.1), Some(1.0)].map(lists);
    assert!(found[0] == 100 * 100 && found[0] == found[1], "{found:?}");
    assert!(found[1] > found[2] && found[2] > found[3] && found[3] >= 100, "{found:?}");
    // A flat index has no centroid to measure from.
    let flat = Index::build(&set.base, &IndexConfig { nlist: Some(1), ..config }).unwrap();
    let params = SearchParams { centroid_ratio: Some(1.0), patience: 1, ..SearchParams::default() };
    let found = flat.search(queries.row(0), 10, &params).unwrap();
    assert_eq!(bits(&found), bits(&flat.search(queries.row(0), 10, &all_lists()).unwrap()));
}

#[test]
fn a_flat_index_against_the_truth() {
    let set = wordnet();
    let queries = set.some_queries(50);
    for metric in Metric::ALL {
        let flat =
            Index::build(&set.base, &IndexConfig { keep: Keep::F32, ..config(metric, "saq:6", 1) })
                .unwrap();
        assert_eq!(flat.nlist(), 1);
        assert_eq!(flat.info().list_sizes, (10_000, 10_000));
        let truth = &truth(metric)[..50];
        let true_ids: Vec<Vec<u64>> = truth.iter().map(|found| ids(found)).collect();
        let params = SearchParams { nprobe: 1, ..SearchParams::default() };
        let plain = recall(&true_ids, &search_all(&flat, &queries, 10, &params), 10);
        assert!(plain >= 0.97, "{metric}: {plain}");
        // All is compared exactly: the truth itself, to the bit.
        let params = SearchParams { nprobe: 1, rerank: 10_000, ..SearchParams::default() };
        for (found, truth) in search_all(&flat, &queries, 100, &params).iter().zip(truth) {
            assert_eq!(bits(found), bits(truth), "{metric}");
        }
    }
}

#[test]
fn ids_of_the_users_choosing_come_back() {
    let (base, queries) = synthetic(3000, 32, 1);
    let chosen: Vec<u64> = (0..3000u64).map(|i| (i * 7919 % 3000) << 20 | 5).collect();
    for nlist in [1, 40] {
        for keep in Keep::ALL {
            let config = IndexConfig { keep, ..config(Metric::L2, "saq:4", nlist) };
            let plain = Index::build(&base, &config).unwrap();
            let (named, _) = IndexBuilder::new(&config).ids(&chosen).build(&base).unwrap();
            let params = SearchParams {
                rerank: if keep == Keep::None { 0 } else { 30 },
                ..SearchParams::default()
            };
            for i in 0..queries.rows() {
                let rows = plain.search(queries.row(i), 10, &params).unwrap();
                let found = named.search(queries.row(i), 10, &params).unwrap();
                let expected: Vec<(u64, u32)> =
                    rows.iter().map(|n| (chosen[n.id as usize], n.distance.to_bits())).collect();
                assert_eq!(bits(&found), expected);
            }
        }
    }
}

/// The rows of a matrix as a store of the user's.
struct Store<'a> {
    rows: &'a Matrix,
}

impl FetchVector for Store<'_> {
    fn fetch(&self, id: u64, out: &mut [f32]) -> Result<(), SourceError> {
        out.copy_from_slice(self.rows.row(id as usize));
        Ok(())
    }
}

#[test]
fn rerank_from_a_store_equals_rerank_from_the_file() {
    let (base, queries) = synthetic(3000, 48, 2);
    let store = Store { rows: &base };
    for metric in Metric::ALL {
        for nlist in [1, 30] {
            let config = config(metric, "saq:2", nlist);
            let kept =
                Index::build(&base, &IndexConfig { keep: Keep::F32, ..config.clone() }).unwrap();
            let bare = Index::build(&base, &without_kept(config)).unwrap();
            assert!(kept.as_bytes().len() >= bare.as_bytes().len() + 3000 * 48 * 4);
            let params = SearchParams { nprobe: 10, rerank: 40, ..SearchParams::default() };
            let expected = search_all(&kept, &queries, 10, &params);
            let (batch, stats) =
                bare.search_batch_with(queries.view(), 10, &params, Some(&store)).unwrap();
            assert_eq!(stats.reranked, 40 * queries.rows() as u64);
            let mut searcher = bare.searcher().rerank_from(&store);
            for (i, expected) in expected.iter().enumerate() {
                let found = searcher.search(queries.row(i), 10, &params).unwrap();
                assert_eq!(bits(found), bits(expected), "{metric} nlist {nlist}");
                assert_eq!(bits(&batch[i]), bits(expected), "{metric} nlist {nlist}");
            }
        }
    }
}

#[test]
fn kept_vectors_of_every_precision() {
    let (base, queries) = synthetic(2000, 40, 3);
    for metric in Metric::ALL {
        let truth = exact(&base, &queries, metric, 10);
        let true_ids: Vec<Vec<u64>> = truth.iter().map(|found| ids(found)).collect();
        let mut sizes = Vec::new();
        let mut plain = Vec::new();
        for keep in Keep::ALL {
            let config = IndexConfig { keep, ..config(metric, "saq:3", 20) };
            let index = Index::build(&base, &config).unwrap();
            assert_eq!(index.keep(), keep);
            let found = search_all(&index, &queries, 10, &all_lists());
            plain.push(found.iter().map(|found| bits(found)).collect::<Vec<_>>());
            sizes.push(index.as_bytes().len());
            if keep == Keep::None {
                continue;
            }
            let params = SearchParams { rerank: 100, ..all_lists() };
            let found = search_all(&index, &queries, 10, &params);
            let reach = recall(&true_ids, &found, 10);
            assert!(reach >= 0.99, "{metric} {keep}: {reach}");
            let precision = if keep == Keep::F32 { 1e-5 } else { 2e-3 };
            for (i, found) in found.iter().enumerate() {
                for n in found {
                    let exact = distance(metric, queries.row(i), base.row(n.id as usize));
                    let error = (f64::from(n.distance) - exact).abs() / exact.abs();
                    assert!(error < precision, "{metric} {keep}: {n:?} {exact}");
                }
            }
        }
        // What is kept has no influence on the codes.
        assert_eq!(plain[0], plain[1]);
        assert_eq!(plain[0], plain[2]);
        assert!(sizes[0] + 2000 * 80 <= sizes[1] && sizes[1] + 2000 * 80 <= sizes[2], "{sizes:?}");
    }
}

#[test]
fn rerank_never_compares_fewer_than_k() {
    let (base, queries) = synthetic(500, 16, 4);
    let index = Index::build(&base, &config(Metric::L2, "saq:2", 1)).unwrap();
    for i in 0..queries.rows() {
        let few = SearchParams { rerank: 1, ..SearchParams::default() };
        let same = SearchParams { rerank: 20, ..SearchParams::default() };
        let found = index.search(queries.row(i), 20, &few).unwrap();
        assert_eq!(found.len(), 20);
        assert_eq!(bits(&found), bits(&index.search(queries.row(i), 20, &same).unwrap()));
    }
}

#[test]
fn a_batch_equals_single_searches() {
    let set = wordnet();
    let queries = set.some_queries(83);
    let index = index(Metric::L2);
    for (k, params) in [
        (10, SearchParams::default()),
        (1, SearchParams { nprobe: 3, ..SearchParams::default() }),
        (100, SearchParams { rerank: 120, ..SearchParams::default() }),
    ] {
        let (batch, stats) = index.search_batch(queries.view(), k, &params).unwrap();
        assert_eq!(batch.len(), 83);
        let mut searcher = index.searcher();
        for (i, found) in batch.iter().enumerate() {
            let alone = index.search(queries.row(i), k, &params).unwrap();
            assert_eq!(bits(found), bits(&alone));
            let reused = searcher.search(queries.row(i), k, &params).unwrap();
            assert_eq!(bits(found), bits(reused));
        }
        assert_eq!(stats, searcher.stats());
        assert_eq!(stats.lists, 83 * params.nprobe as u64);
        assert!(stats.scanned >= stats.refined && stats.refined >= 83 * k as u64);
        assert!(stats.bytes_touched > 0);
        searcher.reset_stats();
        assert_eq!(searcher.stats().scanned, 0);
    }
    let (none, stats) = index
        .search_batch(Matrix::new(384, Vec::new()).unwrap().view(), 5, &SearchParams::default())
        .unwrap();
    assert!(none.is_empty() && stats.scanned == 0);
}

/// Queries that go through large lists together find what each finds alone, whatever the batch, the
/// quantizer and the number of threads.
#[test]
fn queries_that_meet_in_lists_find_the_same() {
    let set = wordnet();
    let queries = set.some_queries(83);
    for (metric, quantizer, nlist, spill) in [
        (Metric::L2, "saq:4", 1, 0.0),
        (Metric::L2, "saq:4", 12, 0.0),
        (Metric::Cosine, "saq:2", 12, 0.6),
        (Metric::InnerProduct, "erabitq:3", 7, 1.0),
        (Metric::L2, "rvq:6B", 6, 0.7),
        (Metric::Cosine, "lvq:6", 9, 0.7),
        (Metric::InnerProduct, "sq:4", 8, 0.5),
        (Metric::L2, "f16", 7, 0.6),
    ] {
        let config = IndexConfig { spill, ..config(metric, quantizer, nlist) };
        let index = Index::build(&set.base, &config).unwrap();
        let mut searcher = index.searcher();
        for (rows, k, nprobe, rerank, confidence) in [
            (83, 10, 8, 0, 2.0),
            (83, 1, 12, 20, 0.5),
            (40, 300, 9, 0, 1.0),
            (2, 10_000, 6, 0, 2.0),
        ] {
            let params = SearchParams { nprobe, rerank, confidence, ..SearchParams::default() };
            let part = MatrixView::new(384, &queries.data()[..rows * 384]).unwrap();
            searcher.reset_stats();
            let alone: Vec<_> = (0..rows)
                .map(|row| bits(searcher.search(queries.row(row), k, &params).unwrap()))
                .collect();
            let expected = searcher.stats();
            for threads in [1, 3] {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (batch, stats) = pool.install(|| index.search_batch(part, k, &params).unwrap());
                for (row, found) in batch.iter().enumerate() {
                    let name = format!("{metric} {quantizer} {nlist} {spill} {rows} {k} {row}");
                    assert_eq!(bits(found), alone[row], "{name}");
                }
                assert_eq!(stats, expected);
            }
        }
    }
}

/// A searcher carries nothing from one query to the next, whatever the parameters.
#[test]
fn a_searcher_forgets() {
    let (base, queries) = synthetic(2000, 24, 5);
    let index = Index::build(&base, &config(Metric::L2, "saq:3", 30)).unwrap();
    let mut searcher = index.searcher();
    for turn in 0..200 {
        let query = queries.row(turn * 7 % queries.rows());
        let k = [1, 10, 2000, 3][turn % 4];
        let params = SearchParams {
            nprobe: [1, 30, 5][turn % 3],
            rerank: [0, 100, 0, 7, 5000][turn % 5],
            confidence: [3.0, 0.5, 10.0][turn % 3],
            patience: [0, 4][turn % 2],
            centroid_ratio: [None, Some(1.2)][turn / 2 % 2],
        };
        let found = searcher.search(query, k, &params).unwrap().to_vec();
        assert_eq!(bits(&found), bits(&index.search(query, k, &params).unwrap()), "turn {turn}");
        let _ = searcher.search(&query[1..], k, &params).unwrap_err();
    }
}

#[test]
fn many_threads_search_one_index() {
    let set = wordnet();
    let index = index(Metric::Cosine);
    let params = SearchParams { rerank: 30, ..SearchParams::default() };
    let expected = search_all(index, &set.some_queries(64), 10, &params);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (expected, params) = (&expected, &params);
            scope.spawn(move || {
                let mut searcher = index.searcher();
                for turn in 0..64 {
                    let i = (turn * 5 + thread * 11) % 64;
                    let found = searcher.search(set.queries.row(i), 10, params).unwrap();
                    assert_eq!(bits(found), bits(&expected[i]));
                }
            });
        }
    });
}

#[test]
fn an_index_and_a_searcher_go_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Index>();
    sync::<Index>();
    send::<Searcher<'static>>();
    send::<nonius::Error>();
    sync::<nonius::Error>();
    let (base, queries) = synthetic(100, 8, 6);
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 1)).unwrap();
    let mut searcher = index.searcher();
    let here = searcher.search(queries.row(0), 3, &all_lists()).unwrap().to_vec();
    let there = std::thread::scope(|scope| {
        scope
            .spawn(move || searcher.search(queries.row(0), 3, &all_lists()).unwrap().to_vec())
            .join()
            .unwrap()
    });
    assert_eq!(bits(&here), bits(&there));
}

#[test]
fn blocks_give_what_a_matrix_gives() {
    let (base, _) = synthetic(2500, 20, 7);
    for (nlist, training_rows) in [(1, 65_536), (25, 65_536), (25, 300)] {
        let config = IndexConfig { training_rows, ..config(Metric::L2, "saq:4", nlist) };
        let expected = Index::build(&base, &config).unwrap();
        for rows in [1, 7, 1000, 2500] {
            let source = BlockSource::new(2500, 20, || {
                base.data().chunks(rows * 20).map(<[f32]>::to_vec).collect::<Vec<_>>().into_iter()
            });
            let index = Index::build(&source, &config).unwrap();
            assert!(index.as_bytes() == expected.as_bytes(), "nlist {nlist}, blocks of {rows}");
        }
        let index = Index::from_slice(20, base.data(), &config).unwrap();
        assert!(index.as_bytes() == expected.as_bytes());
    }
}

#[test]
fn writing_replaces_what_was_there_and_nothing_else() {
    let (base, queries) = synthetic(400, 16, 8);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.nonius");
    std::fs::write(folder.path().join("neighbour"), b"mine").unwrap();
    let first = config(Metric::L2, "saq:4", 4);
    IndexBuilder::new(&first).write(&base, &path).unwrap();
    let old = Index::open(&path).unwrap();
    let before = old.search(queries.row(0), 10, &all_lists()).unwrap();
    let second = config(Metric::InnerProduct, "rabitq", 1);
    IndexBuilder::new(&second).write(&base, &path).unwrap();
    assert_eq!(files_in(folder.path()), ["index.nonius", "neighbour"]);
    assert_eq!(bits(&old.search(queries.row(0), 10, &all_lists()).unwrap()), bits(&before));
    old.verify().unwrap();
    let new = Index::open(&path).unwrap();
    assert_eq!((new.metric(), new.nlist()), (Metric::InnerProduct, 1));
    old.save(&path).unwrap();
    assert_eq!(Index::open(&path).unwrap().metric(), Metric::L2);
    assert_eq!(files_in(folder.path()), ["index.nonius", "neighbour"]);
}
