//! What goes wrong outside: sources, stores, files, and callers that change their minds.

use nonius::{
    BlockSource, BuildError, FetchVector, Index, IndexBuilder, IndexConfig, Metric, OpenError,
    Progress, SearchError, SearchParams, SourceError, Stage, VectorError, VectorSource,
};
use nonius_tests::{
    QUANTIZERS, all_lists, build_error, config, files_in, says, synthetic, without_kept,
};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_bad_row_that_training_does_not_see_is_named_too() {
    // 64 of 5,000 rows are trained on; one bad row each at the front, inside and at the end.
    let small = IndexConfig { training_rows: 64, ..config(Metric::L2, "saq:4", 1) };
    for bad in [0, 2777, 4999] {
        for value in [f32::NAN, f32::INFINITY] {
            let source = BlockSource::new(5000, 8, move || {
                (0..50).map(move |block| {
                    let mut values: Vec<f32> =
                        (0..800).map(|i| ((block * 800 + i) as f32).sin()).collect();
                    if bad / 100 == block {
                        values[bad % 100 * 8 + 3] = value;
                    }
                    values
                })
            });
            let error = build_error(&source, &small);
            assert!(
                matches!(
                    error,
                    BuildError::Source(SourceError::Vector(VectorError::NonFinite {
                        row,
                        column: 3,
                        ..
                    })) if row == bad
                ),
                "{error:?}"
            );
        }
    }
}

#[test]
fn rerank_needs_vectors() {
    let (base, queries) = synthetic(50, 8, 16);
    let index = Index::build(&base, &without_kept(config(Metric::L2, "saq:4", 1))).unwrap();
    let params = SearchParams { rerank: 10, ..SearchParams::default() };
    let error = index.search(queries.row(0), 1, &params).unwrap_err();
    assert_eq!(error, SearchError::NothingKept);
    says(&error, &["keep", "f32", "f16"]);
    let error = index.search_batch(queries.view(), 1, &params).unwrap_err();
    assert_eq!(error, SearchError::NothingKept);
    assert_eq!(index.search(queries.row(0), 1, &SearchParams::default()).unwrap().len(), 1);
}

struct Broken(f32);

impl FetchVector for Broken {
    fn fetch(&self, id: u64, out: &mut [f32]) -> Result<(), SourceError> {
        if id == 5 {
            return Err(SourceError::Io(std::io::Error::other("the disk is gone")));
        }
        out.fill(self.0);
        Ok(())
    }
}

#[test]
fn a_store_that_fails_is_reported() {
    let (base, queries) = synthetic(50, 8, 17);
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 1)).unwrap();
    let params = SearchParams { rerank: 50, ..SearchParams::default() };
    let broken = Broken(1.0);
    let error =
        index.searcher().rerank_from(&broken).search(queries.row(0), 1, &params).unwrap_err();
    assert!(matches!(error, SearchError::RerankVectors { .. }), "{error:?}");
    says(&error, &["vector 5", "the disk is gone"]);
    let error = index.search_batch_with(queries.view(), 1, &params, Some(&broken)).unwrap_err();
    assert!(matches!(error, SearchError::RerankVectors { .. }), "{error:?}");
}

/// A store that gives bad vectors is at fault, not the query.
#[test]
fn bad_vectors_from_a_store_are_not_blamed_on_the_query() {
    struct Bad;
    impl FetchVector for Bad {
        fn fetch(&self, _: u64, out: &mut [f32]) -> Result<(), SourceError> {
            out.fill(f32::NAN);
            Ok(())
        }
    }
    let (base, queries) = synthetic(50, 8, 17);
    let index = Index::build(&base, &config(Metric::L2, "saq:4", 1)).unwrap();
    let params = SearchParams { rerank: 50, ..SearchParams::default() };
    let error = index.searcher().rerank_from(&Bad).search(queries.row(0), 1, &params).unwrap_err();
    assert!(matches!(error, SearchError::RerankVectors { .. }), "{error:?}");
}

/// A source of 400 x 8 whose `pass`-th reader yields `blocks` blocks of 100 rows, the last of
/// them without its last `missing` values. Other passes are whole.
fn failing(pass: usize, blocks: usize, missing: usize) -> impl VectorSource {
    let passes = AtomicUsize::new(0);
    BlockSource::new(400, 8, move || {
        let this = passes.fetch_add(1, Ordering::Relaxed) % 3;
        let (blocks, missing) = if this == pass { (blocks, missing) } else { (4, 0) };
        (0..blocks).map(move |block| {
            let mut values: Vec<f32> =
                (0..800).map(|i| ((block * 800 + i) as f32 * 0.37).sin()).collect();
            if block + 1 == blocks {
                values.truncate(800 - missing);
            }
            values
        })
    })
}

#[test]
fn a_source_that_ends_early_is_reported_in_every_pass() {
    let config = config(Metric::L2, "saq:4", 4);
    // Sample, assign, encode.
    for pass in 0..3 {
        for (blocks, missing, found) in [(0, 0, 0), (3, 0, 300), (4, 80, 390), (4, 800, 300)] {
            let error = build_error(&failing(pass, blocks, missing), &config);
            assert!(
                matches!(
                    error,
                    BuildError::Source(SourceError::Short { expected: 400, found: f })
                        if f == found
                ),
                "pass {pass}: {error:?}"
            );
            says(&error, &["400", &found.to_string()]);
        }
        let error = build_error(&failing(pass, 4, 3), &config);
        assert!(
            matches!(
                error,
                BuildError::Source(SourceError::Ragged { row: 300, dim: 8, values: 797 })
            ),
            "pass {pass}: {error:?}"
        );
        says(&error, &["row 300", "797", "rows of 8"]);
    }
    // The same source, whole.
    let whole = failing(7, 0, 0);
    assert_eq!(Index::build(&whole, &config).unwrap().len(), 400);
}

/// A source whose second pass has other vectors than its first must not make a panic.
#[test]
fn a_source_that_changes_between_passes_is_survived() {
    for quantizer in QUANTIZERS {
        for nlist in [1, 5] {
            let passes = AtomicUsize::new(0);
            let source = BlockSource::new(300, 8, || {
                let pass = passes.fetch_add(1, Ordering::Relaxed) as f32;
                (0..3).map(move |block| {
                    (0..800)
                        .map(|i| ((block * 800 + i) as f32 * (1.0 + pass)).sin() * 10f32.powf(pass))
                        .collect::<Vec<f32>>()
                })
            });
            let index = Index::build(&source, &config(Metric::L2, quantizer, nlist)).unwrap();
            let found = index.search(&[1.0; 8], 300, &all_lists()).unwrap();
            assert_eq!(found.len(), 300);
        }
    }
}

#[test]
fn a_cancelled_build_leaves_no_file() {
    let (base, _) = synthetic(2000, 16, 18);
    let config = config(Metric::L2, "saq:4", 20);
    for stage in
        [Stage::Sample, Stage::Cluster, Stage::Train, Stage::Assign, Stage::Encode, Stage::Finish]
    {
        for existing in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("index");
            if existing {
                std::fs::write(&path, b"old").unwrap();
            }
            let mut reached = 0;
            let mut progress = |p: Progress| {
                assert!(p.done <= p.total, "{p:?}");
                if p.stage == stage {
                    reached += 1;
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let error =
                IndexBuilder::new(&config).progress(&mut progress).write(&base, &path).unwrap_err();
            assert!(matches!(error, BuildError::Cancelled), "{stage:?}: {error:?}");
            says(&error, &["cancelled"]);
            assert_eq!(reached, 1, "{stage:?}: called again after it asked to stop");
            if existing {
                assert_eq!(files_in(folder.path()), ["index"], "{stage:?}");
                assert_eq!(std::fs::read(&path).unwrap(), b"old");
            } else {
                assert_eq!(files_in(folder.path()), Vec::<String>::new(), "{stage:?}");
            }
        }
    }
    // Not cancelled: all stages come in their order, and the last is complete.
    let folder = tempfile::tempdir().unwrap();
    let mut stages: Vec<Progress> = Vec::new();
    let mut progress = |p: Progress| {
        match stages.last_mut() {
            Some(last) if last.stage == p.stage => {
                assert!(p.done >= last.done && p.total == last.total, "{last:?} {p:?}");
                *last = p;
            }
            _ => stages.push(p),
        }
        ControlFlow::Continue(())
    };
    IndexBuilder::new(&config)
        .progress(&mut progress)
        .write(&base, folder.path().join("index"))
        .unwrap();
    let order: Vec<Stage> = stages.iter().map(|p| p.stage).collect();
    assert_eq!(
        order,
        [Stage::Sample, Stage::Cluster, Stage::Train, Stage::Assign, Stage::Encode, Stage::Finish]
    );
    assert!(stages.iter().all(|p| p.done == p.total || p.stage == Stage::Cluster), "{stages:?}");
    assert_eq!(files_in(folder.path()), ["index"]);
}

#[test]
fn files_that_are_no_index_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let error = Index::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    says(&error, &["file"]);
    for open in [|path: &Path| Index::open(path), |path: &Path| Index::read(path)] {
        std::fs::write(&path, b"").unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Truncated { found: 0, .. }), "{error:?}");
        std::fs::write(&path, b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'").unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Magic { .. }), "{error:?}");
        says(&error, &["not a Nonius index"]);
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error_of_writing() {
    let (base, _) = synthetic(50, 8, 19);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none").join("index");
    let config = config(Metric::L2, "saq:4", 1);
    let error = IndexBuilder::new(&config).write(&base, &path).unwrap_err();
    assert!(matches!(error, BuildError::Write(_)), "{error:?}");
    says(&error, &["none"]);
    let error = Index::build(&base, &config).unwrap().save(&path).unwrap_err();
    assert_eq!(error.path, path);
}
