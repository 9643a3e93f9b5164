//! Mutations of inputs.

use nonius::random::Random;
use nonius_tests::damage::{self, corrupt_any, extremes_32, extremes_64};

/// The longest input that mutations of plain bytes make.
const MAX_LENGTH: usize = 1 << 14;

/// A random index below `count`, which is not 0.
pub(crate) fn pick(random: &mut Random, count: usize) -> usize {
    random.below(count as u64) as usize
}

/// Mutates bytes of no special structure, one to eight times. `words` are what the code under attack
/// looks for; `others` are inputs to take pieces from.
pub fn bytes(data: &mut Vec<u8>, random: &mut Random, words: &[&[u8]], others: &[Vec<u8>]) {
    for _ in 0..1 << random.below(4) {
        once(data, random, words, others);
    }
    data.truncate(MAX_LENGTH);
}

fn once(data: &mut Vec<u8>, random: &mut Random, words: &[&[u8]], others: &[Vec<u8>]) {
    let at = pick(random, data.len() + 1);
    match random.below(8) {
        0 | 1 => {
            corrupt_any(data, random);
        }
        2 => {
            let end = data.len().min(at + (1 << random.below(8)));
            data.drain(at..end);
        }
        3 => {
            let count = 1 << random.below(6);
            let new: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
            data.splice(at..at, new);
        }
        4 if !words.is_empty() => {
            let word = words[pick(random, words.len())];
            // In the place of as many bytes, or between them.
            let end = if random.below(2) == 0 { at } else { data.len().min(at + word.len()) };
            data.splice(at..end, word.iter().copied());
        }
        5 if !others.is_empty() => {
            let other = &others[pick(random, others.len())];
            let from = pick(random, other.len() + 1);
            let end = other.len().min(from + (1 << random.below(10)));
            let over = data.len().min(at + end - from);
            data.splice(at..over, other[from..end].iter().copied());
        }
        6 if at + 4 <= data.len() => {
            let old = u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
            let values = extremes_32(old);
            let value = values[pick(random, values.len())];
            data[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        7 if at + 8 <= data.len() => {
            let values = extremes_64(0);
            let value = values[pick(random, values.len())];
            data[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        _ => data.truncate(at),
    }
}

/// Mutates an index file, and reseals it most of the time.
pub fn index_file(data: &mut Vec<u8>, random: &mut Random, others: &[Vec<u8>]) {
    if random.below(16) == 0 && !others.is_empty() {
        let other = &others[pick(random, others.len())];
        exchange_sections(data, random, other);
    }
    damage::corrupt(data, random);
}

/// Gives a file some sections of another one, of the same kinds.
fn exchange_sections(data: &mut Vec<u8>, random: &mut Random, other: &[u8]) {
    let (mut pieces, others) = (damage::take_apart(data), damage::take_apart(other));
    if pieces.is_empty() {
        return;
    }
    for piece in &mut pieces {
        if random.below(4) == 0
            && let Some(other) = others.iter().find(|other| other.kind == piece.kind)
        {
            piece.clone_from(other);
        }
    }
    *data = damage::assemble(data, &pieces);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_mutations() {
        let others = [b"something else".to_vec()];
        let run = |seed| {
            let mut random = Random::new(seed, 1);
            let mut data = b"an input".to_vec();
            let mut all = Vec::new();
            for _ in 0..500 {
                bytes(&mut data, &mut random, &[b"word"], &others);
                all.push(data.clone());
            }
            all
        };
        let first = run(1);
        assert_eq!(first, run(1));
        assert_ne!(first, run(2));
        assert!(first.iter().any(|data| data.windows(4).any(|window| window == b"word")));
        assert!(first.iter().any(Vec::is_empty) && first.iter().any(|data| data.len() > 100));
    }
}
