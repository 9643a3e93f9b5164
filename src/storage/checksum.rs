//! CRC32C of large regions, in parallel and with a way to stop.

use std::ops::ControlFlow;

use rayon::prelude::*;

/// The bytes that one task sums up.
const CHUNK: usize = 1 << 20;
/// The bytes between two calls of the callback.
const BATCH: usize = 64 * CHUNK;

/// The CRC32C of `bytes`. `step` is called with the number of bytes done since the last call and
/// may stop the work.
pub(crate) fn checksum(
    bytes: &[u8],
    mut step: impl FnMut(u64) -> ControlFlow<()>,
) -> ControlFlow<(), u32> {
    let mut sum = 0;
    for batch in bytes.chunks(BATCH) {
        if batch.len() <= CHUNK {
            sum = crc32c::crc32c_append(sum, batch);
        } else {
            // On mapped files most of the time is the disk's: several tasks keep it busy. The
            // sums are joined in the order of the file, whatever the order they finish in.
            let parts: Vec<u32> = batch.par_chunks(CHUNK).map(crc32c::crc32c).collect();
            for (part, chunk) in parts.into_iter().zip(batch.chunks(CHUNK)) {
                sum = crc32c::crc32c_combine(sum, part, chunk.len());
            }
        }
        step(batch.len() as u64)?;
    }
    ControlFlow::Continue(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Bit by bit, from the polynomial: the truth that FORMAT.md states.
    fn naive(bytes: &[u8]) -> u32 {
        let mut sum = u32::MAX;
        for &byte in bytes {
            sum ^= u32::from(byte);
            for _ in 0..8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            }
        }
        !sum
    }

    #[test]
    fn equals_the_naive_sum() {
        assert_eq!(naive(b"123456789"), 0xe306_9283);
        let mut random = Random::new(3, 0);
        let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|_| random.next_u64() as u8).collect();
        for len in [0, 1, 9, 4096, CHUNK - 1, CHUNK, CHUNK + 1, bytes.len()] {
            let mut done = 0;
            let sum = checksum(&bytes[..len], |bytes| {
                done += bytes;
                ControlFlow::Continue(())
            });
            assert_eq!(sum, ControlFlow::Continue(naive(&bytes[..len])), "{len}");
            assert_eq!(done, len as u64);
        }
    }

    #[test]
    fn can_be_stopped() {
        assert_eq!(checksum(&[1, 2, 3], |_| ControlFlow::Break(())), ControlFlow::Break(()));
    }
}
