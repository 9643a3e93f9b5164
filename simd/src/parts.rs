//! Kernels that go through parts one after another. The loop over the parts is the same at every
//! level and is compiled for each, so that the kernel for one part is inlined into it.

use crate::layout::BLOCK;

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

/// A piece's sums on their way from one kernel to the next: stores and loads of whole lines.
#[repr(align(64))]
pub(crate) struct Sums(pub(crate) [u16; BLOCK]);

/// Writes a `bound_blocks` (see [`crate::bound_blocks`]) around a kernel that sums the groups of one
/// piece in one block, and the level's operations on `$lanes` lanes: `broadcast_f32`, `add`, `sub`, `mul`,
/// `floats` (loaded), `put` (stored), `bytes`, `pairs` and `sums` (loaded and widened to integers),
/// `to_f32`, `some_exceed`, `scale_of`, `shift_of`, `either` and `mask`.
macro_rules! bound_kernel {
    ($name:ident, $piece:ident, $lanes:literal, $features:literal) => {
        /// See [`crate::bound_blocks`].
        #[target_feature(enable = $features)]
        pub(crate) fn $name(
            codes: &[u8],
            layout: &BoundLayout<'_>,
            query: &BoundQuery<'_>,
            bounds: &mut [[f32; BLOCK]],
            passed: &mut [u32],
        ) {
            const PARTS: usize = BLOCK / $lanes;
            let blocks = codes.chunks_exact(layout.stride.max(1)).zip(bounds).zip(passed);
            for (number, ((block, bounds), passed)) in blocks.enumerate() {
                let mut constants = [broadcast_f32([0.0]); PARTS];
                match query.constants {
                    ListConstants::One(constant) => constants = [broadcast_f32([constant]); PARTS],
                    ListConstants::Each(each) => {
                        for part in 0..PARTS {
                            constants[part] = floats(&each[number].as_chunks::<$lanes>().0[part]);
                        }
                    }
                }
                let mut values = constants;
                match layout.format {
                    Additive::Exact => {
                        let factors = block[layout.additive..].as_chunks::<4>().0;
                        let factors = factors.as_chunks::<$lanes>().0;
                        for part in 0..PARTS {
                            let factors = factors[part].map(f32::from_le_bytes);
                            values[part] = add(constants[part], floats(&factors));
                        }
                    }
                    Additive::Linear { low, step, last, beyond } => {
                        let (lows, steps) = (broadcast_f32([low]), broadcast_f32([step]));
                        let factors = block[layout.additive..].as_chunks::<2>().0;
                        let factors = factors.as_chunks::<$lanes>().0;
                        let mut exceeds = false;
                        for part in 0..PARTS {
                            let codes = pairs(&factors[part]);
                            exceeds |= some_exceed(codes, last);
                            let additive = add(lows, mul(steps, to_f32(codes)));
                            values[part] = add(constants[part], additive);
                        }
                        if exceeds {
                            for part in 0..PARTS {
                                let additive = factors[part].map(|code| {
                                    let code = u16::from_le_bytes(code);
                                    if code > last {
                                        beyond(code)
                                    } else {
                                        low + step * f32::from(code)
                                    }
                                });
                                values[part] = add(constants[part], floats(&additive));
                            }
                        }
                    }
                }
                if let Some((at, step)) = layout.shift {
                    let step = broadcast_f32([step]);
                    let codes = block[at..].as_chunks::<$lanes>().0;
                    for part in 0..PARTS {
                        values[part] = add(values[part], shift_of(bytes(&codes[part]), step));
                    }
                }
                // Lanes from here on have the other offsets.
                let own = query.own.saturating_sub(number * BLOCK).min(BLOCK);
                let mut groups = block;
                let mut lut = query.lut;
                for (p, piece) in layout.pieces.iter().enumerate() {
                    let mut piece_sums = Sums([0; BLOCK]);
                    $piece(
                        &groups[..piece.groups * 16],
                        &lut[..piece.groups * 16],
                        &mut piece_sums.0,
                    );
                    groups = &groups[piece.groups * 16..];
                    lut = &lut[piece.groups * 16..];
                    let slope = broadcast_f32([query.slopes[p]]);
                    let offsets =
                        [broadcast_f32([query.offsets[p]]), broadcast_f32([query.others[p]])];
                    let scales = &block[piece.scales..];
                    let piece_sums = piece_sums.0.as_chunks::<$lanes>().0;
                    for part in 0..PARTS {
                        let codes = match piece.format.bytes {
                            1 => bytes(&scales.as_chunks::<$lanes>().0[part]),
                            _ => pairs(&scales.as_chunks::<2>().0.as_chunks::<$lanes>().0[part]),
                        };
                        let offset = either(own, part, offsets);
                        let line = add(mul(slope, to_f32(sums(&piece_sums[part]))), offset);
                        values[part] = sub(values[part], mul(scale_of(codes, piece.format), line));
                    }
                }
                let threshold = broadcast_f32([query.threshold]);
                *passed = 0;
                for part in 0..PARTS {
                    put(&mut bounds.as_chunks_mut::<$lanes>().0[part], values[part]);
                    *passed |= mask(values[part], threshold) << (part * $lanes);
                }
            }
        }
    };
}
pub(crate) use bound_kernel;

/// Writes `dot_fields` (see [`crate::dot_fields`]) around the level's operations: `nothing` and `no_products` (the
/// zeros of sums, and of products of high and low digits), `fill` and `gather` (64 bytes of a chunk of the row or of
/// groups, as often as it fits), `multiply` and `multiply_bits` (which add a chunk's products), `join` (which adds
/// products to sums, so many bits further up) and `reduce` (the lanes of sums together).
macro_rules! field_kernel {
    ($features:literal) => {
        /// See [`crate::dot_fields`].
        #[target_feature(enable = $features)]
        pub(crate) fn dot_fields(
            plan: &FieldPlan,
            groups: &[u8],
            lane: usize,
            row: &[u8],
            lines: &[Line],
            sums: &mut [i32],
        ) {
            let mut sums = sums.iter_mut();
            let mut total = nothing();
            for part in &plan.parts {
                let mut products = no_products();
                match part.source {
                    Source::Bits => {
                        let lines = lines[part.lines()].as_chunks::<2>().0;
                        for (bits, lines) in row[part.row()].as_chunks().0.iter().zip(lines) {
                            products = multiply_bits(bits, lines, products);
                        }
                    }
                    Source::Row => {
                        for chunk in 0..part.chunks {
                            let bytes = fill(part.row_of(row, chunk));
                            products = multiply(part, bytes, part.lines_of(lines, chunk), products);
                        }
                    }
                    Source::Groups => {
                        for chunk in 0..part.chunks {
                            let groups = part.groups_of(groups, chunk);
                            let bytes = gather(groups, part.slot, lane);
                            products = multiply(part, bytes, part.lines_of(lines, chunk), products);
                        }
                    }
                }
                total = join(total, products, part.shift());
                if part.last
                    && let Some(sum) = sums.next()
                {
                    *sum = reduce(total);
                    total = nothing();
                }
            }
        }
    };
}
pub(crate) use field_kernel;

/// Writes `l2_sqs_f32` around the level's `l2_sq_f32`.
macro_rules! part_kernels {
    ($features:literal) => {
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
