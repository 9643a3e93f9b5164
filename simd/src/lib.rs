//! The kernels of Nonius and their dispatch at run time.
//!
//! There are two ways to be fast here, and both give the same bits at every level:
//!
//! - **Integer kernels** ([`gemm_i16`], [`gemm_i8`], [`scan_blocks`], [`dot_fields`]) are written with
//!   intrinsics for each instruction set. Integer sums do not depend on their order, so every
//!   level returns what the scalar twin in [`scalar`] returns, bit for bit.
//! - **[`Level::vectorize`]** compiles a plain Rust loop once for each instruction set. Rust never
//!   reorders or contracts floating-point operations, so such a loop too has the same result at
//!   every level; the compiler only chooses wider registers.
//!
//! The distances of full vectors ([`dot_f32`], [`l2_sq_f32`] and their `f16` forms), [`matmul_f32`] and
//! [`bound_blocks`] have intrinsics too. They sum in a fixed order and round each product, so they
//! agree to the bit as well.
//!
//! The level is chosen once per process: the best that the processor offers, or the one that the
//! environment variable `NONIUS_SIMD` names (`scalar`, `avx2`, `avx512`, `neon`).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bounds;
mod dispatch;
mod fields;
mod float;
mod layout;
#[cfg(all(target_arch = "aarch64", target_feature = "neon", target_endian = "little"))]
mod neon;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little")
))]
mod parts;
pub mod scalar;
#[cfg(test)]
mod tests;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_feature = "neon", target_endian = "little")
))]
mod tile;
mod transpose;

pub use bounds::{
    Additive, BoundLayout, BoundPiece, BoundQuery, ListConstants, ScaleBits, bound_blocks,
};
pub use dispatch::{Level, Vectorize, available, level, prefetch, prefetch_later, with_level};
pub use fields::{FieldPlan, FieldQuery, FieldSums, Fields, GROUP, dot_fields, field_bytes};
pub use float::{
    at_most, dot_f16, dot_f32, for_each_set, l2_sq_f16, l2_sq_f32, l2_sqs_f32, matmul_f32,
};
pub use layout::{BLOCK, Panels, Panels8, gemm_i8, gemm_i16, scan_blocks, sum_bytes};
pub use transpose::{Word, transpose_16};
