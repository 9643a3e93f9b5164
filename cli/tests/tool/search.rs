//! `truth`, `search`, `eval` and `quality`.

use nonius_datasets::{load, read_ids, recall};
use serde_json::Value;

use crate::{DIM, QUERIES, ROWS, Sandbox, number_within, plan_dims};

/// The `k` nearest rows by squared distance in `f64`, from a plain sort.
fn sorted_rows(sandbox: &Sandbox, query: usize, k: usize) -> Vec<u64> {
    let query = sandbox.queries.row(query);
    let mut all: Vec<(f64, u64)> = (0..ROWS)
        .map(|row| {
            let squares = sandbox.base.row(row).iter().zip(query);
            let distance = squares.map(|(&x, &q)| (f64::from(x) - f64::from(q)).powi(2)).sum();
            (distance, row as u64)
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all[..k].iter().map(|&(_, row)| row).collect()
}

#[test]
fn truth_is_exact() {
    let sandbox = Sandbox::new();
    let outcome = sandbox
        .run("truth base.fvecs queries.fvecs -k 15 --metric l2 -o t.ivecs --distances t.fvecs")
        .success();
    assert!(outcome.stdout.starts_with("15 neighbours"), "{}", outcome.stdout);
    let truth = read_ids(sandbox.path("t.ivecs")).unwrap();
    assert_eq!((truth.rows(), truth.k()), (QUERIES, 15));
    for query in 0..QUERIES {
        assert_eq!(truth.row(query), sorted_rows(&sandbox, query, 15));
    }
    let distances = load(sandbox.path("t.fvecs")).unwrap();
    assert_eq!((distances.rows(), distances.dim()), (QUERIES, 15));
    assert!(distances.row(3).is_sorted());
    sandbox.run("truth base.fvecs queries.fvecs -k 15 -o t.npy").success();
    assert_eq!(read_ids(sandbox.path("t.npy")).unwrap(), truth);
}

#[test]
fn an_exhaustive_search_with_rerank_finds_the_truth() {
    let sandbox = Sandbox::with_truth();
    sandbox.run("build base.fvecs -o a.nonius --keep f32 --nlist 8").success();
    let outcome = sandbox
        .run("search a.nonius queries.fvecs -k 20 --nprobe 8 --rerank 200 -o r.ivecs --distances r.fvecs --json s.json")
        .success();
    assert!(outcome.stdout.contains("QPS"), "{}", outcome.stdout);
    let truth = read_ids(sandbox.path("truth.ivecs")).unwrap();
    assert_eq!(read_ids(sandbox.path("r.ivecs")).unwrap(), truth);
    let distances = load(sandbox.path("r.fvecs")).unwrap();
    for query in 0..QUERIES {
        assert!(distances.row(query).is_sorted());
    }
    let json = sandbox.read_json("s.json");
    assert_eq!(json["queries"], QUERIES);
    number_within(&json, "qps", 1.0, 1e9);
    number_within(&json, "bytes_touched_per_query", 1.0, 1e7);

    // The same from the user's own file, of an index that keeps nothing.
    sandbox.run("build base.fvecs -o bare.nonius --keep none --nlist 8").success();
    let search = "search bare.nonius queries.fvecs -k 20 --nprobe 8 --rerank 200 -o own.npy";
    sandbox.run(search).failure(1, &["rerank"]);
    sandbox.run("convert base.fvecs base.npy").success();
    for own in ["base.fvecs", "base.npy"] {
        sandbox.run(&format!("{search} --rerank-from {own} --threads 2")).success();
        assert_eq!(read_ids(sandbox.path("own.npy")).unwrap(), truth);
    }
    sandbox.run(&format!("{search} --rerank-from queries.fvecs")).failure(1, &["rows"]);
}

#[test]
fn asking_for_more_than_there_are() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius --nlist 8").success();
    sandbox.run("search a.nonius queries.fvecs -k 5000 --nprobe 100 -o r.ivecs").success();
    let found = read_ids(sandbox.path("r.ivecs")).unwrap();
    assert_eq!((found.rows(), found.k()), (QUERIES, ROWS));
    let mut row = found.row(0).to_vec();
    row.sort_unstable();
    assert!(row.iter().copied().eq(0..ROWS as u64), "every vector once");

    // One list holds fewer than k: the rest is -1, and the distances the worst there are.
    sandbox
        .run("search a.nonius queries.fvecs -k 1500 --nprobe 1 -o r.ivecs --distances r.fvecs")
        .success();
    let found = read_ids(sandbox.path("r.ivecs")).unwrap();
    assert_eq!(found.row(0)[ROWS - 1], nonius_datasets::NO_ID);
    assert_eq!(load(sandbox.path("r.fvecs")).unwrap().row(0)[ROWS - 1], f32::MAX);
}

#[test]
fn wide_ids_need_npy() {
    let sandbox = Sandbox::new();
    let mut npy = Vec::new();
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({ROWS}, 1), }}");
    npy.extend(b"\x93NUMPY\x01\x00\x76\x00");
    npy.extend(format!("{header:<117}\n").bytes());
    npy.extend((0..ROWS as i64).flat_map(|i| (5_000_000_000 + i).to_le_bytes()));
    std::fs::write(sandbox.path("ids.npy"), npy).unwrap();
    sandbox.run("build base.fvecs -o a.nonius --ids ids.npy").success();
    sandbox
        .run("search a.nonius queries.fvecs -o r.ivecs")
        .failure(1, &["r.ivecs", "id 50000", ".npy"]);
    assert!(!sandbox.path("r.ivecs").exists());
    sandbox.run("search a.nonius queries.fvecs -o r.npy").success();
    let found = read_ids(sandbox.path("r.npy")).unwrap();
    assert!(found.ids().iter().all(|id| (5_000_000_000..5_000_001_500).contains(id)));
}

#[test]
fn eval_reports_every_setting() {
    let sandbox = Sandbox::with_truth();
    sandbox.run("build base.fvecs -o a.nonius --keep f32 --nlist 8 --bits 3").success();
    let outcome = sandbox
        .run("eval a.nonius queries.fvecs truth.ivecs -k 10 --nprobe 1,2,8 --rerank 0,100 --threads 1 --repeat 3 --json e.json")
        .success();
    assert!(outcome.stdout.contains("recall@10"), "{}", outcome.stdout);
    assert_eq!(outcome.stdout.lines().count(), 7);
    let json = sandbox.read_json("e.json");
    assert_eq!(json["threads"], 1);
    assert_eq!(json["vectors"], ROWS);
    number_within(&json, "bytes_per_vector", 9.0, 60.0);
    assert_eq!(plan_dims(&json), DIM as u64);
    let rows = json["rows"].as_array().unwrap();
    let settings: Vec<(u64, u64)> = rows
        .iter()
        .map(|row| (row["nprobe"].as_u64().unwrap(), row["rerank"].as_u64().unwrap()))
        .collect();
    assert_eq!(settings, [(1, 0), (2, 0), (8, 0), (1, 100), (2, 100), (8, 100)]);
    for row in rows {
        number_within(row, "recall", 0.1, 1.0);
        number_within(row, "qps", 1.0, 1e9);
        let mean = number_within(row, "mean_us", 0.01, 1e7);
        number_within(row, "p99_us", 0.5 * mean, 1e7);
        number_within(row, "bytes_touched_per_query", 1.0, 1e7);
    }
    let field = |row: usize, name: &str| rows[row][name].as_f64().unwrap();
    assert!(field(0, "recall") < field(2, "recall"), "more lists find more");
    assert!(field(0, "bytes_touched_per_query") < field(2, "bytes_touched_per_query"));
    assert!(field(2, "recall") < 1.0, "three bits are not exact");
    assert_eq!(field(5, "recall"), 1.0, "all lists and an exact rerank of 100");

    // The recall is what the results of `search` come to.
    sandbox.run("search a.nonius queries.fvecs -k 10 --nprobe 2 -o r.ivecs").success();
    let truth = read_ids(sandbox.path("truth.ivecs")).unwrap();
    let found = read_ids(sandbox.path("r.ivecs")).unwrap();
    assert!((recall(&truth, &found, 10, 10) - field(1, "recall")).abs() < 1e-12);

    // By default nprobe doubles up to all lists.
    let json = sandbox.run("eval a.nonius queries.fvecs truth.ivecs --threads 2 --json -").json();
    let nprobes: Vec<u64> =
        json["rows"].as_array().unwrap().iter().map(|r| r["nprobe"].as_u64().unwrap()).collect();
    assert_eq!(nprobes, [1, 2, 4, 8]);
    assert_eq!(json["threads"], 2);
}

#[test]
fn default_parameters_find_nine_of_ten() {
    let sandbox = Sandbox::with_truth();
    sandbox.run("build base.fvecs -o a.nonius").success();
    sandbox.run("search a.nonius queries.fvecs -o r.ivecs").success();
    let truth = read_ids(sandbox.path("truth.ivecs")).unwrap();
    let found = read_ids(sandbox.path("r.ivecs")).unwrap();
    let recall = recall(&truth, &found, 10, 10);
    assert!(recall > 0.85, "recall {recall}");
}

#[test]
fn quality_ranks_quantizers() {
    let sandbox = Sandbox::new();
    let outcome = sandbox
        .run("quality base.fvecs queries.fvecs --metric l2 --quantizers saq:1,saq:2,saq:4,rabitq,erabitq:4 --json q.json --svg q.svg")
        .success();
    let svg = std::fs::read_to_string(sandbox.path("q.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("erabitq"), "{svg}");
    assert_eq!(outcome.stdout.lines().count(), 6);
    let json = sandbox.read_json("q.json");
    let rows = json["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["quantizer"].as_str().unwrap()).collect();
    assert_eq!(names, ["saq:1", "saq:2", "saq:4", "rabitq", "erabitq:4"]);
    for row in rows {
        number_within(row, "bits", 1.0, 4.0);
        number_within(row, "bytes_per_vector", 3.0, 24.0);
        let error = number_within(row, "err_nn", 1e-5, 2.0);
        number_within(row, "err_random", 1e-5, 2.0);
        number_within(row, "bias_nn", -error, error);
        let recall = number_within(row, "recall_at_10", 0.05, 1.0);
        number_within(row, "recall_10_at_100", recall, 1.0);
        number_within(row, "encode_vectors_per_second", 1.0, 1e12);
        assert_eq!(plan_dims(row), DIM as u64);
    }
    let error = |row: usize| rows[row]["err_nn"].as_f64().unwrap();
    assert!(error(0) > error(1) && error(1) > error(2), "more bits, less error");
    assert!(error(3) > error(4));

    // The truth may come from a file, and lists from k-means.
    sandbox.run("truth base.fvecs queries.fvecs -o t.ivecs").success();
    let with_truth = |flags: &str| -> Value {
        let command =
            format!("quality base.fvecs queries.fvecs --quantizers saq:2 {flags} --json -");
        sandbox.run(&command).json()["rows"][0].take()
    };
    assert_eq!(with_truth("--truth t.ivecs")["err_nn"], rows[1]["err_nn"]);
    // Of the same plan, more lists leave shorter residuals.
    let with_lists = |nlist: usize| with_truth(&format!("--nlist {nlist}"));
    let (few, many) = (with_lists(2), with_lists(32));
    assert_eq!(few["plan"], many["plan"]);
    assert!(few["err_nn"].as_f64().unwrap() > many["err_nn"].as_f64().unwrap());
    let json =
        sandbox.run("quality base.fvecs queries.fvecs --max-base 500 --quantizers saq:2 --json -");
    assert_eq!(json.json()["vectors"], 500);
}

#[test]
fn second_lists_and_searches_that_stop_early() {
    let sandbox = Sandbox::with_truth();
    let json = sandbox.run("build base.fvecs -o a.nonius --nlist 8 --spill 0.5 --json -").json();
    number_within(&json, "spilled", 0.4 * ROWS as f64, 0.6 * ROWS as f64);
    let info = sandbox.run("info a.nonius").success();
    assert!(info.stdout.contains("second lists"), "{}", info.stdout);
    sandbox.run("verify a.nonius").success();
    let search = "search a.nonius queries.fvecs -k 20 --nprobe 8 --rerank 200 --warm -o r.ivecs";
    sandbox.run(search).success();
    let truth = read_ids(sandbox.path("truth.ivecs")).unwrap();
    let of = |found: &str| recall(&truth, &read_ids(sandbox.path(found)).unwrap(), 20, 20);
    let all = of("r.ivecs");
    assert!(all > 0.99, "{all}");
    let mapped = std::fs::read(sandbox.path("r.ivecs")).unwrap();
    sandbox.run(&format!("{search} --into-memory")).success();
    assert!(std::fs::read(sandbox.path("r.ivecs")).unwrap() == mapped);
    for early in ["--centroid-ratio 1", "--patience 1"] {
        sandbox.run(&format!("{search} {early} --json s.json")).success();
        let found = of("r.ivecs");
        assert!(found <= all && found > 0.2, "{early}: {found}");
    }
    sandbox.run(&format!("{search} --centroid-ratio 0.5")).failure(2, &["from 1 on"]);
    sandbox.run("build base.fvecs -o b.nonius --nlist 8 --spill 2").failure(2, &["spill"]);
}

#[test]
fn outliers_are_kept_whole_within_their_bytes() {
    let sandbox = Sandbox::with_truth();
    let build = |bytes: &str| {
        let flags = "--quantizer pq:5B --nlist 8 --json -";
        sandbox.run(&format!("build base.fvecs -o a.nonius {flags} --outlier-bytes={bytes}"))
    };
    let (none, some) = (build("0").json(), build("10").json());
    assert_eq!(none["outliers"], 0);
    let count = some["outliers"].as_f64().unwrap();
    let whole = 4.0 * some["dim"].as_f64().unwrap() + 8.0;
    number_within(&some, "outliers", 10.0 * ROWS as f64 / whole - 1.0, 10.0 * ROWS as f64 / whole);
    let of = |json: &serde_json::Value| json["bytes_per_vector"].as_f64().unwrap();
    assert!((of(&some) - of(&none) - count * whole / ROWS as f64).abs() < 1e-9);
    let info = sandbox.run("info a.nonius").success();
    assert!(info.stdout.contains(&format!("{count} vectors, kept whole")), "{}", info.stdout);
    assert_eq!(sandbox.run("info a.nonius --json -").json()["outliers"], some["outliers"]);
    sandbox.run("verify a.nonius").success();
    sandbox.run("search a.nonius queries.fvecs -k 20 --nprobe 8 -o r.ivecs").success();
    build("-1").failure(2, &["outlier_bytes", "found -1"]);

    let quality = |bytes: &str| {
        let flags = "--quantizers pq:5B --json -";
        sandbox
            .run(&format!("quality base.fvecs queries.fvecs {flags} --outlier-bytes {bytes}"))
            .json()["rows"][0]
            .clone()
    };
    let (none, some) = (quality("0"), quality("30"));
    number_within(&none, "bytes_per_vector", 5.0, 5.0);
    number_within(&some, "bytes_per_vector", 33.0, 35.0);
    assert!(some["err_nn"].as_f64() < none["err_nn"].as_f64());
}
