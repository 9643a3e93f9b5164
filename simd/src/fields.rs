//! Inner products of a packed code with a query: the numbers of one vector's code, which lie partly in a
//! block and partly in a row of their own, against a query that is arranged as they lie.

use std::ops::Range;

use crate::dispatch::{Level, Vectorize, dispatch, level};
use crate::layout::BLOCK;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
use crate::neon;
use crate::scalar;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// Bytes of a group of 4 bits of each vector of a block.
pub const GROUP: usize = BLOCK / 2;

/// The bytes that `count` fields of `width` bits take in a row.
///
/// # Panics
/// If they do not fill whole bytes.
pub fn field_bytes(width: u32, count: usize) -> usize {
    assert!((count * width as usize).is_multiple_of(8), "{count} fields of {width} bits");
    count * width as usize / 8
}

/// `count` unsigned numbers of `width` bits of a vector's code, for the values of a query from `start` on.
///
/// In a row, from byte `offset` on:
///
/// | width | field `i` lies in |
/// |---|---|
/// | 4 | `i < count/2`: the low half of byte `i`, else the high half of byte `i - count/2` |
/// | 2 | byte `i % (count/4)`, at bit `2 * (i / (count/4))` |
/// | 1 | byte `i / 8`, at bit `i % 8` |
///
/// In the groups of a block, as [`scan_blocks`](crate::scan_blocks) has them, from group `first` on: a group
/// holds `4 / width` fields, the first one in its lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    width: u32,
    count: usize,
    start: usize,
    place: Place,
    shift: u32,
}

/// Where fields lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a row, from this byte on.
    Row(usize),
    /// In a block, from this group on.
    Groups(usize),
}

impl Fields {
    /// Fields in a row.
    ///
    /// # Panics
    /// If `width` is not 1, 2 or 4, or `count` no multiple of 8 or more than 16,384.
    pub fn in_row(width: u32, count: usize, offset: usize, start: usize) -> Fields {
        Fields::new(width, count, start, Place::Row(offset))
    }

    /// Fields in the groups of a block.
    ///
    /// # Panics
    /// As [`in_row`](Fields::in_row).
    pub fn in_groups(width: u32, count: usize, first: usize, start: usize) -> Fields {
        Fields::new(width, count, start, Place::Groups(first))
    }

    fn new(width: u32, count: usize, start: usize, place: Place) -> Fields {
        assert!(matches!(width, 1 | 2 | 4), "fields of {width} bits");
        assert!(count.is_multiple_of(8) && count <= 16_384, "{count} fields");
        Fields { width, count, start, place, shift: 0 }
    }

    /// The same fields, `shift` bits further up in their numbers.
    ///
    /// # Panics
    /// If that is more than 31 bits in all.
    pub fn shifted(self, shift: u32) -> Fields {
        let shift = self.shift + shift;
        assert!(shift < 32, "fields {shift} bits up");
        Fields { shift, ..self }
    }

    /// What the magnitude of their inner product with a query cannot exceed.
    fn largest(&self) -> u64 {
        let largest = ((1u64 << self.width) - 1) << self.shift;
        largest * FieldQuery::MAX as u64 * self.count as u64
    }

    /// True if the inner product of all of these numbers together fits into an `i32`, whatever the query.
    pub fn fit(fields: &[Fields]) -> bool {
        fields.iter().map(Fields::largest).sum::<u64>() <= i32::MAX as u64
    }
}

/// How [`dot_fields`] goes through a code: sums of [`Fields`], as [`push`](FieldPlan::push) made them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldPlan {
    pub(crate) parts: Vec<Part>,
    sums: usize,
    /// Of a query.
    lines: usize,
    /// Values of a query that are looked at, from the first one on.
    values: usize,
    /// Bytes that the groups end at.
    group_bytes: usize,
    /// Bytes that the fields in the row end at, and those that are read: what is behind a part meets zeros
    /// of the query.
    row_bytes: usize,
    read_bytes: usize,
}

/// 64 digits of a query.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [i8; 64]);

/// Fields as kernels go through them: chunks of `slot` bytes, each against lines of high digits and then as
/// many of low ones.
///
/// A byte (of a group: its 4 bits) holds fields of the same number of equal *lots* of values, or, in a row
/// of fields of one bit, eight that follow each other. So a chunk of the former is moved right by a field for
/// each lot; the digits of lot `p` stand `p * slot` bytes from the first. Where a chunk is less than a line,
/// several lots share the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    fields: Fields,
    pub(crate) source: Source,
    /// Where the row's bytes or the block's groups start, in bytes.
    pub(crate) at: usize,
    /// Fields in a byte or a group.
    lots: usize,
    /// Bytes of the row, or groups.
    pub(crate) bytes: usize,
    /// Bytes (or groups) of a chunk: 16, 32 or 64, or 8 for bits.
    pub(crate) slot: usize,
    /// Chunks: one at least, which may hold nothing.
    pub(crate) chunks: usize,
    /// Lines of high digits of a chunk.
    pub(crate) height: usize,
    /// The first line of digits.
    pub(crate) line: usize,
    /// What a field is masked by.
    pub(crate) field: u8,
    /// How far the fields of each four bytes of a line are to be moved right.
    pub(crate) moves: &'static [[i32; 16]; 4],
    /// Ends a sum.
    pub(crate) last: bool,
}

/// How a part's fields become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Bytes of the row, moved and masked.
    Row,
    /// Bits of the row, each a value's.
    Bits,
    /// The vector's four bits of each group, moved and masked.
    Groups,
}

impl Part {
    fn new(fields: Fields, line: usize, last: bool) -> Part {
        let width = fields.width;
        let (source, at, lots) = match fields.place {
            Place::Row(at) if width == 1 => (Source::Bits, at, 8),
            Place::Row(at) => (Source::Row, at, 8 / width as usize),
            Place::Groups(first) => (Source::Groups, first * GROUP, 4 / width as usize),
        };
        let bytes = fields.count / lots;
        let slot = match source {
            Source::Bits => 8,
            _ => bytes.next_power_of_two().clamp(16, 64),
        };
        Part {
            fields,
            source,
            at,
            lots,
            bytes,
            slot,
            chunks: bytes.div_ceil(slot).max(1),
            height: (lots * slot).div_ceil(64),
            line,
            field: (1 << width) - 1,
            moves: &MOVES[width.ilog2() as usize][slot.ilog2().saturating_sub(4) as usize],
            last,
        }
    }

    pub(crate) fn shift(&self) -> u32 {
        self.fields.shift
    }

    /// The lines of the query's digits.
    pub(crate) fn lines(&self) -> Range<usize> {
        self.line..self.line + 2 * self.height * self.chunks
    }

    /// The row's bytes that are read.
    pub(crate) fn row(&self) -> Range<usize> {
        self.at..self.at + self.chunks * self.slot
    }

    /// A chunk's lines of a query.
    #[inline(always)]
    pub(crate) fn lines_of<'a>(&self, lines: &'a [Line], chunk: usize) -> &'a [Line] {
        &lines[self.line + 2 * self.height * chunk..][..2 * self.height]
    }

    /// A chunk's bytes of the row.
    #[inline(always)]
    pub(crate) fn row_of<'a>(&self, row: &'a [u8], chunk: usize) -> &'a [u8] {
        &row[self.at + chunk * self.slot..][..self.slot]
    }

    /// A chunk's groups of a block.
    #[inline(always)]
    pub(crate) fn groups_of<'a>(&self, groups: &'a [u8], chunk: usize) -> &'a [u8] {
        let first = chunk * self.slot;
        let count = self.slot.min(self.bytes - first);
        &groups[self.at + first * GROUP..][..count * GROUP]
    }
}

/// For each width and each slot of 16, 32 and 64 bytes: how far right the fields in each four bytes of each line
/// are to be moved. (What is moved beyond a field's lots meets digits that are zero.)
static MOVES: [[[[i32; 16]; 4]; 3]; 3] = {
    let mut moves = [[[[0; 16]; 4]; 3]; 3];
    let mut i = 0;
    while i < 3 * 3 * 4 * 16 {
        let (width, slot, line, word) = (i / 192, i / 64 % 3, i / 16 % 4, i % 16);
        let lot = (64 * line + 4 * word) / (16 << slot);
        moves[width][slot][line][word] = (lot as i32) << width;
        i += 1;
    }
    moves
};

impl FieldPlan {
    /// Adds a sum over fields.
    ///
    /// # Panics
    /// If they do not [`fit`](Fields::fit), or if there are none.
    pub fn push(&mut self, fields: &[Fields]) {
        assert!(!fields.is_empty(), "a sum over no fields");
        assert!(Fields::fit(fields), "a sum that may exceed 31 bits: {fields:?}");
        for (i, &some) in fields.iter().enumerate() {
            let part = Part::new(some, self.lines, i + 1 == fields.len());
            self.lines = part.lines().end;
            self.values = self.values.max(some.start + some.count);
            if part.source == Source::Groups {
                self.group_bytes = self.group_bytes.max(part.at + part.bytes * GROUP);
            } else {
                self.row_bytes = self.row_bytes.max(part.at + part.bytes);
                self.read_bytes = self.read_bytes.max(part.row().end);
            }
            self.parts.push(part);
        }
        self.sums += 1;
    }

    /// The number of sums.
    pub fn sums(&self) -> usize {
        self.sums
    }

    /// The bytes of a row that [`dot_fields`] reads if it is given them, the fields' own and some behind
    /// them.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }
}

/// A query quantized for [`dot_fields`] and arranged for a plan: values of at most 14 bits, as two balanced
/// digits, `value = 128 * high + low`.
#[derive(Clone, Debug, Default)]
pub struct FieldQuery {
    /// Of magnitude 64 at most.
    high: Vec<i8>,
    /// From -64 to 63.
    low: Vec<i8>,
    lines: Vec<Line>,
}

impl FieldQuery {
    /// The largest magnitude of a value.
    pub const MAX: i32 = 8127;

    /// Replaces the values.
    ///
    /// # Panics
    /// If a value's magnitude exceeds [`MAX`](FieldQuery::MAX), or the plan looks at more values than there
    /// are.
    pub fn set(&mut self, plan: &FieldPlan, values: &[i32]) {
        assert!(plan.values <= values.len(), "{} values of {}", values.len(), plan.values);
        self.high.resize(values.len(), 0);
        self.low.resize(values.len(), 0);
        let FieldQuery { high, low, lines } = self;
        let largest = level().vectorize(Split { values, high, low });
        assert!(largest <= FieldQuery::MAX as u32, "{largest} does not fit into 14 bits");
        lines.clear();
        lines.resize(plan.lines, Line([0; 64]));
        level().vectorize(Arrange { plan, digits: [high, low], lines });
    }
}

/// Splits values into digits; returns the largest magnitude.
struct Split<'a> {
    values: &'a [i32],
    high: &'a mut [i8],
    low: &'a mut [i8],
}

impl Vectorize for Split<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        let mut largest = 0;
        let digits = self.high.iter_mut().zip(self.low);
        for (&value, (high, low)) in self.values.iter().zip(digits) {
            largest = largest.max(value.unsigned_abs());
            let upper = value.wrapping_add(64) >> 7;
            *high = upper as i8;
            *low = value.wrapping_sub(upper << 7) as i8;
        }
        largest
    }
}

/// Brings digits to their places in lines, which are zero before.
struct Arrange<'a> {
    plan: &'a FieldPlan,
    digits: [&'a [i8]; 2],
    lines: &'a mut [Line],
}

impl Vectorize for Arrange<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for part in &self.plan.parts {
            let (start, count, lots) = (part.fields.start, part.fields.count, part.lots);
            let lines = &mut self.lines[part.lines()];
            for (chunk, lines) in lines.chunks_exact_mut(2 * part.height).enumerate() {
                let (high, low) = lines.split_at_mut(part.height);
                for (lines, digits) in [high, low].into_iter().zip(self.digits) {
                    let digits = &digits[start..start + count];
                    if part.source == Source::Bits {
                        let digits = &digits[64 * chunk..];
                        let digits = &digits[..digits.len().min(64)];
                        lines[0].0[..digits.len()].copy_from_slice(digits);
                        continue;
                    }
                    let first = chunk * part.slot;
                    let bytes = part.slot.min(part.bytes - first);
                    for lot in 0..lots {
                        let (line, at) = (lot * part.slot / 64, lot * part.slot % 64);
                        let out = &mut lines[line].0[at..at + bytes];
                        match (part.source, lots) {
                            (Source::Groups, 2) => strided::<2>(&digits[2 * first..], lot, out),
                            (Source::Groups, 4) => strided::<4>(&digits[4 * first..], lot, out),
                            _ => out.copy_from_slice(&digits[lot * part.bytes + first..][..bytes]),
                        }
                    }
                }
            }
        }
    }
}

/// Every `STRIDE`th digit from number `first` on.
#[inline(always)]
fn strided<const STRIDE: usize>(digits: &[i8], first: usize, out: &mut [i8]) {
    for (out, digits) in out.iter_mut().zip(digits.as_chunks::<STRIDE>().0) {
        *out = digits[first];
    }
}

/// The sums of [`dot_fields`], and a buffer.
#[derive(Clone, Debug, Default)]
pub struct FieldSums {
    sums: Vec<i32>,
    row: Vec<u8>,
}

/// The inner products of a vector's code with a query: for each sum of the plan exactly
/// `sum over its fields and i of (field_i << shift) * query_(start + i)`.
///
/// `groups` are those of the block that has the vector in lane `lane`; `row` is the vector's row, and what
/// lies behind it: with all of the [`read_bytes`](FieldPlan::read_bytes) the row is not copied first.
/// The query was [`set`](FieldQuery::set) for the same plan.
///
/// # Panics
/// If there is no such lane, if a slice is too short for the fields, or if the query was set for a plan of
/// another size.
pub fn dot_fields<'a>(
    plan: &FieldPlan,
    groups: &[u8],
    lane: usize,
    row: &[u8],
    query: &FieldQuery,
    sums: &'a mut FieldSums,
) -> &'a [i32] {
    dot_fields_at(level(), plan, groups, lane, row, query, sums)
}

/// [`dot_fields`] at a given level.
pub(crate) fn dot_fields_at<'a>(
    level: Level,
    plan: &FieldPlan,
    groups: &[u8],
    lane: usize,
    row: &[u8],
    query: &FieldQuery,
    sums: &'a mut FieldSums,
) -> &'a [i32] {
    assert!(lane < BLOCK, "lane {lane} of a block of {BLOCK}");
    assert!(groups.len() >= plan.group_bytes, "{} bytes of groups", groups.len());
    assert!(row.len() >= plan.row_bytes, "{} bytes of a row", row.len());
    assert_eq!(query.lines.len(), plan.lines, "a query that was set for another plan");
    let FieldSums { sums, row: buffer } = sums;
    sums.resize(plan.sums, 0);
    let row = if row.len() < plan.read_bytes {
        buffer.clear();
        buffer.extend_from_slice(row);
        buffer.resize(plan.read_bytes, 0);
        &buffer[..]
    } else {
        row
    };
    let lines = &query.lines[..];
    dispatch!(level, dot_fields(plan, groups, lane, row, lines, sums));
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{Numbers, levels};

    /// A vector's code of several sums, in a block and a row, whose places are computed here.
    struct Code {
        plan: FieldPlan,
        /// For each sum, its value.
        expected: Vec<i32>,
        groups: Vec<u8>,
        row: Vec<u8>,
        values: Vec<i32>,
    }

    /// For each sum its parts: whether in groups, width, count, shift.
    type Shape<'a> = &'a [&'a [(bool, u32, usize, u32)]];

    fn code(numbers: &mut Numbers, shape: Shape, lane: usize, front: usize, extreme: bool) -> Code {
        let max = i64::from(FieldQuery::MAX);
        let mut code = Code {
            plan: FieldPlan::default(),
            expected: Vec::new(),
            groups: Vec::new(),
            row: numbers.u8s(front),
            values: Vec::new(),
        };
        for sum in shape {
            let (mut expected, mut all) = (0i64, Vec::new());
            for &(in_groups, width, count, shift) in *sum {
                let start = code.values.len() + front;
                let values: Vec<i64> = match extreme {
                    true => vec![if shift % 2 == 0 { max } else { -max }; count],
                    false => numbers.ints(count, -max, max),
                };
                let most = (1 << width) - 1;
                let fields = numbers.ints(count, if extreme { most } else { 0 }, most);
                let product: i64 = fields.iter().zip(&values).map(|(f, v)| f * v).sum();
                expected += product << shift;
                code.values.resize(start, 77);
                code.values.extend(values.iter().map(|&x| x as i32));
                let fields: Vec<u8> = fields.iter().map(|&x| x as u8).collect();
                let place = if in_groups {
                    // Other lanes hold anything.
                    let first = code.groups.len() / GROUP;
                    let per_group = 4 / width as usize;
                    for lot in fields.chunks_exact(per_group) {
                        let mut group = numbers.u8s(GROUP);
                        let bits = lot.iter().rev().fold(0, |bits, f| bits << width | f);
                        let at = 4 * (lane / GROUP);
                        let byte = &mut group[lane % GROUP];
                        *byte = *byte & !(15 << at) | bits << at;
                        code.groups.extend(group);
                    }
                    Fields::in_groups(width, count, first, start)
                } else {
                    let mut packed = vec![0u8; field_bytes(width, count)];
                    for (i, &field) in fields.iter().enumerate() {
                        let (byte, bit) = match width {
                            4 if i < count / 2 => (i, 0),
                            4 => (i - count / 2, 4),
                            2 => (i % (count / 4), 2 * (i / (count / 4))),
                            _ => (i / 8, i % 8),
                        };
                        packed[byte] |= field << bit;
                    }
                    let offset = code.row.len();
                    code.row.extend(packed);
                    Fields::in_row(width, count, offset, start)
                };
                all.push(place.shifted(shift));
            }
            code.plan.push(&all);
            code.expected.push(expected as i32);
        }
        code
    }

    /// Checks a code at every level, with nothing behind its row and with anything.
    fn check(code: &Code, numbers: &mut Numbers, lane: usize, what: &str) {
        let mut query = FieldQuery::default();
        // What a query was before does not matter.
        let mut before = FieldPlan::default();
        before.push(&[Fields::in_row(4, 64, 0, 0)]);
        query.set(&before, &[-5; 64]);
        query.set(&code.plan, &code.values);
        let mut long = code.row.clone();
        long.extend(numbers.u8s(code.plan.read_bytes()));
        for level in levels() {
            let mut sums = FieldSums::default();
            for row in [&long, &code.row] {
                let found =
                    dot_fields_at(level, &code.plan, &code.groups, lane, row, &query, &mut sums);
                assert_eq!(found, code.expected, "{level}: {what}");
            }
        }
    }

    fn check_shape(shape: Shape, lane: usize, front: usize, seed: u64) {
        let mut numbers = Numbers(seed);
        for extreme in [false, true] {
            let code = code(&mut numbers, shape, lane, front, extreme);
            check(&code, &mut numbers, lane, &format!("{shape:?}, lane {lane}, after {front}"));
        }
    }

    #[test]
    fn all_counts_agree() {
        for in_groups in [false, true] {
            for width in [1, 2, 4] {
                for count in (0..=640).step_by(8).chain([1016, 1024, 1032, 2040, 2048, 16_384]) {
                    let shape: Shape = &[&[(in_groups, width, count, 0)]];
                    check_shape(shape, count / 8 % BLOCK, count / 8 % 5, count as u64);
                }
            }
        }
    }

    #[test]
    fn all_lanes_agree() {
        for lane in 0..BLOCK {
            let shape: Shape = &[
                &[(true, 2, 88, 7), (false, 4, 88, 3), (false, 2, 88, 1), (false, 1, 88, 0)],
                &[(false, 4, 40, 2), (false, 2, 40, 0)],
                &[(true, 1, 104, 3), (false, 2, 104, 1), (false, 1, 104, 0)],
                &[(true, 4, 24, 4), (false, 4, 24, 0)],
            ];
            check_shape(shape, lane, lane, lane as u64);
        }
    }

    #[test]
    fn the_largest_sums_agree() {
        // 15 * 8127 * 16,384 is just below 2^31.
        for front in [0, 1] {
            check_shape(&[&[(false, 4, 16_384, 0)], &[(true, 4, 16_384, 0)]], 31, front, 1);
            check_shape(&[&[(false, 2, 512, 7), (false, 1, 512, 6), (true, 4, 512, 2)]], 9, 0, 2);
            check_shape(&[&[(true, 1, 8, 14)], &[(false, 1, 8, 14), (false, 1, 8, 13)]], 0, 3, 3);
        }
        assert!(Fields::fit(&[Fields::in_row(4, 16_384, 0, 0)]));
        assert!(!Fields::fit(&[Fields::in_row(4, 16_384, 0, 0), Fields::in_row(4, 16_384, 0, 0)]));
        assert!(!Fields::fit(&[Fields::in_row(1, 16_384, 0, 0).shifted(31)]));
    }

    #[test]
    fn digits_make_up_their_value() {
        let mut query = FieldQuery::default();
        let values: Vec<i32> = (-FieldQuery::MAX..=FieldQuery::MAX).collect();
        query.set(&FieldPlan::default(), &values);
        assert_eq!((query.high.len(), query.low.len()), (values.len(), values.len()));
        for ((&high, &low), value) in query.high.iter().zip(&query.low).zip(values) {
            assert_eq!(128 * i32::from(high) + i32::from(low), value);
            assert!((-64..=64).contains(&high) && (-64..64).contains(&low));
        }
    }

    proptest! {
        #[test]
        fn codes_agree(
            parts in prop::collection::vec(
                (prop::bool::ANY, prop::sample::select(vec![1u32, 2, 4]), 0usize..60, 0u32..8, 0usize..3),
                1..12,
            ),
            lane in 0usize..BLOCK, front in 0usize..70, seed: u64,
        ) {
            let mut shape: Vec<Vec<(bool, u32, usize, u32)>> = Vec::new();
            for (in_groups, width, eighths, shift, new) in parts {
                let part = (in_groups, width, 8 * eighths, shift);
                match shape.last_mut() {
                    Some(sum) if new > 0 => sum.push(part),
                    _ => shape.push(vec![part]),
                }
            }
            let fits = |sum: &Vec<(bool, u32, usize, u32)>| {
                let fields: Vec<Fields> = sum
                    .iter()
                    .map(|&(_, width, count, shift)| Fields::in_row(width, count, 0, 0).shifted(shift))
                    .collect();
                Fields::fit(&fields)
            };
            shape.retain(fits);
            let shape: Vec<&[(bool, u32, usize, u32)]> = shape.iter().map(|sum| &sum[..]).collect();
            check_shape(&shape, lane, front, seed);
        }
    }
}
