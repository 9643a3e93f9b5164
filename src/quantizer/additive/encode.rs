//! From vectors to records.

use nonius_simd::dot_f32;

use super::levels::Levels;
use super::parts::{Codebooks, Part, PartScratch};
use super::{Model, anisotropic};
use crate::matrix::{add, subtract};
use crate::metric::Metric;
use crate::quantizer::estimate::Estimate;
use crate::quantizer::frame::{Lists, Rotation, additive_base};
use crate::train::RowsI16;

/// Rows that are rotated at once.
const ROWS: usize = 64;

/// A trained quantizer, ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) model: Model,
    /// The mean that is subtracted from every vector: `dim` values.
    pub(crate) mean: Vec<f32>,
    pub(crate) rotation: Rotation,
    pub(crate) codebooks: Codebooks,
    /// What estimates take from what codes leave.
    pub(super) estimate: Estimate,
    /// What codes leave of a vector on average, squared, where estimates add a share of that to all vectors.
    pub(super) mean_left_sq: f32,
    /// Sums that the search keeps after every level.
    pub(super) beam: usize,
    /// How much more errors along a vector count, if they do; see [`anisotropic`].
    pub(super) ratio: Option<f32>,
    /// The rotated mean: what is added to a vector relative to the mean for its direction.
    pub(super) rotated_mean: Vec<f32>,
}

/// Buffers for encoding, one set a thread.
#[derive(Default)]
pub(crate) struct EncodeScratch {
    scaled: Vec<f32>,
    rows: RowsI16,
    product: Vec<i32>,
    /// Rotated residuals: rows x dims.
    o: Vec<f32>,
    codes: Vec<u16>,
    /// What codes leave of them.
    left: Vec<f32>,
    base: Vec<f32>,
    parts: PartScratch,
    directions: Vec<f32>,
    anisotropic: anisotropic::Scratch,
}

impl Encoder {
    /// What a query's tables have of each centroid beside its inner product with it, where vectors
    /// have no factor; or else nothing.
    pub(crate) fn offsets(&self) -> Vec<f32> {
        let Encoder { model, rotated_mean: mean, codebooks, .. } = self;
        if model.frame.additive.bytes > 0 {
            return Vec::new();
        }
        let of_part = |(part, levels): (Part, &Levels)| -> Vec<f32> {
            let of_mean = levels
                .values()
                .chunks_exact(part.dims)
                .map(|centroid| dot_f32(centroid, &mean[part.range()]));
            match model.frame.metric {
                Metric::InnerProduct => of_mean.collect(),
                // Norms are known to be 1: the squared one about the mean is 1 - |mean|^2 - 2 <mean, v>, of
                // which codes that leave little along a vector know more than of |v|^2.
                Metric::Cosine if self.ratio.is_some() => {
                    let rest = (1.0 - dot_f32(mean, mean)) / model.columns() as f32;
                    of_mean.map(|dot| 2.0 * dot - rest).collect()
                }
                Metric::L2 | Metric::Cosine => {
                    let added = self.estimate.share * self.mean_left_sq / model.columns() as f32;
                    levels.norms_sq().iter().map(|norm_sq| -(norm_sq + added)).collect()
                }
            }
        };
        let scale = 1.0 / (model.frame.alpha() * model.weight);
        codebooks.iter().flat_map(of_part).map(|offset| offset * scale).collect()
    }

    /// Encodes rows of `dim` values (finite; of unit norm for cosine) into records.
    ///
    /// `lists` gives each row's list; without it rows are relative to the mean. Records are as long
    /// as the model's layout says.
    pub(crate) fn encode_rows(
        &self,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        scratch: &mut EncodeScratch,
        records: &mut [u8],
    ) {
        let (frame, layout) = (&self.model.frame, self.model.layout());
        let (columns, code_bytes) = (layout.columns, layout.code_bytes());
        let (dim, dims) = (frame.dim, frame.dims);
        let stride = layout.record_bytes();
        let chunks = rows.chunks(ROWS * dim).zip(records.chunks_mut(ROWS * stride));
        for (chunk, (values, records)) in chunks.enumerate() {
            let first = chunk * ROWS;
            let count = values.len() / dim;
            let EncodeScratch { scaled, rows, product, o, codes, left, base, parts, .. } = scratch;
            let EncodeScratch { directions, anisotropic: buffers, .. } = scratch;
            let values = frame.scaled(values, scaled);
            o.resize(count * dims, 0.0);
            self.rotation.view(dim).apply(&self.mean, values, rows, product, o);
            base.resize(count, 0.0);
            additive_base(frame.metric, &self.mean, values, rows.norms_sq(), base);
            let centroid = |i: usize| {
                lists.map(|lists| {
                    let list = lists.of_row[first + i] as usize;
                    &lists.centroids.rotated[list * dims..(list + 1) * dims]
                })
            };
            for (i, o) in o.chunks_exact_mut(dims).enumerate() {
                if let Some(c) = centroid(i) {
                    subtract(o, c);
                }
            }
            codes.resize(count * columns, 0);
            left.resize(count * dims, 0.0);
            self.codebooks.encode(o, self.beam, parts, codes, left);
            if let Some(ratio) = self.ratio {
                directions.clone_from(o);
                if frame.additive.bytes == 0 {
                    for direction in directions.chunks_exact_mut(dims) {
                        add(direction, &self.rotated_mean);
                    }
                }
                anisotropic::to_directions(dims, directions);
                anisotropic::choose(&self.codebooks, ratio, directions, buffers, codes, left);
            }
            let rows = o.chunks_exact(dims).zip(left.chunks_exact_mut(dims));
            let outs = records.chunks_exact_mut(stride).zip(codes.chunks_exact(columns));
            for (i, ((o, left), (record, code))) in rows.zip(outs).enumerate() {
                let factor = self.estimate.factor(frame, base[i], o, left, centroid(i));
                layout.pack(code, &mut record[..code_bytes]);
                frame.additive.write(factor, &mut record[code_bytes..]);
            }
        }
    }
}
