//! The quantizer by itself and the index agree, and its error bound holds on real vectors.

use nonius::{
    Encoding, Index, IndexBuilder, IndexConfig, Matrix, Metric, Quantizer, QuantizerConfig, Saq,
    SaqConfig, SearchError, VectorError,
};
use nonius_tests::{
    all_lists, config, distance, exact, ids, recall, spec, synthetic, without_kept, wordnet,
};

fn train(base: &Matrix, metric: Metric, quantizer: &str) -> Saq {
    let config = SaqConfig { metric, quantizer: spec(quantizer), ..SaqConfig::default() };
    Saq::train(base.view(), &config).unwrap()
}

/// A flat index trained on all rows holds the codes that the quantizer makes, and its search
/// reports the same estimates, to the bit.
#[test]
fn a_flat_index_and_the_quantizer_agree() {
    let (base, queries) = synthetic(1000, 45, 51);
    for metric in Metric::ALL {
        for (quantizer, encoding) in [
            ("saq:4", Encoding::Full),
            ("saq:4", Encoding::Fast),
            ("saq:0.5", Encoding::Full),
            ("rabitq", Encoding::Full),
            ("erabitq:9", Encoding::Full),
        ] {
            let what = format!("{metric} {quantizer} {encoding:?}");
            let index_config =
                IndexConfig { encoding, ..without_kept(config(metric, quantizer, 1)) };
            let index = Index::build(&base, &index_config).unwrap();
            let saq_config =
                SaqConfig { metric, quantizer: spec(quantizer), encoding, ..SaqConfig::default() };
            let saq = Saq::train(base.view(), &saq_config).unwrap();
            let codes = saq.encode(base.view()).unwrap();
            assert_eq!(saq.plan(), index.info().plan, "{what}");
            assert_eq!((saq.dim(), codes.len()), (45, 1000), "{what}");
            assert_eq!(codes.bytes_per_vector(), index.info().code_bytes, "{what}");
            for q in 0..queries.rows() {
                let estimates = saq.estimate(&codes, queries.row(q)).unwrap();
                let found = index.search(queries.row(q), 1000, &all_lists()).unwrap();
                assert_eq!(found.len(), 1000, "{what}");
                for n in found {
                    let estimate = estimates[n.id as usize].distance;
                    assert_eq!(estimate.to_bits(), n.distance.to_bits(), "{what}: {n:?}");
                }
            }
        }
    }
}

/// The same for all quantizers.
#[test]
fn a_flat_index_and_any_quantizer_agree() {
    let (base, queries) = synthetic(1000, 45, 52);
    for metric in Metric::ALL {
        // Parts of the dimensions where there are codebooks, or levels.
        for (name, encoding, parts, levels) in [
            ("saq:3", Encoding::Full, 0, 1),
            ("saq:4", Encoding::Fast, 0, 1),
            ("rabitq", Encoding::Full, 0, 1),
            ("rvq:6B", Encoding::Full, 1, 0),
            ("rvq:6B", Encoding::Fast, 1, 0),
            ("rvq9:7B", Encoding::Fast, 1, 0),
            ("pq:7B", Encoding::Full, 7, 0),
            ("opq:9B", Encoding::Full, 9, 0),
            ("opq4:9B", Encoding::Full, 18, 0),
            ("pq3:8B", Encoding::Full, 21, 0),
            ("pq4:100B", Encoding::Full, 45, 0),
            ("prq:2x6B", Encoding::Fast, 2, 0),
            ("sq:5", Encoding::Full, 0, 1),
            ("lvq:8", Encoding::Full, 0, 1),
            ("lvq:4x3", Encoding::Full, 0, 2),
            ("f16", Encoding::Full, 0, 1),
            ("bf16", Encoding::Full, 0, 1),
            ("f32", Encoding::Full, 0, 1),
        ] {
            let what = format!("{metric} {name} {encoding:?}");
            let index_config = IndexConfig { encoding, ..without_kept(config(metric, name, 1)) };
            let index = Index::build(&base, &index_config).unwrap();
            assert_eq!(index.info().quantizer.to_string(), name);
            let quantizer = spec(name);
            let config =
                QuantizerConfig { metric, quantizer, encoding, ..QuantizerConfig::default() };
            let quantizer = Quantizer::train(base.view(), &config).unwrap();
            let codes = quantizer.encode(base.view()).unwrap();
            assert_eq!((quantizer.dim(), codes.len()), (45, 1000), "{what}");
            let codebooks = quantizer.codebooks();
            assert_eq!(codebooks == 0, parts == 0, "{what}");
            let expected = if parts == 0 { levels } else { codebooks.div_ceil(parts) };
            assert_eq!(quantizer.levels(), expected, "{what}");
            if name.contains("pq") {
                assert_eq!(codebooks, parts, "{what}");
            }
            assert_eq!(codes.uses().len(), codebooks, "{what}");
            assert_eq!(codes.bytes_per_vector(), index.info().code_bytes, "{what}");
            assert_eq!(quantizer.plan(), index.info().plan, "{what}");
            for q in 0..queries.rows() {
                let estimates = quantizer.estimate(&codes, queries.row(q)).unwrap();
                let found = index.search(queries.row(q), 1000, &all_lists()).unwrap();
                assert_eq!(found.len(), 1000, "{what}");
                for n in found {
                    let estimate = estimates[n.id as usize];
                    assert_eq!(estimate.to_bits(), n.distance.to_bits(), "{what}: {n:?}");
                }
            }
        }
    }
}

/// Where no vector has a factor, estimates are the distances to decoded vectors, and of squared distances some of
/// what codes leave on average, the same for all.
#[test]
fn estimates_of_pq_are_the_distances_to_decoded_vectors() {
    let (base, queries) = synthetic(1000, 45, 52);
    for metric in [Metric::L2, Metric::InnerProduct] {
        for name in
            ["pq:7B", "pq:45B", "pq:100B", "opq:9B", "pq4:7B", "opq4:30B", "pq5:9B", "pq12:9B"]
        {
            let quantizer = spec(name);
            let config = QuantizerConfig { metric, quantizer, ..QuantizerConfig::default() };
            let quantizer = Quantizer::train(base.view(), &config).unwrap();
            let codes = quantizer.encode(base.view()).unwrap();
            // A part has a dimension at least.
            let bits = match name.split_once(':').unwrap().0.trim_start_matches(['o', 'p', 'q']) {
                "" => 8,
                bits => bits.parse().unwrap(),
            };
            let bytes = (quantizer.codebooks() * bits).div_ceil(8);
            assert_eq!(codes.bytes_per_vector(), bytes, "{name}");
            assert!(quantizer.codebooks() <= 45);
            let left: f64 = (0..base.rows())
                .map(|i| distance(Metric::L2, base.row(i), &quantizer.decode(&codes, i)))
                .sum::<f64>()
                / base.rows() as f64;
            let mut added = None;
            for q in 0..queries.rows() {
                let query = queries.row(q);
                let estimates = quantizer.estimate(&codes, query).unwrap();
                for (i, &estimate) in estimates.iter().enumerate().step_by(7) {
                    let exact = distance(metric, query, &quantizer.decode(&codes, i)) as f32;
                    let size = distance(Metric::L2, query, &[0.0; 45]) as f32 + 45.0;
                    let added = *added.get_or_insert(estimate - exact);
                    let off = estimate - exact - added;
                    assert!(off.abs() < 4e-4 * size, "{name}: {estimate} {exact} {added}");
                    let most = if metric == Metric::L2 { 1.5 * left as f32 } else { 0.0 };
                    assert!(added > -2e-4 * size && added < most + 2e-4 * size, "{name}: {added}");
                }
            }
        }
    }
}

/// What codes of every quantizer stand for comes nearer with every bit and level, up to what the bits allow, and
/// distances between codes are those to what one of them stands for.
#[test]
fn every_quantizer_decodes_and_compares_codes() {
    let set = wordnet();
    let some: Vec<f32> = (0..1500).flat_map(|i| set.base.row(i).to_vec()).collect();
    let some = Matrix::new(384, some).unwrap();
    let mean: Vec<f32> =
        (0..384).map(|d| (0..1500).map(|i| some.row(i)[d]).sum::<f32>() / 1500.0).collect();
    let mut left_of = std::collections::BTreeMap::new();
    for (name, most) in [
        ("saq:2", 0.15),
        ("saq:4", 0.01),
        ("rabitq", 0.5),
        ("erabitq:8", 1e-4),
        ("rvq:8B", 0.6),
        ("rvq5:8B", 0.7),
        ("prq:2x12B", 0.6),
        ("pq:24B", 0.6),
        ("pq4:24B", 0.8),
        ("pq6:48B", 0.5),
        ("opq:24B", 0.5),
        ("sq:4", 0.05),
        ("sq:8", 2e-4),
        ("lvq:6", 2e-3),
        ("lvq:4x4", 1e-4),
        ("f16", 2e-7),
        ("bf16", 1e-5),
        ("f32", 2e-16),
    ] {
        let config = QuantizerConfig { quantizer: spec(name), ..QuantizerConfig::default() };
        let quantizer = Quantizer::train(some.view(), &config).unwrap();
        let codes = quantizer.encode(some.view()).unwrap();
        // What is left of the energy about the mean.
        let left = |levels: usize| -> f64 {
            let (mut left, mut all) = (0.0, 0.0);
            for i in (0..1500).step_by(30) {
                let decoded = quantizer.decode_levels(&codes, i, levels);
                left += distance(Metric::L2, &decoded, some.row(i));
                all += distance(Metric::L2, &mean, some.row(i));
            }
            left / all
        };
        let by_level: Vec<f64> = (0..=quantizer.levels()).map(left).collect();
        assert!((by_level[0] - 1.0).abs() < 1e-3, "{name}: {by_level:?}");
        assert!(by_level.windows(2).all(|pair| pair[1] < pair[0]), "{name}: {by_level:?}");
        let last = *by_level.last().unwrap();
        assert!(last < most && last > most / 20.0, "{name}: {last} of {most}");
        left_of.insert(name, last);

        let decoded = quantizer.decode(&codes, 7);
        let between = quantizer.symmetric(&codes, 7).unwrap();
        let (mut symmetric, mut asymmetric) = (0.0, 0.0);
        let from_vector = quantizer.estimate(&codes, some.row(7)).unwrap();
        // Estimates of PQ are this much more than distances to what codes stand for.
        let added = f64::from(between[7]);
        for i in (0..1500).step_by(11) {
            let exact = distance(Metric::L2, some.row(7), some.row(i));
            symmetric += (f64::from(between[i]) - exact).abs() / exact.max(0.1);
            asymmetric += (f64::from(from_vector[i]) - exact).abs() / exact.max(0.1);
            if name.contains("pq") {
                let expected = distance(Metric::L2, &decoded, &quantizer.decode(&codes, i));
                assert!((f64::from(between[i]) - added - expected).abs() < 1e-3, "{name} {i}");
            }
        }
        // Both sides have errors; of 137 distances those may happen to cancel.
        assert!(symmetric > 0.9 * asymmetric, "{name}: {symmetric} {asymmetric}");
        assert!(symmetric / 137.0 < 2.0 * last.sqrt() + 1e-3, "{name}: {symmetric}");
    }
    for (more, fewer) in [("saq:4", "saq:2"), ("sq:8", "sq:4"), ("pq:24B", "pq4:24B")] {
        assert!(left_of[more] < left_of[fewer], "{left_of:?}");
    }
}

/// Vectors that count for more are left with less; weights that are all alike change no byte.
#[test]
fn weights_count() {
    const ROWS: usize = 1500;
    let set = wordnet();
    let some = set.base.data()[..ROWS * 384].to_vec();
    let (real, small) = (Matrix::new(384, some).unwrap(), synthetic(ROWS, 45, 52).0);
    // One in eight counts sixteen times as much as the others.
    let weights: Vec<f32> = (0..ROWS).map(|i| if i % 8 == 0 { 16.0 } else { 1.0 }).collect();
    for (name, base) in
        [("pq:24B", &real), ("opq:9B", &small), ("rvq5:12B", &real), ("prq4:2x12B", &real)]
    {
        let config = QuantizerConfig { quantizer: spec(name), ..QuantizerConfig::default() };
        let left = |quantizer: &Quantizer| -> [f64; 2] {
            let codes = quantizer.encode(base.view()).unwrap();
            let mut left = [0.0; 2];
            for i in 0..ROWS {
                let l2_sq = distance(Metric::L2, &quantizer.decode(&codes, i), base.row(i));
                left[usize::from(weights[i] == 1.0)] += l2_sq;
            }
            left
        };
        let plain = left(&Quantizer::train(base.view(), &config).unwrap());
        let weighted = left(&Quantizer::train_weighted(base.view(), &weights, &config).unwrap());
        assert!(weighted[0] < 0.97 * plain[0], "{name}: {weighted:?}, without weights {plain:?}");
        assert!(weighted[1] > plain[1], "{name}: {weighted:?}, without weights {plain:?}");

        let config = without_kept(IndexConfig { quantizer: spec(name), ..IndexConfig::default() });
        let config = IndexConfig { nlist: Some(4), ..config };
        let plain = Index::build(base, &config).unwrap();
        let alike = IndexBuilder::new(&config).weights(&[3.0; ROWS]).build(base).unwrap().0;
        assert!(plain.as_bytes() == alike.as_bytes(), "{name}");
    }
}

/// Codes for inner products err less for near neighbours, and find more.
#[test]
fn anisotropic_codes_find_more() {
    let set = wordnet();
    let queries = set.some_queries(150);
    for (metric, name) in [
        (Metric::InnerProduct, "pq:24B"),
        (Metric::InnerProduct, "pq4:48B"),
        (Metric::Cosine, "pq4:48B"),
    ] {
        let truth: Vec<u32> = exact(&set.base, &queries, metric, 10)
            .iter()
            .flat_map(|found| ids(found))
            .map(|id| id as u32)
            .collect();
        let [plain, better] = [None, Some(0.1)].map(|anisotropic| {
            let config = IndexConfig { anisotropic, ..config(metric, name, 1) };
            let row = nonius::quality(&set.base, &queries, &truth, 10, &config).unwrap();
            [row.err_nn, row.err_random, row.recall_at_10]
        });
        let what = format!("{metric} {name}: {better:?}, without {plain:?}");
        // Relative to norms; under cosine relative to the distance, which is small for the nearest.
        let error = usize::from(metric == Metric::Cosine);
        assert!(better[error] < 0.6 * plain[error], "{what}");
        assert!(better[2] > plain[2] - 0.01, "{what}");
        if name == "pq:24B" {
            assert!(better[2] > plain[2] + 0.01, "{what}");
        }
    }
}

/// Three deviations cover at least 99% of the errors on real vectors: random ones, and the near
/// neighbours that a search is about, where no dimensions are dropped.
#[test]
fn the_error_bound_holds_on_real_vectors() {
    let set = wordnet();
    let queries = set.some_queries(12);
    for metric in Metric::ALL {
        for quantizer in ["rabitq", "erabitq:4", "saq:1", "saq:4", "saq:8"] {
            let what = format!("{metric} {quantizer}");
            let saq = train(&set.base, metric, quantizer);
            let codes = saq.encode(set.base.view()).unwrap();
            let dropped = saq.plan().iter().any(|s| s.bits == 0);
            let (mut inside, mut count) = (0.0, 0.0);
            let (mut near_inside, mut near_count) = (0.0, 0.0);
            let (mut square, mut deviations) = (0.0, 0.0);
            for q in 0..queries.rows() {
                let query = queries.row(q);
                let near = &set.truth[q];
                for (i, e) in saq.estimate(&codes, query).unwrap().iter().enumerate() {
                    let is_near = near.contains(&(i as u64));
                    if i % 11 != 0 && !is_near {
                        continue;
                    }
                    let error = f64::from(e.distance) - distance(metric, query, set.base.row(i));
                    let deviation = f64::from(e.deviation);
                    assert!(deviation > 0.0 && deviation.is_finite(), "{what}");
                    let ok = f64::from(u8::from(error.abs() <= 3.0 * deviation));
                    if is_near {
                        near_inside += ok;
                        near_count += 1.0;
                    } else {
                        inside += ok;
                        count += 1.0;
                        square += error * error;
                        deviations += deviation * deviation;
                    }
                }
            }
            assert!(inside / count > 0.99, "{what}: {} inside", inside / count);
            if !dropped {
                let share = near_inside / near_count;
                assert!(share > 0.99, "{what}: {share} of the neighbours inside");
            }
            // And the bound is no more than twice too wide.
            let ratio = f64::sqrt(square / deviations);
            assert!(ratio > 0.5, "{what}: errors are {ratio} deviations");
        }
    }
}

/// What a code decodes to is near the vector, and nearer with more bits.
#[test]
fn codes_decode_to_their_vectors() {
    let set = wordnet();
    let base = Matrix::new(384, set.base.data()[..1500 * 384].to_vec()).unwrap();
    for metric in Metric::ALL {
        let mut before = f64::INFINITY;
        for quantizer in ["saq:0.5", "saq:1", "saq:2", "saq:4", "saq:8"] {
            let saq = train(&base, metric, quantizer);
            let codes = saq.encode(base.view()).unwrap();
            let error: f64 = (0..500)
                .map(|i| distance(Metric::L2, &saq.decode(&codes, i), base.row(i)) / 500.0)
                .sum();
            assert!(error < 0.7 * before, "{metric} {quantizer}: {error}, before {before}");
            before = error;
            // Cutting bits off makes it worse, step by step, down to nothing.
            let cut = |bits| distance(Metric::L2, &saq.decode_bits(&codes, 7, bits), base.row(7));
            assert!(cut(13) <= cut(1) && cut(1) < 1.5, "{metric} {quantizer}");
        }
        assert!(before < 1e-3, "{metric}: {before}");
    }
}

/// Rows that were not trained on, in another number of rows, of every remainder of a block.
#[test]
fn other_vectors_are_encoded_alike() {
    let (base, queries) = synthetic(1500, 30, 52);
    for metric in Metric::ALL {
        let saq = train(&base, metric, "erabitq:6");
        let (others, _) = synthetic(333, 30, 53);
        let truth: Vec<Vec<u64>> =
            exact(&others, &queries, metric, 10).iter().map(|found| ids(found)).collect();
        let codes = saq.encode(others.view()).unwrap();
        let found: Vec<_> = (0..queries.rows())
            .map(|q| {
                let mut found: Vec<nonius::Neighbor> = saq
                    .estimate(&codes, queries.row(q))
                    .unwrap()
                    .iter()
                    .enumerate()
                    .map(|(id, e)| nonius::Neighbor { id: id as u64, distance: e.distance })
                    .collect();
                found.sort_by(|a, b| a.distance.total_cmp(&b.distance));
                if metric == Metric::InnerProduct {
                    found.reverse();
                }
                found
            })
            .collect();
        let reach = recall(&truth, &found, 10);
        assert!(reach > 0.9, "{metric}: {reach}");
        for rows in [0, 1, 31, 32, 33] {
            let part = Matrix::new(30, others.data()[..rows * 30].to_vec()).unwrap();
            let codes = saq.encode(part.view()).unwrap();
            assert_eq!((codes.len(), codes.is_empty()), (rows, rows == 0));
            assert_eq!(saq.estimate(&codes, queries.row(0)).unwrap().len(), rows);
        }
    }
}

#[test]
fn wrong_vectors_are_refused() {
    let (base, _) = synthetic(100, 8, 54);
    let saq = train(&base, Metric::Cosine, "saq:4");
    let codes = saq.encode(base.view()).unwrap();
    let mismatch = VectorError::DimMismatch { expected: 8, found: 9 };
    assert_eq!(saq.encode(Matrix::zeros(3, 9).view()).unwrap_err(), mismatch);
    let error = saq.estimate(&codes, &[0.5; 9]).unwrap_err();
    assert_eq!(error, SearchError::Query(mismatch));
    let zero = VectorError::ZeroVector { row: 2 };
    let mut three = Matrix::new(8, base.data()[..24].to_vec()).unwrap();
    three.row_mut(2).fill(0.0);
    assert_eq!(saq.encode(three.view()).unwrap_err(), zero);
    let config = SaqConfig { metric: Metric::Cosine, ..SaqConfig::default() };
    let error = Saq::train(three.view(), &config).unwrap_err();
    assert!(error.to_string().contains("row 2"), "{error}");
    let empty = Matrix::new(8, Vec::new()).unwrap();
    let error = Saq::train(empty.view(), &config).unwrap_err();
    assert!(matches!(error, nonius::BuildError::Empty), "{error:?}");
    let wrong = SaqConfig { quantizer: nonius::QuantizerSpec::saq(99.0), ..config };
    let error = Saq::train(base.view(), &wrong).unwrap_err();
    assert!(matches!(error, nonius::BuildError::Config(_)), "{error:?}");
    let mut query = [0.1; 8];
    query[3] = f32::NAN;
    let error = saq.estimate(&codes, &query).unwrap_err();
    assert!(matches!(error, SearchError::Query(VectorError::NonFinite { column: 3, .. })));
}
