//! A query, and how it looks from a list.

use nonius_simd::{BLOCK, Vectorize, at_most, for_each_set, l2_sqs_f32, level};

use crate::metric::Metric;

/// A rotated query. Buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct RotatedQuery {
    /// Relative to the mean: `dims` values.
    pub(crate) values: Vec<f32>,
    /// What all keys share: `|q|^2` of the above, or the negated inner product with the mean.
    pub(crate) constant: f32,
    /// `|q|^2` over all dimensions, and over each segment.
    pub(crate) norm_sq: f32,
    pub(crate) segment_sq: Vec<f32>,
}

impl RotatedQuery {
    /// Fills in all but the values: `lengths` are the dimensions of each segment, `mean_dot` is the
    /// inner product of the query with the mean, which only the inner-product metric needs.
    pub(crate) fn prepare(&mut self, metric: Metric, lengths: &[usize], mean_dot: f32) {
        self.segment_sq.clear();
        let mut start = 0;
        for &dims in lengths {
            let q = &self.values[start..start + dims];
            self.segment_sq.push(nonius_simd::dot_f32(q, q));
            start += dims;
        }
        self.norm_sq = self.segment_sq.iter().sum();
        self.constant = match metric {
            Metric::L2 | Metric::Cosine => self.norm_sq,
            Metric::InnerProduct => -mean_dot,
        };
    }
}

/// What the first stage needs of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    /// What all keys of the list share; may be off by a little.
    pub(crate) constant: f32,
    /// `|q - c|^2`, about.
    pub(crate) distance_sq: f32,
}

/// A rotated centroid relative to the mean: `unit * values`, and its squared norm.
#[derive(Clone, Copy)]
pub(crate) struct Centroid<'a> {
    pub(crate) values: &'a [i16],
    pub(crate) unit: f32,
    pub(crate) norm_sq: f32,
}

/// Writes a centroid's values.
struct Widen<'a> {
    values: &'a [i16],
    unit: f32,
    out: &'a mut [f32],
}

impl Vectorize for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, &value) in self.out.iter_mut().zip(self.values) {
            *out = f32::from(value) * self.unit;
        }
    }
}

/// A query as seen from one list.
#[derive(Default)]
pub(crate) struct View {
    /// What all keys of the list share.
    pub(crate) constant: f32,
    /// `|q - c|^2`.
    pub(crate) distance_sq: f32,
    /// `|q - c|^2` over each segment.
    pub(crate) segment_sq: Vec<f32>,
}

impl View {
    /// Looks at a query from a list; there is no centroid where there is a single list around the
    /// mean. `lengths` are the dimensions of each segment; `buffer` is overwritten.
    pub(crate) fn set(
        &mut self,
        metric: Metric,
        lengths: &[usize],
        query: &RotatedQuery,
        centroid: Option<Centroid<'_>>,
        buffer: &mut Vec<f32>,
    ) {
        match centroid {
            None => {
                self.segment_sq.clone_from(&query.segment_sq);
                self.distance_sq = query.norm_sq;
                self.constant = query.constant;
            }
            Some(Centroid { values, unit, norm_sq }) => {
                buffer.resize(values.len(), 0.0);
                level().vectorize(Widen { values, unit, out: buffer });
                self.segment_sq.resize(lengths.len(), 0.0);
                l2_sqs_f32(&query.values, buffer, lengths, &mut self.segment_sq);
                self.distance_sq = self.segment_sq.iter().sum();
                // - alpha <q, c> comes from |q - c|^2.
                self.constant = match metric {
                    Metric::L2 | Metric::Cosine => self.distance_sq - norm_sq,
                    Metric::InnerProduct => {
                        query.constant - 0.5 * (query.norm_sq + norm_sq - self.distance_sq)
                    }
                };
            }
        }
    }
}

/// How many deviations of what rounding a table to 8 bits adds up to a bound allows for: of all vectors
/// that it should let pass it stops some in a hundred thousand.
pub(crate) const ROUNDINGS: f32 = 4.0;

/// Buffers for scanning blocks.
#[derive(Default)]
pub(crate) struct ScanScratch {
    /// For each block the sums of each piece of its first stage.
    pub(crate) sums: Vec<u16>,
    pub(crate) bounds: Vec<[f32; BLOCK]>,
    /// For [`report`].
    pub(crate) passed: Vec<u32>,
}

impl ScanScratch {
    /// Makes room for so many blocks.
    pub(crate) fn fit(&mut self, blocks: usize, pieces: usize) {
        self.sums.resize(blocks * pieces * BLOCK, 0);
        self.bounds.resize(blocks, [0.0; BLOCK]);
        self.passed.resize(blocks, 0);
    }
}

/// The sums of a block over all its pieces.
#[inline(always)]
pub(crate) fn total(pieces: &[u16]) -> [u32; BLOCK] {
    let mut sums = [0; BLOCK];
    for piece in pieces.as_chunks::<BLOCK>().0 {
        for (sum, &part) in sums.iter_mut().zip(piece) {
            *sum += u32::from(part);
        }
    }
    sums
}

/// Calls `found` for each of the first `count` vectors whose bound does not exceed `threshold`.
pub(crate) fn report(
    bounds: &[[f32; BLOCK]],
    passed: &mut [u32],
    count: usize,
    threshold: f32,
    found: impl FnMut(usize, f32),
) {
    at_most(bounds, threshold, passed);
    report_passed(bounds, passed, count, found);
}

/// Calls `found` for each of the first `count` vectors whose bit is set in `passed`.
pub(crate) fn report_passed(
    bounds: &[[f32; BLOCK]],
    passed: &[u32],
    count: usize,
    mut found: impl FnMut(usize, f32),
) {
    let bounds = bounds.as_flattened();
    for_each_set(passed, |v| {
        if v < count {
            found(v, bounds[v]);
        }
    });
}
