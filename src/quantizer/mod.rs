//! Quantizers: how a vector becomes a short code.
//!
//! [`QuantizerSpec`] lists all of them; it is the one place that knows their names.

pub(crate) mod additive;
mod alone;
mod blocks;
pub(crate) mod codec;
mod estimate;
mod factor;
pub(crate) mod float;
pub(crate) mod frame;
mod pairs;
pub mod saq;
pub(crate) mod scalar;
mod trained;
mod usage;
pub(crate) mod view;

pub(crate) use factor::AdditiveCode;
pub use trained::{Codes, Quantizer, QuantizerConfig};
pub use usage::CodebookUse;
pub(crate) use usage::Uses;

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;
use crate::matrix::MAX_DIM;
use crate::metric::Metric;
use crate::train::Pca;

/// The most dimensions of a segment or of a scalar quantizer: what [`nonius_simd::dot_fields`] takes.
pub(crate) const MAX_FIELDS: usize = 16_384;

/// Which quantizer, and how many bits.
///
/// The names, as the tool takes them. A size is written `B`, bits a dimension (fractions allowed), or
/// `NB`, bytes a vector, as in `saq:4` and `saq:48B`:
///
/// | name | quantizer | bits | bytes |
/// |---|---|---|---|
/// | `saq:SIZE` | SAQ | 0.25 to 12 | from 4 on |
/// | `rabitq` | RaBitQ: one segment of one bit a dimension | | |
/// | `erabitq:b` | the quality of Extended RaBitQ: one segment of `b` bits a dimension | 1 to 13 | |
/// | `pq:SIZE` | product quantization: a codebook of 256 centroids for each of as many parts of the dimensions as there are bytes | 0.02 to 4 | 5 to 256 |
/// | `opq:SIZE` | the same behind a rotation that is learnt for it | 0.02 to 4 | 5 to 256 |
/// | `rvq:SIZE` | RVQ: sums of a centroid of each of as many codebooks as there are bytes | 0.02 to 4 | 5 to 256 |
/// | `prq:PxSIZE` | `P` parts of the dimensions, each an RVQ, as in `prq:4x24B` | 0.02 to 4 | 5 to 256 |
/// | `pqN:SIZE`, ... | any of the four with codebooks of `2^N` centroids, whose numbers take `N` bits, as in `pq4:16B` and `rvq12:24B` | 0.02 to 4 | 5 to 256 |
/// | `sq:b` | scalar quantization: `b` bits for each dimension, from its own range | 4 to 8 | |
/// | `lvq:b` | locally-adaptive vector quantization: the same, from the range of each vector | 4 to 8 | |
/// | `lvq:4xb` | the same in two levels: 4 bits, and `b` for what they leave, as in `lvq:4x8` | 4 and 1 to 8 | |
/// | `f16`, `bf16`, `f32` | the values themselves in 16 bits, or as they are | | |
///
/// How many dimensions each takes says [`max_dim`](QuantizerSpec::max_dim).
///
/// Everything but the id is counted: `B` bits make a budget of `B * dim / 8 + 8` bytes a vector. Of its
/// bytes a quantizer with codebooks keeps one for the additive factor, and two or four where one would be
/// too coarse; `pq` and `opq` need none in an index of one list. `N` is 1 to 12 for `pq` and `opq`, and 4 to 12
/// for `rvq` and `prq`; beyond 8, codes take 6 bytes or more. Codebooks of 256 and of 16 centroids have scans of
/// their own; others are for comparing what codes can be, and are scanned plainly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuantizerSpec {
    /// SAQ.
    Saq(CodeSize),
    /// One segment with the same bits for all dimensions: RaBitQ at one bit, Extended RaBitQ's
    /// quality above (CAQ in the SAQ paper).
    OneSegment {
        /// Bits of a dimension.
        bits: u32,
    },
    /// Product quantization (Jegou, Douze and Schmid, PAMI 2011).
    Pq {
        /// Its size.
        size: CodeSize,
        /// Bits of the number of a centroid, from 1 to 12: 8, or 4 for 16 centroids, twice as many parts, and
        /// faster scans.
        bits: u32,
    },
    /// Product quantization behind a learnt rotation (Ge, He, Ke and Sun, CVPR 2013).
    Opq {
        /// Its size.
        size: CodeSize,
        /// Bits of the number of a centroid, from 1 to 12.
        bits: u32,
    },
    /// Residual vector quantization (Chen, Guan and Wang, Sensors 2010).
    Rvq {
        /// Its size.
        size: CodeSize,
        /// Bits of the number of a centroid, from 4 to 12.
        bits: u32,
    },
    /// A product of RVQs.
    ProductRvq {
        /// Parts of the dimensions.
        parts: usize,
        /// The size of all of them together.
        size: CodeSize,
        /// Bits of the number of a centroid, from 4 to 12.
        bits: u32,
    },
    /// Scalar quantization: a range for each dimension.
    Sq {
        /// Bits of a dimension.
        bits: u32,
    },
    /// Locally-adaptive vector quantization: a range for each vector (Aguerrebere, Bhati, Hildebrand,
    /// Tepper and Willke, VLDB 2023).
    Lvq {
        /// Bits of a dimension; with a second level those of the first, which are 4.
        bits: u32,
        /// Bits of the second level; 0 for none.
        second: u32,
    },
    /// Values as IEEE 754 binary16.
    F16,
    /// Values as bfloat16.
    Bf16,
    /// Values as they are.
    F32,
}

/// How large codes and factors of a vector may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CodeSize {
    /// So many bits a dimension on average; the budget is `bits * dim / 8 + 8` bytes.
    Bits(f64),
    /// So many bytes a vector, codes and factors.
    Bytes(usize),
}

/// Bytes for factors that bits grant beside those of a dimension: as much as two `f32`, which RaBitQ
/// and its relatives store.
const FACTOR_BYTES: usize = 8;

impl CodeSize {
    /// The bytes that codes and factors of a vector may take.
    pub(crate) fn budget(self, dim: usize) -> usize {
        match self {
            CodeSize::Bits(bits) => (bits * dim as f64 / 8.0) as usize + FACTOR_BYTES,
            CodeSize::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Display for CodeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeSize::Bits(bits) => write!(f, "{bits}"),
            CodeSize::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

impl FromStr for CodeSize {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<CodeSize, ConfigError> {
        let wrong = || {
            let message = format!("expected bits a dimension or bytes such as 48B, found {text:?}");
            ConfigError::new("quantizer", message)
        };
        match text.strip_suffix('B') {
            Some(bytes) => Ok(CodeSize::Bytes(bytes.parse().map_err(|_| wrong())?)),
            None => Ok(CodeSize::Bits(text.parse().map_err(|_| wrong())?)),
        }
    }
}

/// Bytes that quantizers with codebooks can work with: at least a column and an exact factor; every
/// codebook takes training time and memory.
pub(crate) const CODEBOOK_BYTES: std::ops::RangeInclusive<usize> = 5..=256;

/// The most bits of the number of a centroid.
pub(crate) const MAX_COLUMN_BITS: u32 = 12;

/// Sums that the search for a code may keep.
const BEAMS: std::ops::RangeInclusive<usize> = 1..=64;

/// Bits of scalar quantizers with one level, and of the second level where there are two.
const SCALAR_BITS: std::ops::RangeInclusive<u32> = scalar::SCAN_BITS..=8;
const SECOND_BITS: std::ops::RangeInclusive<u32> = 1..=8;

/// Kinds of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Integers for the dimensions of segments.
    Saq,
    /// Sums of centroids.
    Additive,
    /// Integers for dimensions.
    Scalar,
    /// Values in 16 or 32 bits.
    Float,
}

impl QuantizerSpec {
    /// SAQ with `bits` bits a dimension.
    pub fn saq(bits: f64) -> QuantizerSpec {
        QuantizerSpec::Saq(CodeSize::Bits(bits))
    }

    /// SAQ within `bytes` bytes a vector.
    pub fn saq_bytes(bytes: usize) -> QuantizerSpec {
        QuantizerSpec::Saq(CodeSize::Bytes(bytes))
    }

    /// RaBitQ: the signs of a random rotation.
    pub fn rabitq() -> QuantizerSpec {
        QuantizerSpec::OneSegment { bits: 1 }
    }

    /// The quality of Extended RaBitQ at `bits` bits a dimension.
    pub fn extended_rabitq(bits: u32) -> QuantizerSpec {
        QuantizerSpec::OneSegment { bits }
    }

    /// PQ within `bytes` bytes a vector.
    pub fn pq_bytes(bytes: usize) -> QuantizerSpec {
        QuantizerSpec::Pq { size: CodeSize::Bytes(bytes), bits: 8 }
    }

    /// OPQ within `bytes` bytes a vector.
    pub fn opq_bytes(bytes: usize) -> QuantizerSpec {
        QuantizerSpec::Opq { size: CodeSize::Bytes(bytes), bits: 8 }
    }

    /// RVQ within `bytes` bytes a vector.
    pub fn rvq_bytes(bytes: usize) -> QuantizerSpec {
        QuantizerSpec::Rvq { size: CodeSize::Bytes(bytes), bits: 8 }
    }

    /// A product of so many RVQs within `bytes` bytes a vector.
    pub fn product_rvq_bytes(parts: usize, bytes: usize) -> QuantizerSpec {
        QuantizerSpec::ProductRvq { parts, size: CodeSize::Bytes(bytes), bits: 8 }
    }

    /// The kind of its codes.
    pub(crate) fn family(&self) -> Family {
        match self {
            QuantizerSpec::Saq(_) | QuantizerSpec::OneSegment { .. } => Family::Saq,
            QuantizerSpec::Pq { .. }
            | QuantizerSpec::Opq { .. }
            | QuantizerSpec::Rvq { .. }
            | QuantizerSpec::ProductRvq { .. } => Family::Additive,
            QuantizerSpec::Sq { .. } | QuantizerSpec::Lvq { .. } => Family::Scalar,
            QuantizerSpec::F16 | QuantizerSpec::Bf16 | QuantizerSpec::F32 => Family::Float,
        }
    }

    /// What comes before the colon in [its name](QuantizerSpec).
    pub fn name(&self) -> String {
        let name = match self {
            QuantizerSpec::Saq(_) => "saq",
            QuantizerSpec::OneSegment { bits: 1 } => "rabitq",
            QuantizerSpec::OneSegment { .. } => "erabitq",
            QuantizerSpec::Pq { .. } => "pq",
            QuantizerSpec::Opq { .. } => "opq",
            QuantizerSpec::Rvq { .. } => "rvq",
            QuantizerSpec::ProductRvq { .. } => "prq",
            QuantizerSpec::Sq { .. } => "sq",
            QuantizerSpec::Lvq { .. } => "lvq",
            QuantizerSpec::F16 => "f16",
            QuantizerSpec::Bf16 => "bf16",
            QuantizerSpec::F32 => "f32",
        };
        match self.column_bits() {
            None | Some(8) => name.to_owned(),
            Some(bits) => format!("{name}{bits}"),
        }
    }

    /// Bits of the number of a centroid, of quantizers that have codebooks.
    pub(crate) fn column_bits(&self) -> Option<u32> {
        match *self {
            QuantizerSpec::Pq { bits, .. }
            | QuantizerSpec::Opq { bits, .. }
            | QuantizerSpec::Rvq { bits, .. }
            | QuantizerSpec::ProductRvq { bits, .. } => Some(bits),
            _ => None,
        }
    }

    /// The size, of quantizers that work to a budget.
    pub(crate) fn size(&self) -> Option<CodeSize> {
        match *self {
            QuantizerSpec::OneSegment { .. }
            | QuantizerSpec::Sq { .. }
            | QuantizerSpec::Lvq { .. }
            | QuantizerSpec::F16
            | QuantizerSpec::Bf16
            | QuantizerSpec::F32 => None,
            QuantizerSpec::Saq(size)
            | QuantizerSpec::Pq { size, .. }
            | QuantizerSpec::Opq { size, .. }
            | QuantizerSpec::Rvq { size, .. }
            | QuantizerSpec::ProductRvq { size, .. } => Some(size),
        }
    }

    /// Average code bits of a dimension; for a budget in bytes, all its bits divided by `dim`.
    pub fn bits(&self, dim: usize) -> f64 {
        match *self {
            QuantizerSpec::Saq(size)
            | QuantizerSpec::Pq { size, .. }
            | QuantizerSpec::Opq { size, .. }
            | QuantizerSpec::Rvq { size, .. }
            | QuantizerSpec::ProductRvq { size, .. } => match size {
                CodeSize::Bits(bits) => bits,
                CodeSize::Bytes(bytes) => bytes as f64 * 8.0 / dim.max(1) as f64,
            },
            QuantizerSpec::OneSegment { bits } | QuantizerSpec::Sq { bits } => f64::from(bits),
            QuantizerSpec::Lvq { bits, second } => f64::from(bits.saturating_add(second)),
            QuantizerSpec::F16 | QuantizerSpec::Bf16 => 16.0,
            QuantizerSpec::F32 => 32.0,
        }
    }

    /// The most dimensions that vectors may have.
    ///
    /// [`MAX_DIM`] for `pq`, `f16`, `bf16` and `f32`, 16,384 for `sq` and `lvq`. The others rotate vectors, and finding
    /// the rotation takes time by the cube of the dimension: 8,192.
    pub fn max_dim(&self) -> usize {
        match self {
            QuantizerSpec::Pq { .. }
            | QuantizerSpec::F16
            | QuantizerSpec::Bf16
            | QuantizerSpec::F32 => MAX_DIM,
            QuantizerSpec::Sq { .. } | QuantizerSpec::Lvq { .. } => MAX_FIELDS,
            _ => Pca::MAX_DIM,
        }
    }

    /// The bytes that codes and factors of a vector may take, if the quantizer works to a budget.
    pub(crate) fn budget(&self, dim: usize) -> Option<usize> {
        self.size().map(|size| size.budget(dim))
    }

    /// Checks a threshold for errors of inner products.
    pub(crate) fn check_anisotropic(
        &self,
        threshold: Option<f32>,
        metric: Metric,
    ) -> Result<(), ConfigError> {
        let Some(threshold) = threshold else { return Ok(()) };
        let complain = |message: String| Err(ConfigError::new("anisotropic", message));
        if !(threshold > 0.0 && threshold < 1.0) {
            return complain(format!("expected a threshold between 0 and 1, found {threshold}"));
        }
        if metric == Metric::L2 {
            return complain(format!("expected inner product or cosine, found {metric}"));
        }
        if self.family() != Family::Additive {
            return complain(format!("expected pq, opq, rvq or prq, found {self}"));
        }
        Ok(())
    }

    /// Checks how many sums a search for codes keeps.
    pub(crate) fn check_beam(&self, beam: Option<usize>) -> Result<(), ConfigError> {
        let Some(beam) = beam else { return Ok(()) };
        let complain = |message: String| Err(ConfigError::new("beam", message));
        if !BEAMS.contains(&beam) {
            let (least, most) = (BEAMS.start(), BEAMS.end());
            return complain(format!("expected {least} to {most}, found {beam}"));
        }
        if !matches!(self, QuantizerSpec::Rvq { .. } | QuantizerSpec::ProductRvq { .. }) {
            return complain(format!("expected rvq or prq, found {self}"));
        }
        Ok(())
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ConfigError`] naming the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let complain = |message: String| Err(ConfigError::new("quantizer", message));
        if let Some(found) = self.column_bits() {
            let least = match self {
                // Each of a part's levels fills whole panels of 16 rows.
                QuantizerSpec::Rvq { .. } | QuantizerSpec::ProductRvq { .. } => 4,
                _ => 1,
            };
            if !(least..=MAX_COLUMN_BITS).contains(&found) {
                return complain(format!(
                    "codebooks have numbers of {least} to {MAX_COLUMN_BITS} bits here, found {found}"
                ));
            }
        }
        let (bits, bytes) = match self.family() {
            Family::Saq => (0.25..=12.0, 4..=2 * MAX_DIM),
            Family::Additive => {
                let (least, most) = CODEBOOK_BYTES.into_inner();
                // One column and an exact factor.
                let least = least.max(4 + self.column_bits().unwrap_or(0).div_ceil(8) as usize);
                (0.02..=4.0, least..=most)
            }
            // These have no size.
            Family::Scalar | Family::Float => (0.0..=0.0, 0..=0),
        };
        let name = self.name();
        match self.size() {
            Some(CodeSize::Bits(found)) if !bits.contains(&found) => {
                let (low, high) = bits.into_inner();
                return complain(format!(
                    "{name} takes {low} to {high} bits a dimension, found {found}"
                ));
            }
            Some(CodeSize::Bytes(found)) if !bytes.contains(&found) => {
                let (low, high) = bytes.into_inner();
                return complain(format!(
                    "{name} takes {low} to {high} bytes a vector, found {found}"
                ));
            }
            _ => {}
        }
        match *self {
            QuantizerSpec::OneSegment { bits } if !(1..=saq::MAX_BITS).contains(&bits) => {
                complain(format!("erabitq takes 1 to {} bits, found {bits}", saq::MAX_BITS))
            }
            QuantizerSpec::ProductRvq { parts, .. } if !(1..=MAX_PARTS).contains(&parts) => {
                complain(format!("prq takes 1 to {MAX_PARTS} parts, found {parts}"))
            }
            QuantizerSpec::Sq { bits } | QuantizerSpec::Lvq { bits, second: 0 }
                if !SCALAR_BITS.contains(&bits) =>
            {
                let (low, high) = SCALAR_BITS.into_inner();
                complain(format!("{name} takes {low} to {high} bits, found {bits}"))
            }
            QuantizerSpec::Lvq { bits, second }
                if second > 0 && (bits != scalar::SCAN_BITS || !SECOND_BITS.contains(&second)) =>
            {
                let (low, high) = SECOND_BITS.into_inner();
                complain(format!(
                    "{name} takes {} bits and {low} to {high} more, found {bits}x{second}",
                    scalar::SCAN_BITS
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The most parts that may be asked for: there are no more bytes to have one each.
const MAX_PARTS: usize = *CODEBOOK_BYTES.end();

impl fmt::Display for QuantizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuantizerSpec::OneSegment { bits: 1 } => f.write_str("rabitq"),
            QuantizerSpec::OneSegment { bits } => write!(f, "erabitq:{bits}"),
            QuantizerSpec::ProductRvq { parts, size, .. } => {
                write!(f, "{}:{parts}x{size}", self.name())
            }
            QuantizerSpec::Sq { bits } => write!(f, "sq:{bits}"),
            QuantizerSpec::Lvq { bits, second: 0 } => write!(f, "lvq:{bits}"),
            QuantizerSpec::Lvq { bits, second } => write!(f, "lvq:{bits}x{second}"),
            QuantizerSpec::F16 | QuantizerSpec::Bf16 | QuantizerSpec::F32 => {
                f.write_str(&self.name())
            }
            QuantizerSpec::Saq(size)
            | QuantizerSpec::Pq { size, .. }
            | QuantizerSpec::Opq { size, .. }
            | QuantizerSpec::Rvq { size, .. } => write!(f, "{}:{size}", self.name()),
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
                    "expected saq:SIZE, pq:SIZE, opq:SIZE, rvq:SIZE, prq:PARTSxSIZE (or pq4:SIZE and so on, with \
                     the bits of a centroid's number), rabitq, erabitq:BITS, sq:BITS, lvq:BITS, lvq:4xBITS, f16, \
                     bf16 or f32, where SIZE is bits a dimension or bytes such as 48B, found {text:?}"
                ),
            )
        };
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let size = |text: &str| text.parse::<CodeSize>().map_err(|_| unknown());
        let bits = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        // The name of codebooks may end with the bits of their numbers.
        let family = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let column_bits = match &name[family.len()..] {
            "" => 8,
            // The one name of 8 bits is that without a number.
            text if text.starts_with('0') || text == "8" => return Err(unknown()),
            text => bits(text)?,
        };
        let name = match family {
            "pq" | "opq" | "rvq" | "prq" => family,
            _ => name,
        };
        let spec = match (name, number) {
            ("saq", Some(number)) => QuantizerSpec::Saq(size(number)?),
            ("saq", None) => QuantizerSpec::saq(4.0),
            ("pq", Some(number)) => QuantizerSpec::Pq { size: size(number)?, bits: column_bits },
            ("opq", Some(number)) => QuantizerSpec::Opq { size: size(number)?, bits: column_bits },
            ("rvq", Some(number)) => QuantizerSpec::Rvq { size: size(number)?, bits: column_bits },
            ("prq", Some(number)) => {
                let (parts, number) = number.split_once('x').ok_or_else(unknown)?;
                let parts = parts.parse().map_err(|_| unknown())?;
                QuantizerSpec::ProductRvq { parts, size: size(number)?, bits: column_bits }
            }
            ("rabitq", None | Some("1")) => QuantizerSpec::rabitq(),
            ("erabitq" | "caq", Some(number)) => QuantizerSpec::OneSegment { bits: bits(number)? },
            ("sq", Some(number)) => QuantizerSpec::Sq { bits: bits(number)? },
            ("lvq", Some(number)) => match number.split_once('x') {
                Some((first, second)) => {
                    // 0 is how one level is told.
                    let second = bits(second)?;
                    if second == 0 {
                        return Err(unknown());
                    }
                    QuantizerSpec::Lvq { bits: bits(first)?, second }
                }
                None => QuantizerSpec::Lvq { bits: bits(number)?, second: 0 },
            },
            ("f16", None) => QuantizerSpec::F16,
            ("bf16", None) => QuantizerSpec::Bf16,
            ("f32", None) => QuantizerSpec::F32,
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
        for name in [
            "saq:4",
            "saq:0.5",
            "saq:48B",
            "rvq:0.5",
            "rvq:24B",
            "pq:16B",
            "pq:1",
            "opq:0.25",
            "opq:32B",
            "pq4:16B",
            "opq4:1",
            "prq:4x24B",
            "prq:2x0.5",
            "pq1:8B",
            "opq12:6B",
            "rvq10:0.5",
            "prq4:4x24B",
            "rabitq",
            "erabitq:4",
            "sq:6",
            "lvq:8",
            "lvq:4x8",
            "f16",
            "bf16",
            "f32",
        ] {
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
            "pq:5",
            "pq",
            "opq:4B",
            "opq:16B2",
            "pq4:4B",
            "pq0:16B",
            "pq13:16B",
            "pq8:16B",
            "pq08:16B",
            "pq9:5B",
            "rvq3:16B",
            "prq3:2x16B",
            "saq4:16B",
            "pq999999999999:16B",
            "prq:16B",
            "prq:0x16B",
            "prq:x16B",
            "prq:257x16B",
            "prq:2x",
            "rabitq:2",
            "erabitq:14",
            "erabitq:0",
            "saq:3B",
            "erabitq",
            "rvq",
            "rvq:5",
            "rvq:4B",
            "rvq:257B",
            "sq",
            "sq:3",
            "sq:9",
            "sq:8B",
            "lvq:3",
            "lvq:4x0",
            "lvq:4x9",
            "lvq:5x4",
            "lvq:x4",
            "f16:1",
            "f32:32",
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
