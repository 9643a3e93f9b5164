//! Searches on a GPU, or on software that acts as one; what a tool without that path says.

use crate::Sandbox;

#[cfg(not(feature = "gpu"))]
#[test]
fn a_tool_without_the_path_says_so() {
    let sandbox = Sandbox::with_truth();
    sandbox.run("build base.fvecs -o a.nonius").success();
    for arguments in [
        "gpus",
        "build base.fvecs -o b.nonius --gpu",
        "search a.nonius queries.fvecs -o r.ivecs --gpu",
        "eval a.nonius queries.fvecs truth.ivecs --gpu=llvmpipe",
    ] {
        sandbox.run(arguments).failure(2, &["--features gpu"]);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_gpu_finds_what_the_processor_finds() {
    let sandbox = Sandbox::with_truth();
    sandbox.run("build base.fvecs -o a.nonius").success();
    let misuse = "search a.nonius queries.fvecs -o r.ivecs --gpu --rerank-from base.fvecs";
    sandbox.run(misuse).failure(2, &["--rerank-from", "--gpu"]);
    let nameless = sandbox.run("eval a.nonius queries.fvecs truth.ivecs --gpu=frobnicate");
    assert_eq!(nameless.code, 1, "{}", nameless.stderr);
    assert!(nameless.stderr.contains("frobnicate"), "{}", nameless.stderr);

    // Drivers may talk on stderr, so only exit codes count.
    let listed = sandbox.run("gpus --json -");
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let adapters: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let adapters = adapters.as_array().unwrap();
    let Some(name) = adapters.first().map(|adapter| adapter["name"].as_str().unwrap()) else {
        let required = std::env::var_os("NONIUS_GPU_REQUIRE").is_some();
        assert!(!required, "an adapter is required");
        return eprintln!("skipped: no adapter");
    };
    // A word of its name will do.
    let name = name.split_whitespace().next().unwrap();
    let search = "search a.nonius queries.fvecs --nprobe 9 --confidence 9 -o";
    sandbox.run(&format!("{search} a.ivecs")).success();
    let outcome = sandbox.run(&format!("{search} b.ivecs --gpu={name}"));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let ids = |file: &str| nonius_datasets::read_ids(sandbox.path(file)).unwrap();
    let outcome = sandbox.run(&format!("{search} c.ivecs --gpu={name} --gpu-memory 0"));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("64 vectors"), "{}", outcome.stderr);
    let alone = sandbox.run(&format!("{search} c.ivecs --gpu-memory 5"));
    assert_eq!(alone.code, 2, "{}", alone.stderr);
    let outcome = sandbox.run(&format!("{search} c.ivecs --gpu={name} --gpu-memory 1"));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let (a, b) = (ids("a.ivecs"), ids("b.ivecs"));
    assert_eq!(b.ids(), ids("c.ivecs").ids());
    assert_eq!(a.rows(), b.rows());
    let same = a.ids().iter().zip(b.ids()).filter(|(a, b)| a == b).count();
    // But for what differs by rounding.
    assert!(same * 100 >= a.ids().len() * 99, "{same} of {}", a.ids().len());
    // What it builds is the same.
    let built = sandbox.run(&format!("build base.fvecs -o b.nonius --gpu={name}"));
    assert_eq!(built.code, 0, "{}", built.stderr);
    let bytes = |file: &str| std::fs::read(sandbox.path(file)).unwrap();
    assert!(bytes("a.nonius") == bytes("b.nonius"));

    let eval =
        sandbox.run(&format!("eval a.nonius queries.fvecs truth.ivecs --gpu={name} --json -"));
    assert_eq!(eval.code, 0, "{}", eval.stderr);
}
