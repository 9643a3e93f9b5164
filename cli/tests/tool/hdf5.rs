//! The files of ann-benchmarks, which hold vectors, queries and truth together.

use std::ops::ControlFlow;

use nonius::Metric;
use nonius_datasets::{exact_neighbors, write_ann_benchmarks};

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
