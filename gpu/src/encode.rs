//! Builds: codes of SAQ, byte for byte those of the processor.

use std::sync::Mutex;

use nonius::DeviceError;
use nonius::accelerator::{
    DeviceCodes, DeviceEncoder, DeviceRows, DeviceSegment, Integers, LoadedEncoder,
};
use nonius::random::Random;

use crate::GpuContext;
use crate::context::lock;
use crate::error::GpuError;
use crate::kernels::{Kernel, adjust, arithmetic, pack, rotate};

/// Rows that go to the device at a time, if it can bind as many.
const MOST_ROWS: usize = 4096;

/// Bytes of a buffer for the values of rows at most, if a row has no more.
const ROOM_BYTES: u64 = 256 << 20;

/// Numbers by which arithmetic is tried.
const NUMBERS: usize = 1 << 14;

/// An encoder on a device.
pub(crate) struct Loaded<'a> {
    context: &'a GpuContext,
    /// Dimensions that have a code.
    coded: usize,
    /// Values of a centroid; 0 where there is none.
    centroid: u32,
    most_rows: usize,
    rotations: Vec<Rotation>,
    segments: Vec<DeviceSegment>,
    centroids: wgpu::Buffer,
    places: wgpu::Buffer,
    /// Words of a record.
    words: usize,
    /// Where rows and answers go, a call each.
    rooms: Mutex<Vec<Room>>,
}

/// Rows of a rotation.
struct Rotation {
    start: usize,
    dims: usize,
    /// Words of a row.
    depth: usize,
    kernel: Kernel,
    rows: wgpu::Buffer,
    scales: wgpu::Buffer,
}

struct Room {
    /// Of each rotation the integers of rows and their factors.
    values: Vec<[wgpu::Buffer; 2]>,
    lists: wgpu::Buffer,
    rotated: wgpu::Buffer,
    codes: wgpu::Buffer,
    found: wgpu::Buffer,
    records: wgpu::Buffer,
}

/// Integers as words, and how many bits each has.
fn words<'a>(integers: &Integers<'a>) -> (&'a [u8], u32) {
    match integers {
        Integers::Sixteen(values) => (bytemuck::cast_slice(values), 16),
        Integers::Eight(values) => (bytemuck::cast_slice(values), 8),
    }
}

impl<'a> Loaded<'a> {
    /// Sends an encoder; none if the device has no room for it, or does not round as the processor does.
    pub(crate) fn new(
        context: &'a GpuContext,
        encoder: &DeviceEncoder<'_>,
    ) -> Result<Option<Loaded<'a>>, GpuError> {
        let coded: usize = encoder.rotations.iter().map(|rotation| rotation.scales.len()).sum();
        let words = encoder.record.len().div_ceil(4);
        let centroids = encoder.centroids.unwrap_or(&[]);
        let limit = context.binding_limit();
        // The longest of the buffers of a row.
        let parts = DeviceCodes::PARTS * encoder.segments.len();
        let longest = 4 * encoder.dims.max(parts).max(words) as u64;
        let most_rows = MOST_ROWS.min((limit.min(ROOM_BYTES.max(longest)) / longest) as usize);
        let of_matrix = 2 * (coded * (encoder.dims + 4)) as u64;
        if most_rows == 0 || of_matrix.max(size_of_val(centroids) as u64) > limit {
            return Ok(None);
        }
        if !is_exact(context)? {
            return Ok(None);
        }
        let rotations = encoder.rotations.iter().map(|rotation| {
            let (bytes, bits) = self::words(&rotation.rows);
            Ok(Rotation {
                start: rotation.start,
                dims: rotation.scales.len(),
                depth: rotation.depth * bits as usize / 32,
                kernel: rotate::kernel(bits),
                rows: context.filled("rotation", bytes)?,
                scales: context.filled("scales of a rotation", rotation.scales)?,
            })
        });
        let mut places: Vec<[u32; 4]> =
            encoder.record.iter().map(|at| [at.dim, at.far, at.shift, at.width]).collect();
        places.resize(4 * words, [0; 4]);
        Ok(Some(Loaded {
            context,
            coded,
            centroid: encoder.centroids.map_or(0, |_| encoder.dims as u32),
            most_rows,
            rotations: rotations.collect::<Result<_, GpuError>>()?,
            segments: encoder.segments.clone(),
            centroids: context.filled("centroids", centroids)?,
            places: context.filled("places of codes", &places)?,
            words,
            rooms: Mutex::default(),
        }))
    }

    /// Buffers for as many rows as a call has at most.
    fn room(&self) -> Result<Room, GpuError> {
        let (context, rows) = (self.context, self.most_rows as u64);
        let buffer = |what, words: usize| context.buffer(what, 4 * rows * words as u64);
        let of_rotation = |rotation: &Rotation| {
            Ok([buffer("rows", rotation.depth)?, buffer("factors of rows", 1)?])
        };
        Ok(Room {
            values: self.rotations.iter().map(of_rotation).collect::<Result<_, GpuError>>()?,
            lists: buffer("lists of rows", 1)?,
            rotated: buffer("rotated rows", self.coded)?,
            codes: buffer("codes", self.coded)?,
            found: buffer("sums", DeviceCodes::PARTS * self.segments.len())?,
            records: buffer("records", self.words)?,
        })
    }

    fn encode_in(
        &self,
        room: &Room,
        rows: &DeviceRows<'_>,
        codes: &mut DeviceCodes,
    ) -> Result<(), GpuError> {
        let context = self.context;
        let count = rows.count as u32;
        let mut recorder = context.record(false);
        context.queue.write_buffer(&room.lists, 0, bytemuck::cast_slice(rows.lists));
        let parts = self.rotations.iter().zip(rows.values).zip(&room.values);
        for ((rotation, (integers, factors)), [values, of_rows]) in parts {
            context.queue.write_buffer(values, 0, words(integers).0);
            context.queue.write_buffer(of_rows, 0, bytemuck::cast_slice(factors));
            let params = |grid_x| rotate::Params {
                rows: count,
                grid_x,
                zero: 0,
                depth: rotation.depth as u32,
                dims: rotation.dims as u32,
                start: rotation.start as u32,
                centroid: self.centroid,
                unused: 0,
            };
            let Rotation { rows: matrix, scales, .. } = rotation;
            let buffers =
                [values, of_rows, matrix, scales, &room.lists, &self.centroids, &room.rotated];
            let groups = rotate::groups(rows.count, rotation.dims);
            recorder.dispatch(&rotation.kernel, groups, params, &buffers)?;
        }
        let Room { lists, rotated, codes: numbers, found, records, .. } = room;
        for (segment, of_segment) in self.segments.iter().enumerate() {
            let params = |grid_x| adjust::Params {
                rows: count,
                grid_x,
                segment: segment as u32,
                centroid: self.centroid,
                ..of_segment_params(of_segment)
            };
            let buffers = [rotated, lists, &self.centroids, numbers, found];
            recorder.dispatch(
                &adjust::kernel(),
                count.div_ceil(adjust::THREADS),
                params,
                &buffers,
            )?;
        }
        let params =
            |grid_x| pack::Params { rows: count, grid_x, words: self.words as u32, unused: 0 };
        let groups = (rows.count * self.words).div_ceil(pack::THREADS as usize) as u32;
        recorder.dispatch(&pack::kernel(), groups, params, &[numbers, &self.places, records])?;
        let bytes = |words: usize| (4 * rows.count * words) as u64;
        let parts = DeviceCodes::PARTS * self.segments.len();
        let read = [(records, bytes(self.words)), (found, bytes(parts))];
        let (mut answers, _) = recorder.send(&read)?.wait()?;
        codes.parts = answers.pop().unwrap_or_default();
        codes.records.clear();
        codes.records.extend_from_slice(bytemuck::cast_slice(&answers[0]));
        Ok(())
    }
}

impl LoadedEncoder for Loaded<'_> {
    fn most_rows(&self) -> usize {
        self.most_rows
    }

    fn encode(&self, rows: &DeviceRows<'_>, codes: &mut DeviceCodes) -> Result<(), DeviceError> {
        let spare = lock(&self.rooms).pop();
        let room = match spare {
            Some(room) => room,
            None => self.room()?,
        };
        self.encode_in(&room, rows, codes)?;
        lock(&self.rooms).push(room);
        Ok(())
    }
}

/// What of the parameters belongs to a segment alone.
fn of_segment_params(segment: &DeviceSegment) -> adjust::Params {
    adjust::Params {
        start: segment.start as u32,
        dims: segment.dims as u32,
        bits: segment.bits,
        try_count: segment.try_count,
        visits: segment.visits as u32,
        scale_shift: segment.scale_shift,
        scale_base: segment.scale_base,
        scale_max: segment.scale_max,
        unit: segment.unit,
        inverse_unit: 1.0 / segment.unit,
        least: segment.least,
        tries: segment.tries,
        gaussian_step: segment.gaussian_step,
        along: segment.along,
        // Devices know no infinity.
        boundary: segment.boundary.min(1e6),
        inner: segment.levels[0],
        outer: segment.levels[1],
        ..adjust::Params::default()
    }
}

/// Whether a device rounds as the processor does.
fn is_exact(context: &GpuContext) -> Result<bool, GpuError> {
    let numbers = numbers();
    let (buffer, results) = (
        context.filled("numbers", &numbers)?,
        context.buffer("results", 2 * size_of_val(&numbers[..]) as u64)?,
    );
    let params = |grid_x| arithmetic::Params {
        count: numbers.len() as u32,
        grid_x,
        ..arithmetic::Params::default()
    };
    let mut recorder = context.record(false);
    let groups = numbers.len().div_ceil(arithmetic::THREADS as usize) as u32;
    recorder.dispatch(&arithmetic::kernel(), groups, params, &[&buffer, &results])?;
    let bytes = 2 * size_of_val(&numbers[..]) as u64;
    let (found, _) = recorder.send(&[(&results, bytes)])?.wait()?;
    let mut expected = vec![[0; 4]; 2 * numbers.len()];
    arithmetic::arithmetic(&params(0), &numbers, &mut expected);
    Ok(found[0] == expected.as_flattened())
}

/// Two positive floats within the range that codes are made of, and an integer.
fn numbers() -> Vec<[u32; 4]> {
    let mut random = Random::new(1, 0);
    (0..NUMBERS)
        .map(|i| {
            let bits = random.next_u64();
            let mantissas = [bits as u32, (bits >> 32) as u32].map(|bits| bits & 0x7f_ffff);
            let exponent = random.next_u64();
            // Numbers far apart, and numbers whose sums and differences lose bits.
            let range = if i % 2 == 0 { 80 } else { 4 };
            let exponents =
                [exponent, exponent >> 32].map(|e| (127 - range / 2) + e as u32 % range);
            let [a, b] = [0, 1].map(|i| exponents[i] << 23 | mantissas[i]);
            // Some of few bits, of whose results some lie halfway between two floats.
            let few = if i % 3 == 0 { !0x7ff } else { !0 };
            [a & few, b & few, random.next_u64() as u32, 0]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::context;

    #[test]
    fn this_device_rounds_as_it_should() {
        let Some(context) = context() else { return };
        assert!(is_exact(context).unwrap(), "{:?}", context.adapter());
    }

    /// Some of the numbers tell apart what is joined and what is not, and halves from what is beside them.
    #[test]
    fn numbers_are_hard_enough() {
        let numbers = numbers();
        let floats = numbers
            .iter()
            .map(|n| (f32::from_bits(n[0]), f32::from_bits(n[1]), n[2] as i32 as f32));
        let count = |f: &dyn Fn(f32, f32, f32) -> bool| {
            floats.clone().filter(|&(a, b, c)| f(a, b, c)).count()
        };
        assert!(count(&|a, b, c| a.mul_add(b, c) != a * b + c) > 100);
        assert!(count(&|a, b, c| a + (c - b) != (a - b) + c) > 100);
        let halfway = |a: f32, b: f32| {
            // A product of two floats is exact in an `f64`, which has 29 bits more.
            let exact = f64::from(a) * f64::from(b);
            exact.to_bits() & 0x1fff_ffff == 0x1000_0000
        };
        assert!(count(&|a, b, _| halfway(a, b)) > 10);
        assert!(numbers.iter().all(|n| f32::from_bits(n[0]) > 0.0 && f32::from_bits(n[1]) > 0.0));
    }
}
