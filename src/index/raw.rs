//! What an index holds and what a query needs, as they are: for other ways to scan.
//!
//! **For whom.** Search on other processors: the crate `nonius-gpu` is written against this module
//! alone. To search with this crate, use [`Index`]. What is here follows the inside of the index, and
//! may change with any version.
//!
//! A search prepares its queries by [`RawSearcher::prepare`], scans and ranks vectors by its own means, and
//! has [`RawSearcher::finish`] turn what it found into [`Neighbor`]s. So a query means the same on both ways.
//!
//! **Keys.** A *key* is what smaller is nearer by. With `alpha` and `lists` of [`RawIndex`], and a *view* of
//! a list that consists of
//!
//! ```text
//! distance_sq = |q - c|^2 (squared over each segment: segment_sq), or norm_sq of the query without lists
//! constant    = distance_sq - |c|^2                                       for L2 and cosine
//!             = query.constant - (query.norm_sq + |c|^2 - distance_sq) / 2     for inner products
//!             = query.constant                                            without lists
//! ```
//!
//! the keys of vectors, and the bounds of keys from the first stage, are what [`SaqQuery`],
//! [`AdditiveQuery`] and [`FloatQuery`] say. A bound takes of a list what [`RawProbe`] has.

use super::Index;
use super::config::SearchParams;
use super::format::Parts;
use super::scan::glance;
use super::search::Searcher;
use crate::error::SearchError;
use crate::metric::Metric;
use crate::quantizer::codec::Codec;
use crate::quantizer::float;
use crate::topk::Neighbor;

pub use crate::quantizer::codec::RawTables;
pub use crate::quantizer::saq::{Line, SaqQuery};
pub use crate::quantizer::{additive::AdditiveQuery, float::FloatQuery};

/// Vectors of a block.
pub const BLOCK: usize = nonius_simd::BLOCK;

/// An index, open for reading. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct RawIndex<'a> {
    parts: &'a Parts,
}

/// A list: its vectors' positions follow each other, as do its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawList {
    /// The position of its first vector.
    pub first: usize,
    /// Its vectors.
    pub vectors: usize,
    /// The number of its first block.
    pub block: usize,
    /// Copies of vectors of other lists, which follow its own in the last blocks.
    pub copies: usize,
}

/// A rotated centroid relative to the mean: `unit * values`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawCentroid<'a> {
    /// `dims` values.
    pub values: &'a [i16],
    /// What a unit of them is worth.
    pub unit: f32,
    /// The squared norm.
    pub norm_sq: f32,
}

/// What kind of codes an index has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RawCodes {
    /// Integers for the dimensions of segments: `saq` and `rabitq`.
    Saq {
        /// In the order of dimensions.
        segments: Vec<RawSegment>,
        /// The first stage in pieces: how many groups of 4 bits, and the segment.
        pieces: Vec<(usize, usize)>,
        /// How much of what near vectors share in dropped dimensions is added; 0 for nothing.
        correction: f32,
    },
    /// Numbers of centroids: `pq`, `opq`, `rvq`, `prq`.
    Additive {
        /// Numbers of a vector.
        columns: usize,
        /// Bits of a number.
        bits: u32,
        /// What sums of looked-up inner products are multiplied by.
        weight: f32,
    },
    /// The values themselves.
    Float(RawFloat),
    /// Another kind.
    Other,
}

/// How floats are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawFloat {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// As `f32`: two numbers a value, the lower 16 bits first.
    F32,
}

/// A segment of SAQ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawSegment {
    /// The first dimension.
    pub start: usize,
    /// The number of dimensions, a multiple of 8.
    pub dims: usize,
    /// Bits of a dimension; 0 where it is dropped and the scale is the norm there.
    pub bits: u32,
    /// The top bits that the first stage reads: 0, 1 or 2.
    pub scan_bits: u32,
    /// The first group of 4 bits in the first stage, and how many there are.
    pub groups: (usize, usize),
    /// The levels that the first stage's bits stand for: of two bits `-outer, -inner, inner, outer`, of one
    /// `-inner, inner`; here `[inner, outer]`.
    pub levels: [f32; 2],
    /// What scales are multiplied by.
    pub unit: f32,
    /// The squared norm of a usual residual of scale 1.
    pub energy: f32,
    /// A scale's code stands for the float of the bits `(code << shift) + base`, and 0 for 0.
    pub scale_shift: u32,
    /// See [`scale_shift`](RawSegment::scale_shift).
    pub scale_base: u32,
}

/// A vector, taken apart. Buffers are kept from vector to vector.
#[derive(Clone, Debug, Default)]
pub struct RawVector {
    /// SAQ: the code of each dimension. Others: the numbers of centroids, or the bits of values.
    pub numbers: Vec<u16>,
    /// SAQ: the first stage, 4 bits each. Empty for others.
    pub groups: Vec<u8>,
    /// SAQ: the code of each segment's scale. Empty for others.
    pub scales: Vec<u16>,
    /// What the vector adds to its keys.
    pub additive: f32,
    /// SAQ: what the vector adds to its bounds beside that; may be negative infinity.
    pub shift: f32,
    record: Vec<u8>,
}

/// A list that a query searches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawProbe {
    /// The list.
    pub list: u32,
    /// What all bounds of the list share.
    pub constant: f32,
    /// The squared distance of query and centroid, about.
    pub distance_sq: f32,
}

/// A query, ready to be compared.
#[derive(Clone, Copy)]
pub struct RawQuery<'a> {
    parts: &'a Parts,
    walk: &'a super::scan::Walk,
}

impl Index {
    /// What the index holds, for other ways to scan: see [`raw`](crate::raw).
    pub fn raw(&self) -> RawIndex<'_> {
        RawIndex { parts: self.parts() }
    }
}

impl<'a> RawIndex<'a> {
    /// Dimensions after rotation: a multiple of 8.
    pub fn dims(&self) -> usize {
        self.parts.frame().dims
    }

    /// The factor of inner products in keys: 2 for L2 and cosine, 1 for inner products.
    pub fn alpha(&self) -> f32 {
        self.parts.frame().alpha()
    }

    /// True where keys are squared distances, of unit vectors for cosine.
    pub fn is_distance(&self) -> bool {
        self.parts.frame().metric != Metric::InnerProduct
    }

    /// True where vectors are relative to centroids, false where there is one list around the mean.
    pub fn lists(&self) -> bool {
        self.parts.frame().lists
    }

    /// A list.
    ///
    /// # Panics
    /// If there is no list of this number.
    pub fn list(&self, list: usize) -> RawList {
        let [start, end] = self.parts.list_range(list);
        RawList {
            first: start.vector as usize,
            vectors: (end.vector - start.vector) as usize,
            block: start.block as usize,
            copies: (end.copy - start.copy) as usize,
        }
    }

    /// Whether the codes and ids of a list are what was written, and the file of a mapped index still has its length.
    /// As in a search the first is compared where the index was opened so.
    ///
    /// # Errors
    /// [`SearchError::Damaged`], [`SearchError::Shortened`].
    ///
    /// # Panics
    /// If there is no list of this number.
    pub fn check(&self, list: usize) -> Result<(), SearchError> {
        self.parts.container.check_length()?;
        match self.parts.list_is_whole(list) {
            true => Ok(()),
            false => Err(SearchError::Damaged { list, what: "codes" }),
        }
    }

    /// How many vectors are kept whole because of what their codes miss. Searches compare these exactly, and
    /// leave out their codes.
    pub fn outliers(&self) -> usize {
        self.parts.outlier_count()
    }

    /// The centroid of a list, where there are [`lists`](RawIndex::lists).
    ///
    /// # Panics
    /// If there is no list of this number.
    pub fn centroid(&self, list: usize) -> Option<RawCentroid<'a>> {
        self.parts.centroid(list).map(|c| RawCentroid {
            values: c.values,
            unit: c.unit,
            norm_sq: c.norm_sq,
        })
    }

    /// The id of the vector at a position.
    ///
    /// # Panics
    /// If there is no such position.
    pub fn id(&self, position: usize) -> u64 {
        self.parts.id(position)
    }

    /// What kind of codes there are.
    pub fn codes(&self) -> RawCodes {
        match &self.parts.codec {
            Codec::Saq { model, layout } => RawCodes::Saq {
                segments: model.raw_segments(layout),
                pieces: layout
                    .pieces
                    .iter()
                    .map(|piece| piece.groups)
                    .zip(layout.piece_segments.iter().copied())
                    .collect(),
                correction: model.correction,
            },
            Codec::Additive { model, .. } => RawCodes::Additive {
                columns: model.columns(),
                bits: model.bits,
                weight: model.weight,
            },
            Codec::Float { model, .. } => RawCodes::Float(match model.format {
                float::Format::F16 => RawFloat::F16,
                float::Format::Bf16 => RawFloat::Bf16,
                float::Format::F32 => RawFloat::F32,
            }),
            Codec::Scalar { .. } => RawCodes::Other,
        }
    }

    /// Takes the vector at a position apart, which lies in lane `lane` of a block; a vector of
    /// [`RawCodes::Other`] has nothing.
    ///
    /// # Panics
    /// If there is no such block, lane or position.
    pub fn vector(&self, block: usize, lane: usize, position: usize, out: &mut RawVector) {
        assert!(lane < BLOCK, "lane {lane} of {BLOCK}");
        let parts = self.parts;
        let bytes = parts.layout.block_bytes();
        let block = &parts.scan[block * bytes..(block + 1) * bytes];
        out.numbers.clear();
        out.groups.clear();
        out.scales.clear();
        (out.additive, out.shift) = (0.0, 0.0);
        match &parts.codec {
            Codec::Saq { model, layout } => {
                let rest_bytes = layout.rest_bytes;
                let rest = &parts.rest[position * rest_bytes..(position + 1) * rest_bytes];
                model.raw_vector(layout, block, lane, rest, &mut out.record);
                out.numbers.resize(layout.dims, 0);
                layout.unpack_codes(&out.record, &mut out.numbers);
                let groups = &out.record[..layout.group_bytes()];
                out.groups.extend(groups.iter().flat_map(|byte| [byte & 15, byte >> 4]));
                out.groups.truncate(layout.groups);
                let segments = layout.segments.iter();
                out.scales.extend(segments.map(|s| s.read_scale_code(layout, &out.record)));
                let factors = &out.record[layout.group_bytes()..];
                out.additive = model.frame.additive.read(factors);
                if layout.shift_bytes == 1 {
                    out.shift = model.decode_shift(factors[layout.additive_bytes]);
                }
            }
            Codec::Additive { model, .. } => {
                let layout = model.layout();
                out.numbers.extend(layout.numbers(block, lane));
                let factors = &block[layout.code_bytes() * BLOCK..];
                out.additive = model.frame.additive.read(&factors[lane * layout.additive_bytes..]);
            }
            Codec::Float { model, .. } => out.numbers.extend(model.layout().numbers(block, lane)),
            Codec::Scalar { .. } => {}
        }
    }

    /// A searcher that prepares queries and leaves the scan to the caller.
    pub fn searcher(&self) -> RawSearcher<'a> {
        RawSearcher { searcher: Searcher::new(self.parts) }
    }
}

/// Prepares queries, and turns what was found for them into neighbours. Holds buffers: one a thread.
#[derive(Debug)]
pub struct RawSearcher<'a> {
    searcher: Searcher<'a>,
}

impl RawSearcher<'_> {
    /// Checks and prepares queries (`rows x dim`), and shows each to `each` with its number, in their order.
    ///
    /// # Errors
    /// [`SearchError`], as for a search.
    ///
    /// # Panics
    /// If the values are no whole number of rows of the index's dimension.
    pub fn prepare(
        &mut self,
        queries: &[f32],
        k: usize,
        params: &SearchParams,
        mut each: impl FnMut(usize, RawQuery<'_>),
    ) -> Result<(), SearchError> {
        let parts = self.searcher.parts;
        let dim = parts.frame().dim;
        assert!(queries.len().is_multiple_of(dim), "{} values of rows of {dim}", queries.len());
        self.searcher.set_out_each(queries, k, params, |number, walk| {
            each(number, RawQuery { parts, walk });
        })
    }

    /// Turns what was found for a query (`dim` values), keys and positions, into the `k` best
    /// neighbours, best first; with [`rerank`](SearchParams::rerank) by exact comparison.
    ///
    /// # Errors
    /// [`SearchError`].
    ///
    /// # Panics
    /// If the query has another dimension, or there is no such position.
    pub fn finish(
        &mut self,
        query: &[f32],
        found: impl IntoIterator<Item = (f32, usize)>,
        k: usize,
        params: &SearchParams,
    ) -> Result<&[Neighbor], SearchError> {
        assert_eq!(query.len(), self.searcher.parts.frame().dim, "values of a query");
        self.searcher.finish(query, found, k, params)
    }

    /// How many results a search has to find for [`finish`](RawSearcher::finish).
    pub fn held(&self, k: usize, params: &SearchParams) -> usize {
        super::search::held(k, params).min(self.searcher.parts.count)
    }
}

impl<'a> RawQuery<'a> {
    /// The lists to search: the first few by rank, nearest first, then the others by number.
    pub fn probes(&self) -> impl ExactSizeIterator<Item = RawProbe> + 'a {
        let (parts, walk) = (self.parts, self.walk);
        walk.route.probes().iter().map(move |&probe| {
            let glance = glance(parts, &walk.query, probe);
            RawProbe {
                list: probe.list,
                constant: glance.constant,
                distance_sq: glance.distance_sq,
            }
        })
    }

    /// The rotated query relative to the mean: `dims` values.
    pub fn values(&self) -> &'a [f32] {
        &self.walk.query.rotated.values
    }

    /// What all keys share.
    pub fn constant(&self) -> f32 {
        self.walk.query.rotated.constant
    }

    /// The squared norm of [`values`](RawQuery::values), and of each segment of it.
    pub fn norm_sq(&self) -> (f32, &'a [f32]) {
        (self.walk.query.rotated.norm_sq, &self.walk.query.rotated.segment_sq)
    }

    /// The tables that vectors are compared by.
    pub fn tables(&self) -> RawTables<'a> {
        self.parts.codec.raw_tables(&self.walk.query)
    }
}

impl std::fmt::Debug for RawQuery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawQuery").field("lists", &self.walk.route.probes().len()).finish()
    }
}
