//! The kernels of `nonius-simd` as pieces of work to measure, for criterion and for the table.

use std::hint::black_box;
use std::rc::Rc;

use half::f16;
use nonius_simd::{
    Additive, BLOCK, BoundLayout, BoundPiece, BoundQuery, FieldPlan, FieldQuery, FieldSums, Fields,
    ListConstants, Panels, Panels8, ScaleBits, Vectorize, Word, at_most, bound_blocks, dot_f16,
    dot_f32, dot_fields, field_bytes, gemm_i8, gemm_i16, l2_sq_f16, l2_sq_f32, l2_sqs_f32, level,
    matmul_f32, scan_blocks, sum_bytes, transpose_16,
};

/// What a run of a case comes to.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Products that are added up.
    MultiplyAdds(usize),
    /// Vectors, or whole blocks of them where a shape says so.
    Vectors(usize),
    /// Bytes that are read.
    Bytes(usize),
}

/// A kernel on fixed data.
pub struct Case {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The sizes.
    pub shape: String,
    /// What a run comes to.
    pub work: Work,
    /// Does the work once, at the level in use.
    pub run: Box<dyn FnMut()>,
}

impl Case {
    /// A case of `kernel`.
    pub fn new(
        kernel: &'static str,
        shape: impl Into<String>,
        work: Work,
        run: impl FnMut() + 'static,
    ) -> Case {
        Case { kernel, shape: shape.into(), work, run: Box::new(run) }
    }
}

/// The shape of first-stage scans that stay in the cache.
pub const IN_CACHE: &str = "88 groups, in cache";
/// The shape of first-stage scans of a buffer beyond the last cache: several times its size, or
/// much of it would still be there from the run before.
pub const BEYOND_CACHE: &str = "88 groups, 225 MB";
/// The shape of plain reads of the same buffer, which no scan can undercut.
pub const READ: &str = "read only, 225 MB";

/// A distance or product of a query and a vector.
pub type Function<Q, V> = fn(&[Q], &[V]) -> f32;

/// Dimensions of full vectors.
pub const DIMENSIONS: [usize; 5] = [100, 128, 384, 960, 1536];

/// Full vectors that are compared with a query in a run.
const VECTORS: usize = 64;

/// Every kernel, at shapes that the library has for it.
pub fn kernels() -> Vec<Case> {
    let mut cases = products();
    cases.extend(scans());
    cases.push(bounds());
    cases.extend(byte_sums());
    cases.extend(fields());
    for dim in DIMENSIONS {
        cases.extend(distances(dim, [dot_f32, l2_sq_f32], |x| x));
        cases.extend(half_distances(dim, [dot_f16, l2_sq_f16], |x| x, f16::from_f32));
    }
    cases.extend(others());
    cases
}

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

/// Matrix products: encoding, and the ranking of centroids for a batch and for one query.
fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (m, depth, n) in [(256, 384, 384), (256, 128, 128), (64, 384, 4096), (1, 384, 1024)] {
        let shape = format!("{m}x{depth}x{n}");
        let work = Work::MultiplyAdds(m * depth * n);

        let a: Vec<i16> = bytes(m * depth).into_iter().map(|x| i16::from(x) * 9 - 1000).collect();
        let b: Vec<i16> = bytes(n * depth).into_iter().map(|x| i16::from(x) * 7 - 900).collect();
        let packed = Panels::pack(n, depth, &b);
        let mut c = vec![0i32; m * n];
        cases.push(Case::new("gemm_i16", &shape, work, move || {
            gemm_i16(black_box(&a), Panels::new(n, depth, &packed), black_box(&mut c));
        }));

        let a = bytes(m * depth);
        let b: Vec<i8> = bytes(n * depth).into_iter().map(|x| x as i8).collect();
        let packed = Panels8::pack(n, depth, &b);
        // With 7 bits AVX2 has a kernel of its own.
        let narrow: Vec<u8> = a.iter().map(|x| x >> 1).collect();
        for (name, a) in [("gemm_i8", a), ("gemm_i8 of 7 bits", narrow)] {
            let (packed, mut c) = (packed.clone(), vec![0i32; m * n]);
            cases.push(Case::new(name, &shape, work, move || {
                gemm_i8(black_box(&a), Panels8::new(n, depth, &packed), black_box(&mut c));
            }));
        }

        let (a, b) = (floats(m * depth), floats(n * depth));
        let mut c = vec![0.0f32; m * n];
        cases.push(Case::new("matmul_f32", shape, work, move || {
            matmul_f32(depth, black_box(&a), black_box(&b), black_box(&mut c));
        }));
    }
    cases
}

/// A plain read of a buffer, at the level in use.
struct Read<'a>(&'a [u8]);

impl Vectorize for Read<'_> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        // One plain sum, which the compiler spreads over several registers. An explicit array of
        // sums becomes gathers at AVX-512, ten times slower.
        let words = self.0.as_chunks::<8>().0;
        words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
    }
}

/// First-stage scans: of codes that stay in the cache, and of a buffer beyond the last cache
/// beside a plain read of the same bytes.
fn scans() -> Vec<Case> {
    const GROUPS: usize = 88;
    const STRIDE: usize = GROUPS * 16;
    /// Blocks of a piece of the large buffer: as many as a list may have.
    const PIECE: usize = 8;

    let blocks = 16;
    let codes = bytes(blocks * STRIDE);
    let lut = bytes(STRIDE);
    let mut sums = vec![0u16; blocks * BLOCK];
    let in_cache = Case::new("scan_blocks", IN_CACHE, Work::Vectors(blocks * BLOCK), move || {
        scan_blocks(black_box(&codes), STRIDE, &[GROUPS], &lut, black_box(&mut sums));
    });

    let size = 160_000 * STRIDE;
    let buffer = Rc::new(bytes(size + 64));
    let start = buffer.as_ptr().align_offset(64);
    let (scanned, read) = (buffer.clone(), buffer);
    let lut = bytes(STRIDE);
    let mut sums = [0u16; PIECE * BLOCK];
    vec![
        in_cache,
        Case::new("scan_blocks", BEYOND_CACHE, Work::Bytes(size), move || {
            for piece in scanned[start..][..size].chunks_exact(PIECE * STRIDE) {
                scan_blocks(piece, STRIDE, &[GROUPS], &lut, black_box(&mut sums));
            }
        }),
        Case::new("scan_blocks", READ, Work::Bytes(size), move || {
            black_box(level().vectorize(Read(black_box(&read[start..][..size]))));
        }),
    ]
}

/// The first stage of SAQ on 128 dimensions, of codes that stay in the cache: 44 groups, an additive factor,
/// a shift and a scale.
fn bounds() -> Case {
    const GROUPS: usize = 44;
    const BLOCKS: usize = 6;
    const STRIDE: usize = GROUPS * 16 + 5 * BLOCK;
    let mut codes = bytes(BLOCKS * STRIDE);
    for block in codes.chunks_exact_mut(STRIDE) {
        for factor in block[GROUPS * 16..][..2 * BLOCK].chunks_exact_mut(2) {
            factor[1] &= 0x7f;
        }
    }
    let lut = bytes(GROUPS * 16);
    let (mut bounds, mut passed) = ([[0.0; BLOCK]; BLOCKS], [0; BLOCKS]);
    let shape = format!("{GROUPS} groups, in cache");
    Case::new("bound_blocks", shape, Work::Vectors(BLOCKS * BLOCK), move || {
        let format = ScaleBits { bytes: 2, shift: 11, base: 119 << 23 };
        let pieces = [BoundPiece { groups: GROUPS, scales: GROUPS * 16 + 3 * BLOCK, format }];
        let never = |_| 0.0;
        let layout = BoundLayout {
            stride: STRIDE,
            pieces: &pieces,
            additive: GROUPS * 16,
            format: Additive::Linear { low: 0.0, step: 1e-4, last: 57_343, beyond: &never },
            shift: Some((GROUPS * 16 + 2 * BLOCK, 0.01)),
        };
        let query = BoundQuery {
            lut: &lut,
            slopes: &[1e-3],
            constants: ListConstants::One(1.0),
            own: usize::MAX,
            offsets: &[0.5],
            others: &[0.5],
            threshold: 1.0,
        };
        bound_blocks(black_box(&codes), &layout, &query, black_box(&mut bounds), &mut passed);
    })
}

/// Sums of what bytes look up, of codes that stay in the cache: 23 levels.
fn byte_sums() -> Vec<Case> {
    const LEVELS: usize = 23;
    const BLOCKS: usize = 16;
    let codes = bytes(BLOCKS * LEVELS * BLOCK);
    let lut = bytes(LEVELS * 256);
    let mut sums = vec![0u16; BLOCKS * BLOCK];
    vec![Case::new("sum_bytes", IN_CACHE, Work::Vectors(BLOCKS * BLOCK), move || {
        let lut = lut.as_chunks::<256>().0;
        sum_bytes(black_box(&codes), LEVELS * BLOCK, lut, black_box(&mut sums));
    })]
}

/// The refinement of survivors: fields in a row, and whole codes as SAQ has them, two bits of each number in
/// a block and the others in the row.
fn fields() -> Vec<Case> {
    const ROWS: usize = 64;
    let values: Vec<i32> = (0..2048).map(|i| i * 2741 % 16_001 - 8000).collect();
    let mut shapes = Vec::new();
    for (width, count) in [(4, 16), (4, 48), (4, 128), (2, 128), (1, 128), (4, 384), (1, 384)] {
        let mut plan = FieldPlan::default();
        plan.push(&[Fields::in_row(width, count, 0, 16)]);
        shapes.push((format!("{count} of {width} bits"), plan, field_bytes(width, count)));
    }
    for (name, segments) in [
        ("88 of 2 + 7 bits, 40 of 6", &[(88, true, &[4, 2, 1][..]), (40, false, &[4, 2])][..]),
        ("384 of 2 + 2 bits", &[(384, true, &[2])]),
    ] {
        let (mut plan, mut start, mut group, mut at) = (FieldPlan::default(), 0, 0, 0);
        for &(dims, in_block, widths) in segments {
            let mut left: u32 = widths.iter().sum();
            let mut fields = Vec::new();
            if in_block {
                fields.push(Fields::in_groups(2, dims, group, start).shifted(left));
                group += dims / 2;
            }
            for &width in widths {
                left -= width;
                fields.push(Fields::in_row(width, dims, at, start).shifted(left));
                at += field_bytes(width, dims);
            }
            plan.push(&fields);
            start += dims;
        }
        shapes.push((name.to_owned(), plan, at));
    }
    let mut cases = Vec::new();
    for (shape, plan, stride) in shapes {
        let groups = bytes(192 * 16);
        let codes = bytes(ROWS * stride + plan.read_bytes());
        let mut query = FieldQuery::default();
        query.set(&plan, &values);
        let mut sums = FieldSums::default();
        cases.push(Case::new("dot_fields", shape, Work::Vectors(ROWS), move || {
            for row in 0..ROWS {
                let code = &codes[row * stride..];
                black_box(dot_fields(&plan, &groups, row % BLOCK, code, &query, &mut sums));
            }
        }));
    }
    let mut plan = FieldPlan::default();
    plan.push(&[Fields::in_groups(2, 384, 0, 0).shifted(2), Fields::in_row(2, 384, 0, 0)]);
    let mut query = FieldQuery::default();
    cases.push(Case::new("FieldQuery::set", "384 dimensions", Work::Vectors(1), move || {
        query.set(&plan, black_box(&values[..384]));
        black_box(&query);
    }));
    cases
}

/// Inner products and squared distances of full vectors, by any library's functions. `number`
/// makes its kind of number.
pub fn distances<T: 'static>(
    dim: usize,
    functions: [Function<T, T>; 2],
    number: fn(f32) -> T,
) -> [Case; 2] {
    compared(["dot_f32", "l2_sq_f32"], dim, functions, number, number)
}

/// As [`distances`], of vectors kept in half precision.
pub fn half_distances<Q: 'static, H: 'static>(
    dim: usize,
    functions: [Function<Q, H>; 2],
    number: fn(f32) -> Q,
    half: fn(f32) -> H,
) -> [Case; 2] {
    compared(["dot_f16", "l2_sq_f16"], dim, functions, number, half)
}

fn compared<Q: 'static, V: 'static>(
    names: [&'static str; 2],
    dim: usize,
    functions: [Function<Q, V>; 2],
    of_query: fn(f32) -> Q,
    of_vector: fn(f32) -> V,
) -> [Case; 2] {
    [0, 1].map(|i| {
        let function = functions[i];
        let query: Vec<Q> = floats(dim).into_iter().map(of_query).collect();
        let vectors: Vec<V> = floats(VECTORS * dim).into_iter().map(of_vector).collect();
        let shape = format!("{dim} dimensions");
        Case::new(names[i], shape, Work::Vectors(VECTORS), move || {
            for vector in vectors.chunks_exact(dim) {
                black_box(function(black_box(&query), vector));
            }
        })
    })
}

/// What remains: distances by segment, the comparison of bounds, and transposition.
fn others() -> Vec<Case> {
    let (x, ys) = (floats(384), floats(VECTORS * 384));
    let by_range = Case::new("l2_sqs_f32", "64 + 128 + 192", Work::Vectors(VECTORS), move || {
        for y in ys.chunks_exact(384) {
            let mut out = [0.0; 3];
            l2_sqs_f32(black_box(&x), y, &[64, 128, 192], &mut out);
            black_box(out);
        }
    });
    let rows = 16;
    let values: Vec<[f32; BLOCK]> = floats(rows * BLOCK).as_chunks::<BLOCK>().0.to_vec();
    let mut masks = vec![0; rows];
    let bounds = Case::new("at_most", "a block of 32", Work::Vectors(rows), move || {
        at_most(black_box(&values), black_box(-0.9), black_box(&mut masks));
    });
    let pairs: Vec<[i16; 2]> = bytes(16 * 192).into_iter().map(|x| [i16::from(x), 7]).collect();
    let quads: Vec<[i8; 4]> = bytes(16 * 96).into_iter().map(|x| [x as i8, 1, 2, 3]).collect();
    vec![
        by_range,
        bounds,
        transposition("384 of 16 bits", pairs),
        transposition("384 of 8 bits", quads),
    ]
}

fn transposition<W: Word + 'static>(shape: &str, rows: Vec<W>) -> Case {
    let mut out = vec![[W::default(); 16]; rows.len() / 16];
    Case::new("transpose_16", shape, Work::Vectors(16), move || {
        transpose_16(black_box(&rows), black_box(&mut out));
    })
}
