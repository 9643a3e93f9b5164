//! Damage to index files, random but repeatable: what disks, transfers and attackers do to them.
//!
//! All of it follows the description in `FORMAT.md`, none of it the library's code. Most of the
//! damage is [resealed](reseal), because checksums would find it on the doorstep otherwise and
//! nothing behind them would be tried.

use nonius::random::Random;

use crate::file::{ENTRY, HEADER, Place, kind, u32_at, u64_at};

/// The most sections that a table may have.
const MAX_SECTIONS: usize = 1024;

/// The sections of a file that may be damaged already: those that lie inside it.
pub fn places_inside(bytes: &[u8]) -> Vec<Place> {
    if bytes.len() < HEADER {
        return Vec::new();
    }
    let count = (u32_at(bytes, 40) as usize).min(MAX_SECTIONS);
    let entries = (bytes.len() - HEADER) / ENTRY;
    (0..count.min(entries))
        .filter_map(|i| {
            let entry = HEADER + i * ENTRY;
            let offset = usize::try_from(u64_at(bytes, entry + 8)).ok()?;
            let length = usize::try_from(u64_at(bytes, entry + 16)).ok()?;
            let inside = offset.checked_add(length)? <= bytes.len();
            inside.then_some(Place { kind: u32_at(bytes, entry), entry, offset, length })
        })
        .collect()
}

/// Writes the checksums of what the bytes are now into header, table and entries, as far as these
/// lie inside the file.
pub fn reseal(bytes: &mut [u8]) {
    if bytes.len() < HEADER {
        return;
    }
    for place in places_inside(bytes) {
        let sum = crc32c::crc32c(&bytes[place.offset..place.offset + place.length]);
        bytes[place.entry + 24..place.entry + 28].copy_from_slice(&sum.to_le_bytes());
    }
    let end = HEADER + (u32_at(bytes, 40) as usize).min(MAX_SECTIONS) * ENTRY;
    if end + 4 <= bytes.len() {
        let sum = crc32c::crc32c(&bytes[HEADER..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes[..HEADER - 4]);
    bytes[HEADER - 4..HEADER].copy_from_slice(&sum.to_le_bytes());
}

/// A section taken out of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The kind's code.
    pub kind: u32,
    /// The entry's flags.
    pub flags: u32,
    /// The alignment of its offset.
    pub alignment: u32,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// The sections that lie inside a file, to be [put together](assemble) in another way.
pub fn take_apart(bytes: &[u8]) -> Vec<Piece> {
    places_inside(bytes)
        .into_iter()
        .map(|place| Piece {
            kind: place.kind,
            flags: u32_at(bytes, place.entry + 4),
            alignment: u32_at(bytes, place.entry + 28),
            body: bytes[place.offset..place.offset + place.length].to_vec(),
        })
        .collect()
}

/// The file of these sections, placed by the rules of the format and sealed; `header` gives all
/// that does not follow from them.
///
/// # Panics
/// If `header` is shorter than one.
pub fn assemble(header: &[u8], pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = header[..HEADER].to_vec();
    bytes[40..44].copy_from_slice(&(pieces.len() as u32).to_le_bytes());
    let mut table = Vec::new();
    let mut end = HEADER + pieces.len() * ENTRY + 4;
    let mut offsets = Vec::new();
    for piece in pieces {
        // Damaged entries may claim any alignment; what no reader takes need not be kept.
        let alignment = (piece.alignment as usize).clamp(1, 4096);
        let offset = end.next_multiple_of(alignment);
        end = offset + piece.body.len();
        offsets.push(offset);
        table.extend(piece.kind.to_le_bytes());
        table.extend(piece.flags.to_le_bytes());
        table.extend((offset as u64).to_le_bytes());
        table.extend((piece.body.len() as u64).to_le_bytes());
        table.extend(0u32.to_le_bytes());
        table.extend(piece.alignment.to_le_bytes());
        table.extend(0u64.to_le_bytes());
    }
    bytes.extend(table);
    bytes.resize(end, 0);
    for (piece, offset) in pieces.iter().zip(offsets) {
        bytes[offset..offset + piece.body.len()].copy_from_slice(&piece.body);
    }
    bytes[56..64].copy_from_slice(&(end as u64).to_le_bytes());
    reseal(&mut bytes);
    bytes
}

/// Damages a file in one to four random ways, and reseals it seven times out of eight. Says what was
/// done. The file is never longer than twice its length and 8 KiB.
pub fn corrupt(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let limit = 2 * bytes.len() + (8 << 10);
    let mut done = Vec::new();
    for _ in 0..1 + random.below(4).saturating_sub(1) {
        done.push(corrupt_once(bytes, random));
    }
    bytes.truncate(limit);
    if random.below(8) > 0 {
        reseal(bytes);
        done.push("resealed".to_owned());
    }
    done.join(", ")
}

/// A random index below `count`, which is not 0.
fn pick(random: &mut Random, count: usize) -> usize {
    random.below(count as u64) as usize
}

/// A random range inside `0..length`, which is not 0: short ones are as likely as long ones.
fn range(random: &mut Random, length: usize) -> std::ops::Range<usize> {
    let start = pick(random, length);
    let most = length - start;
    let size = (1 + pick(random, most)).min(1 << random.below(20));
    start..start + size
}

fn corrupt_once(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let places = places_inside(bytes);
    if bytes.len() < HEADER || places.is_empty() {
        return corrupt_any(bytes, random);
    }
    let filled: Vec<Place> = places.iter().copied().filter(|p| p.length > 0).collect();
    match random.below(16) {
        0 | 1 => corrupt_any(bytes, random),
        2 => truncate(bytes, random),
        3 => extend(bytes, random),
        4 => {
            let (a, b) = (places[pick(random, places.len())], places[pick(random, places.len())]);
            for i in 0..4 {
                bytes.swap(a.entry + i, b.entry + i);
            }
            format!("kinds {} and {} exchanged", a.kind, b.kind)
        }
        5 if !filled.is_empty() => {
            let (a, b) = (filled[pick(random, filled.len())], filled[pick(random, filled.len())]);
            let body = bytes[a.offset..a.offset + a.length.min(b.length)].to_vec();
            let other = b.offset..b.offset + body.len();
            bytes.copy_within(other.clone(), a.offset);
            bytes[other].copy_from_slice(&body);
            format!("contents of {} and {} exchanged", a.kind, b.kind)
        }
        6 | 7 => reassemble(bytes, random),
        8 => {
            // All fields but the magic; two fields of 4 bytes may be one of 8.
            let at = 8 + 4 * pick(random, (HEADER - 12) / 4);
            set_extreme(bytes, at, random);
            format!("header at {at}")
        }
        9 => {
            let place = places[pick(random, places.len())];
            let at = 4 * pick(random, ENTRY / 4);
            set_extreme(bytes, place.entry + at, random);
            format!("entry of {} at {at}", place.kind)
        }
        10..=12 => extreme_parameter(bytes, &places, random),
        13 if !filled.is_empty() => {
            let place = filled[pick(random, filled.len())];
            let body = &mut bytes[place.offset..place.offset + place.length];
            match random.below(3) {
                0 => body.fill([0, 0xff, 0x7f, 0x80, 1][pick(random, 5)]),
                1 => body.fill_with(|| random.next_u64() as u8),
                _ => body.rotate_left(pick(random, place.length)),
            }
            format!("contents of {} overwritten", place.kind)
        }
        _ if !filled.is_empty() => {
            let place = filled[pick(random, filled.len())];
            for _ in 0..1 << random.below(6) {
                let at = place.offset + pick(random, place.length);
                bytes[at] = match random.below(4) {
                    0 => random.next_u64() as u8,
                    1 => 0xff,
                    2 => 0,
                    _ => bytes[at] ^ 1 << random.below(8),
                };
            }
            format!("bytes of {}", place.kind)
        }
        _ => corrupt_any(bytes, random),
    }
}

/// Damage that knows nothing of the format: flipped bits, or a run copied over another place.
pub fn corrupt_any(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    if bytes.is_empty() {
        bytes.push(random.next_u64() as u8);
        return "a byte".to_owned();
    }
    match random.below(3) {
        0 => {
            let from = range(random, bytes.len());
            let to = pick(random, bytes.len() - from.len() + 1);
            bytes.copy_within(from.clone(), to);
            format!("{from:?} copied to {to}")
        }
        1 => {
            let at = range(random, bytes.len());
            let count = at.len().min(8);
            bytes[at.start..at.start + count].fill_with(|| random.next_u64() as u8);
            format!("{count} bytes at {}", at.start)
        }
        _ => {
            let count = 1 << random.below(6);
            for _ in 0..count {
                let at = pick(random, bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            format!("{count} bits")
        }
    }
}

/// Cuts a file off, and half of the time says so in its header.
fn truncate(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let cut = pick(random, bytes.len());
    bytes.truncate(cut);
    if random.below(2) == 0 && cut >= HEADER {
        bytes[56..64].copy_from_slice(&(cut as u64).to_le_bytes());
    }
    format!("cut to {cut}")
}

/// Adds to a file, and half of the time says so in its header.
fn extend(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let more = 1 << random.below(13);
    let fill = [0, random.next_u64() as u8][pick(random, 2)];
    let length = bytes.len() + more;
    bytes.resize(length, fill);
    if random.below(2) == 0 {
        bytes[56..64].copy_from_slice(&(length as u64).to_le_bytes());
    }
    format!("{more} bytes more")
}

/// Puts the sections together in another way: in another order, one left out, doubled, cut, grown
/// or of another alignment. The container is as it should be afterwards; the checks behind it are
/// what is tried.
fn reassemble(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let mut pieces = take_apart(bytes);
    let chosen = pick(random, pieces.len());
    let kind = pieces[chosen].kind;
    let what = match random.below(7) {
        0 => {
            let other = pick(random, pieces.len());
            pieces.swap(chosen, other);
            "moved"
        }
        1 => {
            pieces.remove(chosen);
            "left out"
        }
        2 => {
            let copy = pieces[chosen].clone();
            pieces.push(copy);
            "doubled"
        }
        3 => {
            let keep = pick(random, pieces[chosen].body.len() + 1);
            pieces[chosen].body.truncate(keep);
            "cut"
        }
        4 => {
            let length = pieces[chosen].body.len() + (1 << random.below(10));
            let fill = random.next_u64() as u8;
            pieces[chosen].body.resize(length, fill);
            "grown"
        }
        5 => {
            pieces[chosen].alignment = [0, 1, 8, 32, 64, 128, 4096, 8192][pick(random, 8)];
            "aligned otherwise"
        }
        _ => {
            pieces[chosen].kind = [0, 19, 255, 1 << 31, u32::MAX][pick(random, 5)];
            pieces[chosen].flags = random.below(3) as u32;
            "of an unknown kind"
        }
    };
    *bytes = assemble(bytes, &pieces);
    format!("section {kind} {what}")
}

/// Overwrites a number of one of the sections that are read on opening.
fn extreme_parameter(bytes: &mut [u8], places: &[Place], random: &mut Random) -> String {
    let small = [
        kind::META,
        kind::META,
        kind::META,
        kind::SEGMENTS,
        kind::LIST_TABLE,
        kind::LIST_TABLE,
        kind::RANGES,
        kind::MEAN,
        kind::ROTATION_SCALES,
        kind::LIST_FACTORS,
        kind::CODEBOOK_SCALES,
        kind::CODEBOOK_OFFSETS,
        kind::SPILLED,
        kind::OUTLIER_POSITIONS,
        kind::OUTLIER_VECTORS,
    ];
    let there: Vec<Place> = small
        .iter()
        .filter_map(|&kind| places.iter().find(|p| p.kind == kind && p.length >= 4).copied())
        .collect();
    if there.is_empty() {
        return "nothing".to_owned();
    }
    let place = there[pick(random, there.len())];
    let at = 4 * pick(random, place.length / 4);
    set_extreme(bytes, place.offset + at, random);
    format!("section {} at {at}", place.kind)
}

/// Overwrites the number at a place that has at least 4 bytes.
fn set_extreme(bytes: &mut [u8], at: usize, random: &mut Random) {
    match random.below(4) {
        0 => {
            let value = EXTREMES_F32[pick(random, EXTREMES_F32.len())];
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        1 if at + 8 <= bytes.len() => {
            let values = extremes_64(u64_at(bytes, at));
            let value = values[pick(random, values.len())];
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        2 => {
            // Near the old value: what a check of a range lets through.
            let near = u32_at(bytes, at).wrapping_add(random.below(9) as u32).wrapping_sub(4);
            bytes[at..at + 4].copy_from_slice(&near.to_le_bytes());
        }
        _ => {
            let values = extremes_32(u32_at(bytes, at));
            let value = values[pick(random, values.len())];
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Values that break what was not thought of, but for the old one.
pub fn extremes_32(old: u32) -> Vec<u32> {
    let mut values = vec![
        0,
        1,
        2,
        3,
        7,
        8,
        13,
        14,
        16,
        24,
        31,
        32,
        33,
        64,
        127,
        128,
        255,
        256,
        257,
        65_535,
        65_536,
        65_537,
        0x7fff_fffe,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fff8,
        u32::MAX - 1,
        u32::MAX,
    ];
    values.extend([old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), old / 2, !old]);
    values.extend([old.wrapping_add(8), old.wrapping_sub(8), old.swap_bytes()]);
    values.retain(|&value| value != old);
    values
}

/// The same in 64 bits: also what overflows when it is multiplied by the size of a thing.
pub fn extremes_64(old: u64) -> Vec<u64> {
    let mut values = vec![
        0,
        1,
        2,
        8,
        31,
        32,
        33,
        64,
        4095,
        4096,
        65_536,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 40,
        1 << 59,
        1 << 60,
        1 << 61,
        1 << 62,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    values.extend([old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), old / 2, !old]);
    values.extend([old.wrapping_add(64), old.wrapping_sub(64), old.swap_bytes()]);
    // What overflows to the old value when it is multiplied by the size of a thing.
    values.extend([old ^ 1 << 63, old ^ 1 << 62, old ^ 1 << 61, old ^ 1 << 60, old ^ 1 << 56]);
    values.retain(|&value| value != old);
    values
}

/// Floats that break what was not thought of.
pub const EXTREMES_F32: [f32; 15] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    1e30,
    -1e30,
    1e19,
    f32::MIN_POSITIVE,
    1e-45,
    0.0,
    -0.0,
    1.0,
    -1.0,
    -123.456,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{places, samples};
    use crate::probe::{Outcome, open_and_search, reason};

    #[test]
    fn files_taken_apart_are_put_together_to_the_byte() {
        for (name, bytes) in samples() {
            assert_eq!(places_inside(&bytes), places(&bytes), "{name}");
            assert!(assemble(&bytes, &take_apart(&bytes)) == bytes, "{name}");
            let mut sealed = bytes.clone();
            reseal(&mut sealed);
            assert!(sealed == bytes, "{name}");
        }
    }

    /// Damage goes deep: it is found by many different checks, and some of it by none.
    #[test]
    fn damage_gets_past_the_doorstep() {
        let (_, original) = samples().swap_remove(1);
        let mut random = Random::new(46, 1);
        let mut reasons = std::collections::BTreeSet::new();
        let mut searched = 0;
        for _ in 0..2000 {
            let mut bytes = original.clone();
            let what = corrupt(&mut bytes, &mut random);
            assert!(!what.is_empty() && bytes.len() <= 2 * original.len() + (8 << 10), "{what}");
            match open_and_search(&bytes, false) {
                Outcome::Refused(text) => {
                    reasons.insert(reason(&text));
                }
                Outcome::Searched => searched += 1,
            }
        }
        assert!(reasons.len() > 50, "{reasons:#?}");
        assert!((200..1600).contains(&searched), "{searched}");
    }

    #[test]
    fn anything_can_be_damaged() {
        let mut random = Random::new(47, 1);
        for length in [0, 1, 3, 127, 128, 129, 168, 500] {
            for fill in [0x00, 0xff, 0x01] {
                for _ in 0..200 {
                    let mut bytes = vec![fill; length];
                    corrupt(&mut bytes, &mut random);
                    assert!(bytes.len() <= 2 * length + (8 << 10));
                }
            }
        }
    }
}
