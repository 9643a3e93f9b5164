//! The files of ann-benchmarks, which hold vectors, queries and truth together.

use std::ops::ControlFlow;

use nonius::{Matrix, MatrixView, Metric};
use nonius_datasets::{IdMatrix, exact_neighbors, write_ann_benchmarks};

use crate::{QUERIES, ROWS, Sandbox};

#[test]
fn one_file_is_enough_for_build_eval_and_quality() {
    let sandbox = Sandbox::new();
    let (base, queries) = (&sandbox.base, sandbox.queries.view());
    let mut go_on = |_, _| ControlFlow::Continue(());
    let truth = exact_neighbors(base, queries, 100, Metric::L2, &mut go_on).unwrap();
    let path = sandbox.path("set.hdf5");
    write_ann_benchmarks(&path, base.view(), queries, &truth, Metric::L2).unwrap();

    let build = sandbox.run("build set.hdf5 -o h.nonius --keep f32 --nlist 8 --json -").json();
    assert_eq!(build["vectors"], ROWS);
    sandbox.run("build base.fvecs -o f.nonius --keep f32 --nlist 8").success();
    assert!(sandbox.bytes("h.nonius") == sandbox.bytes("f.nonius"), "the same vectors");

    for files in ["set.hdf5", "set.hdf5:test", "queries.fvecs set.hdf5", "set.hdf5 set.hdf5"] {
        let eval = format!("eval h.nonius {files} --nprobe 8 --rerank 100 --json -");
        let json = sandbox.run(&eval).json();
        assert_eq!((&json["queries"], &json["rows"][0]["recall"]), (&QUERIES.into(), &1.0.into()));
    }
    let search = "search h.nonius set.hdf5 --nprobe 8 --rerank 50 --rerank-from set.hdf5 -o";
    sandbox.run(&format!("{search} r.ivecs")).success();
    let computed = sandbox.run("quality set.hdf5 set.hdf5 --quantizers saq:2 --json -").json();
    let given = "quality set.hdf5 set.hdf5 --quantizers saq:2 --truth set.hdf5 --json -";
    let given = sandbox.run(given).json();
    assert_eq!(given["rows"][0]["err_nn"], computed["rows"][0]["err_nn"]);
    sandbox.run("build set.hdf5:nope -o x.nonius").failure(1, &["nope", "train"]);
}

#[test]
fn of_vectors_at_the_same_distance_any_counts_by_distance() {
    let sandbox = Sandbox::new();
    // Every vector four times: which of them are among three is arbitrary.
    let (dim, rows) = (sandbox.base.dim(), 4 * 50);
    let four: Vec<f32> = (0..rows).flat_map(|row| sandbox.base.row(row / 4).to_vec()).collect();
    let base = Matrix::new(dim, four).unwrap();
    let queries = MatrixView::new(dim, &sandbox.base.data()[..50 * dim]).unwrap();
    for (metric, name) in [(Metric::L2, "l2"), (Metric::Cosine, "cosine")] {
        let mut go_on = |_, _| ControlFlow::Continue(());
        let mut truth = exact_neighbors(&base, queries, 3, metric, &mut go_on).unwrap();
        // Those of the largest numbers instead of the smallest.
        let last = truth.ids.ids().iter().map(|id| id / 4 * 4 + 3 - id % 4).collect();
        truth.ids = IdMatrix::new(3, last);
        write_ann_benchmarks(sandbox.path("four.hdf5"), base.view(), queries, &truth, metric)
            .unwrap();
        let build = format!("build four.hdf5 -o f.nonius --metric {name} --nlist 1 --keep f32");
        sandbox.run(&build).success();
        let eval = "eval f.nonius four.hdf5 -k 3 --nprobe 1 --rerank 50";
        let json = sandbox.run(&format!("{eval} --json -")).json();
        assert_eq!(json["rows"][0]["recall_by_distance"], 1.0);
        assert!(json["rows"][0]["recall"].as_f64().unwrap() < 0.9, "{json}");
        assert!(sandbox.run(eval).success().stdout.contains("by distance"));
    }
    // What is farther does not count: of single vectors all but the nearest are.
    let single = Matrix::new(dim, sandbox.base.data()[..50 * dim].to_vec()).unwrap();
    let mut go_on = |_, _| ControlFlow::Continue(());
    let truth = exact_neighbors(&base, queries, 3, Metric::L2, &mut go_on).unwrap();
    write_ann_benchmarks(sandbox.path("one.hdf5"), single.view(), queries, &truth, Metric::L2)
        .unwrap();
    sandbox.run("build one.hdf5 -o o.nonius --nlist 1 --keep f32").success();
    let json = sandbox.run("eval o.nonius one.hdf5 -k 3 --nprobe 1 --rerank 50 --json -").json();
    let third = json["rows"][0]["recall_by_distance"].as_f64().unwrap();
    assert!((third - 1.0 / 3.0).abs() < 1e-9, "{third}");
}
