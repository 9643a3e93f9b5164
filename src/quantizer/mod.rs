//! Quantizers: how a vector becomes a short code.
//!
//! [`QuantizerSpec`] lists all of them; it is the one place that knows their names.

mod additive;
mod alone;
pub(crate) mod codec;
pub(crate) mod frame;
mod pairs;
pub mod rvq;
pub mod saq;
mod usage;
pub(crate) mod view;

pub(crate) use additive::AdditiveCode;
pub(crate) use rvq::{CENTROIDS, Model as RvqModel};
pub use usage::CodebookUse;
pub(crate) use usage::Uses;

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;
use crate::matrix::MAX_DIM;

/// Which quantizer, and how many bits.
///
/// The names, as the tool takes them:
///
/// | name | quantizer |
/// |---|---|
/// | `saq:B` | SAQ with `B` bits a dimension (0.25 to 12, fractions allowed) and 8 bytes for factors: `B * dim / 8 + 8` bytes a vector at most, everything counted but the id |
/// | `saq:NB` | SAQ within `N` bytes a vector, as in `saq:48B` |
/// | `rabitq` | RaBitQ: one segment of one bit a dimension |
/// | `rvq:B` | RVQ: sums of centroids, within `B * dim / 8 + 8` bytes a vector as for `saq:B` (0.02 to 4 bits, and at most 256 bytes) |
/// | `rvq:NB` | RVQ within `N` bytes a vector (5 to 256): `N - 1` levels of 256 centroids, fewer if the additive factor takes more than a byte |
/// | `erabitq:b` | the quality of Extended RaBitQ: one segment of `b` bits (1 to 13) a dimension |
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuantizerSpec {
    /// SAQ with this many bits a dimension on average; the budget is `bits * dim / 8 + 8` bytes.
    Saq {
        /// Average bits of a dimension.
        bits: f64,
    },
    /// SAQ within this many bytes a vector, codes and factors.
    SaqBytes {
        /// Bytes a vector.
        bytes: usize,
    },
    /// RVQ with this many bits a dimension on average; the budget is `bits * dim / 8 + 8` bytes.
    Rvq {
        /// Average bits of a dimension.
        bits: f64,
    },
    /// RVQ within this many bytes a vector, codes and factors.
    RvqBytes {
        /// Bytes a vector.
        bytes: usize,
    },
    /// One segment with the same bits for all dimensions: RaBitQ at one bit, Extended RaBitQ's
    /// quality above (CAQ in the SAQ paper).
    OneSegment {
        /// Bits of a dimension.
        bits: u32,
    },
}

/// Bytes for factors that `saq:B` grants beside the `B` bits of a dimension: as much as two `f32`,
/// which RaBitQ and its relatives store.
const FACTOR_BYTES: usize = 8;

/// Bytes that RVQ can work with: at least a level and an exact factor; every level takes training time
/// and memory.
pub(crate) const RVQ_BYTES: std::ops::RangeInclusive<usize> = 5..=256;

/// Kinds of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Integers for the dimensions of segments.
    Saq,
    /// Sums of centroids.
    Rvq,
}

impl QuantizerSpec {
    /// RVQ within `bytes` bytes a vector.
    pub fn rvq_bytes(bytes: usize) -> QuantizerSpec {
        QuantizerSpec::RvqBytes { bytes }
    }

    /// The kind of its codes.
    pub(crate) fn family(&self) -> Family {
        match self {
            QuantizerSpec::Rvq { .. } | QuantizerSpec::RvqBytes { .. } => Family::Rvq,
            _ => Family::Saq,
        }
    }

    /// SAQ with `bits` bits a dimension.
    pub fn saq(bits: f64) -> QuantizerSpec {
        QuantizerSpec::Saq { bits }
    }

    /// SAQ within `bytes` bytes a vector.
    pub fn saq_bytes(bytes: usize) -> QuantizerSpec {
        QuantizerSpec::SaqBytes { bytes }
    }

    /// RaBitQ: the signs of a random rotation.
    pub fn rabitq() -> QuantizerSpec {
        QuantizerSpec::OneSegment { bits: 1 }
    }

    /// The quality of Extended RaBitQ at `bits` bits a dimension.
    pub fn extended_rabitq(bits: u32) -> QuantizerSpec {
        QuantizerSpec::OneSegment { bits }
    }

    /// The family's name: `saq`, `rvq`, `rabitq` or `erabitq`.
    pub fn name(&self) -> &'static str {
        match self {
            QuantizerSpec::Saq { .. } | QuantizerSpec::SaqBytes { .. } => "saq",
            QuantizerSpec::Rvq { .. } | QuantizerSpec::RvqBytes { .. } => "rvq",
            QuantizerSpec::OneSegment { bits: 1 } => "rabitq",
            QuantizerSpec::OneSegment { .. } => "erabitq",
        }
    }

    /// Average code bits of a dimension; for a budget in bytes, all its bits divided by `dim`.
    pub fn bits(&self, dim: usize) -> f64 {
        match *self {
            QuantizerSpec::Saq { bits } | QuantizerSpec::Rvq { bits } => bits,
            QuantizerSpec::SaqBytes { bytes } | QuantizerSpec::RvqBytes { bytes } => {
                bytes as f64 * 8.0 / dim.max(1) as f64
            }
            QuantizerSpec::OneSegment { bits } => f64::from(bits),
        }
    }

    /// The bytes that codes and factors of a vector may take, if the quantizer works to a budget.
    pub(crate) fn budget(&self, dim: usize) -> Option<usize> {
        match *self {
            QuantizerSpec::Saq { bits } | QuantizerSpec::Rvq { bits } => {
                Some((bits * dim as f64 / 8.0) as usize + FACTOR_BYTES)
            }
            QuantizerSpec::SaqBytes { bytes } | QuantizerSpec::RvqBytes { bytes } => Some(bytes),
            QuantizerSpec::OneSegment { .. } => None,
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ConfigError`] naming the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let complain = |message: String| Err(ConfigError::new("quantizer", message));
        match *self {
            QuantizerSpec::Saq { bits } if !(0.25..=12.0).contains(&bits) => {
                complain(format!("saq takes 0.25 to 12 bits a dimension, found {bits}"))
            }
            QuantizerSpec::SaqBytes { bytes } if !(4..=2 * MAX_DIM).contains(&bytes) => {
                complain(format!("saq takes 4 to {} bytes a vector, found {bytes}", 2 * MAX_DIM))
            }
            QuantizerSpec::Rvq { bits } if !(0.02..=4.0).contains(&bits) => {
                complain(format!("rvq takes 0.02 to 4 bits a dimension, found {bits}"))
            }
            QuantizerSpec::RvqBytes { bytes } if !RVQ_BYTES.contains(&bytes) => {
                let (low, high) = RVQ_BYTES.into_inner();
                complain(format!("rvq takes {low} to {high} bytes a vector, found {bytes}"))
            }
            QuantizerSpec::OneSegment { bits } if !(1..=saq::MAX_BITS).contains(&bits) => {
                complain(format!("erabitq takes 1 to {} bits, found {bits}", saq::MAX_BITS))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for QuantizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuantizerSpec::Saq { bits } => write!(f, "saq:{bits}"),
            QuantizerSpec::SaqBytes { bytes } => write!(f, "saq:{bytes}B"),
            QuantizerSpec::Rvq { bits } => write!(f, "rvq:{bits}"),
            QuantizerSpec::RvqBytes { bytes } => write!(f, "rvq:{bytes}B"),
            QuantizerSpec::OneSegment { bits: 1 } => f.write_str("rabitq"),
            QuantizerSpec::OneSegment { bits } => write!(f, "erabitq:{bits}"),
        }
    }
}

impl FromStr for QuantizerSpec {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<QuantizerSpec, ConfigError> {
        let unknown = || {
            ConfigError::new(
                "quantizer",
                format!(
                    "expected saq:BITS, saq:BYTESB (such as saq:48B), rvq:BITS, rvq:BYTESB, rabitq \
                     or erabitq:BITS, found {text:?}"
                ),
            )
        };
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let spec = match (name, number) {
            ("saq", Some(number)) => match number.strip_suffix('B') {
                Some(bytes) => {
                    QuantizerSpec::SaqBytes { bytes: bytes.parse().map_err(|_| unknown())? }
                }
                None => QuantizerSpec::Saq { bits: number.parse().map_err(|_| unknown())? },
            },
            ("rvq", Some(number)) => match number.strip_suffix('B') {
                Some(bytes) => {
                    QuantizerSpec::RvqBytes { bytes: bytes.parse().map_err(|_| unknown())? }
                }
                None => QuantizerSpec::Rvq { bits: number.parse().map_err(|_| unknown())? },
            },
            ("saq", None) => QuantizerSpec::Saq { bits: 4.0 },
            ("rabitq", None | Some("1")) => QuantizerSpec::rabitq(),
            ("erabitq" | "caq", Some(number)) => {
                QuantizerSpec::OneSegment { bits: number.parse().map_err(|_| unknown())? }
            }
            _ => return Err(unknown()),
        };
        spec.validate()?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["saq:4", "saq:0.5", "saq:48B", "rvq:0.5", "rvq:24B", "rabitq", "erabitq:4"] {
            let spec: QuantizerSpec = name.parse().unwrap();
            assert_eq!(spec.to_string(), name);
        }
        assert_eq!("saq".parse(), Ok(QuantizerSpec::saq(4.0)));
        assert_eq!("rabitq:1".parse(), Ok(QuantizerSpec::rabitq()));
    }

    #[test]
    fn nonsense_is_refused() {
        for name in [
            "",
            "saq:",
            "saq:x",
            "saq:0",
            "saq:-1",
            "saq:99",
            "saq:NaN",
            "pq:4",
            "rabitq:2",
            "erabitq:14",
            "erabitq:0",
            "saq:3B",
            "erabitq",
            "rvq",
            "rvq:5",
            "rvq:4B",
            "rvq:257B",
        ] {
            assert!(name.parse::<QuantizerSpec>().is_err(), "{name}");
        }
    }

    #[test]
    fn budgets_count_everything() {
        assert_eq!(QuantizerSpec::saq(4.0).budget(384), Some(200));
        assert_eq!(QuantizerSpec::saq(0.5).budget(384), Some(32));
        assert_eq!(QuantizerSpec::saq_bytes(48).budget(384), Some(48));
        assert_eq!(QuantizerSpec::rabitq().budget(384), None);
    }
}
