//! Every kernel against its scalar twin, at every level that the processor has.

use half::f16;
use proptest::prelude::*;

use crate::dispatch::without_vbmi;
use crate::float::matmul_f32_at;
use crate::layout::{gemm_i8_at, gemm_i16_at, scan_blocks_at, sum_bytes_at};
use crate::transpose::transpose_16_at;
use crate::{
    BLOCK, Level, Panels, Panels8, at_most, available, dot_f16, dot_f32, l2_sq_f16, l2_sq_f32,
    l2_sqs_f32, scalar, with_level,
};

/// The levels to test. `NONIUS_SIMD_REQUIRE` names levels (separated by commas) that must be among
/// them, so that a test run on a machine that should have a level cannot pass without it.
pub(crate) fn levels() -> Vec<Level> {
    let levels = available();
    if let Ok(names) = std::env::var("NONIUS_SIMD_REQUIRE") {
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let level: Level = name.parse().unwrap_or_else(|error| panic!("{error}"));
            assert!(levels.contains(&level), "NONIUS_SIMD_REQUIRE: this processor has no {level}");
        }
    }
    levels
}

/// Numbers that only depend on the seed (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// `count` numbers of which about one in four is `low` or `high`.
    pub(crate) fn ints(&mut self, count: usize, low: i64, high: i64) -> Vec<i64> {
        (0..count)
            .map(|_| match self.next() % 8 {
                0 => low,
                1 => high,
                _ => low + (self.next() % (high - low + 1) as u64) as i64,
            })
            .collect()
    }

    /// Numbers of both signs below 8 with all 24 bits in use, so that products do get rounded and
    /// a fused multiplication would show.
    pub(crate) fn f32s(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                let bits = self.next();
                let magnitude = (bits % (1 << 24)) as f32 / (1 << 23) as f32
                    * 2.0f32.powi((bits >> 40) as i32 % 16 - 13);
                if bits >> 63 == 0 { magnitude } else { -magnitude }
            })
            .collect()
    }

    fn i16s(&mut self, count: usize) -> Vec<i16> {
        self.ints(count, -32768, 32767).into_iter().map(|x| x as i16).collect()
    }

    fn i8s(&mut self, count: usize) -> Vec<i8> {
        self.ints(count, -128, 127).into_iter().map(|x| x as i8).collect()
    }

    pub(crate) fn u8s(&mut self, count: usize) -> Vec<u8> {
        self.ints(count, 0, 255).into_iter().map(|x| x as u8).collect()
    }
}

/// The product by its definition, from the unpacked operands, in `i64`, wrapped at the end.
fn product(
    m: usize,
    n: usize,
    padded: [usize; 2],
    depth: usize,
    a: impl Fn(usize) -> i64,
    b: impl Fn(usize) -> i64,
) -> Vec<i32> {
    let mut c = vec![0; m * padded[1]];
    for i in 0..m {
        for j in 0..n {
            let sum: i64 = (0..depth).map(|t| a(i * padded[0] + t) * b(j * depth + t)).sum();
            c[i * padded[1] + j] = sum as i32;
        }
    }
    c
}

/// Checks `gemm_i16` at every level against the definition, with operands that start `offset`
/// values into their allocations.
fn check_gemm_i16(m: usize, depth: usize, n: usize, offset: usize, a: &[i16], b: &[i16]) {
    let mut packed = vec![0; offset];
    packed.extend(Panels::pack(n, depth, b));
    let panels = Panels::new(n, depth, &packed[offset..]);
    let padded = [panels.padded_depth(), panels.padded_rows()];
    // Columns beyond the depth meet zeros in the panels: what `a` holds there must not matter.
    let mut left = vec![12_345i16; offset + m * padded[0]];
    for i in 0..m {
        left[offset + i * padded[0]..][..depth].copy_from_slice(&a[i * depth..][..depth]);
    }
    let left = &left[offset..];
    let expected = product(m, n, padded, depth, |i| i64::from(left[i]), |i| i64::from(b[i]));
    for level in levels() {
        let mut c = vec![i32::MIN; offset + expected.len() + 3];
        gemm_i16_at(level, left, panels, &mut c[offset..offset + expected.len()]);
        assert_eq!(c[offset..][..expected.len()], expected, "{level}: {m} x {depth} x {n}");
        assert!(c[..offset].iter().chain(&c[offset + expected.len()..]).all(|&x| x == i32::MIN));
    }
}

/// As [`check_gemm_i16`].
fn check_gemm_i8(m: usize, depth: usize, n: usize, offset: usize, a: &[u8], b: &[i8]) {
    let mut packed = vec![0; offset];
    packed.extend(Panels8::pack(n, depth, b));
    let panels = Panels8::new(n, depth, &packed[offset..]);
    let padded = [panels.padded_depth(), panels.padded_rows()];
    // What is in the padding does not matter, but for which of the kernels of AVX2 runs.
    let padding = a.iter().fold(1, |all, x| all | x);
    let mut left = vec![padding; offset + m * padded[0]];
    for i in 0..m {
        left[offset + i * padded[0]..][..depth].copy_from_slice(&a[i * depth..][..depth]);
    }
    let left = &left[offset..];
    let expected = product(m, n, padded, depth, |i| i64::from(left[i]), |i| i64::from(b[i]));
    for level in levels() {
        let mut c = vec![i32::MIN; offset + expected.len() + 3];
        gemm_i8_at(level, left, panels, &mut c[offset..offset + expected.len()]);
        assert_eq!(c[offset..][..expected.len()], expected, "{level}: {m} x {depth} x {n}");
        assert!(c[..offset].iter().chain(&c[offset + expected.len()..]).all(|&x| x == i32::MIN));
    }
}

/// Shapes that meet every size of tile, a single row or column, and several blocks of steps.
const SHAPES: [[usize; 3]; 14] = [
    [0, 5, 3],
    [1, 1, 1],
    [1, 384, 100],
    [2, 2, 16],
    [3, 7, 17],
    [5, 258, 33],
    [6, 31, 64],
    [7, 257, 48],
    [8, 384, 96],
    [9, 256, 49],
    [17, 515, 65],
    [33, 63, 47],
    [40, 1031, 20],
    [4, 9, 0],
];

#[test]
fn gemm_i16_agrees_on_all_shapes() {
    let mut numbers = Numbers(1);
    for [m, depth, n] in SHAPES {
        for offset in [0, 1, 7] {
            let (a, b) = (numbers.i16s(m * depth), numbers.i16s(n * depth));
            check_gemm_i16(m, depth, n, offset, &a, &b);
        }
    }
}

#[test]
fn gemm_i8_agrees_on_all_shapes() {
    let mut numbers = Numbers(2);
    for [m, depth, n] in SHAPES {
        for offset in [0, 1, 7] {
            let (a, b) = (numbers.u8s(m * depth), numbers.i8s(n * depth));
            check_gemm_i8(m, depth, n, offset, &a, &b);
            let a: Vec<u8> = a.iter().map(|x| x >> 1).collect();
            check_gemm_i8(m, depth, n, offset, &a, &b);
        }
    }
}

#[test]
fn gemm_agrees_where_it_blocks_rows() {
    // More rows than stay in the cache with a long depth: several blocks of rows.
    let [m, depth, n] = [70, 4100, 19];
    let mut numbers = Numbers(3);
    check_gemm_i16(m, depth, n, 0, &numbers.i16s(m * depth), &numbers.i16s(n * depth));
    let [m, depth, n] = [70, 8200, 19];
    let (a, b) = (numbers.u8s(m * depth), numbers.i8s(n * depth));
    check_gemm_i8(m, depth, n, 0, &a, &b);
    check_gemm_i8(m, depth, n, 0, &a.iter().map(|x| x >> 1).collect::<Vec<_>>(), &b);
}

#[test]
fn gemm_wraps_alike_at_the_extremes() {
    for (x, y) in [(i16::MIN, i16::MIN), (i16::MIN, i16::MAX), (i16::MAX, i16::MAX), (0, i16::MIN)]
    {
        check_gemm_i16(9, 301, 18, 0, &vec![x; 9 * 301], &vec![y; 18 * 301]);
    }
    for (x, y) in
        [(255, -128), (255, 127), (128, -128), (127, -128), (127, 127), (0, -128), (255, 0)]
    {
        check_gemm_i8(9, 301, 18, 0, &vec![x; 9 * 301], &vec![y; 18 * 301]);
    }
}

/// Checks `scan_blocks` at every level against sums of single look-ups.
fn check_scan(blocks: usize, stride: usize, pieces: &[usize], codes: &[u8], lut: &[u8]) {
    let mut expected = vec![0u16; blocks * pieces.len() * BLOCK];
    for block in 0..blocks {
        let mut group = 0;
        for (piece, &groups) in pieces.iter().enumerate() {
            for group in group..group + groups {
                for v in 0..BLOCK {
                    let byte = codes[block * stride + group * 16 + v % 16];
                    let code = usize::from(if v < 16 { byte & 15 } else { byte >> 4 });
                    expected[(block * pieces.len() + piece) * BLOCK + v] +=
                        u16::from(lut[group * 16 + code]);
                }
            }
            group += groups;
        }
    }
    for level in levels() {
        let scan = || {
            let mut sums = vec![77u16; expected.len()];
            scan_blocks_at(level, codes, stride, pieces, lut, &mut sums);
            sums
        };
        let what = format!("{level}: {blocks} blocks of {pieces:?}, stride {stride}");
        assert_eq!(scan(), expected, "{what}");
        assert_eq!(without_vbmi(scan), expected, "{what}, without VBMI");
    }
}

#[test]
fn scan_agrees_on_all_numbers_of_groups() {
    let mut numbers = Numbers(4);
    for groups in (0..=40).chain([63, 64, 65, 88, 127, 128, 129, 255, 256, 257]) {
        let blocks = 1 + groups % 4;
        for extra in [0, 1, 64] {
            let stride = groups * 16 + extra;
            // No byte more than the last block needs: a read beyond would be out of bounds.
            let codes = numbers.u8s((blocks - 1) * stride + groups * 16);
            check_scan(blocks, stride, &[groups], &codes, &numbers.u8s(groups * 16));
        }
    }
}

#[test]
fn scan_keeps_pieces_apart() {
    let mut numbers = Numbers(14);
    for pieces in [vec![], vec![3, 0, 5], vec![257, 257, 1], vec![20, 28], vec![4, 2, 40, 1, 1]] {
        let groups: usize = pieces.iter().sum();
        for blocks in [0, 1, 3] {
            let stride = groups * 16 + 7;
            let codes = numbers.u8s((blocks.max(1) - 1) * stride + groups * 16);
            check_scan(blocks, stride, &pieces, &codes, &numbers.u8s(groups * 16));
        }
    }
}

#[test]
fn sums_of_bytes_agree_on_all_shapes() {
    let mut numbers = Numbers(24);
    for tables in (0..=9).chain([23, 64, 255, 256, 257]) {
        let bytes = numbers.u8s(tables * 256);
        let lut = bytes.as_chunks::<256>().0;
        for blocks in (0..=11).chain([16, 33]) {
            for extra in [0, 1, 40] {
                let stride = tables * BLOCK + extra;
                // No byte more than the last block needs.
                let codes = numbers.u8s((blocks.max(1) - 1) * stride + tables * BLOCK);
                let mut expected = vec![0u16; blocks * BLOCK];
                for block in 0..blocks {
                    for v in 0..BLOCK {
                        for (column, table) in lut.iter().enumerate() {
                            let code = codes[block * stride + column * BLOCK + v];
                            expected[block * BLOCK + v] += u16::from(table[usize::from(code)]);
                        }
                    }
                }
                for level in levels() {
                    let mut sums = vec![77u16; expected.len()];
                    sum_bytes_at(level, &codes, stride, lut, &mut sums);
                    assert_eq!(sums, expected, "{level}: {blocks} blocks of {tables} tables");
                }
            }
        }
    }
    let lut = vec![[255u8; 256]; 257];
    for level in levels() {
        let mut sums = [0u16; BLOCK];
        sum_bytes_at(level, &[255; 257 * BLOCK], 257 * BLOCK, &lut, &mut sums);
        assert_eq!(sums, [65_535; BLOCK], "{level}");
    }
}

#[test]
fn scan_reaches_the_largest_sum() {
    let codes: Vec<u8> = (0..3 * 257 * 16).map(|i| (i * 89) as u8).collect();
    check_scan(3, 257 * 16, &[257], &codes, &[255; 257 * 16]);
    check_scan(3, 257 * 16, &[257], &codes, &[0; 257 * 16]);
    check_scan(0, 257 * 16, &[257], &[], &[255; 257 * 16]);
    // Neighbours of 0 and 255: a carry from one vector's sum into the next would show.
    let codes: Vec<u8> = (0..2 * 257 * 16).map(|i| [0x10, 0x01, 0x11, 0][i % 4]).collect();
    let lut: Vec<u8> = (0..257 * 16).map(|i| [0, 255][i % 2]).collect();
    check_scan(2, 257 * 16, &[257], &codes, &lut);
}

/// The sums of both kinds of terms in `f64`, and the sums of their magnitudes.
fn reference(x: &[f32], y: &[f32]) -> [(f64, f64); 2] {
    let mut sums = [(0.0, 0.0); 2];
    for (&x, &y) in x.iter().zip(y) {
        let (x, y) = (f64::from(x), f64::from(y));
        for (sum, term) in sums.iter_mut().zip([x * y, (x - y) * (x - y)]) {
            sum.0 += term;
            sum.1 += term.abs();
        }
    }
    sums
}

/// Checks the four distances: the same bits at every level, and close to `f64`.
fn check_distances(x: &[f32], y: &[f32]) {
    let half: Vec<f16> = y.iter().map(|&y| f16::from_f32(y)).collect();
    let rounded: Vec<f32> = half.iter().map(|y| y.to_f32_const()).collect();
    let expected = [
        scalar::dot_f32(x, y),
        scalar::l2_sq_f32(x, y),
        scalar::dot_f16(x, &half),
        scalar::l2_sq_f16(x, &half),
    ];
    let exact = [reference(x, y), reference(x, &rounded)].concat();
    for (value, (sum, magnitude)) in expected.iter().zip(exact) {
        // Each term is rounded thrice at most, then goes through len / 32 + 6 additions.
        let roundings = (x.len() / 32 + 10) as f64;
        let error = (f64::from(*value) - sum).abs();
        assert!(error <= magnitude * roundings * 2.0f64.powi(-24), "{value} is not {sum}");
    }
    for level in levels() {
        let values = with_level(level, || {
            [dot_f32(x, y), l2_sq_f32(x, y), dot_f16(x, &half), l2_sq_f16(x, &half)]
        });
        assert_eq!(values.map(f32::to_bits), expected.map(f32::to_bits), "{level}: {}", x.len());
    }
}

#[test]
fn distances_agree_to_the_bit() {
    let mut numbers = Numbers(6);
    for len in (0..=130).chain([255, 256, 257, 383, 384, 768, 1536, 2047]) {
        let (x, y) = (numbers.f32s(len + 3), numbers.f32s(len + 3));
        check_distances(&x[..len], &y[..len]);
        check_distances(&x[3..], &y[1..len + 1]);
    }
}

#[test]
fn distances_agree_on_every_half() {
    // Every number of half precision, subnormals and infinities included, but no NaN.
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|y| !y.is_nan()).collect();
    for y in all.chunks(32) {
        for (i, y) in y.iter().enumerate() {
            let mut half = [f16::ZERO; 33];
            half[i] = *y;
            let mut x = [0.0f32; 33];
            x[i] = 1.0;
            for level in levels() {
                let dot = with_level(level, || dot_f16(&x, &half));
                assert_eq!(dot.to_bits(), (y.to_f32() + 0.0).to_bits(), "{level}: {y}");
            }
        }
    }
    // Sums of zeros of either sign are +0.0 at every level: padding must not change that.
    for len in 1..40 {
        for level in levels() {
            let (x, y) = (vec![-0.0; len], vec![0.0; len]);
            let half = vec![f16::ZERO; len];
            let dots = with_level(level, || [dot_f32(&x, &y), dot_f16(&x, &half)]);
            assert_eq!(dots.map(f32::to_bits), [0, 0], "{level}: {len}");
        }
    }
}

#[test]
fn distances_agree_at_the_extremes() {
    for len in [1, 31, 32, 33, 100] {
        for (x, y) in [(f32::MAX, 2.0), (f32::MIN_POSITIVE, 0.5), (1e-40, 1.0), (-3e38, 1.0)] {
            let (x, y) = (vec![x; len], vec![y; len]);
            let expected = [scalar::dot_f32(&x, &y), scalar::l2_sq_f32(&x, &y)];
            for level in levels() {
                let values = with_level(level, || [dot_f32(&x, &y), l2_sq_f32(&x, &y)]);
                assert_eq!(values.map(f32::to_bits), expected.map(f32::to_bits), "{level}");
            }
        }
    }
}

/// Checks `matmul_f32`: the same bits as plain sums in order, at every level.
fn check_matmul(m: usize, depth: usize, n: usize, a: &[f32], b: &[f32]) {
    let mut expected = vec![0.0f32; m * n];
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0f32;
            for t in 0..depth {
                sum += a[i * depth + t] * b[j * depth + t];
            }
            let (exact, magnitude) =
                reference(&a[i * depth..][..depth], &b[j * depth..][..depth])[0];
            let bound = magnitude * (depth + 2) as f64 * 2.0f64.powi(-24);
            assert!((f64::from(sum) - exact).abs() <= bound);
            expected[i * n + j] = sum;
        }
    }
    for level in levels() {
        let mut c = vec![f32::NAN; m * n];
        matmul_f32_at(level, depth, a, b, &mut c);
        let same = c.iter().zip(&expected).all(|(x, y)| x.to_bits() == y.to_bits());
        assert!(same, "{level}: {m} x {depth} x {n}");
    }
}

#[test]
fn matmul_agrees_on_all_shapes() {
    let mut numbers = Numbers(7);
    for [m, depth, n] in SHAPES {
        check_matmul(m, depth, n, &numbers.f32s(m * depth), &numbers.f32s(n * depth));
    }
    // Several blocks of rows and of packed panels; panels that exceed the scratch memory.
    for [m, depth, n] in [[150, 20, 37], [65, 700, 300], [2, 9001, 33]] {
        check_matmul(m, depth, n, &numbers.f32s(m * depth), &numbers.f32s(n * depth));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gemm_agrees(m in 0usize..20, depth in 1usize..300, n in 1usize..60, offset in 0usize..9, seed: u64) {
        let mut numbers = Numbers(seed);
        check_gemm_i16(m, depth, n, offset, &numbers.i16s(m * depth), &numbers.i16s(n * depth));
        check_gemm_i8(m, depth, n, offset, &numbers.u8s(m * depth), &numbers.i8s(n * depth));
    }

    #[test]
    fn scan_agrees(
        blocks in 0usize..7, groups in 0usize..=257, extra in 0usize..50, offset in 0usize..64,
        table in 0usize..20, seed: u64,
    ) {
        let mut numbers = Numbers(seed);
        let stride = groups * 16 + extra;
        let codes = numbers.u8s(offset + (blocks.max(1) - 1) * stride + groups * 16);
        let lut = numbers.u8s(groups * 16 + table);
        check_scan(blocks, stride, &[groups], &codes[offset..], &lut);
    }

    #[test]
    fn distances_agree(len in 0usize..400, seed: u64) {
        let mut numbers = Numbers(seed);
        check_distances(&numbers.f32s(len), &numbers.f32s(len));
    }

    #[test]
    fn matmul_agrees(m in 0usize..20, depth in 1usize..300, n in 0usize..60, seed: u64) {
        let mut numbers = Numbers(seed);
        check_matmul(m, depth, n, &numbers.f32s(m * depth), &numbers.f32s(n * depth));
    }
}

#[test]
fn masks_are_those_of_comparisons() {
    let mut numbers = Numbers(16);
    for blocks in [0usize, 1, 2, 5] {
        let mut values: Vec<[f32; BLOCK]> =
            (0..blocks).map(|_| numbers.f32s(BLOCK).try_into().unwrap()).collect();
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40, f32::MAX];
        for (value, special) in values.as_flattened_mut().iter_mut().step_by(5).zip(special) {
            *value = special;
        }
        let thresholds = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.25];
        let equal = values.first().map_or(1.0, |values| values[7]);
        for threshold in thresholds.into_iter().chain([equal]) {
            let expected: Vec<u32> = values
                .iter()
                .map(|values| {
                    (0..BLOCK).map(|i| u32::from(values[i] <= threshold) << i).sum::<u32>()
                })
                .collect();
            for level in levels() {
                let mut masks = vec![99; blocks];
                with_level(level, || at_most(&values, threshold, &mut masks));
                assert_eq!(masks, expected, "{level}: {threshold}");
            }
            let mut set = Vec::new();
            crate::for_each_set(&expected, |number| set.push(number));
            let all = values.as_flattened().iter().enumerate();
            assert!(all.filter(|(_, v)| **v <= threshold).map(|(i, _)| i).eq(set));
        }
    }
}

#[test]
fn distances_by_range_are_those_of_the_ranges() {
    let mut numbers = Numbers(15);
    for lengths in [vec![], vec![0], vec![8, 0, 16], vec![80, 112, 96, 48, 48], vec![1, 33, 500]] {
        let total: usize = lengths.iter().sum();
        let (x, y) = (numbers.f32s(total + 3), numbers.f32s(total));
        let mut start = 0;
        let expected: Vec<u32> = lengths
            .iter()
            .map(|&length| {
                let range = start..start + length;
                start += length;
                scalar::l2_sq_f32(&x[range.clone()], &y[range]).to_bits()
            })
            .collect();
        for level in levels() {
            let mut out = vec![7.0; lengths.len()];
            with_level(level, || l2_sqs_f32(&x, &y, &lengths, &mut out));
            let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
            assert_eq!(bits, expected, "{level}: {lengths:?}");
        }
    }
}

#[test]
fn transposes_are_equal_at_every_level() {
    let mut numbers = Numbers(77);
    for width in [0usize, 1, 2, 15, 16, 17, 32, 48, 97, 192] {
        for count in [0usize, 1, 7, 15, 16] {
            let words = if width == 0 { 0 } else { count * width };
            let pairs: Vec<[i16; 2]> =
                (0..words).map(|_| [numbers.next() as i16, numbers.next() as i16]).collect();
            let quads: Vec<[i8; 4]> = (0..words).map(|_| [numbers.next() as i8; 4]).collect();
            for level in levels() {
                let mut out = vec![[[9i16; 2]; 16]; width];
                transpose_16_at(level, &pairs, &mut out);
                let mut bytes = vec![[[9i8; 4]; 16]; width];
                transpose_16_at(level, &quads, &mut bytes);
                for w in 0..width {
                    for r in 0..16 {
                        let at = r * width + w;
                        let expected = if r < count { pairs[at] } else { [0; 2] };
                        assert_eq!(out[w][r], expected, "{level}: word {w} of row {r}");
                        let expected = if r < count { quads[at] } else { [0; 4] };
                        assert_eq!(bytes[w][r], expected, "{level}: word {w} of row {r}");
                    }
                }
            }
        }
    }
}
