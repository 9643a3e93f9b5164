//! The same input, configuration and seed give the same bytes and the same answers, whatever the
//! number of threads and the SIMD level.
//!
//! The level is chosen once a process, so the tests of levels run this binary again as a child
//! with `NONIUS_SIMD` set, and compare what it prints.

use std::process::Command;

use nonius::{Index, IndexBuilder, IndexConfig, Keep, Matrix, Metric, SearchParams, VectorSource};
use nonius_datasets::Synthetic;
use nonius_tests::{all_lists, bits, config, synthetic, wordnet};
use rayon::ThreadPoolBuilder;

const QUANTIZERS: [&str; 10] =
    ["saq:4", "saq:0.5", "saq:2.5", "rabitq", "erabitq:4", "sq:5", "lvq:4x7", "f16", "bf16", "f32"];

/// Those whose training takes longer, with one metric each: it changes little of what they do.
const CODEBOOKS: [(Metric, &str); 6] = [
    (Metric::InnerProduct, "rvq:7B"),
    (Metric::L2, "opq:8B"),
    (Metric::Cosine, "prq:2x7B"),
    (Metric::Cosine, "pq4:9B"),
    (Metric::L2, "pq5:7B"),
    (Metric::InnerProduct, "rvq9:8B"),
];

fn case(metric: Metric, quantizer: &str, nlist: usize) -> (String, IndexConfig) {
    let keep = if nlist == 1 { Keep::F16 } else { Keep::F32 };
    let config = IndexConfig { keep, ..config(metric, quantizer, nlist) };
    (format!("{metric}/{quantizer}/{nlist}"), config)
}

/// The configurations that are compared, each with a set of its own.
fn cases() -> Vec<(String, IndexConfig)> {
    let mut cases = Vec::new();
    let fast =
        Metric::ALL.iter().flat_map(|&metric| QUANTIZERS.map(|quantizer| (metric, quantizer)));
    // Flat and in lists by turns: every quantizer has both, and more are in `golden.rs`.
    for (turn, (metric, quantizer)) in fast.enumerate() {
        cases.push(case(metric, quantizer, [1, 12][turn % 2]));
    }
    for (metric, quantizer) in CODEBOOKS {
        cases.extend([1, 12].map(|nlist| case(metric, quantizer, nlist)));
    }
    let fast = IndexConfig { encoding: nonius::Encoding::Fast, ..config(Metric::L2, "saq:4", 12) };
    cases.push(("fast".to_owned(), fast));
    for (metric, quantizer) in [(Metric::Cosine, "pq:9B"), (Metric::InnerProduct, "rvq4:7B")] {
        let config = IndexConfig { anisotropic: Some(0.3), ..config(metric, quantizer, 12) };
        cases.push((format!("anisotropic {quantizer}"), config));
    }
    for spill in [0.4, 1.0] {
        let config = IndexConfig { spill, ..config(Metric::L2, "saq:2", 12) };
        cases.push((format!("spill {spill}"), config));
    }
    cases.push(("seed".to_owned(), IndexConfig { seed: 77, ..config(Metric::L2, "saq:4", 12) }));
    cases
}

/// A set whose dimension and number of rows are multiples of nothing that kernels like.
fn awkward() -> (Matrix, Matrix) {
    synthetic(1311, 91, 21)
}

fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (base, queries) = awkward();
    for (name, config) in cases() {
        let build = || IndexBuilder::new(&config).build(&base).unwrap();
        let (one, report) = in_pool(1, build);
        let found =
            in_pool(1, || one.search_batch(queries.view(), 10, &SearchParams::default()).unwrap());
        for threads in [2, 7] {
            let (index, other) = in_pool(threads, build);
            assert!(index.as_bytes() == one.as_bytes(), "{name} with {threads} threads");
            assert_eq!(other.inertia, report.inertia, "{name}");
            assert_eq!(other.plan, report.plan, "{name}");
            let again = in_pool(threads, || {
                index.search_batch(queries.view(), 10, &SearchParams::default()).unwrap()
            });
            assert_eq!(again, found, "{name} with {threads} threads");
        }
    }
}

/// More rows than one chunk, a sample that is not all of them, and files.
#[test]
fn a_build_in_several_chunks_is_deterministic_too() {
    let source = Synthetic { rows: 300_000, dim: 32, clusters: 64, ..Synthetic::default() };
    let source = source.generator();
    let config = IndexConfig {
        training_rows: 5000,
        keep: Keep::None,
        kmeans_iterations: 4,
        ..config(Metric::L2, "saq:2", 64)
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |threads: usize| {
        let path = folder.path().join(threads.to_string());
        in_pool(threads, || IndexBuilder::new(&config).write(&source, &path).unwrap());
        std::fs::read(path).unwrap()
    };
    let one = write(1);
    assert!(one == write(3));
    let in_memory = in_pool(2, || Index::build(&source, &config).unwrap());
    assert!(one == in_memory.as_bytes());
    assert_eq!(in_memory.len(), source.rows());
    // Every vector is there once.
    let found = in_memory.search(&[0.0; 32], usize::MAX, &all_lists()).unwrap();
    let mut ids: Vec<u64> = found.iter().map(|n| n.id).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..300_000));
}

#[test]
fn another_seed_gives_another_index() {
    let (base, _) = awkward();
    for nlist in [1, 12] {
        let build = |seed| {
            Index::build(&base, &IndexConfig { seed, ..config(Metric::L2, "saq:4", nlist) })
                .unwrap()
        };
        assert!(build(1).as_bytes() == build(1).as_bytes());
        assert!(build(1).as_bytes() != build(2).as_bytes());
    }
}

/// A line for each case: the sums of the index's bytes and of the results' ids and distances.
fn fingerprints() -> Vec<String> {
    let (base, queries) = awkward();
    let mut lines = Vec::new();
    let mut line = |name: &str, index: &Index, queries: &Matrix| {
        let mut results = Vec::new();
        for params in [
            SearchParams { nprobe: 4, ..SearchParams::default() },
            SearchParams { rerank: 40, ..all_lists() },
        ] {
            for i in 0..queries.rows() {
                for (id, distance) in bits(&index.search(queries.row(i), 10, &params).unwrap()) {
                    results.extend(id.to_le_bytes());
                    results.extend(distance.to_le_bytes());
                }
            }
        }
        lines.push(format!(
            "{name} {:08x} {:08x}",
            crc32c::crc32c(index.as_bytes()),
            crc32c::crc32c(&results)
        ));
    };
    for (name, config) in cases() {
        line(&name, &Index::build(&base, &config).unwrap(), &queries);
    }
    let set = wordnet();
    let part = Matrix::new(384, set.base.data()[..2000 * 384].to_vec()).unwrap();
    let index = Index::build(&part, &config(Metric::Cosine, "saq:3", 20)).unwrap();
    line("wordnet", &index, &set.some_queries(20));
    lines
}

/// Prints the fingerprints of this process's level, for `the_level_changes_no_bit`.
#[test]
#[ignore = "a helper that `the_level_changes_no_bit` runs at each level"]
fn print_fingerprints() {
    println!("level {}", nonius_simd::level());
    for line in fingerprints() {
        println!("print {line}");
    }
}

#[test]
fn the_level_changes_no_bit() {
    let own = fingerprints();
    assert!(own.len() > 30);
    for level in nonius_simd::available() {
        if level == nonius_simd::level() {
            continue;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "print_fingerprints", "--ignored", "--nocapture"])
            .env("NONIUS_SIMD", level.name())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{level}: {text}{errors}");
        // The test harness may write something of its own before the first line.
        assert!(text.contains(&format!("level {level}\n")), "{level}: {text}");
        let theirs: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once("print ")?.1)).collect();
        assert_eq!(theirs.len(), own.len(), "{level}");
        let different: Vec<(&str, &str)> = own
            .iter()
            .zip(&theirs)
            .filter(|(own, theirs)| own != *theirs)
            .map(|(own, theirs)| (own.as_str(), *theirs))
            .collect();
        assert!(different.is_empty(), "{level} against {}: {different:#?}", nonius_simd::level());
    }
}
