//! A warm searcher does not allocate.

use nonius::{Index, IndexConfig, Keep, Metric, SearchParams};
use nonius_tests::{config, wordnet};

const WITH_OUTLIERS: &str = "saq:3";

#[test]
fn a_warm_searcher_does_not_allocate() {
    let set = wordnet();
    for (metric, quantizer, nlist, keep, spill) in [
        (Metric::L2, WITH_OUTLIERS, 100, Keep::F16, 0.5),
        (Metric::L2, "saq:4", 100, Keep::F16, 0.0),
        (Metric::Cosine, "saq:1", 64, Keep::F32, 0.5),
        (Metric::InnerProduct, "saq:6", 32, Keep::None, 0.0),
        (Metric::L2, "saq:2", 200, Keep::F16, 1.0),
        (Metric::L2, "rabitq", 1, Keep::F16, 0.0),
        (Metric::L2, "rvq:8B", 100, Keep::F16, 0.5),
    ] {
        let outlier_bytes = if quantizer == WITH_OUTLIERS { 16.0 } else { 0.0 };
        let config = config(metric, quantizer, nlist);
        let config = IndexConfig { keep, spill, outlier_bytes, ..config };
        let index = Index::build(&set.base, &config).unwrap();
        let queries = set.some_queries(40);
        let mut searcher = index.searcher();
        for k in [1, 10, 100] {
            for rerank in if keep == Keep::None { vec![0] } else { vec![0, 150] } {
                let params = SearchParams { rerank, ..SearchParams::default() };
                let mut search_all = || {
                    for i in 0..queries.rows() {
                        let found = searcher.search(queries.row(i), k, &params).unwrap();
                        assert_eq!(found.len(), k);
                    }
                };
                search_all();
                let counted = allocation_counter::measure(search_all);
                let what = format!("{metric} {quantizer} k {k} rerank {rerank}");
                assert_eq!(counted.count_total, 0, "{what}: {counted:?}");
            }
        }
        // The counter counts: a batch returns what it has found in new memory.
        let batch = || drop(index.search(queries.row(0), 10, &SearchParams::default()).unwrap());
        assert!(allocation_counter::measure(batch).count_total > 0);
    }
}
