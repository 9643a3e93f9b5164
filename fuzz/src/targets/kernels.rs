//! Packed operands, fields and look-ups of the kernels, against loops over their documented layout,
//! at every level that the processor has.

use nonius_simd::{
    BLOCK, FieldPlan, FieldQuery, FieldSums, Fields, Panels, Panels8, available, dot_fields,
    field_bytes, gemm_i8, gemm_i16, scan_blocks, sum_bytes, transpose_16, with_level,
};

use super::{Memory, Target};
use crate::input::Input;
use crate::{mutate, note};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "kernels",
    about: "packers of matrices, fields of bits, scans by look-up, against naive loops",
    run,
    seeds: || {
        (0..48).map(|seed| (0..300).map(|i| (seed + i * seed * 91) as u8).collect()).collect()
    },
    mutate: |data, random, others| mutate::bytes(data, random, &[], others),
    memory: Memory { times: 1, bytes: 4 << 20 },
};

/// Runs one kernel on operands of the bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let level = input.choose(&available());
    let kernel = input.below(6);
    note(format_args!("{level} {}", ["words", "bytes", "scan", "sums", "fields", "lanes"][kernel]));
    with_level(level, || match kernel {
        0 => words(input),
        1 => bytes(input),
        2 => scan(input),
        3 => sums(input),
        4 => fields(input),
        _ => lanes(input),
    });
}

/// `count` bytes: those of the input, over and over with changes, so that short inputs fill large
/// operands.
fn fill(input: Input<'_>, count: usize) -> Vec<u8> {
    let rest = input.rest();
    let byte = |i: usize| match rest {
        [] => 0,
        _ => rest[i % rest.len()].wrapping_add((i / rest.len()) as u8),
    };
    (0..count).map(byte).collect()
}

/// A matrix product of `i16`, of which one operand is packed.
fn words(mut input: Input<'_>) {
    let (m, n, depth) = (input.below(5), 1 + input.below(40), 1 + input.below(40));
    let padded = depth.next_multiple_of(2);
    let values: Vec<i16> = fill(input, 2 * (m * padded + n * depth))
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let (a, b) = values.split_at(m * padded);
    let packed = Panels::pack(n, depth, b);
    // The layout of FORMAT.md, of `rotation`.
    let place = |row: usize, column: usize| {
        row / 16 * 16 * padded + column / 2 * 32 + row % 16 * 2 + column % 2
    };
    for row in 0..n {
        for column in 0..depth {
            assert_eq!(packed[place(row, column)], b[row * depth + column], "{row} {column}");
        }
    }
    let panels = Panels::new(n, depth, &packed);
    let width = panels.padded_rows();
    let mut c = vec![-1; m * width];
    gemm_i16(a, panels, &mut c);
    for i in 0..m {
        for j in 0..width {
            let sum = (0..if j < n { depth } else { 0 }).fold(0i32, |sum, k| {
                let product = i32::from(a[i * padded + k]) * i32::from(b[j * depth + k]);
                sum.wrapping_add(product)
            });
            assert_eq!(c[i * width + j], sum, "{m} x {n} x {depth} at {i} {j}");
        }
    }
}

/// A matrix product of bytes, of which one operand is packed.
fn bytes(mut input: Input<'_>) {
    let (m, n, depth) = (input.below(5), 1 + input.below(40), 1 + input.below(40));
    let padded = depth.next_multiple_of(4);
    let values = fill(input, m * padded + n * depth);
    let (a, b) = values.split_at(m * padded);
    let b: Vec<i8> = b.iter().map(|&byte| byte as i8).collect();
    let packed = Panels8::pack(n, depth, &b);
    for row in 0..n {
        for column in 0..depth {
            let place = row / 16 * 16 * padded + column / 4 * 64 + row % 16 * 4 + column % 4;
            assert_eq!(packed[place], b[row * depth + column], "{row} {column}");
        }
    }
    let panels = Panels8::new(n, depth, &packed);
    let width = panels.padded_rows();
    let mut c = vec![-1; m * width];
    gemm_i8(a, panels, &mut c);
    for i in 0..m {
        for j in 0..width {
            let sum: i32 = (0..if j < n { depth } else { 0 })
                .map(|k| i32::from(a[i * padded + k]) * i32::from(b[j * depth + k]))
                .sum();
            assert_eq!(c[i * width + j], sum, "{m} x {n} x {depth} at {i} {j}");
        }
    }
}

/// Sums of 4-bit look-ups over blocks of 32 vectors.
fn scan(mut input: Input<'_>) {
    let pieces: Vec<usize> = (0..1 + input.below(4)).map(|_| input.below(258)).collect();
    let groups: usize = pieces.iter().sum();
    let (blocks, stride) = (1 + input.below(3), groups * 16 + input.below(70));
    let values = fill(input, blocks * stride + groups * 16);
    let (codes, lut) = values.split_at(blocks * stride);
    let mut sums = vec![u16::MAX; blocks * pieces.len() * BLOCK];
    scan_blocks(codes, stride, &pieces, lut, &mut sums);
    for (number, &sum) in sums.iter().enumerate() {
        let (v, piece) = (number % BLOCK, number / BLOCK % pieces.len());
        let block = number / BLOCK / pieces.len();
        let first: usize = pieces[..piece].iter().sum();
        let naive: u32 = (first..first + pieces[piece])
            .map(|group| {
                let byte = codes[block * stride + group * 16 + v % 16];
                let code = if v < 16 { byte & 15 } else { byte >> 4 };
                u32::from(lut[group * 16 + usize::from(code)])
            })
            .sum();
        assert_eq!(u32::from(sum), naive, "{pieces:?}, vector {v}, piece {piece}, block {block}");
    }
}

/// Sums of 8-bit look-ups over blocks of 32 vectors.
fn sums(mut input: Input<'_>) {
    let (tables, blocks) = (input.below(40), input.below(4));
    let stride = tables * BLOCK + input.below(70);
    let values = fill(input, blocks * stride + tables * 256);
    let (codes, lut) = values.split_at(blocks * stride);
    let (lut, _) = lut.as_chunks::<256>();
    let mut sums = vec![u16::MAX; blocks * BLOCK];
    sum_bytes(codes, stride, lut, &mut sums);
    for (number, &sum) in sums.iter().enumerate() {
        let (block, v) = (number / BLOCK, number % BLOCK);
        let naive: u32 = (0..tables)
            .map(|t| u32::from(lut[t][usize::from(codes[block * stride + t * BLOCK + v])]))
            .sum();
        assert_eq!(u32::from(sum), naive, "{tables} tables, vector {v}, block {block}");
    }
}

/// Inner products with fields of bits, in a row and in the groups of a block.
fn fields(mut input: Input<'_>) {
    let (mut plan, mut sum, mut sums) = (FieldPlan::default(), Vec::new(), Vec::new());
    let (mut row_bytes, mut groups, mut dims) = (0, 0, 0);
    let lane = input.below(BLOCK);
    for _ in 0..1 + input.below(7) {
        let (width, count) = (input.choose(&[1, 2, 4]), 8 * input.below(40));
        let (in_groups, shift) = (input.below(2) == 1, input.below(6) as u32);
        dims += input.below(5);
        let (at, fields) = if in_groups {
            let at = groups + input.below(3);
            groups = at + count * width as usize / 4;
            (at, Fields::in_groups(width, count, at, dims))
        } else {
            let at = row_bytes + input.below(5);
            row_bytes = at + field_bytes(width, count);
            (at, Fields::in_row(width, count, at, dims))
        };
        sum.push(fields.shifted(shift));
        if !Fields::fit(&sum) || input.below(2) == 1 {
            let last = sum.pop();
            if !sum.is_empty() {
                plan.push(&sum);
            }
            sum = last.into_iter().collect();
        }
        sums.push((plan.sums(), in_groups, width as usize, count, at, dims, shift));
        dims += count;
    }
    plan.push(&sum);
    let behind = input.below(80);
    let values = fill(input, row_bytes + behind + groups * BLOCK / 2 + 2 * dims);
    let (row, values) = values.split_at(row_bytes + behind);
    let (block, numbers) = values.split_at(groups * BLOCK / 2);
    let numbers: Vec<i32> = numbers
        .chunks_exact(2)
        .map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]])))
        .map(|value| value.clamp(-FieldQuery::MAX, FieldQuery::MAX))
        .collect();
    let mut query = FieldQuery::default();
    query.set(&plan, &numbers);
    let mut naive = vec![0; plan.sums()];
    for &(sum, in_groups, width, count, at, start, shift) in &sums {
        for i in 0..count {
            let field = if in_groups {
                let (group, bit) = (at + i * width / 4, i * width % 4);
                let bits = block[group * BLOCK / 2 + lane % 16] >> (4 * (lane / 16) + bit);
                bits & ((1u16 << width) - 1) as u8
            } else {
                field(&row[at..], width, count, i)
            };
            naive[sum] += (i64::from(field) << shift) * i64::from(numbers[start + i]);
        }
    }
    let mut found = FieldSums::default();
    let found = dot_fields(&plan, block, lane, row, &query, &mut found);
    let found: Vec<i64> = found.iter().map(|&sum| i64::from(sum)).collect();
    assert_eq!(found, naive, "lane {lane} of sums over {sums:?}");
}

/// Field `i` of `count` fields of `width` bits, by FORMAT.md.
pub(super) fn field(bytes: &[u8], width: usize, count: usize, i: usize) -> u8 {
    let (byte, bit) = match width {
        4 => (i % (count / 2), 4 * (i / (count / 2))),
        2 => (i % (count / 4), 2 * (i / (count / 4))),
        _ => (i / 8, i % 8),
    };
    bytes[byte] >> bit & ((1u16 << width) - 1) as u8
}

/// Rows side by side.
fn lanes(mut input: Input<'_>) {
    let (rows, width) = (input.below(17), input.below(40));
    let values = fill(input, rows * width * 4);
    let (words, _) = values.as_chunks::<4>();
    let words: Vec<[i8; 4]> = words.iter().map(|word| word.map(|byte| byte as i8)).collect();
    let mut out = vec![[[1i8; 4]; 16]; width];
    transpose_16(if width == 0 { &[] } else { &words }, &mut out);
    for (w, lanes) in out.iter().enumerate() {
        for (r, &lane) in lanes.iter().enumerate() {
            let expected = if r < rows { words[r * width + w] } else { [0; 4] };
            assert_eq!(lane, expected, "word {w} of row {r} of {rows}");
        }
    }
}
