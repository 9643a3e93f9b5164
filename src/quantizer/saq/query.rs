//! The tables of a query.
//!
//! A search runs in stages (section 5 of the paper):
//!
//! 1. [`QueryModel::scan`] reads the first stage of whole blocks and gives for each vector a value
//!    that its key undercuts only with the probability that `confidence` stands for (`bound`).
//! 2. [`QueryModel::refine`] reads the remaining bits of a single vector and gives the key itself
//!    (`refine`).
//!
//! A *key* is what smaller is nearer by: `l2_sq`, or the negated inner product.

use nonius_simd::{FieldQuery, Vectorize};

use super::Model;
use super::bound::Bound;
use super::layout::Layout;
use crate::quantizer::blocks::round_query;
use crate::train::ROUND;

/// Model and format together: what codes of an index mean.
#[derive(Clone, Copy)]
pub(crate) struct QueryModel<'a> {
    pub(crate) model: &'a Model,
    pub(crate) layout: &'a Layout,
}

/// A segment's part of a query.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SegmentQuery {
    /// `<q, first stage>` is `step * sum + bias`, in units of the vector's scale.
    pub(super) step: f32,
    pub(super) bias: f32,
    /// The variance that rounding the table adds, in units of the squared scale.
    pub(super) table_variance: f32,
    /// What a unit of the integer query is worth.
    pub(super) field_step: f32,
    /// The sum of the integer query.
    pub(super) sum: i64,
}

/// The tables of a query. They serve all lists; buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct Tables {
    /// How the first stage bounds keys.
    pub(super) bound: Bound,
    /// For each piece the offset of its line for copies.
    pub(super) copies: Vec<f32>,
    pub(super) segments: Vec<SegmentQuery>,
    /// `groups x 16` bytes: the first stage's table.
    pub(super) lut: Vec<u8>,
    /// All dimensions as integers.
    pub(super) integers: Vec<i32>,
    pub(super) fields: FieldQuery,
}

impl QueryModel<'_> {
    /// Prepares the tables of a rotated query.
    pub(crate) fn prepare(&self, values: &[f32], confidence: f32, tables: &mut Tables) {
        let layout = self.layout;
        tables.segments.resize(layout.segments.len(), SegmentQuery::default());
        tables.integers.resize(layout.dims, 0);
        tables.lut.resize(layout.groups * 16, 0);
        nonius_simd::level().vectorize(Fill { codes: *self, values, tables });
        tables.fields.set(&layout.sums.plan, &tables.integers);
        tables.bound.set(*self, &tables.segments, confidence);
    }
}

struct Fill<'a> {
    codes: QueryModel<'a>,
    values: &'a [f32],
    tables: &'a mut Tables,
}

impl Vectorize for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let QueryModel { model, layout } = self.codes;
        let values = self.values;
        let Tables { segments, lut, integers, .. } = self.tables;
        for ((segment, constants), out) in
            layout.segments.iter().zip(&model.constants).zip(segments)
        {
            let range = segment.start..segment.start + segment.dims;
            let (q, integers) = (&values[range.clone()], &mut integers[range]);
            let (field_step, sum) = round_query(q, integers);
            *out = SegmentQuery { field_step, sum, ..SegmentQuery::default() };
            let tables = segment.group * 16..(segment.group + segment.groups) * 16;
            let lut = &mut lut[tables];
            let [inner, outer] = constants.levels;
            match segment.scan_bits {
                1 => tables_of::<4, 2>([-inner, inner], q, lut, out),
                2 => {
                    let levels = [-outer, -inner, inner, outer];
                    tables_of::<2, 4>(levels, q, lut, out);
                }
                _ => {}
            }
        }
    }
}

/// Builds the first stage's tables of a segment: groups of `PER` dimensions with `LEVELS` levels
/// each, `LEVELS.pow(PER) = 16`.
#[inline(always)]
fn tables_of<const PER: usize, const LEVELS: usize>(
    levels: [f32; LEVELS],
    q: &[f32],
    lut: &mut [u8],
    out: &mut SegmentQuery,
) {
    // What each entry says of each dimension of a group.
    let mut level = [[0.0f32; 16]; PER];
    for i in 0..PER {
        for entry in 0..16 {
            let index = entry / LEVELS.pow(i as u32) % LEVELS;
            level[i][entry] = levels[index];
        }
    }
    // Entries are relative to the smallest of their group; one step serves the whole segment.
    let reach = levels[LEVELS - 1];
    let q = q.as_chunks::<PER>().0;
    let mut range = 0.0f32;
    for q in q {
        let size = q.iter().map(|q| q.abs()).sum::<f32>();
        range = if size > range { size } else { range };
        out.bias -= reach * size;
    }
    out.step = (2.0 * reach * range / 255.0).max(f32::MIN_POSITIVE);
    let inverse = 1.0 / out.step;
    for (lut, q) in lut.as_chunks_mut::<16>().0.iter_mut().zip(q) {
        let mut value = [0.0f32; 16];
        let mut low = 0.0;
        for i in 0..PER {
            low -= reach * q[i].abs();
            for entry in 0..16 {
                value[entry] += q[i] * level[i][entry];
            }
        }
        let mut bits = [0u32; 16];
        for entry in 0..16 {
            bits[entry] = ((value[entry] - low) * inverse + ROUND).to_bits();
        }
        *lut = bits.map(|bits| bits as u8);
    }
    // Rounding is uniform within a step.
    out.table_variance = out.step * out.step * q.len() as f32 / 12.0;
}
