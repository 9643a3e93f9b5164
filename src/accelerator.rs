//! What a device other than the processor may be asked to do for a build.
//!
//! Whatever it answers, an index is the same, byte for byte, with and without it: where answers are too close to tell, or
//! may be rounded otherwise, the processor decides.

use crate::error::DeviceError;

/// What is faster than the processor at comparing many rows with many centroids, and perhaps at encoding: a GPU, say.
///
/// Builds use it where they are given one ([`IndexBuilder::accelerator`](crate::IndexBuilder::accelerator)).
pub trait Accelerator: Sync {
    /// Loads centroids (`nlist x dim`) and their squared norms, for k-means and to find the list of each vector. There is
    /// at least one; all values are finite.
    ///
    /// # Errors
    /// Whatever keeps the device from it; the build ends with it, as [`BuildError::Device`](crate::BuildError::Device).
    fn load<'a>(
        &'a self,
        dim: usize,
        centroids: &[f32],
        norms_sq: &[f32],
    ) -> Result<Box<dyn LoadedCentroids + 'a>, DeviceError>;

    /// Loads an encoder of SAQ; none, as here, where the device does not encode or does not round as `f32` is to be
    /// rounded. Then the processor encodes.
    ///
    /// # Errors
    /// As [`load`](Accelerator::load).
    fn load_encoder<'a>(
        &'a self,
        encoder: &DeviceEncoder<'_>,
    ) -> Result<Option<Box<dyn LoadedEncoder + 'a>>, DeviceError> {
        let _ = encoder;
        Ok(None)
    }
}

/// Centroids on a device.
pub trait LoadedCentroids: Sync {
    /// Finds for each row of `rows` (`n x dim`) the centroid `c` of the least score `|c|^2 - 2 <x, c>`, and writes
    /// all `n` answers. Products may be summed in any order, in `f32`. Rows may have values that are not finite; what
    /// is answered for these does not matter.
    ///
    /// # Errors
    /// As [`Accelerator::load`].
    fn closest(&self, rows: &[f32], found: &mut [Closest]) -> Result<(), DeviceError>;
}

/// The nearest centroid of a row, as a device found it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Closest {
    /// The number of the centroid.
    pub number: u32,
    /// Its score: the squared distance less the squared norm of the row.
    pub score: f32,
    /// The least score of all other centroids; huge if there is none.
    pub second: f32,
}

/// An encoder on a device.
pub trait LoadedEncoder: Sync {
    /// How many rows it takes at a time; at least 1.
    fn most_rows(&self) -> usize;

    /// Encodes rows: what becomes of each is said at [`DeviceEncoder`]. May be called from several threads at a time.
    ///
    /// # Errors
    /// As [`Accelerator::load`].
    fn encode(&self, rows: &DeviceRows<'_>, codes: &mut DeviceCodes) -> Result<(), DeviceError>;
}

/// An encoder of SAQ, as a device needs it.
///
/// A row is first rotated: dimension `rotation.start + i` of it is
///
/// ```text
/// o = f32(<integers of the row, integers of row i of the rotation>) * (scales[i] * factor of the row)
/// ```
///
/// less, if there are centroids, that of its list. Each segment is then encoded by itself, in `f32` rounded to nearest
/// after each operation, in the order of the dimensions: as `encode_segment` in `src/quantizer/saq/adjust.rs` does it, of which
/// `u = code - (2^bits - 1) / 2`. There `nearest(x)` is `floor(x) + 0.5` of `x` cut off to `-limit..=limit`, `limit` being
/// `(2^bits - 1) / 2`; a scale `s` has the code `encode(s)` that is
/// `(bits of s + 2^(shift - 1) - base) >> shift`, cut off to `1..=max`, which stands for the float of the bits
/// `(code << shift) + base`.
///
/// A device must not guess: where it may be that any number is rounded otherwise (below the range of normal floats, say), it
/// answers [`UNSURE`] for the row, and the processor encodes it. A row of zeros in a segment has `u = 0.5` throughout
/// and the scale's code 0; one that is not zero but has a squared norm of no more than
/// [`least`](DeviceSegment::least) is for the processor.
#[derive(Clone, Debug)]
pub struct DeviceEncoder<'a> {
    /// Dimensions after rotation, those without a code included: values of a centroid.
    pub dims: usize,
    /// The rotations, which together are of all dimensions that have a code; one or two.
    pub rotations: Vec<DeviceRotation<'a>>,
    /// The segments that have a code, in the order of dimensions.
    pub segments: Vec<DeviceSegment>,
    /// The rotated centroids, `nlist x dims`; none where there is one list.
    pub centroids: Option<&'a [f32]>,
    /// Where the bits of codes go in a record, for each byte of it.
    pub record: Vec<RecordByte>,
}

/// Integers of 16 or 8 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Integers<'a> {
    /// An even number of them to a row.
    Sixteen(&'a [i16]),
    /// A multiple of four to a row.
    Eight(&'a [i8]),
}

/// Rows of a rotation.
#[derive(Clone, Debug)]
pub struct DeviceRotation<'a> {
    /// The dimension of its first row.
    pub start: usize,
    /// The integers of a row.
    pub depth: usize,
    /// Row by row. Products with the integers of rows fit into an `i32`.
    pub rows: Integers<'a>,
    /// What each row is multiplied by.
    pub scales: &'a [f32],
}

/// A segment of an encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceSegment {
    /// The first dimension.
    pub start: usize,
    /// The number of dimensions, a multiple of 8.
    pub dims: usize,
    /// Bits of a dimension, 1 to 13.
    pub bits: u32,
    /// The unit of stored scales.
    pub unit: f32,
    /// Rows of no larger squared norm are dropped.
    pub least: f32,
    /// The best step for a Gaussian of unit variance.
    pub gaussian_step: f32,
    /// How far along from the smaller to the larger step each try is: 1 to [`MOST_TRIES`](DeviceSegment::MOST_TRIES).
    pub tries: [f32; DeviceSegment::MOST_TRIES],
    /// How many tries there are.
    pub try_count: u32,
    /// Dimensions that coordinate descent visits.
    pub visits: usize,
    /// How much the error along a vector weighs, times the number of dimensions.
    pub along: f32,
    /// How scales are stored: see [`DeviceEncoder`].
    pub scale_shift: u32,
    /// See [`scale_shift`](DeviceSegment::scale_shift).
    pub scale_base: u32,
    /// See [`scale_shift`](DeviceSegment::scale_shift).
    pub scale_max: u32,
    /// What the first stage stands for: the first where `|u|` is below the boundary, else the second, with the sign of `u`.
    pub levels: [f32; 2],
    /// See [`levels`](DeviceSegment::levels).
    pub boundary: f32,
}

impl DeviceSegment {
    /// Tries of a segment at most.
    pub const MOST_TRIES: usize = 4;
}

/// A byte of a record: the bits `shift..shift + width` of the codes of the dimensions `dim`, `dim + far`, and so on,
/// from the lowest bits of the byte up. Where `width` is 0 no code goes there, and it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordByte {
    /// The first dimension.
    pub dim: u32,
    /// From one dimension to the next.
    pub far: u32,
    /// The lowest bit.
    pub shift: u32,
    /// 1, 2, 4, or 0.
    pub width: u32,
}

/// Rows to encode.
#[derive(Clone, Debug)]
pub struct DeviceRows<'a> {
    /// How many.
    pub count: usize,
    /// For each rotation the integers of the rows, `count x depth`, of as many bits as its own, and a factor for each row.
    pub values: &'a [(Integers<'a>, &'a [f32])],
    /// The list of each row; empty where there is one list.
    pub lists: &'a [u32],
}

/// What became of rows.
#[derive(Clone, Debug, Default)]
pub struct DeviceCodes {
    /// The records, row by row, each of its bytes rounded up to a multiple of four.
    pub records: Vec<u8>,
    /// Of each segment and row [`DeviceCodes::PARTS`] words, `parts[(segment * PARTS + i) * count + row]`, all but
    /// the second one the bits of an `f32`: the squared norm; the code of the scale, or [`UNSURE`]; and the inner product
    /// with the centroid, in the segment, of the row, of `u`, and of the levels of the first stage.
    pub parts: Vec<u32>,
}

impl DeviceCodes {
    /// Words of a segment of a row.
    pub const PARTS: usize = 5;
}

/// The answer of a device that leaves a row to the processor.
pub const UNSURE: u32 = u32::MAX;
