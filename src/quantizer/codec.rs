//! One face for all quantizers: what an index calls, and which quantizer it comes to.
//!
//! A kind of codes is a variant of each enum here; everything else of it is in its own folder.

use nonius_simd::{BLOCK, ListConstants};

use super::additive;
use super::float;
use super::frame::{Frame, ListCentroids, Lists, Options, Rotation, TrainingSet};
use super::saq::{self, Segment};
use super::scalar;
use super::view::{self, Centroid, Glance, RotatedQuery, View};
use super::{Family, QuantizerSpec, Uses};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::accelerator::{Accelerator, LoadedEncoder};
use crate::error::{BuildError, ConfigError};
use crate::storage::Section;

/// Blocks that the first stage reads at a time.
pub(crate) const SCAN_BLOCKS: usize = saq::SCAN_BLOCKS;

/// A trained quantizer, ready to encode.
#[derive(Clone, Debug)]
pub(crate) enum Encoder {
    Saq(Box<saq::Encoder>, saq::Layout),
    Additive(additive::Encoder),
    Scalar(Box<scalar::Encoder>, scalar::Layout),
    Float(float::Encoder),
}

/// Buffers for encoding, one set a thread.
#[derive(Default)]
pub(crate) struct EncodeScratch {
    saq: saq::EncodeScratch,
    additive: additive::EncodeScratch,
    scalar: scalar::EncodeScratch,
    device: saq::DeviceScratch,
    scaled: Vec<f32>,
}

/// An encoder on a device.
pub(crate) struct OnDevice<'d> {
    loaded: Box<dyn LoadedEncoder + 'd>,
    trusted: AtomicBool,
    rows: AtomicU64,
}

impl OnDevice<'_> {
    /// Rows that the device has encoded.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Rows to encode at a time.
    pub(crate) fn most_rows(&self) -> usize {
        self.loaded.most_rows().max(1)
    }
}

/// The sample rows that a mean and the constants of estimates are found from; more are as good as none.
const ROWS_WITHOUT_CODEBOOK: usize = 1 << 14;

/// The same of a single segment.
const ROWS_OF_ONE_SEGMENT: usize = 1 << 13;

/// The sample rows that ranges are fitted to, and the constants of their estimates.
const ROWS_OF_RANGES: usize = 1 << 12;

/// The sample rows that training a quantizer looks at, of as many as there are; `flat`: for vectors without
/// lists.
pub(crate) fn training_rows(spec: &QuantizerSpec, flat: bool) -> usize {
    match spec.family() {
        // Lists are trained on the same sample, and take longer than the codes' quantizer does.
        _ if !flat => usize::MAX,
        Family::Additive => additive::training_rows(spec),
        Family::Scalar => ROWS_OF_RANGES,
        Family::Float => ROWS_WITHOUT_CODEBOOK,
        // All others have a plan, which needs principal components.
        Family::Saq if matches!(spec, QuantizerSpec::OneSegment { .. }) => ROWS_OF_ONE_SEGMENT,
        Family::Saq => usize::MAX,
    }
}

/// Trains a quantizer; `progress` is told how much is done of how much, and may end it.
pub(crate) fn train(
    set: &TrainingSet<'_>,
    spec: &QuantizerSpec,
    options: &Options,
    progress: &mut dyn FnMut(usize, usize) -> Result<(), BuildError>,
) -> Result<Encoder, BuildError> {
    let dim = set.sample.dim();
    if dim > spec.max_dim() {
        let message = format!("{spec} takes up to {} dimensions, found {dim}", spec.max_dim());
        return Err(ConfigError::new("quantizer", message).into());
    }
    if set.weights.is_some() && spec.family() != Family::Additive {
        let message = format!("weights are for pq, opq, rvq and prq, found {spec}");
        return Err(ConfigError::new("weights", message).into());
    }
    progress(0, 1)?;
    Ok(match spec.family() {
        Family::Saq => {
            let encoder = saq::train(set, spec, options.encoding, options.seed)?;
            let layout = encoder.model.layout();
            Encoder::Saq(Box::new(encoder), layout)
        }
        Family::Additive => Encoder::Additive(additive::train(set, spec, options, progress)?),
        Family::Scalar => {
            let encoder = scalar::train(set, spec, options.seed)?;
            let layout = encoder.model.layout();
            Encoder::Scalar(Box::new(encoder), layout)
        }
        Family::Float => Encoder::Float(float::train(set, spec)),
    })
}

impl Encoder {
    /// What codes mean, whatever the quantizer.
    pub(crate) fn frame(&self) -> &Frame {
        match self {
            Encoder::Saq(saq, _) => &saq.model.frame,
            Encoder::Additive(additive) => &additive.model.frame,
            Encoder::Scalar(scalar, _) => &scalar.model.frame,
            Encoder::Float(float) => &float.model.frame,
        }
    }

    /// The mean that is subtracted from every vector: `dim` values.
    pub(crate) fn mean(&self) -> &[f32] {
        match self {
            Encoder::Saq(saq, _) => &saq.mean,
            Encoder::Additive(additive) => &additive.mean,
            Encoder::Scalar(scalar, _) => &scalar.mean,
            Encoder::Float(float) => &float.mean,
        }
    }

    /// The rotation of residuals.
    pub(crate) fn rotation(&self) -> &Rotation {
        match self {
            Encoder::Saq(saq, _) => &saq.rotation,
            Encoder::Additive(additive) => &additive.rotation,
            Encoder::Scalar(scalar, _) => &scalar.rotation,
            Encoder::Float(float) => &float.rotation,
        }
    }

    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        match self {
            Encoder::Saq(_, layout) => Layout::Saq(layout.clone()),
            Encoder::Additive(additive) => Layout::Additive(additive.model.layout()),
            Encoder::Scalar(_, layout) => Layout::Scalar(layout.clone()),
            Encoder::Float(float) => Layout::Float(float.model.layout()),
        }
    }

    /// The plan; empty for quantizers that have none.
    pub(crate) fn plan(&self) -> &[Segment] {
        match self {
            Encoder::Saq(saq, _) => &saq.model.plan,
            _ => &[],
        }
    }

    /// A count of how often records name each centroid, of quantizers that have codebooks.
    pub(crate) fn uses(&self) -> Uses {
        self.layout().uses()
    }

    /// Loads this encoder to a device; none where the processor encodes. `centroids` are those of the lists.
    pub(crate) fn load<'d>(
        &self,
        device: Option<&'d dyn Accelerator>,
        centroids: Option<&ListCentroids>,
    ) -> Result<Option<OnDevice<'d>>, BuildError> {
        let (Encoder::Saq(saq, layout), Some(device)) = (self, device) else { return Ok(None) };
        let loaded = saq.load(device, layout, centroids).map_err(BuildError::Device)?;
        let (trusted, rows) = (AtomicBool::new(true), AtomicU64::new(0));
        Ok(loaded.map(|loaded| OnDevice { loaded, trusted, rows }))
    }

    /// [`encode_rows`](Encoder::encode_rows) by a device that has loaded this encoder, if there is one.
    pub(crate) fn encode_by(
        &self,
        device: Option<&OnDevice<'_>>,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        scratch: &mut EncodeScratch,
        records: &mut [u8],
    ) -> Result<(), BuildError> {
        if let (Encoder::Saq(saq, layout), Some(device)) = (self, device)
            && device.trusted.load(Ordering::Relaxed)
        {
            let (loaded, trusted) = (&*device.loaded, &device.trusted);
            let scratch = &mut scratch.device;
            let rows = saq
                .encode_by(loaded, trusted, layout, rows, lists, scratch, records)
                .map_err(BuildError::Device)?;
            device.rows.fetch_add(rows as u64, Ordering::Relaxed);
            return Ok(());
        }
        self.encode_rows(rows, lists, scratch, records);
        Ok(())
    }

    /// Encodes rows of `dim` values (finite; of unit norm for cosine) into records.
    ///
    /// `lists` gives each row's list; without it rows are relative to the mean.
    pub(crate) fn encode_rows(
        &self,
        rows: &[f32],
        lists: Option<&Lists<'_>>,
        scratch: &mut EncodeScratch,
        records: &mut [u8],
    ) {
        match self {
            Encoder::Saq(saq, layout) => {
                saq.encode_rows(layout, rows, lists, &mut scratch.saq, records);
            }
            Encoder::Additive(additive) => {
                additive.encode_rows(rows, lists, &mut scratch.additive, records)
            }
            Encoder::Scalar(scalar, layout) => {
                scalar.encode_rows(layout, rows, lists, &mut scratch.scalar, records)
            }
            Encoder::Float(float) => float.encode_rows(rows, &mut scratch.scaled, records),
        }
    }
}

/// Where the bytes of a vector lie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    Saq(saq::Layout),
    Additive(additive::Layout),
    Scalar(scalar::Layout),
    Float(float::Layout),
}

impl Layout {
    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(&self) -> usize {
        match self {
            Layout::Saq(layout) => layout.record_bytes(),
            Layout::Additive(layout) => layout.record_bytes(),
            Layout::Scalar(layout) => layout.record_bytes(),
            Layout::Float(layout) => layout.record_bytes(),
        }
    }

    /// Bytes of the part of a record that goes to a block: where the rest starts.
    pub(crate) fn head_bytes(&self) -> usize {
        self.record_bytes() - self.rest_bytes()
    }

    /// Bytes of the rest of a record.
    #[inline]
    pub(crate) fn rest_bytes(&self) -> usize {
        match self {
            Layout::Saq(layout) => layout.rest_bytes,
            Layout::Scalar(layout) => layout.rest_bytes,
            Layout::Additive(_) | Layout::Float(_) => 0,
        }
    }

    /// Bytes of a block of 32 vectors.
    #[inline]
    pub(crate) fn block_bytes(&self) -> usize {
        match self {
            Layout::Saq(layout) => layout.block_bytes(),
            Layout::Additive(layout) => layout.block_bytes(),
            Layout::Scalar(layout) => layout.block_bytes(),
            Layout::Float(layout) => layout.block_bytes(),
        }
    }

    /// Bits of a vector that the first stage reads, without factors.
    pub(crate) fn first_stage_bits(&self) -> usize {
        match self {
            Layout::Saq(layout) => 4 * layout.groups,
            Layout::Additive(layout) => layout.bits as usize * layout.columns,
            Layout::Scalar(layout) => scalar::SCAN_BITS as usize * layout.dims,
            Layout::Float(layout) => 8 * layout.record_bytes(),
        }
    }

    /// Bytes of a query's table for the first stage.
    pub(crate) fn table_bytes(&self) -> usize {
        match self {
            Layout::Saq(layout) => 16 * layout.groups,
            Layout::Additive(layout) => layout.centroids() * layout.columns,
            Layout::Scalar(layout) => 16 * layout.dims,
            Layout::Float(layout) => 4 * layout.dims,
        }
    }

    /// A count of how often records name each centroid, of quantizers that have codebooks.
    pub(crate) fn uses(&self) -> Uses {
        match self {
            Layout::Additive(layout) => Uses::new(Some(*layout)),
            _ => Uses::new(None),
        }
    }

    /// The number of codebooks; 0 for quantizers that have none.
    pub(crate) fn codebooks(&self) -> usize {
        match self {
            Layout::Additive(layout) => layout.columns,
            _ => 0,
        }
    }

    /// The numbers of the code of vector `v` of a block; `rest` is its row of the rest.
    pub(crate) fn numbers(&self, block: &[u8], v: usize, rest: &[u8]) -> Vec<u16> {
        match self {
            Layout::Saq(layout) => layout.numbers(block, v, rest),
            Layout::Additive(layout) => layout.numbers(block, v).collect(),
            Layout::Scalar(layout) => layout.numbers(block, v, rest),
            Layout::Float(layout) => layout.numbers(block, v).collect(),
        }
    }

    /// Interleaves the heads of up to 32 records, `stride` bytes apart, into a block. Missing
    /// vectors are zero.
    pub(crate) fn pack_block(&self, records: &[u8], stride: usize, block: &mut [u8]) {
        match self {
            Layout::Saq(layout) => layout.pack_block(records, stride, block),
            Layout::Additive(layout) => layout.pack_block(records, stride, block),
            Layout::Scalar(layout) => layout.pack_block(records, stride, block),
            Layout::Float(layout) => layout.pack_block(records, stride, block),
        }
    }
}

/// What the codes of an index mean.
#[derive(Clone, Debug)]
pub(crate) enum Codec {
    Saq {
        model: Box<saq::Model>,
        layout: saq::Layout,
    },
    Additive {
        model: additive::Model,
        /// The centroids of each part, packed.
        codebooks: Section<i16>,
        /// What each row is multiplied by.
        inverse: Section<f32>,
        /// What each row adds to a query's product with it; empty where vectors have factors.
        offsets: Section<f32>,
    },
    Scalar {
        model: Box<scalar::Model>,
        layout: scalar::Layout,
        /// Of each dimension; empty where each vector has its own.
        ranges: Section<scalar::Range>,
    },
    Float {
        model: float::Model,
        mean: Section<f32>,
    },
}

/// A [`Codec`] as its quantizer's own functions take it.
enum Codes<'a> {
    Saq(saq::QueryModel<'a>),
    Additive(additive::QueryModel<'a>),
    Scalar(scalar::QueryModel<'a>),
    Float(float::QueryModel<'a>),
}

impl Codes<'_> {
    /// [`Codec::scan`] and [`Codec::scan_mixed`], by what `constants` are.
    #[inline(always)]
    fn scan(
        self,
        query: &Query,
        list: Glance,
        own: usize,
        constants: ListConstants<'_>,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        saq: &mut saq::ScanScratch,
        others: &mut view::ScanScratch,
        found: impl FnMut(usize, f32),
    ) {
        match self {
            Codes::Saq(codes) => {
                let tables = &query.saq;
                codes.scan(tables, list, own, constants, blocks, count, threshold, saq, found);
            }
            Codes::Additive(codes) => {
                codes.scan(&query.additive, constants, blocks, count, threshold, others, found);
            }
            Codes::Scalar(codes) => {
                codes.scan(&query.scalar, constants, blocks, count, threshold, others, found);
            }
            Codes::Float(codes) => {
                codes.scan(&query.float, constants, blocks, count, threshold, others, found);
            }
        }
    }
}

/// What several rotated queries have been looked up together for.
#[derive(Default)]
pub(crate) struct Loaded {
    additive: additive::Loaded,
}

/// A query and its tables. They serve all lists; buffers are reused from query to query.
#[derive(Default)]
pub(crate) struct Query {
    pub(crate) rotated: RotatedQuery,
    saq: saq::Tables,
    additive: additive::Tables,
    scalar: scalar::Tables,
    float: float::Tables,
}

/// The tables of a query, by the kind of codes: see [`raw`](crate::raw).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RawTables<'a> {
    /// For SAQ.
    Saq(saq::SaqQuery<'a>),
    /// For numbers of centroids.
    Additive(additive::AdditiveQuery<'a>),
    /// For floats.
    Float(float::FloatQuery<'a>),
    /// For another kind of codes.
    Other,
}

/// Buffers for scanning.
#[derive(Default)]
pub(crate) struct ScanScratch {
    constants: Vec<[f32; BLOCK]>,
    saq: saq::ScanScratch,
    others: view::ScanScratch,
    refine: saq::RefineScratch,
    refine_scalar: scalar::RefineScratch,
}

impl Codec {
    /// What the codes of an encoder mean.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn of(encoder: &Encoder) -> io::Result<Codec> {
        Ok(match encoder {
            Encoder::Saq(saq, layout) => {
                Codec::Saq { model: Box::new(saq.model.clone()), layout: layout.clone() }
            }
            Encoder::Additive(additive) => Codec::Additive {
                model: additive.model.clone(),
                codebooks: Section::copied(&additive.codebooks.packed())?,
                inverse: Section::copied(&additive.codebooks.inverse())?,
                offsets: Section::copied(&additive.offsets())?,
            },
            Encoder::Scalar(scalar, layout) => Codec::Scalar {
                model: Box::new(scalar.model.clone()),
                layout: layout.clone(),
                ranges: Section::copied(&scalar.ranges)?,
            },
            Encoder::Float(float) => {
                Codec::Float { model: float.model.clone(), mean: Section::copied(&float.mean)? }
            }
        })
    }

    /// True where queries are compared as they are, not rounded to integers.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Codec::Float { model, .. } if model.format == float::Format::F32)
    }

    /// How many codes of increasing accuracy a code consists of, at least 1.
    pub(crate) fn levels(&self) -> usize {
        match self {
            Codec::Additive { model, .. } => {
                model.parts.iter().map(|part| part.levels).max().unwrap_or(1)
            }
            Codec::Scalar { layout, .. } if layout.grid.second > 0 => 2,
            _ => 1,
        }
    }

    /// What the code of vector `v` of a block stands for, rotated and relative to its list, from no more
    /// than the first `levels` levels, at least 1; `rest` is its row of the rest.
    pub(crate) fn point(&self, block: &[u8], v: usize, rest: &[u8], levels: usize) -> Vec<f32> {
        match self.codes() {
            Codes::Saq(codes) => codes.point(block, v, rest, saq::MAX_BITS),
            Codes::Additive(codes) => codes.point(block, v, levels),
            Codes::Scalar(codes) => codes.point(block, v, rest, levels),
            Codes::Float(codes) => codes.point(block, v),
        }
    }

    /// What codes mean, whatever the quantizer.
    #[inline]
    pub(crate) fn frame(&self) -> &Frame {
        match self {
            Codec::Saq { model, .. } => &model.frame,
            Codec::Additive { model, .. } => &model.frame,
            Codec::Scalar { model, .. } => &model.frame,
            Codec::Float { model, .. } => &model.frame,
        }
    }

    #[inline(always)]
    fn codes(&self) -> Codes<'_> {
        match self {
            Codec::Saq { model, layout } => Codes::Saq(saq::QueryModel { model, layout }),
            Codec::Additive { model, codebooks, inverse, offsets } => {
                Codes::Additive(additive::QueryModel { model, codebooks, inverse, offsets })
            }
            Codec::Scalar { model, layout, ranges } => {
                Codes::Scalar(scalar::QueryModel { model, layout, ranges })
            }
            Codec::Float { model, mean } => Codes::Float(float::QueryModel { model, mean }),
        }
    }

    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        match self {
            Codec::Saq { layout, .. } => Layout::Saq(layout.clone()),
            Codec::Additive { model, .. } => Layout::Additive(model.layout()),
            Codec::Scalar { layout, .. } => Layout::Scalar(layout.clone()),
            Codec::Float { model, .. } => Layout::Float(model.layout()),
        }
    }

    /// The plan; empty for quantizers that have none.
    pub(crate) fn plan(&self) -> &[Segment] {
        match self {
            Codec::Saq { model, .. } => &model.plan,
            _ => &[],
        }
    }

    /// The dimensions of the segments over which views of a query are taken apart.
    fn lengths(&self) -> &[usize] {
        match self {
            Codec::Saq { layout, .. } => &layout.lengths,
            _ => std::slice::from_ref(&self.frame().dims),
        }
    }

    /// How many centroids each query is multiplied with by [`load`](Codec::load).
    pub(crate) fn centroids(&self) -> usize {
        match self {
            Codec::Additive { inverse, .. } => inverse.len(),
            _ => 0,
        }
    }

    /// Looks at rotated queries (`rows x dims`) together; [`prepare`](Codec::prepare) takes one.
    pub(crate) fn load(&self, queries: &[f32], loaded: &mut Loaded) {
        if let Codes::Additive(codes) = self.codes() {
            codes.load(queries, &mut loaded.additive);
        }
    }

    /// Prepares the tables of loaded query `row` of `queries`. `mean_dot` is the inner product of the
    /// query with the mean, which only the inner-product metric needs. `confidence` is how many
    /// deviations of their errors first-stage bounds allow for.
    pub(crate) fn prepare(
        &self,
        queries: &[f32],
        loaded: &Loaded,
        row: usize,
        query: &mut Query,
        mean_dot: f32,
        confidence: f32,
    ) {
        let dims = self.frame().dims;
        query.rotated.values.clear();
        query.rotated.values.extend_from_slice(&queries[row * dims..(row + 1) * dims]);
        query.rotated.prepare(self.frame().metric, self.lengths(), mean_dot);
        match self.codes() {
            Codes::Saq(codes) => {
                codes.prepare(&query.rotated.values, confidence, &mut query.saq);
            }
            Codes::Additive(codes) => {
                codes.prepare(&loaded.additive, row, &mut query.additive);
            }
            Codes::Scalar(codes) => {
                codes.prepare(&query.rotated.values, confidence, &mut query.scalar);
            }
            Codes::Float(codes) => codes.prepare(&query.rotated, &mut query.float),
        }
    }

    /// A prepared query's tables.
    pub(crate) fn raw_tables<'a>(&self, query: &'a Query) -> RawTables<'a> {
        match self.codes() {
            Codes::Saq(_) => RawTables::Saq(query.saq.raw()),
            Codes::Additive(codes) => RawTables::Additive(codes.raw(&query.additive)),
            Codes::Scalar(_) => RawTables::Other,
            Codes::Float(_) => RawTables::Float(query.float.raw()),
        }
    }

    /// Looks at the query from a list; there is no centroid where there is a single list around the
    /// mean. `buffer` is overwritten.
    pub(crate) fn enter_list(
        &self,
        query: &Query,
        centroid: Option<Centroid<'_>>,
        buffer: &mut Vec<f32>,
        view: &mut View,
    ) {
        view.set(self.frame().metric, self.lengths(), &query.rotated, centroid, buffer);
    }

    /// Takes the lists of all vectors that copies are of to be at a squared distance.
    pub(crate) fn set_copies(&self, distance_sq: f32, query: &mut Query) {
        if let Codes::Saq(codes) = self.codes() {
            codes.set_copies(distance_sq, &mut query.saq);
        }
    }

    /// Scans the first stage of blocks of one list, up to [`SCAN_BLOCKS`] of them, and calls `found`
    /// with the number within `blocks` and the lower bound of each vector among the first `count`
    /// whose bound does not exceed `threshold`.
    pub(crate) fn scan(
        &self,
        query: &Query,
        list: Glance,
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        found: impl FnMut(usize, f32),
    ) {
        let ScanScratch { saq, others, .. } = scratch;
        let constants = ListConstants::One(list.constant);
        self.codes()
            .scan(query, list, count, constants, blocks, count, threshold, saq, others, found);
    }

    /// [`scan`](Codec::scan) of a list that also holds copies: of the first `count` vectors, those
    /// from number `own` on are copies, and `fill` writes for each of them what all keys of its
    /// vector's list share, or no number for one to leave out. [`set_copies`] comes first, once a
    /// query.
    ///
    /// [`set_copies`]: Codec::set_copies
    pub(crate) fn scan_mixed(
        &self,
        query: &Query,
        list: Glance,
        own: usize,
        fill: impl FnOnce(&mut [f32]),
        blocks: &[u8],
        count: usize,
        threshold: f32,
        scratch: &mut ScanScratch,
        found: impl FnMut(usize, f32),
    ) {
        let ScanScratch { constants, saq, others, .. } = scratch;
        constants.resize(count.div_ceil(BLOCK), [0.0; BLOCK]);
        let lanes = constants.as_flattened_mut();
        let (of_list, of_copies) = lanes[..count].split_at_mut(own.min(count));
        of_list.fill(list.constant);
        fill(of_copies);
        let constants = ListConstants::Each(constants);
        self.codes()
            .scan(query, list, own, constants, blocks, count, threshold, saq, others, found);
    }

    /// The key of vector `v` of a block, from all its bits; `rest` is its row of the rest.
    #[inline]
    pub(crate) fn refine(
        &self,
        query: &Query,
        view: &View,
        block: &[u8],
        v: usize,
        rest: &[u8],
        scratch: &mut ScanScratch,
    ) -> f32 {
        match self.codes() {
            Codes::Saq(codes) => {
                codes.refine(&query.saq, view, block, v, rest, &mut scratch.refine)
            }
            Codes::Additive(codes) => codes.key(&query.additive, view.constant, block, v),
            Codes::Scalar(codes) => {
                let scratch = &mut scratch.refine_scalar;
                codes.key(&query.scalar, view.constant, block, v, rest, scratch)
            }
            Codes::Float(codes) => codes.key(&query.float, block, v),
        }
    }
}
