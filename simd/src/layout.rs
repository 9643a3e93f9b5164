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
/// from the results. The sums do not overflow while the depth is 65,793 at most
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
/// Block `i` starts at byte `i * stride` of `codes` and holds `groups` groups of 16 bytes. Byte
/// `v` of a group carries the 4-bit code of vector `v` in its low half and that of vector
/// `v + 16` in its high half. `lut` holds `groups x 16` entries. For each vector the entries that
/// its codes select are summed: `sums[i * 32 + v]`.
///
/// # Panics
/// If `groups` exceeds 257 (where a `u16` sum could overflow), if `stride` is less than
/// `groups * 16`, or if a slice is too short.
pub fn scan_blocks(codes: &[u8], stride: usize, groups: usize, lut: &[u8], sums: &mut [u16]) {
    scan_blocks_at(level(), codes, stride, groups, lut, sums);
}

/// [`scan_blocks`] at a given level.
pub(crate) fn scan_blocks_at(
    level: Level,
    codes: &[u8],
    stride: usize,
    groups: usize,
    lut: &[u8],
    sums: &mut [u16],
) {
    let blocks = sums.len() / BLOCK;
    assert_eq!(sums.len(), blocks * BLOCK, "sums come in blocks of {BLOCK}");
    assert!(groups <= 257, "{groups} groups could overflow 16-bit sums");
    assert!(stride >= groups * 16, "blocks of {groups} groups overlap at a stride of {stride}");
    assert!(lut.len() >= groups * 16, "the table has {} bytes for {groups} groups", lut.len());
    if blocks == 0 {
        return;
    }
    assert!(
        codes.len() >= (blocks - 1) * stride + groups * 16,
        "{} bytes of codes for {blocks} blocks",
        codes.len()
    );
    dispatch!(level, scan_blocks(codes, stride, groups, lut, sums));
}

/// The bytes that `count` fields of `width` bits take; `count` is a multiple of 8.
pub fn field_bytes(width: u32, count: usize) -> usize {
    count * width as usize / 8
}

/// A query quantized for [`dot_fields`]: values of at most 14 bits, as two balanced digits,
/// `value = 128 * high + low`.
#[derive(Clone, Debug, Default)]
pub struct FieldQuery {
    high: Vec<i8>,
    low: Vec<i8>,
}

impl FieldQuery {
    /// The largest magnitude of a value.
    pub const MAX: i32 = 8127;

    /// Replaces the values.
    ///
    /// # Panics
    /// If a value's magnitude exceeds [`MAX`](FieldQuery::MAX).
    pub fn set(&mut self, values: impl Iterator<Item = i32>) {
        self.high.clear();
        self.low.clear();
        for value in values {
            assert!(value.abs() <= FieldQuery::MAX, "{value} does not fit into 14 bits");
            let high = (value + 64) >> 7;
            self.high.push(high as i8);
            self.low.push((value - (high << 7)) as i8);
        }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.high.len()
    }

    /// True if there is no value.
    pub fn is_empty(&self) -> bool {
        self.high.is_empty()
    }

    /// The high digits, of magnitude 64 at most.
    pub fn high(&self) -> &[i8] {
        &self.high
    }

    /// The low digits, from -64 to 63.
    pub fn low(&self) -> &[i8] {
        &self.low
    }
}

/// The inner product of unsigned fields of `width` bits with a part of a query: exactly
/// `sum over i of field_i * query_(start + i)`.
///
/// `count` (a multiple of 8, at most 16,384) fields are packed into `count * width / 8` bytes:
///
/// | width | field `i` lies in |
/// |---|---|
/// | 4 | `i < count/2`: the low half of byte `i`, else the high half of byte `i - count/2` |
/// | 2 | byte `i % (count/4)`, at bit `2 * (i / (count/4))` |
/// | 1 | byte `i / 8`, at bit `i % 8` |
///
/// # Panics
/// If `width` is not 1, 2 or 4, `count` no multiple of 8 or too large, or a slice too short.
pub fn dot_fields(
    width: u32,
    count: usize,
    fields: &[u8],
    query: &FieldQuery,
    start: usize,
) -> i32 {
    dot_fields_at(level(), width, count, fields, query, start)
}

/// [`dot_fields`] at a given level.
pub(crate) fn dot_fields_at(
    level: Level,
    width: u32,
    count: usize,
    fields: &[u8],
    query: &FieldQuery,
    start: usize,
) -> i32 {
    assert!(matches!(width, 1 | 2 | 4), "fields of {width} bits");
    assert!(count.is_multiple_of(8) && count <= 16_384, "{count} fields");
    let fields = &fields[..field_bytes(width, count)];
    let high = &query.high[start..start + count];
    let low = &query.low[start..start + count];
    dispatch!(level, dot_fields(width, fields, high, low))
}
