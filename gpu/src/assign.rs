//! Builds: the nearest centroids of many rows.

use std::sync::Mutex;

use nonius::accelerator::{DeviceEncoder, LoadedEncoder};
use nonius::{Accelerator, Closest, DeviceError, LoadedCentroids};

use crate::GpuContext;
use crate::context::lock;
use crate::encode;
use crate::error::GpuError;
use crate::kernels::nearest::{self, Params, SLICE, TILE};

/// Bytes of rows that are sent at a time, or of centroids in a buffer, if the device can bind so many.
const PIECE_BYTES: u64 = 64 << 20;

/// Centroids on a device, cut into pieces that a kernel can bind.
struct Loaded<'a> {
    context: &'a GpuContext,
    dim: usize,
    /// Rows or centroids of a buffer.
    most: usize,
    pieces: Vec<Piece>,
    /// Where rows and answers go, one call at a time.
    room: Mutex<Option<Room>>,
}

struct Piece {
    /// The number of the first centroid.
    first: u32,
    count: u32,
    centroids: wgpu::Buffer,
    norms_sq: wgpu::Buffer,
}

struct Room {
    rows: usize,
    values: wgpu::Buffer,
    found: wgpu::Buffer,
    /// Rows with their padding.
    padded: Vec<f32>,
}

/// A GPU helps with k-means, with finding the list of each vector, and with codes of SAQ. Second lists (`spill`) and
/// lists of few dimensions stay with the processor, as do all other codes.
impl Accelerator for GpuContext {
    fn load<'a>(
        &'a self,
        dim: usize,
        centroids: &[f32],
        norms_sq: &[f32],
    ) -> Result<Box<dyn LoadedCentroids + 'a>, DeviceError> {
        Ok(Box::new(Loaded::new(self, dim, centroids, norms_sq, PIECE_BYTES)?))
    }

    fn load_encoder<'a>(
        &'a self,
        encoder: &DeviceEncoder<'_>,
    ) -> Result<Option<Box<dyn LoadedEncoder + 'a>>, DeviceError> {
        Ok(match encode::Loaded::new(self, encoder)? {
            Some(loaded) => Some(Box::new(loaded)),
            None => None,
        })
    }
}

impl LoadedCentroids for Loaded<'_> {
    fn closest(&self, rows: &[f32], found: &mut [Closest]) -> Result<(), DeviceError> {
        let mut room = lock(&self.room);
        for (rows, found) in rows.chunks(self.most * self.dim).zip(found.chunks_mut(self.most)) {
            self.few(&mut room, rows, found)?;
        }
        Ok(())
    }
}

impl<'a> Loaded<'a> {
    /// Sends centroids in pieces of about so many bytes.
    fn new(
        context: &'a GpuContext,
        dim: usize,
        centroids: &[f32],
        norms_sq: &[f32],
        bytes: u64,
    ) -> Result<Loaded<'a>, GpuError> {
        let most = rows_of(context, dim, bytes)?;
        let mut padded = Vec::new();
        let mut pieces = Vec::new();
        let mut first = 0;
        for (centroids, norms_sq) in centroids.chunks(most * dim).zip(norms_sq.chunks(most)) {
            pad(dim, centroids, &mut padded);
            pieces.push(Piece {
                first,
                count: norms_sq.len() as u32,
                centroids: context.filled("centroids", &padded)?,
                norms_sq: context.filled("norms", norms_sq)?,
            });
            first += norms_sq.len() as u32;
        }
        Ok(Loaded { context, dim, most, pieces, room: Mutex::default() })
    }

    /// Rows that fit into a buffer.
    fn few(
        &self,
        room: &mut Option<Room>,
        rows: &[f32],
        found: &mut [Closest],
    ) -> Result<(), GpuError> {
        let count = found.len();
        let depth = self.dim.next_multiple_of(SLICE);
        if room.as_ref().is_none_or(|room| room.rows < count) {
            *room = Some(Room {
                rows: count,
                values: self.context.buffer("rows", (4 * count * depth) as u64)?,
                found: self.context.buffer("nearest centroids", 16 * count as u64)?,
                padded: Vec::new(),
            });
        }
        let Some(room) = room else { return Ok(()) };
        pad(self.dim, rows, &mut room.padded);
        self.context.queue.write_buffer(&room.values, 0, bytemuck::cast_slice(&room.padded));
        let mut recorder = self.context.record(false);
        for piece in &self.pieces {
            let params = |grid_x| Params {
                rows: count as u32,
                grid_x,
                depth: depth as u32,
                centroids: piece.count,
                first: piece.first,
                goes_on: u32::from(piece.first > 0),
                unused: [0; 2],
            };
            let buffers = [&room.values, &piece.centroids, &piece.norms_sq, &room.found];
            let groups = count.div_ceil(TILE) as u32;
            recorder.dispatch(&nearest::kernel(), groups, params, &buffers)?;
        }
        let (answers, _) = recorder.send(&[(&room.found, 16 * count as u64)])?.wait()?;
        for (found, words) in found.iter_mut().zip(answers[0].as_chunks::<4>().0) {
            *found = Closest {
                number: words[0],
                score: f32::from_bits(words[1]),
                second: f32::from_bits(words[2]),
            };
        }
        Ok(())
    }
}

/// How many rows a buffer of about so many bytes takes.
fn rows_of(context: &GpuContext, dim: usize, bytes: u64) -> Result<usize, GpuError> {
    let row = 4 * dim.next_multiple_of(SLICE) as u64;
    let limit = context.binding_limit();
    match bytes.max(row).min(limit) / row {
        0 => Err(GpuError::TooLarge { what: "the values of a vector", bytes: row, limit }),
        rows => Ok(rows as usize),
    }
}

/// Rows with zeros up to a multiple of [`SLICE`].
fn pad(dim: usize, rows: &[f32], padded: &mut Vec<f32>) {
    let depth = dim.next_multiple_of(SLICE);
    padded.clear();
    for row in rows.chunks_exact(dim) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + depth - dim, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use nonius::random::Random;

    use super::*;
    use crate::kernels::testing::context;

    #[test]
    fn many_rows_and_centroids_go_in_pieces() {
        let Some(context) = context() else { return };
        let (dim, nlist) = (19, 50);
        let mut random = Random::new(9, 0);
        let centroids: Vec<f32> = (0..nlist * dim).map(|_| random.normal() as f32).collect();
        let norms_sq: Vec<f32> =
            centroids.chunks_exact(dim).map(|row| row.iter().map(|x| x * x).sum()).collect();
        // The rows are centroids, in another order, and zeros.
        let order: Vec<usize> = (0..nlist).map(|i| (7 * i + 3) % nlist).collect();
        let mut rows: Vec<f32> =
            order.iter().flat_map(|&i| centroids[i * dim..][..dim].iter().copied()).collect();
        rows.resize(rows.len() + dim, 0.0);
        let mut all = Vec::new();
        for bytes in [4 * 24 * 7, 4 * 24 * 29, PIECE_BYTES] {
            let loaded = Loaded::new(context, dim, &centroids, &norms_sq, bytes).unwrap();
            assert_eq!(loaded.pieces.len(), nlist.div_ceil(loaded.most));
            let mut found = vec![Closest::default(); nlist + 1];
            // Fewer rows first: there is then less room than the next call needs.
            for count in [5, nlist + 1] {
                loaded.closest(&rows[..count * dim], &mut found[..count]).unwrap();
            }
            for (found, &number) in found.iter().zip(&order) {
                assert_eq!(found.number as usize, number);
                assert!((found.score / -norms_sq[number] - 1.0).abs() < 1e-4, "{found:?}");
                assert!(found.second > found.score, "{found:?}");
            }
            let mut norms = norms_sq.clone();
            norms.sort_by(f32::total_cmp);
            assert_eq!([found[nlist].score, found[nlist].second], norms[..2]);
            all.push(found);
        }
        assert!(all.iter().all(|found| *found == all[0]));
    }

    #[test]
    fn one_centroid_has_no_second() {
        let Some(context) = context() else { return };
        let loaded = Loaded::new(context, 3, &[1.0, 2.0, 2.0], &[9.0], PIECE_BYTES).unwrap();
        let mut found = [Closest::default()];
        loaded.closest(&[1.0, 0.0, 0.0], &mut found).unwrap();
        assert_eq!((found[0].number, found[0].score), (0, 7.0));
        assert!(found[0].second > 1e38);
    }
}
