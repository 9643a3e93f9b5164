//! Wrong use (exit code 2) and wrong input (exit code 1): each with a message that says what.

use nonius::Matrix;

use crate::{DIM, Sandbox, finish};

#[test]
fn wrong_use_is_exit_code_2() {
    let sandbox = Sandbox::with_truth();
    sandbox.run("build base.fvecs -o a.nonius").success();
    let before = sandbox.files();
    for (arguments, parts) in [
        ("", &["Usage"][..]),
        ("frobnicate", &["frobnicate"]),
        ("build base.fvecs", &["--output"]),
        ("build base.fvecs -o x --metric hamming", &["hamming", "l2, ip or cosine"]),
        ("build base.fvecs -o x --quantizer pq", &["pq", "saq:SIZE"]),
        ("build base.fvecs -o x --quantizer saq:99", &["12 bits", "99"]),
        ("build base.fvecs -o x --bits -1", &["-1"]),
        ("build base.fvecs -o x --bits 0", &["found 0"]),
        ("build base.fvecs -o x --bits NaN", &["NaN"]),
        ("build base.fvecs -o x --bytes 1", &["found 1"]),
        ("build base.fvecs -o x --bits 4 --bytes 20", &["--bytes"]),
        ("build base.fvecs -o x --quantizer saq:4 --bits 2", &["leave --bits"]),
        ("build base.fvecs -o x --quantizer rabitq --bytes 9", &["rabitq:9B"]),
        ("build base.fvecs -o x --keep f64", &["f64", "f32, f16 or none"]),
        ("build base.fvecs -o x --nlist 0", &["at least 1"]),
        ("build base.fvecs -o x --training-rows 0", &["at least 1"]),
        ("build base.fvecs -o x --threads 0", &["at least 1"]),
        ("build base.fvecs -o x --threads 99999", &["at most"]),
        ("search a.nonius queries.fvecs -k 0 -o r.ivecs", &["-k", "at least 1"]),
        ("search a.nonius queries.fvecs --nprobe 0 -o r.ivecs", &["--nprobe", "at least 1"]),
        ("search a.nonius queries.fvecs -o r.txt", &["r.txt", ".ivecs"]),
        ("search a.nonius queries.fvecs -o r.ivecs --confidence -3", &["-3"]),
        ("eval a.nonius queries.fvecs truth.ivecs --nprobe 1,0", &["--nprobe", "at least 1"]),
        ("eval a.nonius queries.fvecs truth.ivecs --nprobe 1,x", &["whole number"]),
        ("eval a.nonius queries.fvecs truth.ivecs --repeat 0", &["at least 1"]),
        ("eval a.nonius queries.fvecs", &["TRUTH"]),
        ("quality base.fvecs queries.fvecs --quantizers saq:4,nope", &["nope"]),
        ("quality base.fvecs queries.fvecs --truth truth.ivecs --max-base 9", &["--max-base"]),
        ("truth base.fvecs queries.fvecs -k 0 -o t.ivecs", &["at least 1"]),
        ("truth base.fvecs queries.fvecs -o t.fvecs", &["t.fvecs", ".ivecs"]),
    ] {
        let outcome = sandbox.run(arguments);
        assert_eq!(outcome.code, 2, "{arguments}: {}", outcome.stderr);
        for part in parts {
            assert!(outcome.stderr.contains(part), "{arguments}: no {part:?}: {}", outcome.stderr);
        }
        assert_eq!(outcome.stdout, "", "{arguments}");
    }
    let mut command = sandbox.command("build base.fvecs -o x");
    finish(command.env("NONIUS_SIMD", "mmx")).failure(2, &["NONIUS_SIMD", "mmx"]);
    assert_eq!(sandbox.files(), before, "nothing is written");
    sandbox.run("--help").success();
    sandbox.run("--version").success();
}

#[test]
fn wrong_input_is_exit_code_1() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius").success();
    std::fs::write(sandbox.path("empty.fvecs"), b"").unwrap();
    std::fs::write(sandbox.path("empty.npy"), b"").unwrap();
    std::fs::write(sandbox.path("empty.fbin"), [0, 0, 0, 0, 24, 0, 0, 0]).unwrap();
    sandbox.write("narrow.fvecs", &Matrix::zeros(5, DIM - 1));
    let mut cut = sandbox.bytes("base.fvecs");
    cut.truncate(cut.len() - 7);
    std::fs::write(sandbox.path("cut.fvecs"), cut).unwrap();
    sandbox.run("truth base.fvecs queries.fvecs -k 5 -o five.ivecs").success();
    sandbox.run("truth base.fvecs base.fvecs -k 10 -o long.ivecs").success();
    let before = sandbox.files();
    for (arguments, parts) in [
        ("build none.fvecs -o x.nonius", &["none.fvecs", "No such file"][..]),
        ("build empty.fvecs -o x.nonius", &["empty.fvecs"]),
        ("build empty.npy -o x.nonius", &["empty.npy"]),
        ("build empty.fbin -o x.nonius", &["no vectors"]),
        ("build cut.fvecs -o x.nonius", &["cut.fvecs", "truncated"]),
        ("build base.fvecs -o x.nonius --nlist 1501", &["nlist is 1501", "1500 vectors"]),
        ("build base.fvecs -o none/x.nonius", &["none/x.nonius"]),
        ("search a.nonius narrow.fvecs -o r.ivecs", &["narrow.fvecs", "dimension 24", "found 23"]),
        ("search a.nonius empty.fbin -o r.ivecs", &["no queries"]),
        ("eval a.nonius narrow.fvecs five.ivecs", &["dimension 24", "found 23"]),
        ("eval a.nonius queries.fvecs five.ivecs -k 10", &["five.ivecs", "k = 10", "found 5"]),
        ("eval a.nonius queries.fvecs long.ivecs", &["long.ivecs", "40 queries", "1500 rows"]),
        ("eval a.nonius queries.fvecs queries.fvecs", &["queries.fvecs"]),
        ("quality base.fvecs narrow.fvecs", &["dimension 24", "found 23"]),
        ("truth base.fvecs narrow.fvecs -o t.ivecs", &["dimension 24", "found 23"]),
        ("info base.fvecs", &["base.fvecs", "not a Nonius index"]),
        ("convert none.npy x.fvecs", &["none.npy"]),
    ] {
        sandbox.run(arguments).failure(1, parts);
    }
    assert_eq!(sandbox.files(), before, "nothing is left behind");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let sandbox = Sandbox::new();
    // The writer refuses them, so they are put into the bytes: row 1234, column 5.
    let mut bytes = sandbox.bytes("base.fvecs");
    let at = 1234 * (4 + 4 * DIM) + 4 + 4 * 5;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(sandbox.path("nan.fvecs"), &bytes).unwrap();
    for command in [
        "build nan.fvecs -o x.nonius",
        "truth nan.fvecs queries.fvecs -o t.ivecs",
        "quality nan.fvecs queries.fvecs",
        "convert nan.fvecs x.npy",
        "search a.nonius nan.fvecs -o r.ivecs",
    ] {
        if command.starts_with("search") {
            sandbox.run("build base.fvecs -o a.nonius").success();
        }
        sandbox.run(command).failure(1, &["nan.fvecs", "row 1234, column 5", "NaN"]);
    }
    assert!(!sandbox.path("x.nonius").exists());
}

#[test]
fn zero_vectors_have_no_direction() {
    let sandbox = Sandbox::new();
    let mut base = sandbox.base.clone();
    base.row_mut(321).fill(0.0);
    sandbox.write("zero.fvecs", &base);
    sandbox
        .run("build zero.fvecs -o x.nonius --metric cosine")
        .failure(1, &["row 321", "zero vector"]);
    sandbox.run("build zero.fvecs -o x.nonius --metric l2").success();
    sandbox.run("build base.fvecs -o c.nonius --metric cosine").success();
    sandbox.run("search c.nonius zero.fvecs -o r.ivecs").failure(1, &["query 321", "zero vector"]);
}

#[test]
fn reports_that_cannot_be_written_are_failures() {
    let sandbox = Sandbox::new();
    sandbox.run("build base.fvecs -o a.nonius --json none/a.json").failure(1, &["none/a.json"]);
}

#[test]
fn small_sets_build_and_search() {
    let sandbox = Sandbox::new();
    for (rows, dim) in [(1, 1), (2, 3), (7, 1), (40, 3)] {
        let values: Vec<f32> = (0..rows * dim).map(|i| (i as f32 * 0.7).sin()).collect();
        sandbox.write("small.fvecs", &Matrix::new(dim, values).unwrap());
        sandbox.run("build small.fvecs -o s.nonius --keep f32").success();
        sandbox.run("search s.nonius small.fvecs -k 1 --rerank 50 -o r.ivecs").success();
        let found = nonius_datasets::read_ids(sandbox.path("r.ivecs")).unwrap();
        assert!(found.ids().iter().copied().eq(0..rows as u64), "{rows} x {dim}: {found:?}");
    }
    // All alike: any of them is a right answer, and all are found.
    sandbox.write("same.fvecs", &Matrix::new(4, [1.0, 2.0, 3.0, 4.0].repeat(50)).unwrap());
    sandbox.run("build same.fvecs -o s.nonius --nlist 5").success();
    sandbox.run("search s.nonius same.fvecs -k 50 --nprobe 5 -o r.ivecs").success();
    let found = nonius_datasets::read_ids(sandbox.path("r.ivecs")).unwrap();
    let mut row = found.row(0).to_vec();
    row.sort_unstable();
    assert!(row.iter().copied().eq(0..50));
}
