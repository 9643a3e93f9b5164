//! How good the estimates are, on real and on generated vectors, as properties that hold with room
//! to spare.

use nonius::quantizer::saq::Segment;
use nonius::{
    BuildError, CodeSize, Index, IndexBuilder, IndexConfig, Keep, Matrix, Metric, QualityRow,
    QuantizerSpec, SearchParams, quality,
};
use nonius_datasets::Synthetic;
use nonius_tests::{
    all_lists, bits, config, distance, exact, ids, search_all, spec, synthetic, without_kept,
    wordnet,
};

/// A set to measure on.
struct Set {
    base: Matrix,
    queries: Matrix,
    metric: Metric,
    truth: Vec<u32>,
}

impl Set {
    fn new(base: Matrix, queries: Matrix, metric: Metric) -> Set {
        let truth = exact(&base, &queries, metric, 100)
            .iter()
            .flat_map(|found| ids(found))
            .map(|id| id as u32)
            .collect();
        Set { base, queries, metric, truth }
    }

    /// Half of the shipped set.
    fn wordnet(metric: Metric) -> Set {
        let half = wordnet().base.data()[..5000 * 384].to_vec();
        Set::new(Matrix::new(384, half).unwrap(), wordnet().some_queries(40), metric)
    }

    /// Generated vectors with a spectrum that falls as fast as SIFT's.
    fn generated() -> Set {
        let set = Synthetic { rows: 5000, dim: 104, decay: 11.0, seed: 31, ..Synthetic::default() };
        let set = set.generator();
        let base = nonius_datasets::read_matrix(&set).unwrap();
        Set::new(base, set.queries(60), Metric::L2)
    }

    fn measure(&self, quantizer: &str, nlist: usize) -> QualityRow {
        let config = config(self.metric, quantizer, nlist);
        quality(&self.base, &self.queries, &self.truth, 100, &config).unwrap()
    }
}

fn scale_bytes(segment: &Segment) -> usize {
    if segment.bits <= 4 { 1 } else { 2 }
}

fn code_bytes(plan: &[Segment]) -> usize {
    plan.iter().map(|s| s.dims * s.bits as usize / 8 + scale_bytes(s)).sum()
}

#[test]
fn more_bits_make_smaller_errors() {
    for (set, nlist) in [
        (Set::wordnet(Metric::L2), 1),
        (Set::wordnet(Metric::InnerProduct), 60),
        (Set::generated(), 40),
    ] {
        let rows: Vec<QualityRow> = ["saq:0.5", "saq:1", "saq:2", "saq:4", "saq:6", "saq:8"]
            .iter()
            .map(|quantizer| set.measure(quantizer, nlist))
            .collect();
        for pair in rows.windows(2) {
            let [fewer, more] = pair else { unreachable!() };
            // The budgets grow by 1.6 at least, the errors halve nearly.
            assert!(more.bytes_per_vector > fewer.bytes_per_vector, "{fewer:#?} {more:#?}");
            assert!(more.err_nn < 0.75 * fewer.err_nn, "{fewer:#?} {more:#?}");
            assert!(more.err_random < 0.75 * fewer.err_random, "{fewer:#?} {more:#?}");
            assert!(more.recall_at_10 > fewer.recall_at_10 - 0.01, "{fewer:#?} {more:#?}");
        }
        for row in &rows {
            let what = format!("{} nlist {nlist}: {row:#?}", set.metric);
            assert!(row.recall_10_at_100 >= row.recall_at_10, "{what}");
            assert!(row.recall_10_at_100 > 0.97, "{what}");
            assert!(row.encode_vectors_per_second > 0.0 && row.train_seconds > 0.0, "{what}");
            let dim = set.base.dim() as f64;
            assert!(row.bytes_per_vector <= row.bits * dim / 8.0 + 8.0, "{what}");
            // Dropped dimensions bias near neighbours, which the correction removes. It needs the
            // norm of the vector, which an index for inner products with lists does not have.
            let corrected = set.metric != Metric::InnerProduct || nlist == 1;
            let most = if corrected { 0.35 } else { 0.85 };
            assert!(row.bias_nn.abs() < most * row.err_nn + 1e-5, "{what}");
        }
        let last = rows.last().unwrap();
        assert!(last.err_nn < 0.002 && last.recall_at_10 > 0.98, "{last:#?}");
    }
}

#[test]
fn saq_is_better_than_one_segment_in_as_many_bytes() {
    for (set, nlist) in
        [(Set::wordnet(Metric::L2), 1), (Set::wordnet(Metric::Cosine), 60), (Set::generated(), 40)]
    {
        for one in ["rabitq", "erabitq:3", "erabitq:6"] {
            let plain = set.measure(one, nlist);
            assert_eq!(plain.plan.len(), 1);
            let saq = set.measure(&format!("saq:{}B", plain.bytes_per_vector), nlist);
            assert!(saq.bytes_per_vector <= plain.bytes_per_vector, "{saq:#?} {plain:#?}");
            assert!(saq.err_nn < 0.85 * plain.err_nn, "{saq:#?} {plain:#?}");
            assert!(saq.err_random < 0.85 * plain.err_random, "{saq:#?} {plain:#?}");
            // With errors this small a few of 400 neighbours decide.
            assert!(saq.recall_at_10 > plain.recall_at_10 - 0.01, "{saq:#?} {plain:#?}");
        }
    }
}

/// Codes that quantise all dimensions together are the better ones where there are few bytes.
#[test]
fn rvq_finds_more_than_saq_in_few_bytes() {
    for (set, nlist) in [(Set::wordnet(Metric::L2), 1), (Set::generated(), 20)] {
        let rows: Vec<QualityRow> =
            ["rvq:6B", "rvq:12B"].iter().map(|q| set.measure(q, nlist)).collect();
        for pair in rows.windows(2) {
            let [fewer, more] = pair else { unreachable!() };
            assert!(more.err_nn < 0.9 * fewer.err_nn, "{fewer:#?} {more:#?}");
            assert!(more.err_random < 0.95 * fewer.err_random, "{fewer:#?} {more:#?}");
            assert!(more.recall_at_10 > fewer.recall_at_10 + 0.02, "{fewer:#?} {more:#?}");
        }
        for row in &rows {
            // Centroids are many for 5,000 vectors, and know the sample's near pairs better than new
            // queries.
            assert!(row.bias_nn.abs() < 0.8 * row.err_nn, "{row:#?}");
            assert!(row.plan.is_empty(), "{row:#?}");
        }
        let saq = set.measure("saq:12B", nlist);
        let rvq = &rows[1];
        assert!(rvq.bytes_per_vector <= 12.0 && saq.bytes_per_vector <= 12.0);
        assert!(rvq.err_nn < 0.9 * saq.err_nn, "{rvq:#?} {saq:#?}");
        assert!(rvq.recall_at_10 > saq.recall_at_10 + 0.05, "{rvq:#?} {saq:#?}");
    }
}

/// Distances to centroids are too short by what codes leave. Where codes have no factor to say how much that is,
/// estimates add what it is on average.
#[test]
fn distances_of_flat_products_are_not_too_short() {
    for metric in [Metric::L2, Metric::Cosine] {
        let set = Set::wordnet(metric);
        for quantizer in ["pq:12B", "pq:24B", "opq:12B", "pq4:24B"] {
            let row = set.measure(quantizer, 1);
            assert!(row.bias_nn.abs() < 0.05, "{row:#?}");
            assert!(row.err_nn < 0.08 && row.err_random < 0.18, "{row:#?}");
        }
    }
}

/// Bounds are promises: every byte of a vector but its id counts.
#[test]
fn budgets_are_kept_and_counted_to_the_byte() {
    let (narrow, _) = synthetic(640, 72, 32);
    // Norms over four orders of magnitude: the additive factor's range is wide.
    let mut wide = narrow.clone();
    for row in 0..640 {
        let factor = 10f32.powf(row as f32 / 160.0 - 2.0);
        wide.row_mut(row).iter_mut().for_each(|x| *x *= factor);
    }
    // Far from the origin: inner products with the mean are large.
    let mut far = narrow.clone();
    far.data_mut().iter_mut().for_each(|x| *x += 50.0);
    let mut failures = Vec::new();
    let sets: [(_, _, &[usize]); 3] =
        [("narrow", &narrow, &[1, 10]), ("wide", &wide, &[1]), ("far", &far, &[10])];
    for (name, base, nlists) in sets {
        for metric in Metric::ALL {
            for quantizer in [
                "saq:0.25",
                "saq:0.5",
                "saq:1",
                "saq:1.5",
                "saq:2",
                "saq:3",
                "saq:4",
                "saq:6",
                "saq:8",
                "saq:12",
                "saq:4B",
                "saq:5B",
                "saq:17B",
                "saq:64B",
                "rabitq",
                "erabitq:7",
                "rvq:0.25",
                "rvq:5B",
                "rvq:7B",
                "pq:11B",
                "opq:0.5",
                "pq4:11B",
                "pq3:10B",
                "rvq6:8B",
                "prq5:2x9B",
                "prq:3x9B",
                "sq:5",
                "lvq:6",
                "lvq:4x8",
                "bf16",
                "f32",
            ] {
                for &nlist in nlists {
                    let what = format!("{name} {metric} {quantizer} nlist {nlist}");
                    let config = without_kept(config(metric, quantizer, nlist));
                    let index = Index::build(base, &config).unwrap();
                    let info = index.info();
                    let budget = match spec(quantizer) {
                        QuantizerSpec::Saq(size)
                        | QuantizerSpec::Rvq { size, .. }
                        | QuantizerSpec::Pq { size, .. }
                        | QuantizerSpec::Opq { size, .. }
                        | QuantizerSpec::ProductRvq { size, .. } => match size {
                            CodeSize::Bits(bits) => (bits * 72.0 / 8.0) as usize + 8,
                            CodeSize::Bytes(bytes) => bytes,
                        },
                        QuantizerSpec::OneSegment { bits } => 72 * bits as usize / 8 + 8,
                        QuantizerSpec::Sq { bits } => 72 * bits as usize / 8 + 4,
                        QuantizerSpec::Lvq { bits, second } => {
                            72 * (bits + second) as usize / 8 + 8
                        }
                        QuantizerSpec::F16 | QuantizerSpec::Bf16 => 144,
                        QuantizerSpec::F32 => 288,
                    };
                    let scalar = quantizer.starts_with("sq") || quantizer.starts_with("lvq");
                    if info.code_bytes > budget {
                        failures.push(format!("{what}: {} bytes of {budget}", info.code_bytes));
                    }
                    if scalar {
                        // An additive factor of 1, 2 or 4 bytes, or 3, 2 or none fewer.
                        assert!(matches!(budget - info.code_bytes, 0 | 2 | 3), "{what}");
                        assert_eq!(info.first_stage_bits, 4 * 72, "{what}");
                    } else if quantizer.contains("f16") || quantizer == "f32" {
                        assert_eq!(info.code_bytes, budget, "{what}");
                    } else if info.plan.is_empty() {
                        // A number for each codebook, and an additive factor but for products of
                        // single codebooks around the mean. Codes end with a byte that is not whole.
                        let bytes = info.first_stage_bits.div_ceil(8);
                        assert!(budget - info.code_bytes <= 1, "{what}");
                        let factor = info.code_bytes - bytes;
                        let product = matches!(
                            spec(quantizer),
                            QuantizerSpec::Pq { .. } | QuantizerSpec::Opq { .. }
                        );
                        let none = product && nlist == 1;
                        let right = if none { factor == 0 } else { matches!(factor, 1 | 2 | 4) };
                        assert!(right, "{what}: {factor}");
                    } else {
                        // Codes, scales, an additive factor of 2 or 4 bytes, and a shift with lists.
                        let factors = info.code_bytes - code_bytes(&info.plan);
                        let shift = usize::from(nlist > 1);
                        assert!(matches!(factors - shift, 2 | 4), "{what}: {factors} {info:#?}");
                    }
                    let length = |name| info.sections.iter().find(|s| s.0 == name).unwrap().2;
                    if nlist == 1 {
                        // 640 are whole blocks: no padding.
                        let stored = length("scan") + length("rest");
                        assert_eq!(stored, 640 * info.code_bytes as u64, "{what}");
                        assert_eq!(info.bytes_per_vector, info.code_bytes as f64 + 4.0, "{what}");
                    }
                    assert_eq!(length("ids"), 640 * 4, "{what}");
                    assert!(info.first_stage_bits <= 8 * info.code_bytes, "{what}");
                }
            }
        }
    }
    assert!(failures.is_empty(), "over budget:\n{}", failures.join("\n"));
}

#[test]
fn a_plan_falls_from_the_leading_dimensions_on() {
    let set = wordnet();
    for (quantizer, nlist) in [("saq:0.5", 1), ("saq:2", 50), ("saq:4", 1), ("saq:8", 50)] {
        let config = without_kept(config(Metric::L2, quantizer, nlist));
        let (_, report) = IndexBuilder::new(&config).build(&set.base).unwrap();
        let plan = report.plan;
        assert_eq!(plan.iter().map(|s| s.dims).sum::<usize>(), 384);
        assert!(plan.iter().all(|s| s.dims % 8 == 0 && s.dims > 0), "{plan:?}");
        assert!(plan.windows(2).all(|w| w[0].bits > w[1].bits), "{plan:?}");
        assert!(plan.len() > 1, "{plan:?}");
        // Nearly all of the budget is used.
        let budget = spec(quantizer).bits(384) * 48.0 + 8.0;
        assert!(code_bytes(&plan) as f64 > 0.9 * budget - 4.0, "{plan:?} of {budget}");
    }
}

/// Every bit of a scalar quantizer halves its errors, the second level of LVQ refines the first, and
/// estimates are right on average.
#[test]
fn scalar_quantizers_err_by_half_with_every_bit() {
    for (set, nlist) in
        [(Set::wordnet(Metric::L2), 1), (Set::wordnet(Metric::Cosine), 30), (Set::generated(), 20)]
    {
        for names in [
            ["sq:4", "sq:5", "sq:6", "sq:7", "sq:8"],
            ["lvq:4", "lvq:4x1", "lvq:4x2", "lvq:4x3", "lvq:4x4"],
        ] {
            let rows = names.map(|name| set.measure(name, nlist));
            for pair in rows.windows(2) {
                let [fewer, more] = pair else { unreachable!() };
                for (fewer, more) in
                    [(fewer.err_nn, more.err_nn), (fewer.err_random, more.err_random)]
                {
                    assert!(more < 0.62 * fewer, "{pair:#?}");
                }
                // With errors this small a few of 400 neighbours decide.
                assert!(more.recall_at_10 > fewer.recall_at_10 - 0.01, "{pair:#?}");
            }
            for row in &rows {
                // At 4 bits tails are cut off, and what that takes from near pairs is not the same for
                // the sample's and for queries'.
                assert!(row.bias_nn.abs() < 0.35 * row.err_nn, "{row:#?}");
            }
        }
        // Two levels of four bits are nearly one of eight: the outer steps reach half a step of the
        // first level beyond the ends.
        let [one, two] = ["lvq:8", "lvq:4x4"].map(|name| set.measure(name, nlist));
        assert!(two.err_random < 1.3 * one.err_random, "{one:#?} {two:#?}");
        let [half, brain] = ["f16", "bf16"].map(|name| set.measure(name, nlist));
        assert!(half.err_random < 0.2 * brain.err_random, "{half:#?} {brain:#?}");
        assert!(half.recall_at_10 > 0.995 && brain.recall_at_10 > 0.98, "{half:#?} {brain:#?}");
        // What is left is the rounding of sums.
        let whole = set.measure("f32", nlist);
        assert!(whole.err_random < 0.02 * half.err_random, "{whole:#?} {half:#?}");
        assert!(whole.recall_at_10 > 0.9999, "{whole:#?}");
    }
}

/// The first stage of 4 bits loses next to nothing: all that is found without it is found with it.
#[test]
fn first_stages_of_scalar_quantizers_lose_nothing() {
    let set = wordnet();
    let queries = set.some_queries(60);
    for (metric, quantizer, nlist, spill) in [
        (Metric::L2, "sq:8", 1, 0.0),
        (Metric::L2, "lvq:6", 40, 0.5),
        (Metric::Cosine, "lvq:4x8", 20, 0.0),
        (Metric::InnerProduct, "sq:4", 20, 0.4),
    ] {
        let config = IndexConfig { spill, ..without_kept(config(metric, quantizer, nlist)) };
        let index = Index::build(&set.base, &config).unwrap();
        let (mut missed, mut refined) = (0, 0);
        for q in 0..queries.rows() {
            let search = |confidence: f32| {
                let params = SearchParams { confidence, ..all_lists() };
                let mut searcher = index.searcher();
                let found = searcher.search(queries.row(q), 10, &params).unwrap().to_vec();
                (found, searcher.stats().refined)
            };
            let (all, _) = search(f32::MAX);
            let (found, few) = search(SearchParams::default().confidence);
            missed += all.iter().filter(|n| !found.contains(n)).count();
            refined += few;
        }
        let what = format!("{metric} {quantizer}: {missed} missed, {refined} refined");
        assert!(missed <= 1, "{what}");
        // Most of 5,000 vectors are ruled out, after a first round that refines what it sees.
        assert!(refined < 60 * 1000, "{what}");
    }
}

/// `quality` measured by hand: the estimates are those that a search for all vectors reports.
#[test]
fn quality_is_what_a_search_shows() {
    let (base, queries) = synthetic(900, 40, 33);
    for metric in Metric::ALL {
        for (quantizer, bits, nlist) in [
            ("saq:2", 2.0, 1),
            ("saq:2", 2.0, 9),
            ("rvq:10B", 2.0, 1),
            ("rvq:10B", 2.0, 9),
            ("sq:4", 4.0, 9),
            ("lvq:4x3", 7.0, 1),
            ("lvq:8", 8.0, 9),
            ("f16", 16.0, 9),
        ] {
            let set = Set::new(base.clone(), queries.clone(), metric);
            let row = set.measure(quantizer, nlist);
            let index = Index::build(&base, &config(metric, quantizer, nlist)).unwrap();
            let norm = |v: &[f32]| distance(Metric::L2, v, &vec![0.0; v.len()]).sqrt();
            let (mut error, mut bias, mut hits) = (0.0, 0.0, 0);
            for q in 0..queries.rows() {
                let query = queries.row(q);
                let found = index.search(query, 900, &all_lists()).unwrap();
                let truth = &set.truth[q * 100..(q + 1) * 100];
                hits += found[..10].iter().filter(|n| truth[..10].contains(&(n.id as u32))).count();
                for n in found.iter().filter(|n| truth.contains(&(n.id as u32))) {
                    let vector = base.row(n.id as usize);
                    let exact = distance(metric, query, vector);
                    let estimate = f64::from(n.distance);
                    // Keys fall where products rise; products are relative to both norms.
                    let off = match metric {
                        Metric::InnerProduct => (exact - estimate) / (norm(query) * norm(vector)),
                        _ => (estimate - exact) / exact,
                    };
                    error += off.abs() / (100.0 * queries.rows() as f64);
                    bias += off / (100.0 * queries.rows() as f64);
                }
            }
            let what = format!("{metric} {quantizer} nlist {nlist}: {error} {bias} {row:#?}");
            assert!((error - row.err_nn).abs() < 2e-3 * row.err_nn, "{what}");
            assert!((bias - row.bias_nn).abs() < 2e-3 * row.err_nn, "{what}");
            let recall = hits as f64 / (10.0 * queries.rows() as f64);
            assert!((recall - row.recall_at_10).abs() < 1e-9, "{what}: {recall}");
            assert_eq!(row.bytes_per_vector, index.info().code_bytes as f64);
            assert_eq!((row.quantizer.as_str(), row.bits), (quantizer, bits));
        }
    }
}

#[test]
fn a_truth_that_does_not_fit_is_refused() {
    let (base, queries) = synthetic(200, 16, 34);
    let config = config(Metric::L2, "saq:4", 1);
    let good: Vec<u32> = (0..20 * 12).map(|i| i % 200).collect();
    assert!(quality(&base, &queries, &good, 12, &config).is_ok());
    let mut beyond = good.clone();
    beyond[100] = 200;
    for (truth, k) in [(&good[..], 9), (&good[..], 11), (&good[1..], 12), (&beyond[..], 12)] {
        let error = quality(&base, &queries, truth, k, &config).unwrap_err();
        assert!(matches!(error, BuildError::Config(_)), "{error:?}");
        assert!(error.to_string().contains("truth"), "{error}");
    }
    let narrow = Matrix::new(8, vec![0.5; 160]).unwrap();
    let error = quality(&base, &narrow, &good, 12, &config).unwrap_err();
    assert!(matches!(error, BuildError::Source(_)), "{error:?}");
}

/// The indexes whose bounds are tested.
fn bounded() -> Vec<(String, Index, Matrix)> {
    let set = wordnet();
    let part = Matrix::new(384, set.base.data()[..3000 * 384].to_vec()).unwrap();
    let generated = Set::generated();
    let mut indexes = Vec::new();
    for metric in Metric::ALL {
        for quantizer in ["saq:0.5", "saq:1", "saq:4", "rabitq", "erabitq:4"] {
            if metric == Metric::Cosine && !quantizer.starts_with("saq") {
                continue;
            }
            for nlist in [1, 50] {
                let build = |base: &Matrix| {
                    Index::build(base, &without_kept(config(metric, quantizer, nlist))).unwrap()
                };
                let name = format!("{metric} {quantizer} nlist {nlist}");
                indexes.push((format!("wordnet {name}"), build(&part), set.some_queries(50)));
                if quantizer == "saq:4" || quantizer == "rabitq" {
                    let index = build(&generated.base);
                    indexes.push((format!("generated {name}"), index, generated.queries.clone()));
                }
            }
        }
    }
    indexes
}

#[test]
fn bounds_hold_and_prune() {
    let mut failures = Vec::new();
    for (name, index, queries) in bounded() {
        let at = |confidence: f32, k: usize| {
            let params = SearchParams { confidence, ..all_lists() };
            index.search_batch(queries.view(), k, &params).unwrap()
        };
        // Without bounds in the way, a search is the ranking of all vectors by their estimates.
        let (all, of_all) = at(3.0, index.len());
        assert_eq!(of_all.refined, of_all.scanned, "{name}");
        let (sure, _) = at(1e6, 10);
        for (sure, all) in sure.iter().zip(&all) {
            // Vectors of equal estimates may be listed in another order.
            let mut all: Vec<(u64, u32)> = bits(&all[..10]);
            let mut sure = bits(sure);
            all.sort_unstable_by_key(|&(id, distance)| (distance, id));
            sure.sort_unstable_by_key(|&(id, distance)| (distance, id));
            assert_eq!(sure, all, "{name}");
        }
        let lost = |found: &[Vec<nonius::Neighbor>], of: &[Vec<nonius::Neighbor>]| -> f64 {
            let (mut lost, mut count) = (0, 0);
            for (found, of) in found.iter().zip(of) {
                let found = ids(found);
                lost += of.iter().filter(|n| !found.contains(&n.id)).count();
                count += of.len();
            }
            lost as f64 / count as f64
        };
        let (ten, _) = at(10.0, 10);
        let (three, stats) = at(3.0, 10);
        let share = lost(&three, &ten);
        if share >= 0.01 {
            failures.push(format!("{name}: {share:.4} lost at confidence 3 against 10"));
        }
        let share = lost(&ten, &sure);
        if share >= 0.001 {
            failures.push(format!("{name}: {share:.4} lost at confidence 10"));
        }
        // And it saves work, else it would be of no use.
        let survivors = stats.refined as f64 / stats.scanned as f64;
        if survivors > 0.3 {
            failures.push(format!("{name}: {survivors:.3} survive the first stage"));
        }
        let (_, fewer) = at(1.0, 10);
        assert!(fewer.refined <= stats.refined, "{name}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The first stage looks at the queue of results that it fills: it must hold for every k.
#[test]
fn bounds_hold_for_every_k() {
    let (base, queries) = synthetic(3000, 64, 35);
    for nlist in [1, 30] {
        let index = Index::build(&base, &without_kept(config(Metric::L2, "saq:3", nlist))).unwrap();
        let all = search_all(&index, &queries, 3000, &all_lists());
        for k in [1, 2, 31, 32, 33, 100, 1000, 2999] {
            let params = SearchParams { confidence: 8.0, ..all_lists() };
            for (found, all) in search_all(&index, &queries, k, &params).iter().zip(&all) {
                assert_eq!(bits(found), bits(&all[..k]), "nlist {nlist} k {k}");
            }
        }
    }
}

#[test]
fn fast_encoding_is_nearly_as_good() {
    let whole = Set::new(wordnet().base.clone(), wordnet().some_queries(60), Metric::L2);
    for quantizer in ["saq:2", "saq:4"] {
        let measure = |encoding| {
            let config = nonius::IndexConfig {
                encoding,
                keep: Keep::None,
                ..config(Metric::L2, quantizer, 1)
            };
            quality(&whole.base, &whole.queries, &whole.truth, 100, &config).unwrap()
        };
        let (full, fast) = (measure(nonius::Encoding::Full), measure(nonius::Encoding::Fast));
        assert_eq!(full.bytes_per_vector, fast.bytes_per_vector);
        assert!(fast.err_nn < 1.05 * full.err_nn, "{quantizer}: {} {}", fast.err_nn, full.err_nn);
        assert!(fast.err_random < 1.05 * full.err_random, "{quantizer}");
    }
}

/// Every centroid of every codebook is used, also where half of all vectors are copies of a few.
#[test]
fn codebooks_are_used_in_full() {
    let set = wordnet();
    let mut copies = set.base.clone();
    for row in (0..copies.rows()).step_by(2) {
        let few = copies.row(row % 20).to_vec();
        copies.row_mut(row).copy_from_slice(&few);
    }
    for (base, nlist, least) in [(&set.base, 1, 150.0), (&copies, 40, 10.0)] {
        let config = config(Metric::L2, "rvq:6B", nlist);
        let (_, report) = IndexBuilder::new(&config).build(base).unwrap();
        assert!(report.codebooks.len() >= 4, "{}", report.codebooks.len());
        for found in &report.codebooks {
            assert_eq!((found.centroids, found.used), (256, 256));
            assert!(found.perplexity > least && found.perplexity <= 256.0, "{found:?}");
        }
    }
    let (_, report) = IndexBuilder::new(&config(Metric::L2, "saq:1", 1)).build(&set.base).unwrap();
    assert!(report.codebooks.is_empty());
}
