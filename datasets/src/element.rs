//! The types that files keep values in, and their way to and from `f32`.

use std::fmt;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::DatasetError;

/// The type of one value in a file. Readers convert every type to `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats; converted exactly.
    F16,
    /// 64-bit floats; rounded to the nearest `f32` when read.
    F64,
    /// Bytes, 0 to 255; converted exactly.
    U8,
    /// Signed bytes, -128 to 127; converted exactly.
    I8,
    /// 32-bit integers; one that is no exact `f32` is an error when read as a vector's value.
    I32,
}

/// The place in a block of values at which a conversion failed.
pub(crate) struct BadValue {
    /// The number of the value in the block.
    pub(crate) index: usize,
    /// The value itself.
    pub(crate) value: f64,
    /// The type that cannot hold it; `None` for a value that is no finite `f32`.
    pub(crate) element: Option<Element>,
}

impl BadValue {
    /// The error for a block that starts at `first_row` and has rows of `dim` values.
    pub(crate) fn at(self, path: &Path, first_row: usize, dim: usize) -> DatasetError {
        let path = path.to_owned();
        let (row, column) = (first_row + self.index / dim, self.index % dim);
        match self.element {
            None => DatasetError::NonFinite { path, row, column, value: self.value },
            Some(element) => {
                DatasetError::DoesNotFit { path, row, column, value: self.value, element }
            }
        }
    }
}

/// The position of the first value that is NaN or infinite.
pub(crate) fn first_non_finite(values: &[f32]) -> Option<usize> {
    const CHUNK: usize = 1024;
    values.chunks(CHUNK).enumerate().find_map(|(number, chunk)| {
        // Without an exit inside, this loop compiles to vector instructions.
        let all_finite = chunk.iter().fold(true, |ok, x| ok & x.is_finite());
        if all_finite {
            return None;
        }
        chunk.iter().position(|x| !x.is_finite()).map(|at| number * CHUNK + at)
    })
}

impl Element {
    /// The bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 | Element::I32 => 4,
            Element::F16 => 2,
            Element::U8 | Element::I8 => 1,
        }
    }

    /// The name used in messages: `f32`, `f16`, `f64`, `u8`, `i8` or `i32`.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::F64 => "f64",
            Element::U8 => "u8",
            Element::I8 => "i8",
            Element::I32 => "i32",
        }
    }

    /// Converts little-endian `bytes` to as many values as `out` has.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), BadValue> {
        debug_assert_eq!(bytes.len(), out.len() * self.bytes());
        match self {
            Element::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Element::F16 => decode_f16(bytes, out),
            Element::F64 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *out = f64::from_le_bytes(*bytes) as f32;
                }
            }
            Element::U8 => {
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = f32::from(byte);
                }
                return Ok(());
            }
            Element::I8 => {
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = f32::from(byte as i8);
                }
                return Ok(());
            }
            Element::I32 => {
                for (index, (out, bytes)) in
                    out.iter_mut().zip(bytes.as_chunks::<4>().0).enumerate()
                {
                    let value = f64::from(i32::from_le_bytes(*bytes));
                    *out = value as f32;
                    // Ids above 2^24 would silently become other ids.
                    if f64::from(*out) != value {
                        return Err(BadValue { index, value, element: Some(Element::F32) });
                    }
                }
                return Ok(());
            }
        }
        match first_non_finite(out) {
            None => Ok(()),
            Some(index) => {
                let value = match self {
                    Element::F64 => f64::from_le_bytes(bytes.as_chunks::<8>().0[index]),
                    _ => f64::from(out[index]),
                };
                Err(BadValue { index, value, element: None })
            }
        }
    }

    /// Appends `values` to `bytes`, little-endian.
    ///
    /// Floating-point types round to nearest; integer types take only integers of their range.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), BadValue> {
        if let Some(index) = first_non_finite(values) {
            return Err(BadValue { index, value: f64::from(values[index]), element: None });
        }
        let integers = |low: f64, high: f64| {
            let bad = values.iter().position(|&x| {
                let x = f64::from(x);
                x != x.trunc() || x < low || x > high
            });
            match bad {
                None => Ok(()),
                Some(index) => {
                    Err(BadValue { index, value: f64::from(values[index]), element: Some(self) })
                }
            }
        };
        match self {
            Element::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Element::F64 => bytes.extend(values.iter().flat_map(|&x| f64::from(x).to_le_bytes())),
            Element::F16 => {
                for (index, &value) in values.iter().enumerate() {
                    let half = f16::from_f32(value);
                    if !half.is_finite() {
                        let value = f64::from(value);
                        return Err(BadValue { index, value, element: Some(self) });
                    }
                    bytes.extend(half.to_le_bytes());
                }
            }
            Element::U8 => {
                integers(0.0, 255.0)?;
                bytes.extend(values.iter().map(|&x| x as u8));
            }
            Element::I8 => {
                integers(-128.0, 127.0)?;
                bytes.extend(values.iter().map(|&x| x as i8 as u8));
            }
            Element::I32 => {
                integers(f64::from(i32::MIN), f64::from(i32::MAX))?;
                bytes.extend(values.iter().flat_map(|&x| (x as i32).to_le_bytes()));
            }
        }
        Ok(())
    }
}

/// Uses the processor's conversion where it has one, which needs aligned values.
fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    const CHUNK: usize = 512;
    let mut halves = [f16::ZERO; CHUNK];
    for (out, bytes) in out.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(out);
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Element; 6] =
        [Element::F32, Element::F16, Element::F64, Element::U8, Element::I8, Element::I32];

    fn decode(element: Element, bytes: &[u8]) -> Result<Vec<f32>, (usize, f64)> {
        let mut out = vec![0.0; bytes.len() / element.bytes()];
        element.decode(bytes, &mut out).map_err(|bad| (bad.index, bad.value))?;
        Ok(out)
    }

    #[test]
    fn integers_survive_every_type() {
        let values: Vec<f32> = (0..128).map(|i| i as f32).collect();
        for element in ALL {
            let mut bytes = Vec::new();
            assert!(element.encode(&values, &mut bytes).is_ok());
            assert_eq!(bytes.len(), values.len() * element.bytes());
            assert_eq!(decode(element, &bytes), Ok(values.clone()));
        }
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        for (element, value) in [
            (Element::U8, -1.0),
            (Element::U8, 256.0),
            (Element::U8, 1.5),
            (Element::I8, 128.0),
            (Element::I8, -129.0),
            (Element::I32, 2_147_483_648.0),
            (Element::F16, 65_520.0),
            (Element::F32, f32::NAN),
            (Element::U8, f32::INFINITY),
        ] {
            let bad = element.encode(&[0.0, 1.0, value], &mut Vec::new());
            assert_eq!(bad.map_err(|bad| bad.index), Err(2), "{element} {value}");
        }
    }

    #[test]
    fn reading_refuses_what_is_no_exact_or_finite_f32() {
        assert_eq!(decode(Element::I32, &16_777_217i32.to_le_bytes()), Err((0, 16_777_217.0)));
        assert_eq!(decode(Element::I32, &16_777_218i32.to_le_bytes()), Ok(vec![16_777_218.0]));
        assert_eq!(decode(Element::F64, &1e300f64.to_le_bytes()), Err((0, 1e300)));
        assert_eq!(decode(Element::F16, &[0, 0x7c]), Err((0, f64::INFINITY)));
        // A NaN far behind the first chunk.
        let mut values = vec![0.5f32; 5000];
        values[4321] = f32::NAN;
        assert_eq!(first_non_finite(&values), Some(4321));
    }

    proptest! {
        #[test]
        fn f16_agrees_with_the_portable_conversion(bits in prop::collection::vec(0u16..0x7c00, 0..1200)) {
            let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
            let expected: Vec<f32> = bits.iter().map(|&b| f16::from_bits(b).to_f32_const()).collect();
            prop_assert_eq!(decode(Element::F16, &bytes), Ok(expected));
        }
    }
}
