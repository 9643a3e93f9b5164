//! The metrics and their sign conventions: the one place that knows them.

use std::fmt;
use std::str::FromStr;

/// How two vectors are compared.
///
/// [`Neighbor::distance`](crate::Neighbor::distance) carries the metric's own scale and sign:
///
/// | metric | `distance` | best is |
/// |---|---|---|
/// | [`L2`](Metric::L2) | squared Euclidean distance (`l2_sq`) | smallest |
/// | [`InnerProduct`](Metric::InnerProduct) | the inner product itself | largest |
/// | [`Cosine`](Metric::Cosine) | `1 - cos(q, x)`, from 0 to 2 | smallest |
///
/// Results always come best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Metric {
    /// Squared Euclidean distance.
    L2,
    /// Inner product; larger is nearer.
    #[cfg_attr(feature = "serde", serde(rename = "ip"))]
    InnerProduct,
    /// Cosine distance, one minus the cosine of the angle. Vectors are scaled to unit norm when
    /// they enter an index; a zero vector has no direction and is refused.
    Cosine,
}

impl Metric {
    /// Every metric, in the order of their codes in files.
    pub const ALL: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

    /// The name used by the tool and in reports: `l2`, `ip` or `cosine`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::InnerProduct => "ip",
            Metric::Cosine => "cosine",
        }
    }

    /// The metric's code in index files.
    pub(crate) fn code(self) -> u32 {
        match self {
            Metric::L2 => 0,
            Metric::InnerProduct => 1,
            Metric::Cosine => 2,
        }
    }

    /// The metric of a code found in an index file.
    pub(crate) fn from_code(code: u32) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.code() == code)
    }

    /// Turns a key, by which smaller is nearer, into the distance that users see.
    ///
    /// Keys are `l2_sq` for L2 and for Cosine (on unit vectors), and the negated inner product
    /// for InnerProduct.
    #[inline]
    pub fn distance_of_key(self, key: f32) -> f32 {
        match self {
            Metric::L2 => key.max(0.0),
            Metric::InnerProduct => -key,
            Metric::Cosine => (0.5 * key).clamp(0.0, 2.0),
        }
    }

    /// True where vectors are scaled to unit norm at the door.
    #[inline]
    pub fn normalizes(self) -> bool {
        matches!(self, Metric::Cosine)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A metric's name that is none of `l2`, `ip` and `cosine`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric {0:?}: expected l2, ip or cosine")]
pub struct UnknownMetric(pub String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Metric, UnknownMetric> {
        Metric::ALL
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}
