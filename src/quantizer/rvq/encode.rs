//! From vectors to records.

use nonius_simd::dot_f32;

use super::Model;
use super::codebooks::{BeamScratch, Codebooks};
use crate::matrix::subtract;
use crate::metric::Metric;
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
    /// How much of what a code leaves of a squared distance is added; see [the module](super).
    pub(super) share: f32,
    pub(super) effort: Effort,
}

/// How hard the encoder tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effort {
    /// Sums that the search keeps after every level.
    pub(super) beam: usize,
    /// How often every level is chosen again, given the others.
    pub(super) sweeps: usize,
}

/// Buffers for encoding, one set a thread.
#[derive(Default)]
pub(crate) struct EncodeScratch {
    scaled: Vec<f32>,
    rows: RowsI16,
    product: Vec<i32>,
    /// Rotated residuals: rows x dims.
    o: Vec<f32>,
    codes: Vec<u8>,
    /// What codes leave of them.
    left: Vec<f32>,
    base: Vec<f32>,
    beam: BeamScratch,
}

impl Encoder {
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
        let (frame, levels) = (&self.model.frame, self.model.levels);
        let (dim, dims) = (frame.dim, frame.dims);
        let stride = self.model.layout().record_bytes();
        let chunks = rows.chunks(ROWS * dim).zip(records.chunks_mut(ROWS * stride));
        for (chunk, (values, records)) in chunks.enumerate() {
            let first = chunk * ROWS;
            let count = values.len() / dim;
            let EncodeScratch { scaled, rows, product, o, codes, left, base, beam } = scratch;
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
            codes.resize(count * levels, 0);
            left.resize(count * dims, 0.0);
            self.codebooks.encode(o, self.effort.beam, self.effort.sweeps, beam, codes, left);
            let rows = o.chunks_exact(dims).zip(left.chunks_exact_mut(dims));
            let outs = records.chunks_exact_mut(stride).zip(codes.chunks_exact(levels));
            for (i, ((o, left), (record, code))) in rows.zip(outs).enumerate() {
                let left_sq = dot_f32(left, left);
                // What the code stands for.
                let sum = left;
                for (sum, o) in sum.iter_mut().zip(o) {
                    *sum = o - *sum;
                }
                let along = centroid(i).map_or(0.0, |c| {
                    frame.alpha() * (self.model.weight * dot_f32(c, sum) - dot_f32(c, o))
                });
                let across = match frame.metric {
                    Metric::L2 | Metric::Cosine => {
                        dot_f32(sum, sum) + self.share * left_sq - dot_f32(o, o)
                    }
                    Metric::InnerProduct => 0.0,
                };
                record[..levels].copy_from_slice(code);
                frame.additive.write(base[i] + (along + across), &mut record[levels..]);
            }
        }
    }
}
