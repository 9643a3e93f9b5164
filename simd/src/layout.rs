//! The layouts that kernels read, and the checked doors to the kernels.

use crate::dispatch::{Level, dispatch, level};
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
use crate::neon;
use crate::scalar;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// Vectors in a block of first-stage codes.
pub const BLOCK: usize = 32;

/// Columns in a panel of [`Panels`].
const PANEL: usize = 16;

/// A matrix of `i16` packed for [`gemm_i16`]: `rows x depth`, its rows grouped into panels of 16
/// and its columns into pairs.
///
/// Value (row, column) lies at
/// `(row / 16) * 16 * depth + (column / 2) * 32 + (row % 16) * 2 + column % 2`, in units of `i16`,
/// where `depth` is rounded up to an even number and the rows to a multiple of 16; the padding is
/// zero. One load of 64 bytes thus holds a pair of columns of all 16 rows of a panel.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a> {
    rows: usize,
    depth: usize,
    data: &'a [i16],
}

impl<'a> Panels<'a> {
    /// The number of `i16` that a packed `rows x depth` matrix takes.
    pub fn packed_len(rows: usize, depth: usize) -> usize {
        rows.next_multiple_of(PANEL) * depth.next_multiple_of(2)
    }

    /// Packs a row-major matrix of `rows x depth` values.
    ///
    /// # Panics
    /// If `values` does not hold `rows * depth` values.
    pub fn pack(rows: usize, depth: usize, values: &[i16]) -> Vec<i16> {
        assert_eq!(values.len(), rows * depth, "expected {rows} x {depth} values");
        let even = depth.next_multiple_of(2);
        let mut packed = vec![0; Panels::packed_len(rows, depth)];
        for row in 0..rows {
            for column in 0..depth {
                packed[(row / PANEL) * PANEL * even
                    + (column / 2) * 2 * PANEL
                    + (row % PANEL) * 2
                    + column % 2] = values[row * depth + column];
            }
        }
        packed
    }

    /// Views packed data.
    ///
    /// # Panics
    /// If `data` has not [`packed_len`](Panels::packed_len) values.
    pub fn new(rows: usize, depth: usize, data: &'a [i16]) -> Panels<'a> {
        assert_eq!(data.len(), Panels::packed_len(rows, depth), "expected {rows} x {depth} packed");
        Panels { rows, depth, data }
    }

    /// The number of rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of rows rounded up to whole panels: the columns of a product's result.
    pub fn padded_rows(&self) -> usize {
        self.rows.next_multiple_of(PANEL)
    }

    /// The number of columns rounded up to whole pairs: the row length of the left operand.
    pub fn padded_depth(&self) -> usize {
        self.depth.next_multiple_of(2)
    }

    /// The value at a row and a column.
    ///
    /// # Panics
    /// If there is no such row or column.
    pub fn value(&self, row: usize, column: usize) -> i16 {
        assert!(row < self.rows && column < self.depth, "{row}, {column} of a packed matrix");
        self.data[(row / PANEL) * PANEL * self.padded_depth()
            + (column / 2) * 2 * PANEL
            + (row % PANEL) * 2
            + column % 2]
    }

    /// The packed values.
    pub fn data(&self) -> &'a [i16] {
        self.data
    }
}

/// `c[i][j] = sum over t of a[i][t] * b[j][t]`, exactly, in wrapping `i32`.
///
/// `a` is row-major, `m x b.padded_depth()`; `c` is row-major, `m x b.padded_rows()`, overwritten.
/// The sums do not overflow if the norms of the rows of `a` and `b`, as vectors of integers,
/// multiply to less than 2^31 (Cauchy and Schwarz; this holds for partial sums too).
///
/// # Panics
/// If a slice has the wrong length.
pub fn gemm_i16(a: &[i16], b: Panels<'_>, c: &mut [i32]) {
    gemm_i16_at(level(), a, b, c);
}

/// [`gemm_i16`] at a given level.
pub(crate) fn gemm_i16_at(level: Level, a: &[i16], b: Panels<'_>, c: &mut [i32]) {
    let depth = b.padded_depth();
    if depth == 0 || b.rows == 0 {
        c.fill(0);
        return;
    }
    let m = a.len() / depth;
    assert_eq!(a.len(), m * depth, "the left operand has no whole rows of {depth}");
    assert_eq!(c.len(), m * b.padded_rows(), "the result must be {m} x {}", b.padded_rows());
    dispatch!(level, gemm_i16(a, depth, b.data, c))
}

/// A matrix of `i8` packed for [`gemm_i8`]: `rows x depth`, its rows grouped into panels of 16 and
/// its columns into quads.
///
/// Value (row, column) lies at
/// `(row / 16) * 16 * depth + (column / 4) * 64 + (row % 16) * 4 + column % 4`, where `depth` is
/// rounded up to a multiple of 4 and the rows to a multiple of 16; the padding is zero. One load
/// of 64 bytes thus holds four columns of all 16 rows of a panel.
#[derive(Clone, Copy, Debug)]
pub struct Panels8<'a> {
    rows: usize,
    depth: usize,
    data: &'a [i8],
}

impl<'a> Panels8<'a> {
    /// The number of bytes that a packed `rows x depth` matrix takes.
    pub fn packed_len(rows: usize, depth: usize) -> usize {
        rows.next_multiple_of(PANEL) * depth.next_multiple_of(4)
    }

    /// Packs a row-major matrix of `rows x depth` values.
    ///
    /// # Panics
    /// If `values` does not hold `rows * depth` values.
    pub fn pack(rows: usize, depth: usize, values: &[i8]) -> Vec<i8> {
        assert_eq!(values.len(), rows * depth, "expected {rows} x {depth} values");
        let padded = depth.next_multiple_of(4);
        let mut packed = vec![0; Panels8::packed_len(rows, depth)];
        for row in 0..rows {
            for column in 0..depth {
                packed[(row / PANEL) * PANEL * padded
                    + (column / 4) * 4 * PANEL
                    + (row % PANEL) * 4
                    + column % 4] = values[row * depth + column];
            }
        }
        packed
    }

    /// Views packed data.
    ///
    /// # Panics
    /// If `data` has not [`packed_len`](Panels8::packed_len) values.
    pub fn new(rows: usize, depth: usize, data: &'a [i8]) -> Panels8<'a> {
        let expected = Panels8::packed_len(rows, depth);
        assert_eq!(data.len(), expected, "expected {rows} x {depth} packed");
        Panels8 { rows, depth, data }
    }

    /// The number of rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of rows rounded up to whole panels: the columns of a product's result.
    pub fn padded_rows(&self) -> usize {
        self.rows.next_multiple_of(PANEL)
    }

    /// The number of columns rounded up to whole quads: the row length of the left operand.
    pub fn padded_depth(&self) -> usize {
        self.depth.next_multiple_of(4)
    }

    /// The packed values.
    pub fn data(&self) -> &'a [i8] {
        self.data
    }
}

/// `c[i][j] = sum over t of a[i][t] * b[j][t]`, exactly, in wrapping `i32`; the left operand is
/// unsigned.
///
/// `a` is row-major, `m x b.padded_depth()`; `c` is row-major, `m x b.padded_rows()`, overwritten.
/// For signed values `x`, store `x + 128` in `a` and subtract 128 times the sum of row `j` of `b`
/// from the results; or `x + 64`, of 7 bits: where no value of `a` exceeds 127, AVX2 has a faster kernel.
/// The sums do not overflow while the depth is 65,793 at most
/// (255 * 128 * 65,793 < 2^31).
///
/// # Panics
/// If a slice has the wrong length.
pub fn gemm_i8(a: &[u8], b: Panels8<'_>, c: &mut [i32]) {
    gemm_i8_at(level(), a, b, c);
}

/// [`gemm_i8`] at a given level.
pub(crate) fn gemm_i8_at(level: Level, a: &[u8], b: Panels8<'_>, c: &mut [i32]) {
    let depth = b.padded_depth();
    if depth == 0 || b.rows == 0 {
        c.fill(0);
        return;
    }
    let m = a.len() / depth;
    assert_eq!(a.len(), m * depth, "the left operand has no whole rows of {depth}");
    assert_eq!(c.len(), m * b.padded_rows(), "the result must be {m} x {}", b.padded_rows());
    dispatch!(level, gemm_i8(a, depth, b.data, c))
}

/// First-stage sums of whole blocks of 32 vectors (FastScan).
///
/// Block `i` starts at byte `i * stride` of `codes` and holds groups of 16 bytes. Byte `v` of a
/// group carries the 4-bit code of vector `v` in its low half and that of vector `v + 16` in its
/// high half. `pieces` tells how many consecutive groups are summed together, and `lut` holds 16
/// entries for each group of all pieces. For each vector and piece the entries that its codes
/// select are summed: `sums[(i * pieces.len() + piece) * 32 + v]`.
///
/// # Panics
/// If a piece exceeds 257 groups (where a `u16` sum could overflow), if `stride` is less than the
/// bytes of all groups, or if a slice is too short or no whole number of blocks.
pub fn scan_blocks(codes: &[u8], stride: usize, pieces: &[usize], lut: &[u8], sums: &mut [u16]) {
    scan_blocks_at(level(), codes, stride, pieces, lut, sums);
}

/// [`scan_blocks`] at a given level.
pub(crate) fn scan_blocks_at(
    level: Level,
    codes: &[u8],
    stride: usize,
    pieces: &[usize],
    lut: &[u8],
    sums: &mut [u16],
) {
    if pieces.is_empty() || sums.is_empty() {
        assert!(sums.is_empty(), "sums of no pieces");
        return;
    }
    let blocks = sums.len() / (pieces.len() * BLOCK);
    assert_eq!(sums.len(), blocks * pieces.len() * BLOCK, "sums come in blocks of {BLOCK}");
    let mut bytes = 0;
    for &groups in pieces {
        assert!(groups <= 257, "{groups} groups could overflow 16-bit sums");
        bytes += groups * 16;
    }
    assert!(stride >= bytes, "blocks of {bytes} bytes overlap at a stride of {stride}");
    assert!(lut.len() >= bytes, "the table has {} bytes of {bytes}", lut.len());
    assert!(
        codes.len() >= (blocks - 1) * stride + bytes,
        "{} bytes of codes for {blocks} blocks",
        codes.len()
    );
    dispatch!(level, scan_blocks(codes, stride, pieces, lut, sums));
}

/// Sums of what bytes look up, for whole blocks of 32 vectors.
///
/// Block `i` starts at byte `i * stride` of `codes` and holds, for each table of `lut`, 32 bytes, one of
/// each vector. For each vector the entries that its bytes select are summed: `sums[i * 32 + v]`.
///
/// # Panics
/// If there are more than 257 tables (where a `u16` sum could overflow), if `stride` is less than the
/// bytes of a block, or if a slice is too short or no whole number of blocks.
pub fn sum_bytes(codes: &[u8], stride: usize, lut: &[[u8; 256]], sums: &mut [u16]) {
    sum_bytes_at(level(), codes, stride, lut, sums);
}

/// [`sum_bytes`] at a given level.
pub(crate) fn sum_bytes_at(
    level: Level,
    codes: &[u8],
    stride: usize,
    lut: &[[u8; 256]],
    sums: &mut [u16],
) {
    let blocks = sums.len() / BLOCK;
    assert_eq!(sums.len(), blocks * BLOCK, "sums come in blocks of {BLOCK}");
    assert!(lut.len() <= 257, "{} tables could overflow 16-bit sums", lut.len());
    let bytes = lut.len() * BLOCK;
    assert!(stride >= bytes, "blocks of {bytes} bytes overlap at a stride of {stride}");
    if blocks == 0 {
        return;
    }
    let found = codes.len();
    assert!(found >= (blocks - 1) * stride + bytes, "{found} bytes of codes for {blocks} blocks");
    dispatch!(level, sum_bytes(codes, stride, lut, sums));
}
