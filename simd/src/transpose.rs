//! Sixteen rows side by side: from row-major words to one vector of sixteen lanes a word.

use crate::dispatch::{Level, level};
use crate::scalar;

/// Four bytes that are moved as one: a pair of `i16` or a quad of `i8`.
pub trait Word: Copy + Default + sealed::Sealed {}

mod sealed {
    /// # Safety
    /// The type has four bytes, all of them initialised, and any four bytes are a value of it.
    pub unsafe trait Sealed {}

    // SAFETY: an array of two `i16` has no padding and no invalid values.
    unsafe impl Sealed for [i16; 2] {}
    // SAFETY: an array of four `i8` has no padding and no invalid values.
    unsafe impl Sealed for [i8; 4] {}
}

impl Word for [i16; 2] {}
impl Word for [i8; 4] {}

/// Lays up to 16 rows of `width` words side by side: `out[w][r]` becomes word `w` of row `r`, and
/// the default word for rows that are missing. This is a panel of [`Panels`](crate::Panels) or
/// [`Panels8`](crate::Panels8).
///
/// # Panics
/// If `rows` has more than 16 rows of `out.len()` words, or no whole number of them.
pub fn transpose_16<W: Word>(rows: &[W], out: &mut [[W; 16]]) {
    transpose_16_at(level(), rows, out);
}

/// [`transpose_16`] at a given level.
pub(crate) fn transpose_16_at<W: Word>(level: Level, rows: &[W], out: &mut [[W; 16]]) {
    let width = out.len();
    if width == 0 {
        assert!(rows.is_empty(), "{} words for rows of none", rows.len());
        return;
    }
    let count = rows.len() / width;
    assert!(rows.len() == count * width && count <= 16, "{} words of {width}", rows.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if count == 16 && Level::Avx512.is_available() => {
            // SAFETY: the guard has checked that the processor has the features.
            let done = unsafe { crate::avx512::transpose_16(rows, out) };
            for w in done..width {
                for (r, lane) in out[w].iter_mut().enumerate() {
                    *lane = rows[r * width + w];
                }
            }
        }
        _ => scalar::transpose_16(rows, out),
    }
}
