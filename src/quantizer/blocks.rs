//! Where small codes lie: groups of 4 bits in blocks of 32 vectors, and fields in the row of one.

use std::ops::Range;

use nonius_simd::{FieldPlan, FieldQuery, Fields, GROUP};

use crate::train::ROUND;

/// Consecutive groups in pieces that [`nonius_simd::scan_blocks`] takes: the sums of each fit into 16 bits.
pub(crate) fn pieces(groups: usize) -> impl Iterator<Item = usize> {
    const MOST: usize = 256;
    (0..groups).step_by(MOST).map(move |first| (groups - first).min(MOST))
}

/// The widths of the fields that the lower `bits` bits of a code are split into, from the top,
/// each with its shift: 4, then 2, then 1.
pub(crate) fn fields(bits: u32) -> impl Iterator<Item = (u32, u32)> + Clone {
    let mut left = bits;
    std::iter::from_fn(move || {
        let width = match left {
            0 => return None,
            1 => 1,
            2..=3 => 2,
            _ => 4,
        };
        left -= width;
        Some((width, left))
    })
}

/// The fields of a code and where they belong: what a [`FieldPlan`] sums for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) plan: FieldPlan,
    /// How far up in the code each sum belongs.
    places: Vec<u32>,
}

impl Sums {
    /// Adds a code of fields, each with its place, from the top; returns the numbers of its sums: one, or
    /// where that could exceed 32 bits several.
    pub(crate) fn push(&mut self, fields: &[(Fields, u32)]) -> Range<usize> {
        let first = self.places.len();
        let mut joined: Vec<Fields> = Vec::new();
        let mut lowest = 0;
        for &(fields, place) in fields.iter().rev() {
            if joined.is_empty() {
                lowest = place;
            }
            joined.push(fields.shifted(place - lowest));
            if !Fields::fit(&joined) {
                joined.pop();
                self.plan.push(&joined);
                self.places.push(lowest);
                (joined, lowest) = (vec![fields], place);
            }
        }
        if !joined.is_empty() {
            self.plan.push(&joined);
            self.places.push(lowest);
        }
        first..self.places.len()
    }

    /// The inner product of a code with the integer query, from the plan's sums.
    #[inline]
    pub(crate) fn total(&self, code: Range<usize>, sums: &[i32]) -> i64 {
        let places = self.places[code.clone()].iter();
        places.zip(&sums[code]).map(|(&place, &sum)| i64::from(sum) << place).sum()
    }
}

/// The byte and the bit of field `i` of `count` fields of `width` bits; see
/// [`nonius_simd::dot_fields`].
pub(crate) fn field_place(width: u32, count: usize, i: usize) -> (usize, usize) {
    match width {
        4 => (i % (count / 2), 4 * (i / (count / 2))),
        2 => (i % (count / 4), 2 * (i / (count / 4))),
        _ => (i / 8, i % 8),
    }
}

/// Interleaves groups of records: two a byte in the first `bytes` of each of up to 32 records that are
/// `stride` bytes apart. `groups` is zero before.
pub(crate) fn pack_groups(records: &[u8], stride: usize, bytes: usize, groups: &mut [u8]) {
    for (v, record) in records.chunks_exact(stride).enumerate() {
        let (lane, shift) = (v % GROUP, 4 * (v / GROUP));
        for (k, &byte) in record[..bytes].iter().enumerate() {
            groups[2 * k * GROUP + lane] |= (byte & 15) << shift;
            groups[(2 * k + 1) * GROUP + lane] |= (byte >> 4) << shift;
        }
    }
}

/// The groups of vector `v` of a block, one after the other.
#[inline]
pub(crate) fn groups_of(groups: &[u8], v: usize) -> impl Iterator<Item = u8> + '_ {
    let (lane, shift) = (v % GROUP, 4 * (v / GROUP));
    groups.as_chunks::<GROUP>().0.iter().map(move |group| group[lane] >> shift & 15)
}

/// Rounds a part of a query to integers for [`FieldQuery`]; returns what a unit is worth, and the sum
/// of up to 16,384 of them.
#[inline(always)]
pub(crate) fn round_query(q: &[f32], integers: &mut [i32]) -> (f32, i64) {
    // The order of nonnegative floats is that of their bits, whose maximum is a vector operation.
    let largest = q.iter().fold(0, |m: u32, x| m.max(x.abs().to_bits()));
    let step = (f32::from_bits(largest) / FieldQuery::MAX as f32).max(1e-30);
    let inverse = 1.0 / step;
    let mut sum = 0i32;
    for (integer, q) in integers.iter_mut().zip(q) {
        // Whatever a query of no numbers gives: it is cut off.
        let rounded = ((q * inverse + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        *integer = rounded.clamp(-FieldQuery::MAX, FieldQuery::MAX);
        sum += *integer;
    }
    (step, i64::from(sum))
}

#[cfg(test)]
mod tests {
    use nonius_simd::BLOCK;

    use super::*;

    #[test]
    fn fields_cover_all_bits() {
        for bits in 0..=13 {
            let parts: Vec<(u32, u32)> = fields(bits).collect();
            assert_eq!(parts.iter().map(|p| p.0).sum::<u32>(), bits);
            let mut left = bits;
            for (width, shift) in parts {
                left -= width;
                assert_eq!(shift, left);
            }
        }
    }

    #[test]
    fn long_codes_have_several_sums() {
        for (dims, bits, expected) in [(88, 7, 1), (512, 9, 1), (512, 10, 2), (16_384, 13, 4)] {
            let mut sums = Sums::default();
            let parts: Vec<(Fields, u32)> = fields(bits)
                .map(|(width, place)| (Fields::in_row(width, dims, 0, 0), place))
                .collect();
            assert_eq!(sums.push(&[]), 0..0);
            assert_eq!(sums.push(&parts), 0..expected, "{bits} bits of {dims} dimensions");
            assert_eq!(sums.push(&parts), expected..2 * expected);
            // A code of ones only: every sum is that of its fields.
            let row = vec![0xff; dims];
            let values = vec![-3; dims];
            let mut query = FieldQuery::default();
            query.set(&sums.plan, &values);
            let mut found = nonius_simd::FieldSums::default();
            let found = nonius_simd::dot_fields(&sums.plan, &[], 0, &row, &query, &mut found);
            let total = -3 * dims as i64 * ((1 << bits) - 1);
            assert_eq!(sums.total(expected..2 * expected, found), total);
        }
    }

    #[test]
    fn groups_come_back_as_they_were() {
        let records: Vec<u8> = (0..31 * 5).map(|i| (i * 37 + 11) as u8).collect();
        let mut groups = vec![0; 6 * GROUP];
        pack_groups(&records, 5, 3, &mut groups);
        for v in 0..BLOCK {
            let found: Vec<u8> = groups_of(&groups, v).collect();
            let byte = |k: usize| if v < 31 { records[v * 5 + k] } else { 0 };
            let expected: Vec<u8> = (0..6).map(|k| byte(k / 2) >> (4 * (k % 2)) & 15).collect();
            assert_eq!(found, expected, "vector {v}");
        }
    }
}
