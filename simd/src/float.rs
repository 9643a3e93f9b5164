//! Distances of full vectors, in a fixed order of summation over sixteen lanes.

use half::f16;

use crate::dispatch::{Level, Vectorize, level};

const LANES: usize = 16;

/// Adds sixteen lanes as a balanced tree.
#[inline(always)]
fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sums `term(x, y)` over two slices of the same length.
#[inline(always)]
fn reduce<X: Copy, Y: Copy>(x: &[X], y: &[Y], term: impl Fn(X, Y) -> f32) -> f32 {
    let mut sums = [[0.0f32; LANES]; 2];
    let mut xs = x.chunks_exact(2 * LANES);
    let mut ys = y.chunks_exact(2 * LANES);
    for (x, y) in (&mut xs).zip(&mut ys) {
        for half in 0..2 {
            for j in 0..LANES {
                sums[half][j] += term(x[half * LANES + j], y[half * LANES + j]);
            }
        }
    }
    for (i, (&x, &y)) in xs.remainder().iter().zip(ys.remainder()).enumerate() {
        sums[i / LANES][i % LANES] += term(x, y);
    }
    let mut lanes = sums[0];
    for j in 0..LANES {
        lanes[j] += sums[1][j];
    }
    tree(lanes)
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl Vectorize for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        reduce(self.0, self.1, |x, y| x * y)
    }
}

struct L2Sq<'a>(&'a [f32], &'a [f32]);

impl Vectorize for L2Sq<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        reduce(self.0, self.1, |x, y| (x - y) * (x - y))
    }
}

struct DotHalf<'a>(&'a [f32], &'a [f16]);

impl Vectorize for DotHalf<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        reduce(self.0, self.1, |x, y| x * y.to_f32_const())
    }
}

struct L2SqHalf<'a>(&'a [f32], &'a [f16]);

impl Vectorize for L2SqHalf<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        reduce(self.0, self.1, |x, y| {
            let y = y.to_f32_const();
            (x - y) * (x - y)
        })
    }
}

/// The inner product of two vectors of the same length.
///
/// # Panics
/// If the lengths differ.
pub fn dot_f32(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    level().vectorize(Dot(x, y))
}

/// The squared Euclidean distance of two vectors of the same length.
///
/// # Panics
/// If the lengths differ.
pub fn l2_sq_f32(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    level().vectorize(L2Sq(x, y))
}

/// The inner product of a vector with one kept in half precision.
///
/// # Panics
/// If the lengths differ.
pub fn dot_f16(x: &[f32], y: &[f16]) -> f32 {
    assert_eq!(x.len(), y.len());
    level().vectorize(DotHalf(x, y))
}

/// The squared Euclidean distance of a vector to one kept in half precision.
///
/// # Panics
/// If the lengths differ.
pub fn l2_sq_f16(x: &[f32], y: &[f16]) -> f32 {
    assert_eq!(x.len(), y.len());
    level().vectorize(L2SqHalf(x, y))
}

/// `c[i][j] = sum over t of a[i][t] * b[j][t]` for row-major `a` (`m x depth`), `b` (`n x depth`)
/// and `c` (`m x n`, overwritten). Each sum runs over `t` in order, so results do not depend on
/// the level.
///
/// # Panics
/// If a slice holds no whole number of rows or `c` has the wrong length.
pub fn matmul_f32(depth: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(depth > 0);
    let (m, n) = (a.len() / depth, b.len() / depth);
    assert_eq!(a.len(), m * depth);
    assert_eq!(b.len(), n * depth);
    assert_eq!(c.len(), m * n);
    matmul_f32_at(level(), depth, a, b, c);
}

pub(crate) fn matmul_f32_at(level: Level, depth: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    level.vectorize(MatMul { depth, a, b, c });
}

struct MatMul<'a> {
    depth: usize,
    a: &'a [f32],
    b: &'a [f32],
    c: &'a mut [f32],
}

impl Vectorize for MatMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let MatMul { depth, a, b, c } = self;
        let n = b.len() / depth;
        let mut panel = vec![0.0f32; depth * LANES];
        for (first, rows) in b.chunks(LANES * depth).enumerate() {
            let columns = rows.len() / depth;
            for (j, row) in rows.chunks_exact(depth).enumerate() {
                for (t, &value) in row.iter().enumerate() {
                    panel[t * LANES + j] = value;
                }
            }
            for (i, a) in a.chunks_exact(depth).enumerate() {
                let mut sums = [0.0f32; LANES];
                for (&x, y) in a.iter().zip(panel.chunks_exact(LANES)) {
                    for j in 0..LANES {
                        sums[j] += x * y[j];
                    }
                }
                c[i * n + first * LANES..][..columns].copy_from_slice(&sums[..columns]);
            }
        }
    }
}
