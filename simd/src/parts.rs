//! Kernels that go through parts one after another. The loop over the parts is the same at every
//! level and is compiled for each, so that the kernel for one part is inlined into it.

/// Writes a `scan_blocks` (see [`crate::scan_blocks`]) around a kernel that sums the groups of one
/// piece in one block.
macro_rules! scan_kernel {
    ($name:ident, $piece:ident, $features:literal) => {
        /// See [`crate::scan_blocks`].
        #[target_feature(enable = $features)]
        pub(crate) fn $name(
            codes: &[u8],
            stride: usize,
            pieces: &[usize],
            lut: &[u8],
            sums: &mut [u16],
        ) {
            for (block, sums) in sums.chunks_exact_mut(pieces.len() * BLOCK).enumerate() {
                let mut codes = &codes[block * stride..];
                let mut lut = lut;
                for (&groups, sums) in pieces.iter().zip(sums.as_chunks_mut::<BLOCK>().0) {
                    $piece(&codes[..groups * 16], &lut[..groups * 16], sums);
                    codes = &codes[groups * 16..];
                    lut = &lut[groups * 16..];
                }
            }
        }
    };
}
pub(crate) use scan_kernel;

/// Writes `dot_fields` around the level's `dot_split` and `dot_bits`, and `l2_sqs_f32` around its
/// `l2_sq_f32`.
macro_rules! part_kernels {
    ($features:literal) => {
        /// See [`crate::dot_fields`].
        #[target_feature(enable = $features)]
        pub(crate) fn dot_fields(
            parts: &[Fields],
            row: &[u8],
            high: &[i8],
            low: &[i8],
            sums: &mut [i32],
        ) {
            for (part, sum) in parts.iter().zip(sums) {
                let (fields, high, low) = part.of(row, high, low);
                *sum = match part.width() {
                    4 => dot_split::<2>(fields, high, low),
                    2 => dot_split::<4>(fields, high, low),
                    _ => dot_bits(fields, high, low),
                };
            }
        }

        /// See [`crate::l2_sqs_f32`].
        #[target_feature(enable = $features)]
        pub(crate) fn l2_sqs_f32(x: &[f32], y: &[f32], lengths: &[usize], out: &mut [f32]) {
            let mut start = 0;
            for (&length, out) in lengths.iter().zip(out) {
                *out = l2_sq_f32(&x[start..start + length], &y[start..start + length]);
                start += length;
            }
        }
    };
}
pub(crate) use part_kernels;
