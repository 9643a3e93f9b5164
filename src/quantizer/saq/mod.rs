//! SAQ: code adjustment and dimension segmentation.
//!
//! Li, Deng, Yan, Zhi and Cheng, "SAQ: Pushing the Limits of Vector Quantization through Code
//! Adjustment and Dimension Segmentation", SIGMOD 2026 (arXiv 2509.12086).
//!
//! Residuals are rotated: the rotation is made of the principal components,
//! cut into segments, and a random rotation inside each. A segment with `b` bits keeps for each of
//! its dimensions a code of `b` bits and for all of them one scale; code and scale stand for `ô`,
//! an unbiased estimate of the residual `o` in the sense that `<ô, o> = |o|^2`.

mod adjust;
mod bound;
mod codes;
mod constants;
mod device;
mod encode;
mod layout;
mod plan;
mod query;
mod raw;
mod refine;
mod rotate;
mod scale;
mod train;

pub use codes::{Estimate, Saq, SaqCodes, SaqConfig};
pub use plan::{MAX_BITS, Segment};

pub use bound::Line;
pub use raw::SaqQuery;

pub(crate) use bound::{SCAN_BLOCKS, ScanScratch};
pub(crate) use device::DeviceScratch;
pub(crate) use encode::EncodeScratch;
pub(crate) use layout::Layout;
pub(crate) use query::{QueryModel, Tables};
pub(crate) use refine::RefineScratch;
pub(crate) use train::train;

use bytemuck::{Pod, Zeroable};

use super::frame::{Frame, Rotation};
use adjust::Effort;
use rotate::CoarseRotation;

/// What a segment's codes stand for, learnt from the sample. Everything is in units of the
/// vector's scale unless said. The file holds them as they are here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SegmentConstants {
    /// The unit of stored scales, in units of the data.
    pub(crate) unit: f32,
    /// What the first stage's bits stand for: the inner and the outer level.
    pub(crate) levels: [f32; 2],
    /// The error of all bits: an upper value of `|ô - o|^2 / dims`, square root taken.
    pub(crate) full_error: f32,
    /// The same for the bits of the first stage.
    pub(crate) scan_error: f32,
    /// The norm: `|o| / sqrt(dims)`.
    pub(crate) norm: f32,
    /// The mean scale of a vector, in units of the data.
    pub(crate) typical: f32,
}

/// What near pairs share in the segments that the first stage does not read: the inner product
/// there of query and vector, both relative to the centroid, divided by the query's norm there and
/// the vector's [`size`](Model::size).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Near {
    /// The mean.
    pub(crate) mean: f32,
    /// The standard deviation.
    pub(crate) deviation: f32,
}

impl SegmentConstants {
    /// What the bits that the first stage reads of a segment stand for; one that it does not read stands for zero there.
    #[inline(always)]
    pub(crate) fn read_levels(&self, segment: &layout::SegmentLayout) -> [f32; 2] {
        if segment.scan_bits > 0 { self.levels } else { [0.0; 2] }
    }

    /// The energy of a residual over `dims` dimensions, per squared scale.
    #[inline(always)]
    pub(crate) fn energy(&self, dims: usize) -> f32 {
        self.norm * self.norm * dims as f32
    }
}

/// All that is needed to make sense of codes, but the rotation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) frame: Frame,
    /// The plan.
    pub(crate) plan: Vec<Segment>,
    /// Bits of each segment that belong to the first stage.
    pub(crate) scan_bits: Vec<u32>,
    /// What each segment's codes stand for.
    pub(crate) constants: Vec<SegmentConstants>,
    /// The correction for dropped dimensions; see [`refine`].
    pub(crate) correction: f32,
    /// What near pairs share in segments that the first stage does not read.
    pub(crate) near: Near,
    /// The difference between neighbouring codes of the first stage's shift.
    pub(crate) shift_step: f32,
    /// The expected error of an estimate, as a standard deviation.
    pub(crate) noise: f32,
}

impl Model {
    /// The size of a vector as far as the first stage knows it: about the norm of its residual in
    /// the segments that are read there. Linear in their scales: exact where these have the usual
    /// proportions, otherwise a little less.
    pub(crate) fn size(&self, layout: &Layout, scale: impl Fn(usize) -> f32) -> f32 {
        let (mut sum, mut usual_sq) = (0.0, 0.0);
        for (s, (segment, constants)) in layout.segments.iter().zip(&self.constants).enumerate() {
            if segment.scan_bits > 0 {
                let weight = constants.energy(segment.dims) * constants.typical;
                sum += weight * scale(s);
                usual_sq += weight * constants.typical;
            }
        }
        if usual_sq > 0.0 { sum / usual_sq.sqrt() } else { 0.0 }
    }

    /// Where the bits of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        let shift_bytes = usize::from(self.frame.lists);
        Layout::new(&self.plan, &self.scan_bits, self.frame.additive.bytes, shift_bytes)
    }

    /// The stored shift of the first stage; never above the true one, since it enters a lower
    /// bound. 0 stands for a shift below all that can be stored.
    #[inline(always)]
    pub(crate) fn encode_shift(&self, shift: f32) -> u8 {
        ((shift / self.shift_step).floor() + 128.0) as u8
    }

    /// The shift of a stored code.
    #[inline(always)]
    pub(crate) fn decode_shift(&self, code: u8) -> f32 {
        let shift = (f32::from(code) - 128.0) * self.shift_step;
        if code == 0 { f32::NEG_INFINITY } else { shift }
    }
}

/// A trained quantizer, ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) model: Model,
    /// The mean that is subtracted from every vector: `dim` values.
    pub(crate) mean: Vec<f32>,
    pub(crate) rotation: Rotation,
    /// How many dimensions encoding rotates: all in training, later those that have a code.
    rotated: usize,
    /// Taken for encoding where speed comes first.
    coarse: Option<CoarseRotation>,
    effort: Effort,
    /// For each segment how much the error along a vector weighs; see [`adjust::encode_segment`].
    along: Vec<f32>,
}
