//! The scale of a segment's code, stored in one or two bytes.
//!
//! A code stands for `scale * u`, where `u` holds half-integers. Scales are small floating-point
//! numbers relative to a unit that the segment shares: 3 exponent and 5 mantissa bits, or 4 and
//! 12. They are decoded by a shift and an addition, on every processor and on a GPU. The encoder
//! knows the rounded scale and chooses the code for it, so rounding costs next to nothing: one
//! byte is enough up to four bits a dimension.

use nonius_simd::ScaleBits;

/// The bytes of a scale of a segment with `bits` bits a dimension. A dropped segment keeps its
/// norm in one byte.
pub(crate) const fn bytes(bits: u32) -> usize {
    if bits <= 4 { 1 } else { 2 }
}

/// How the bits of a stored scale are placed in an `f32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ScaleFormat {
    /// Places the code's mantissa at the top of the `f32`'s.
    pub(crate) shift: u32,
    /// Added after the shift: the exponent of code 0.
    pub(crate) base: u32,
    /// The largest code.
    pub(crate) max: u32,
}

/// 3 exponent and 5 mantissa bits: from 2^-3 to 2^5 units.
pub(crate) const BYTE: ScaleFormat = ScaleFormat { shift: 18, base: (127 - 3) << 23, max: 255 };
/// 4 exponent and 12 mantissa bits: from 2^-8 to 2^8 units.
pub(crate) const PAIR: ScaleFormat = ScaleFormat { shift: 11, base: (127 - 8) << 23, max: 65_535 };

impl ScaleFormat {
    /// For the kernel that computes bounds.
    pub(crate) fn bits(self) -> ScaleBits {
        let bytes = if self.max <= 255 { 1 } else { 2 };
        ScaleBits { bytes, shift: self.shift, base: self.base }
    }

    /// The format of a segment with `bits` bits a dimension.
    pub(crate) fn of_bits(bits: u32) -> ScaleFormat {
        if bytes(bits) == 1 { BYTE } else { PAIR }
    }

    /// The code nearest to `value` (in units), at least 1: code 0 stands for a scale of zero.
    #[inline(always)]
    pub(crate) fn encode(self, value: f32) -> u32 {
        // The order of nonnegative floats is that of their bits.
        let bits = value.to_bits().saturating_add(1 << (self.shift - 1));
        (bits.saturating_sub(self.base) >> self.shift).clamp(1, self.max)
    }

    /// The scale (in units) of a code.
    #[inline(always)]
    pub(crate) fn decode(self, code: u32) -> f32 {
        let value = f32::from_bits((code << self.shift) + self.base);
        if code == 0 { 0.0 } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for format in [BYTE, PAIR] {
            assert_eq!(format.decode(0), 0.0);
            let mut before = 0.0;
            for code in 1..=format.max {
                let value = format.decode(code);
                assert!(value > before);
                assert_eq!(format.encode(value), code);
                before = value;
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_saturates() {
        for (format, relative) in [(BYTE, 1.0 / 64.0), (PAIR, 1.0 / 8192.0)] {
            let (low, high) = (format.decode(1), format.decode(format.max));
            let mut value = low;
            while value < high {
                let error = (format.decode(format.encode(value)) / value - 1.0).abs();
                assert!(error <= relative * 1.0001, "{value}: {error}");
                value *= 1.003;
            }
            assert_eq!(format.encode(0.0), 1);
            assert_eq!(format.encode(1e-30), 1);
            assert_eq!(format.encode(1e30), format.max);
            assert_eq!(format.encode(f32::MAX), format.max);
        }
    }
}
