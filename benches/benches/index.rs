//! Encoding, building, opening and searching, on a generated set of 384 dimensions.
//!
//! `cargo bench -p nonius-benches --bench index`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nonius::{
    Encoding, Index, IndexConfig, Matrix, MatrixView, QuantizerSpec, Saq, SaqConfig, SearchParams,
};
use nonius_benches::{measures, pool};
use nonius_datasets::{Synthetic, read_matrix};

const DIM: usize = 384;

/// So many vectors, or a few of them where nothing is measured.
fn vectors(rows: usize) -> Matrix {
    let rows = if measures() { rows } else { rows / 16 };
    let set = Synthetic { rows, dim: DIM, seed: 1, ..Synthetic::default() };
    read_matrix(&set.generator()).expect("generated vectors are valid")
}

/// Vectors encoded a second on one core: rotation, adjustment and packing.
fn encode(c: &mut Criterion) {
    let set = vectors(8192);
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(set.rows() as u64)).sample_size(20);
    for encoding in [Encoding::Full, Encoding::Fast] {
        for bits in [1.0, 2.0, 4.0, 8.0] {
            let quantizer = QuantizerSpec::saq(bits);
            let config = SaqConfig { quantizer, encoding, ..SaqConfig::default() };
            let saq = Saq::train(set.view(), &config).expect("training succeeds");
            let id = BenchmarkId::new(format!("{encoding:?}"), quantizer);
            group.bench_function(id, |b| {
                pool(1).install(|| b.iter(|| saq.encode(black_box(set.view())).map(|c| c.len())))
            });
        }
    }
    group.finish();
}

/// Queries a second of one reused searcher, without and with rerank.
fn search(c: &mut Criterion) {
    let set = vectors(20_000);
    let (base, queries) = set.data().split_at(set.rows() / 40 * 39 * DIM);
    let base = MatrixView::new(DIM, base).expect("whole rows");
    let index = Index::build(&base, &IndexConfig::default()).expect("the build succeeds");
    let mut group = c.benchmark_group("search");
    group.throughput(Throughput::Elements(1));
    for (nprobe, rerank) in [(8, 0), (32, 0), (128, 0), (32, 50)] {
        let params = SearchParams { nprobe, rerank, ..SearchParams::default() };
        let mut searcher = index.searcher();
        let mut next = queries.chunks_exact(DIM).cycle();
        group.bench_function(format!("nprobe {nprobe}, rerank {rerank}"), |b| {
            b.iter(|| {
                let query = next.next().expect("a cycle does not end");
                searcher.search(black_box(query), 10, &params).map(|found| found.len())
            })
        });
    }
    group.finish();
}

/// Mapping an index file: the time must not depend on the number of vectors.
fn open(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group("open");
    for rows in [2_000, 20_000] {
        let path = folder.path().join(rows.to_string());
        let config = IndexConfig { nlist: Some(64), ..IndexConfig::default() };
        let index = Index::build(&vectors(rows), &config).expect("the build succeeds");
        index.save(&path).expect("the folder can be written to");
        group.bench_function(format!("{rows} vectors"), |b| {
            b.iter(|| Index::open(black_box(&path)).map(|index| index.len()))
        });
    }
    group.finish();
}

criterion_group!(benches, encode, search, open);
criterion_main!(benches);
