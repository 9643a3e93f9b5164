//! The kernels at every level that this processor has. `cargo bench -p nonius-benches --bench
//! kernels -- gemm` runs those whose name contains `gemm`.
//!
//! Criterion's `elem/s` are multiply-adds for the matrix kernels and vectors for the others;
//! `B/s` are bytes of codes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::f16;
use nonius_simd::{
    BLOCK, FieldQuery, Fields, Level, Panels, Panels8, Vectorize, available, dot_f16, dot_f32,
    dot_fields, field_bytes, gemm_i8, gemm_i16, l2_sq_f16, l2_sq_f32, level, matmul_f32,
    scan_blocks, with_level,
};

/// Bytes without a pattern that a predictor could learn.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Numbers from -1 to 1.
fn floats(count: usize) -> Vec<f32> {
    bytes(count).into_iter().map(|byte| f32::from(byte) / 127.5 - 1.0).collect()
}

/// Runs `work` at each level, forced on this thread.
fn at_each_level(
    criterion: &mut Criterion,
    name: &str,
    shape: &str,
    throughput: Throughput,
    mut work: impl FnMut(),
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(throughput);
    for level in available() {
        group.bench_function(BenchmarkId::new(level.name(), shape), |bencher| {
            with_level(level, || bencher.iter(&mut work));
        });
    }
    group.finish();
}

/// Matrix products: encoding, and the ranking of centroids for a batch and for one query.
fn products(criterion: &mut Criterion) {
    for (m, depth, n) in [(256, 384, 384), (256, 128, 128), (64, 384, 4096), (1, 384, 1024)] {
        let shape = format!("{m}x{depth}x{n}");
        let work = Throughput::Elements((m * depth * n) as u64);

        let a: Vec<i16> = bytes(m * depth).into_iter().map(|x| i16::from(x) * 9 - 1000).collect();
        let b: Vec<i16> = bytes(n * depth).into_iter().map(|x| i16::from(x) * 7 - 900).collect();
        let packed = Panels::pack(n, depth, &b);
        let panels = Panels::new(n, depth, &packed);
        let mut c = vec![0i32; m * n];
        at_each_level(criterion, "gemm_i16", &shape, work.clone(), || {
            gemm_i16(black_box(&a), panels, black_box(&mut c));
        });

        let a = bytes(m * depth);
        let b: Vec<i8> = bytes(n * depth).into_iter().map(|x| x as i8).collect();
        let packed = Panels8::pack(n, depth, &b);
        let panels = Panels8::new(n, depth, &packed);
        at_each_level(criterion, "gemm_i8", &shape, work.clone(), || {
            gemm_i8(black_box(&a), panels, black_box(&mut c));
        });

        let (a, b) = (floats(m * depth), floats(n * depth));
        let mut c = vec![0.0f32; m * n];
        at_each_level(criterion, "matmul_f32", &shape, work, || {
            matmul_f32(depth, black_box(&a), black_box(&b), black_box(&mut c));
        });
    }
}

/// A plain read of a buffer, at the level in use.
struct Read<'a>(&'a [u8]);

impl Vectorize for Read<'_> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        // One plain sum: an explicit array of them becomes gathers at AVX-512, ten times slower.
        let words = self.0.as_chunks::<8>().0;
        words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
    }
}

/// First-stage scans: of codes that stay in the cache, and of a buffer beyond the last cache
/// beside a plain read of the same bytes.
fn scans(criterion: &mut Criterion) {
    const GROUPS: usize = 88;
    const STRIDE: usize = GROUPS * 16;
    /// Blocks of a piece of the large buffer: as many as a list may have.
    const PIECE: usize = 8;
    let lut = bytes(GROUPS * 16);

    let blocks = 16;
    let codes = bytes(blocks * STRIDE);
    let mut sums = vec![0u16; blocks * BLOCK];
    let vectors = Throughput::Elements((blocks * BLOCK) as u64);
    at_each_level(criterion, "scan_blocks", "88 groups, in cache", vectors, || {
        scan_blocks(black_box(&codes), STRIDE, &[GROUPS], &lut, black_box(&mut sums));
    });

    let blocks = 40_000;
    let buffer = bytes(blocks * STRIDE + 64);
    let codes = &buffer[buffer.as_ptr().align_offset(64)..][..blocks * STRIDE];
    let mut sums = [0u16; PIECE * BLOCK];
    let work = Throughput::Bytes(codes.len() as u64);
    at_each_level(criterion, "scan_blocks", "88 groups, 56 MB", work.clone(), || {
        for piece in codes.chunks_exact(PIECE * STRIDE) {
            scan_blocks(piece, STRIDE, &[GROUPS], &lut, black_box(&mut sums));
        }
    });
    at_each_level(criterion, "read", "56 MB", work, || {
        black_box(level().vectorize(Read(black_box(codes))));
    });
}

/// The refinement of survivors, segment by segment.
fn fields(criterion: &mut Criterion) {
    let mut query = FieldQuery::default();
    query.set(&(0..2048).map(|i| i * 2741 % 16_001 - 8000).collect::<Vec<i32>>());
    for (width, count) in [(4, 16), (4, 48), (4, 128), (2, 128), (1, 128), (4, 384), (1, 384)] {
        let stride = field_bytes(width, count);
        let codes = bytes(64 * stride);
        let shape = format!("{count} of {width} bits");
        at_each_level(criterion, "dot_fields", &shape, Throughput::Elements(64), || {
            let parts = [Fields::new(width, count, 0, black_box(16))];
            for code in codes.chunks_exact(stride) {
                let mut sums = [0];
                dot_fields(&parts, code, &query, &mut sums);
                black_box(sums);
            }
        });
    }
}

/// Distances of full vectors.
fn distances(criterion: &mut Criterion) {
    for dim in [100, 384, 1536] {
        let (x, ys) = (floats(dim), floats(64 * dim));
        let halves: Vec<f16> = ys.iter().map(|&y| f16::from_f32(y)).collect();
        let shape = format!("{dim} dimensions");
        let vectors = Throughput::Elements(64);
        for (name, distance) in
            [("dot_f32", dot_f32 as fn(&[f32], &[f32]) -> f32), ("l2_sq_f32", l2_sq_f32)]
        {
            at_each_level(criterion, name, &shape, vectors.clone(), || {
                for y in ys.chunks_exact(dim) {
                    black_box(distance(&x, y));
                }
            });
        }
        for (name, distance) in
            [("dot_f16", dot_f16 as fn(&[f32], &[f16]) -> f32), ("l2_sq_f16", l2_sq_f16)]
        {
            at_each_level(criterion, name, &shape, vectors.clone(), || {
                for y in halves.chunks_exact(dim) {
                    black_box(distance(&x, y));
                }
            });
        }
    }
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
    products(&mut criterion);
    scans(&mut criterion);
    fields(&mut criterion);
    distances(&mut criterion);
    dispatch(&mut criterion);
    criterion.final_summary();
}
