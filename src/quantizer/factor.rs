//! The additive factor of a vector, in few bytes.

use nonius_simd::Additive;

/// How the additive factors of an index are stored: linearly in 8 or 16 bits over the range of the
/// training sample, or as `f32` where that would be too coarse.
///
/// A factor outside the range, of an outlier that the sample did not hold, has a code of its own
/// kind: its distance from the range in steps. In 16 bits that is a number of 7 exponent and 5
/// mantissa bits, within 2% of the distance; in 8 bits a power of four, rounded up above the range and
/// down below it, so that no outlier seems nearer than it is. Every `f32` thus has a code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdditiveCode {
    /// The value of code 0.
    pub(crate) low: f32,
    /// The difference between neighbouring codes; 0 where factors are stored as `f32`, or not at all.
    pub(crate) step: f32,
    /// Bytes of a factor: 1, 2 or 4, or 0 where there are none.
    pub(crate) bytes: usize,
}

impl AdditiveCode {
    /// Factors as they are.
    pub(crate) const EXACT: AdditiveCode = AdditiveCode { low: 0.0, step: 0.0, bytes: 4 };

    /// No factors.
    pub(crate) const NONE: AdditiveCode = AdditiveCode { low: 0.0, step: 0.0, bytes: 0 };

    /// The last linear code of 16 bits, that of the highest value.
    const LINEAR: u16 = 57_343;
    /// The codes of 16 bits above the range; the remaining ones are those below it.
    const OUTSIDE: u16 = 4096;
    /// The same for 8 bits.
    const LINEAR_BYTE: u8 = 191;
    const OUTSIDE_BYTE: u8 = 32;

    /// The linear code of 1 or 2 bytes for values from `low` to `high`.
    pub(crate) fn spanning(low: f32, high: f32, bytes: usize) -> AdditiveCode {
        let steps = match bytes {
            1 => f32::from(AdditiveCode::LINEAR_BYTE),
            _ => f32::from(AdditiveCode::LINEAR),
        };
        AdditiveCode { low, step: ((high - low) / steps).max(f32::MIN_POSITIVE), bytes }
    }

    /// The standard deviation of the error of rounding a factor to its code: that of a uniform
    /// error of a step.
    pub(crate) fn deviation(self) -> f32 {
        0.29 * self.step
    }

    /// Writes the code of a factor into the first [`bytes`](AdditiveCode::bytes) of `out`.
    #[inline(always)]
    pub(crate) fn write(self, value: f32, out: &mut [u8]) {
        match self.bytes {
            0 => {}
            1 => out[0] = self.encode_byte(value),
            2 => out[..2].copy_from_slice(&self.encode(value).to_le_bytes()),
            _ => out[..4].copy_from_slice(&value.to_le_bytes()),
        }
    }

    /// The factor of the code in the first [`bytes`](AdditiveCode::bytes) of `code`.
    #[inline(always)]
    pub(crate) fn read(self, code: &[u8]) -> f32 {
        match self.bytes {
            0 => 0.0,
            1 => self.decode_byte(code[0]),
            2 => self.decode(u16::from_le_bytes([code[0], code[1]])),
            _ => f32::from_le_bytes([code[0], code[1], code[2], code[3]]),
        }
    }

    fn encode(self, value: f32) -> u16 {
        let steps = (value - self.low) / self.step;
        if steps < 0.0 {
            return AdditiveCode::LINEAR + 1 + AdditiveCode::OUTSIDE + outside(-steps);
        }
        let beyond = steps - f32::from(AdditiveCode::LINEAR);
        if beyond > 0.5 { AdditiveCode::LINEAR + 1 + outside(beyond) } else { (steps + 0.5) as u16 }
    }

    fn encode_byte(self, value: f32) -> u8 {
        let steps = (value - self.low) / self.step;
        let beyond = steps - f32::from(AdditiveCode::LINEAR_BYTE);
        let outside = AdditiveCode::LINEAR_BYTE + 1;
        if steps <= -1.0 {
            let power = (power_bits(-steps) >> 24) as u8;
            outside + AdditiveCode::OUTSIDE_BYTE + power.min(AdditiveCode::OUTSIDE_BYTE - 1)
        } else if beyond > 0.5 {
            let power = power_bits(beyond).div_ceil(1 << 24) as u8;
            outside + power.min(AdditiveCode::OUTSIDE_BYTE - 1)
        } else {
            // Up to a step below the range it is the lowest code, not the nearest.
            (steps.max(0.0) + 0.5) as u8
        }
    }

    /// Factors of 2 or 4 bytes for the kernel that computes bounds; `beyond` is [`decode`](AdditiveCode::decode).
    pub(crate) fn additive(self, beyond: &dyn Fn(u16) -> f32) -> Additive<'_> {
        match self.bytes {
            4 => Additive::Exact,
            _ => {
                let AdditiveCode { low, step, .. } = self;
                Additive::Linear { low, step, last: AdditiveCode::LINEAR, beyond }
            }
        }
    }

    /// The factor of a code of 16 bits.
    #[inline(always)]
    pub(crate) fn decode(self, code: u16) -> f32 {
        let linear = self.low + self.step * f32::from(code);
        let index = u32::from(code.wrapping_sub(AdditiveCode::LINEAR + 1));
        let mantissa = index & (u32::from(AdditiveCode::OUTSIDE) - 1);
        let distance = f32::from_bits((mantissa << 18) + (127 << 23));
        let above = (self.low + self.step * f32::from(AdditiveCode::LINEAR)) + self.step * distance;
        let below = self.low - self.step * distance;
        let outer = if index < u32::from(AdditiveCode::OUTSIDE) { above } else { below };
        if code > AdditiveCode::LINEAR { outer } else { linear }
    }

    /// The factor of a code of 8 bits.
    #[inline(always)]
    pub(crate) fn decode_byte(self, code: u8) -> f32 {
        let linear = self.low + self.step * f32::from(code);
        let index = u32::from(code.wrapping_sub(AdditiveCode::LINEAR_BYTE + 1));
        let power = index & (u32::from(AdditiveCode::OUTSIDE_BYTE) - 1);
        let distance = f32::from_bits((127 + 2 * power) << 23);
        let high = self.low + self.step * f32::from(AdditiveCode::LINEAR_BYTE);
        let above = high + self.step * distance;
        let below = self.low - self.step * distance;
        let outer = if index < u32::from(AdditiveCode::OUTSIDE_BYTE) { above } else { below };
        if code > AdditiveCode::LINEAR_BYTE { outer } else { linear }
    }
}

/// The number of 7 exponent and 5 mantissa bits nearest to a distance in steps.
fn outside(steps: f32) -> u16 {
    let bits = steps.clamp(1.0, f32::MAX / 2.0).to_bits() + (1 << 17) - (127 << 23);
    ((bits >> 18) as u16).min(AdditiveCode::OUTSIDE - 1)
}

/// A distance in steps as the bits of a float, less those of 1: from the 24th bit on is the logarithm to
/// base 4.
fn power_bits(steps: f32) -> u32 {
    steps.clamp(1.0, f32::MAX / 2.0).to_bits() - (127 << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(code: AdditiveCode, value: f32) -> f32 {
        let mut bytes = [0; 4];
        code.write(value, &mut bytes);
        code.read(&bytes)
    }

    #[test]
    fn codes_cover_everything() {
        for bytes in [1, 2, 4] {
            let code = match bytes {
                4 => AdditiveCode::EXACT,
                _ => AdditiveCode::spanning(-1.0, 3.0, bytes),
            };
            for i in 0..=1000 {
                let value = -1.0 + 4.0 * i as f32 / 1000.0;
                assert!((decoded(code, value) - value).abs() <= 0.51 * code.step, "{value}");
            }
            for distance in [1e-4f32, 1e-3, 0.3, 7.0, 1e5, 1e16] {
                for (value, edge) in [(3.0 + distance, 3.0f32), (-1.0 - distance, -1.0)] {
                    let found = decoded(code, value);
                    let beyond = (value - edge).abs();
                    let error = (found - value).abs();
                    let part = if bytes == 1 { 3.0 } else { 0.02 };
                    assert!(error <= part * beyond + 1.01 * code.step, "{value}: {found}");
                    if bytes == 1 {
                        // To half a step: what is just outside is rounded like what is inside.
                        assert!(found >= value - 0.51 * code.step, "{value} seems nearer: {found}");
                    }
                }
            }
            for value in [f32::MAX, f32::MIN] {
                assert!(!decoded(code, value).is_nan());
            }
        }
    }

    #[test]
    fn every_byte_has_a_value() {
        let code = AdditiveCode::spanning(0.0, 1.0, 1);
        let mut values: Vec<f32> = (0..=255).map(|byte| code.decode_byte(byte)).collect();
        assert!(values.iter().all(|value| value.is_finite()));
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert_eq!(values.len(), 256);
    }
}
