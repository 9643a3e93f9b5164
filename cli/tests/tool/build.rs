//! `build`: the report, the index file's determinism, ids, ways to name a quantizer.

use nonius::Index;

use crate::{DIM, ROWS, Sandbox, finish, number_within, plan_dims};

#[test]
fn the_report_has_every_field() {
    let sandbox = Sandbox::new();
    let outcome = sandbox
        .run("build base.fvecs -o a.nonius --metric l2 --quantizer saq --bits 4 --nlist 16 --json a.json")
        .success();
    assert!(outcome.stdout.contains("1500 x 24, l2"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("saq:4, 16 lists"), "{}", outcome.stdout);

    let json = sandbox.read_json("a.json");
    assert_eq!(json["vectors"], ROWS);
    assert_eq!(json["dim"], DIM);
    assert_eq!(json["metric"], "l2");
    assert_eq!(json["quantizer"], "saq:4");
    assert_eq!(json["bits"], 4.0);
    assert_eq!(json["nlist"], 16);
    // 4 bits of 24 dimensions and 8 bytes of factors at most, 8 bytes of id; lists are padded.
    number_within(&json, "bytes_per_vector", 9.0, 60.0);
    assert_eq!(json["file_bytes"], sandbox.bytes("a.nonius").len());
    let total = number_within(&json, "total_seconds", 0.0, 600.0);
    number_within(&json, "train_seconds", 0.0, total);
    number_within(&json, "encode_seconds", 0.0, total);
    let encoder = number_within(&json, "encoder_cpu_seconds", 0.0, 600.0);
    let threads = number_within(&json, "threads", 1.0, 1e4);
    let speed = number_within(&json, "encode_vectors_per_second", 1.0, 1e12);
    assert!((speed * encoder / (threads * ROWS as f64) - 1.0).abs() < 1e-3);
    if cfg!(target_os = "linux") {
        number_within(&json, "peak_rss_bytes", 1e6, 1e9);
    }
    assert_eq!(plan_dims(&json), DIM as u64);
    assert!(json["plan"][0]["bits"].is_u64());
    assert_eq!(json["codebooks"], serde_json::json!([]));
}

#[test]
fn bytes_do_not_depend_on_threads_or_instruction_set() {
    let sandbox = Sandbox::new();
    let build = "build base.fvecs --quantizer saq --bits 3 --nlist 12 --seed 5";
    sandbox.run(&format!("{build} --threads 1 -o one.nonius")).success();
    sandbox.run(&format!("{build} --threads 2 -o two.nonius")).success();
    let mut scalar = sandbox.command(&format!("{build} -o scalar.nonius"));
    finish(scalar.env("NONIUS_SIMD", "scalar")).success();
    assert!(sandbox.bytes("one.nonius") == sandbox.bytes("two.nonius"), "threads");
    assert!(sandbox.bytes("one.nonius") == sandbox.bytes("scalar.nonius"), "instruction set");
    sandbox.run(&format!("{build} --seed 6 -o other.nonius")).failure(2, &["--seed"]);
    let other = build.replace("--seed 5", "--seed 6");
    sandbox.run(&format!("{other} -o other.nonius")).success();
    assert!(sandbox.bytes("one.nonius") != sandbox.bytes("other.nonius"), "seed");
}

#[test]
fn quantizers_can_be_named_in_several_ways() {
    let sandbox = Sandbox::new();
    let name = |flags: &str| {
        let command = format!("build base.fvecs -o q.nonius --nlist 4 {flags} --json -");
        sandbox.run(&command).json()["quantizer"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(""), "saq:4");
    assert_eq!(name("--bits 0.5"), "saq:0.5");
    assert_eq!(name("--bytes 16"), "saq:16B");
    assert_eq!(name("--quantizer saq:2"), "saq:2");
    assert_eq!(name("--quantizer saq:20B"), "saq:20B");
    assert_eq!(name("--quantizer rabitq"), "rabitq");
    assert_eq!(name("--quantizer erabitq --bits 4 --fast"), "erabitq:4");
}

#[test]
fn every_metric_and_kind_of_kept_vectors_builds() {
    let sandbox = Sandbox::new();
    for (metric, keep, bytes) in [("l2", "none", 0), ("ip", "f16", 2), ("cosine", "f32", 4)] {
        let command =
            format!("build base.fvecs -o k.nonius --metric {metric} --keep {keep} --json -");
        let json = sandbox.run(&command).json();
        assert_eq!((&json["metric"], &json["keep"]), (&metric.into(), &keep.into()));
        let kept = ROWS as f64 * DIM as f64 * f64::from(bytes);
        let codes = json["bytes_per_vector"].as_f64().unwrap() * ROWS as f64;
        number_within(&json, "file_bytes", kept + codes, kept + codes + 200_000.0);
        sandbox.run("verify k.nonius").success();
    }
}

#[test]
fn ids_of_the_users_own() {
    let sandbox = Sandbox::new();
    // Row i has the id 10 i; the results of a search for the rows themselves are these.
    let bytes: Vec<u8> = (0..ROWS as i32)
        .flat_map(|i| [1i32.to_le_bytes(), (10 * i).to_le_bytes()].concat())
        .collect();
    std::fs::write(sandbox.path("ids.ivecs"), bytes).unwrap();
    sandbox.run("build base.fvecs -o i.nonius --keep f32 --ids ids.ivecs").success();
    let index = Index::open(sandbox.path("i.nonius")).unwrap();
    let params = nonius::SearchParams { nprobe: index.nlist(), rerank: 20, ..Default::default() };
    for row in [0, 1, 777, ROWS - 1] {
        let best = index.search(sandbox.base.row(row), 1, &params).unwrap();
        assert_eq!(best[0].id, 10 * row as u64);
    }

    std::fs::write(sandbox.path("few.ivecs"), [1i32.to_le_bytes(), 5i32.to_le_bytes()].concat())
        .unwrap();
    sandbox
        .run("build base.fvecs -o few.nonius --ids few.ivecs")
        .failure(1, &["few.ivecs", "1500 ids", "found 1"]);
    let same: Vec<u8> =
        (0..ROWS).flat_map(|_| [1i32.to_le_bytes(), 5i32.to_le_bytes()].concat()).collect();
    std::fs::write(sandbox.path("same.ivecs"), same).unwrap();
    sandbox
        .run("build base.fvecs -o same.nonius --ids same.ivecs")
        .failure(1, &["id 5", "more than one vector"]);
    assert!(!sandbox.path("same.nonius").exists());
}
