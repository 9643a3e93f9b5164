//! The kernels at every level that this processor has. `cargo bench -p nonius-benches --bench
//! kernels -- gemm` runs those whose name contains `gemm`.
//!
//! Criterion's `elem/s` are multiply-adds for the matrix kernels and vectors for the others;
//! `B/s` are bytes of codes. `scan_blocks` has two shapes of 225 MB: the scan, and a plain read of
//! the same bytes, which is the limit that memory sets. Distances have those of another library
//! beside them.

#[path = "../peer.rs"]
mod peer;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use nonius_benches::cases::{Case, Work, kernels};
use nonius_simd::{Level, available, level, with_level};

fn throughput(work: Work) -> Throughput {
    match work {
        Work::MultiplyAdds(count) | Work::Vectors(count) => Throughput::Elements(count as u64),
        Work::Bytes(count) => Throughput::Bytes(count as u64),
    }
}

/// Measures a case at each level, forced on this thread.
fn at_each_level(criterion: &mut Criterion, case: &mut Case) {
    let mut group = criterion.benchmark_group(case.kernel);
    group.throughput(throughput(case.work));
    for level in available() {
        group.bench_function(BenchmarkId::new(level.name(), &case.shape), |bencher| {
            with_level(level, || bencher.iter(&mut case.run));
        });
    }
    group.finish();
}

/// Measures another library's, beside the levels.
fn of_peer(criterion: &mut Criterion, case: &mut Case) {
    let mut group = criterion.benchmark_group(case.kernel);
    group.throughput(throughput(case.work));
    group.bench_function(BenchmarkId::new(peer::NAME, &case.shape), |bencher| {
        bencher.iter(&mut case.run);
    });
    group.finish();
}

/// The cost of asking for the level, which every kernel pays.
fn dispatch(criterion: &mut Criterion) {
    criterion.bench_function("level", |bencher| bencher.iter(|| black_box(level()) as Level));
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    for case in &mut kernels() {
        at_each_level(&mut criterion, case);
    }
    for case in &mut peer::cases() {
        of_peer(&mut criterion, case);
    }
    dispatch(&mut criterion);
    criterion.final_summary();
}
