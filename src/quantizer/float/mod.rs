//! Vectors in 16 bits a value, IEEE 754 binary16, or bfloat16, the upper half of an `f32`; or in 32, as they are.
//!
//! A vector is kept relative to the mean, not to the centroid of its list, so nothing but its values is
//! stored, and a key is a sum over these:
//!
//! ```text
//! |q - x|^2 = |q|^2 + sum over i of x_i (x_i - 2 q_i)
//! -<q + m, x + m> = -<q + m, m> + sum over i of x_i (-q_i - m_i)
//! ```
//!
//! with `q` and `x` relative to the mean `m`. The first stage reads all of it, 32 vectors side by side,
//! and its bound is the key.

mod query;

pub use query::FloatQuery;

pub(crate) use query::{QueryModel, Tables};

use half::{bf16, f16};
use nonius_simd::BLOCK;

use super::QuantizerSpec;
use super::factor::AdditiveCode;
use super::frame::{Frame, Rotation, TrainingSet};
use super::scalar::widen;

/// How a value is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    /// IEEE 754 binary16: 11 bits of precision, up to 65,504.
    F16,
    /// bfloat16: 8 bits of precision, as large as `f32`.
    Bf16,
    /// As it is.
    F32,
}

impl Format {
    /// The format of a quantizer of this family.
    pub(crate) fn of(spec: &QuantizerSpec) -> Format {
        match spec {
            QuantizerSpec::Bf16 => Format::Bf16,
            QuantizerSpec::F32 => Format::F32,
            _ => Format::F16,
        }
    }

    /// Bytes of a value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Format::F16 | Format::Bf16 => 2,
            Format::F32 => 4,
        }
    }

    /// The bits of the nearest value; what is too large becomes the largest.
    #[inline(always)]
    fn round(self, value: f32) -> u32 {
        match self {
            Format::F16 => {
                let largest = f32::from(f16::MAX);
                f16::from_f32_const(value.clamp(-largest, largest)).to_bits().into()
            }
            Format::Bf16 => {
                let largest = f32::from(bf16::MAX);
                bf16::from_f32(value.clamp(-largest, largest)).to_bits().into()
            }
            Format::F32 => value.clamp(-f32::MAX, f32::MAX).to_bits(),
        }
    }

    /// The value of these bits; finite for binary16, and otherwise if they are those of a finite number.
    #[inline(always)]
    fn widen(self, bits: u32) -> f32 {
        match self {
            Format::F16 => widen(bits as u16),
            Format::Bf16 => f32::from_bits(bits << 16),
            Format::F32 => f32::from_bits(bits),
        }
    }
}

/// All that is needed to make sense of codes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) frame: Frame,
    pub(crate) format: Format,
}

impl Model {
    /// Where the bytes of a vector lie.
    pub(crate) fn layout(&self) -> Layout {
        Layout { dims: self.frame.dims, value_bytes: self.format.bytes() }
    }
}

/// Where the bytes of a vector lie: in a record its values, in a block the 32 values of each dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) dims: usize,
    /// 2 or 4.
    pub(crate) value_bytes: usize,
}

impl Layout {
    /// Bytes of a record: everything that is stored of a vector but its id.
    pub(crate) fn record_bytes(self) -> usize {
        self.value_bytes * self.dims
    }

    /// Bytes of a block of 32 vectors.
    pub(crate) fn block_bytes(self) -> usize {
        self.record_bytes() * BLOCK
    }

    /// The bits of the values of vector `v` of a block, 16 a number: of 32, the lower ones come first.
    pub(crate) fn numbers(self, block: &[u8], v: usize) -> impl Iterator<Item = u16> + '_ {
        let bytes = self.value_bytes;
        block.chunks_exact(bytes * BLOCK).flat_map(move |row| {
            let halves = row[bytes * v..bytes * (v + 1)].as_chunks::<2>().0;
            halves.iter().map(|&half| u16::from_le_bytes(half))
        })
    }

    /// The bits of the values of vector `v` of a block.
    #[inline(always)]
    pub(crate) fn values(self, block: &[u8], v: usize) -> impl Iterator<Item = u32> + '_ {
        let bytes = self.value_bytes;
        block.chunks_exact(bytes * BLOCK).map(move |row| match (bytes, &row[bytes * v..]) {
            (2, &[a, b, ..]) => u16::from_le_bytes([a, b]).into(),
            (_, &[a, b, c, d, ..]) => u32::from_le_bytes([a, b, c, d]),
            // A row holds every vector.
            _ => 0,
        })
    }

    /// Interleaves up to 32 records, `stride` bytes apart, into a block. Missing vectors are zero.
    pub(crate) fn pack_block(self, records: &[u8], stride: usize, block: &mut [u8]) {
        block.fill(0);
        match self.value_bytes {
            2 => self.pack::<2>(records, stride, block),
            _ => self.pack::<4>(records, stride, block),
        }
    }

    /// [`pack_block`](Layout::pack_block) of values of so many bytes.
    fn pack<const BYTES: usize>(self, records: &[u8], stride: usize, block: &mut [u8]) {
        let rows = block.as_chunks_mut::<BYTES>().0.as_chunks_mut::<BLOCK>().0;
        for (v, record) in records.chunks_exact(stride).enumerate() {
            let values = record[..self.record_bytes()].as_chunks::<BYTES>().0;
            for (row, value) in rows.iter_mut().zip(values) {
                row[v] = *value;
            }
        }
    }
}

/// Ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) model: Model,
    /// The mean that is subtracted from every vector: `dim` values.
    pub(crate) mean: Vec<f32>,
    /// That of queries: none.
    pub(crate) rotation: Rotation,
}

/// There is nothing to train but the mean.
pub(crate) fn train(set: &TrainingSet<'_>, spec: &QuantizerSpec) -> Encoder {
    let dim = set.sample.dim();
    let dims = dim.next_multiple_of(8);
    let frame = Frame {
        metric: set.metric,
        dim,
        dims,
        scale: set.scale,
        lists: set.lists.is_some(),
        additive: AdditiveCode::NONE,
    };
    let format = Format::of(spec);
    let rotation = match format {
        Format::F32 => Rotation::exact(dims),
        Format::F16 | Format::Bf16 => Rotation::none(dims),
    };
    Encoder { model: Model { frame, format }, mean: set.mean.to_vec(), rotation }
}

impl Encoder {
    /// Encodes rows of `dim` values (finite; of unit norm for cosine) into records.
    pub(crate) fn encode_rows(&self, rows: &[f32], scaled: &mut Vec<f32>, records: &mut [u8]) {
        let rows = self.model.frame.scaled(rows, scaled);
        // A loop for each format: of one for all the compiler would keep the choice inside.
        match self.model.format {
            Format::F16 => {
                self.write::<2>(rows, records, |x| (Format::F16.round(x) as u16).to_le_bytes())
            }
            Format::Bf16 => {
                self.write::<2>(rows, records, |x| (Format::Bf16.round(x) as u16).to_le_bytes())
            }
            Format::F32 => self.write(rows, records, |x| Format::F32.round(x).to_le_bytes()),
        }
    }

    /// Writes what becomes of each value less the mean, and zeros behind them.
    fn write<const BYTES: usize>(
        &self,
        rows: &[f32],
        records: &mut [u8],
        round: impl Fn(f32) -> [u8; BYTES],
    ) {
        let records = records.chunks_exact_mut(self.model.layout().record_bytes());
        for (row, record) in rows.chunks_exact(self.model.frame.dim).zip(records) {
            record.fill(0);
            let values = record.as_chunks_mut::<BYTES>().0;
            for (out, (x, mean)) in values.iter_mut().zip(row.iter().zip(&self.mean)) {
                *out = round(x - mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_to_the_nearest() {
        for (format, bits) in [(Format::F16, 11), (Format::Bf16, 8), (Format::F32, 24)] {
            for value in [0.0f32, 1.0, -0.3, 1e-3, 63_000.0, 0.0999, -7.77] {
                let found = format.widen(format.round(value));
                assert!(
                    (found - value).abs() <= value.abs() * 0.5f32.powi(bits),
                    "{value}: {found}"
                );
            }
            for value in [f32::MAX, -f32::MAX, 1e30] {
                let found = format.widen(format.round(value));
                assert!(found.is_finite() && found.signum() == value.signum());
                assert!(found.abs() >= 65_504.0);
            }
        }
    }

    #[test]
    fn blocks_hold_every_value() {
        for (dims, count, bytes) in [(8, 32, 2), (24, 31, 4), (16, 1, 2), (8, 32, 4)] {
            let layout = Layout { dims, value_bytes: bytes };
            let stride = layout.record_bytes();
            let records: Vec<u8> = (0..count * stride).map(|i| (i * 37 + i / 256) as u8).collect();
            let mut block = vec![99; layout.block_bytes()];
            layout.pack_block(&records, stride, &mut block);
            for v in 0..BLOCK {
                for byte in 0..stride {
                    let expected = if v < count { records[v * stride + byte] } else { 0 };
                    let row = byte / bytes * bytes * BLOCK;
                    assert_eq!(block[row + bytes * v + byte % bytes], expected);
                }
                if v < count {
                    let record = &records[v * stride..(v + 1) * stride];
                    let halves = record.as_chunks::<2>().0.iter().map(|&x| u16::from_le_bytes(x));
                    assert!(layout.numbers(&block, v).eq(halves));
                    let first = layout.values(&block, v).next().unwrap().to_le_bytes();
                    assert_eq!(first[..bytes], record[..bytes]);
                }
            }
        }
    }
}
