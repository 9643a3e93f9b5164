//! Damaged and hostile files: opening one is a typed error, or whatever it holds can be searched
//! without a panic, and quickly.
//!
//! Mutations are made by the description in `FORMAT.md` alone. Where a checksum would find them,
//! it is made right again: checksums are no protection against intent.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nonius::random::Random;
use nonius::{Index, SearchParams};
use nonius_tests::damage::{EXTREMES_F32, extremes_32, extremes_64};
use nonius_tests::file::{
    ENTRY, HEADER, Place, ROWS, fix_checksums, kind, place, places, samples, u32_at, u64_at,
};
use nonius_tests::probe::{Outcome, open_and_search};

/// Tries mutations of one file and collects what went wrong.
struct Trial {
    name: String,
    original: Vec<u8>,
    places: Vec<Place>,
    turn: usize,
    refused: usize,
    searched: usize,
    texts: BTreeSet<String>,
    failures: Vec<String>,
}

impl Trial {
    fn new(name: String, original: Vec<u8>) -> Trial {
        let places = places(&original);
        assert_eq!(open_and_search(&original, false), Outcome::Searched);
        let (turn, refused, searched) = (0, 0, 0);
        let (texts, failures) = (BTreeSet::new(), Vec::new());
        Trial { name, original, places, turn, refused, searched, texts, failures }
    }

    fn of(&self, kind: u32) -> Place {
        place(&self.places, kind)
    }

    /// Mutates a copy and opens and searches it; `fix` makes checksums right.
    fn attempt(&mut self, what: &str, fix: bool, mutate: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let mut bytes = self.original.clone();
        mutate(&mut bytes);
        if fix {
            fix_checksums(&mut bytes, &self.places);
        }
        self.turn += 1;
        let scalar = self.turn.is_multiple_of(3);
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| open_and_search(&bytes, scalar)));
        let taken = start.elapsed();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(payload) => {
                let text = payload
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                    .unwrap_or_default();
                self.failures.push(format!("{}: {what}: panic: {text}", self.name));
                Outcome::Searched
            }
        };
        if taken > Duration::from_secs(2) {
            self.failures.push(format!("{}: {what}: took {taken:?}", self.name));
        }
        match &outcome {
            Outcome::Refused(text) => {
                self.refused += 1;
                self.texts.insert(text.chars().filter(|c| !c.is_ascii_digit()).collect());
            }
            Outcome::Searched => self.searched += 1,
        }
        outcome
    }

    /// A mutation that no reader may accept.
    fn must_refuse(&mut self, what: &str, fix: bool, mutate: impl FnOnce(&mut Vec<u8>)) {
        if self.attempt(what, fix, mutate) == Outcome::Searched {
            self.failures.push(format!("{}: {what}: accepted", self.name));
        }
    }
}

fn finish(trials: impl IntoIterator<Item = Trial>) {
    let mut failures = Vec::new();
    for trial in trials {
        failures.extend(trial.failures);
    }
    let shown = failures.len().min(60);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..shown].join("\n"));
}

fn trials() -> impl Iterator<Item = Trial> {
    samples().into_iter().map(|(name, bytes)| Trial::new(name, bytes))
}

#[test]
fn extreme_header_fields() {
    let mut all = Vec::new();
    for mut trial in trials() {
        for at in (8..HEADER - 4).step_by(4) {
            for value in extremes_32(u32_at(&trial.original, at)) {
                let what = format!("header u32 at {at} = {value:#x}");
                let mutate = |bytes: &mut Vec<u8>| {
                    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                };
                if at == 32 && value < 3 {
                    // Another metric is another reading of the same bytes.
                    trial.attempt(&what, true, mutate);
                } else {
                    trial.must_refuse(&what, true, mutate);
                }
            }
        }
        for at in [24, 48, 56] {
            for value in extremes_64(u64_at(&trial.original, at)) {
                let what = format!("header u64 at {at} = {value:#x}");
                trial.must_refuse(&what, true, |bytes| {
                    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                });
            }
        }
        for at in 0..8 {
            let what = format!("magic byte {at}");
            trial.must_refuse(&what, true, |bytes| bytes[at] ^= 0x20);
        }
        all.push(trial);
    }
    finish(all);
}

#[test]
fn extreme_table_entries() {
    let mut all = Vec::new();
    for mut trial in trials() {
        for index in 0..trial.places.len() {
            let entry = HEADER + index * ENTRY;
            for at in (entry..entry + ENTRY).step_by(4) {
                if at == entry + 24 {
                    continue; // The checksum, which is made right again.
                }
                for value in extremes_32(u32_at(&trial.original, at)) {
                    let what = format!("entry {index} u32 at {} = {value:#x}", at - entry);
                    let mutate = |bytes: &mut Vec<u8>| {
                        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                    };
                    // Alignments may fit by chance; bit 0 of the flags allows others to skip. A
                    // section that may be skipped may also be of no kind that is known.
                    let skippable = trial.places[index].kind == kind::LIST_CHECKSUMS;
                    if at == entry + 28
                        || at == entry + 4 && value <= 1 && (value == 1 || skippable)
                        || at == entry && skippable
                    {
                        trial.attempt(&what, true, mutate);
                    } else {
                        trial.must_refuse(&what, true, mutate);
                    }
                }
            }
            for at in [entry + 8, entry + 16] {
                for value in extremes_64(u64_at(&trial.original, at)) {
                    let what = format!("entry {index} u64 at {} = {value:#x}", at - entry);
                    trial.must_refuse(&what, true, |bytes| {
                        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                    });
                }
            }
        }
        // Kinds exchanged: sections of the wrong sizes, or of the right ones in the wrong place.
        for a in 0..trial.places.len() {
            for b in 0..a {
                let kinds = [trial.places[a].kind, trial.places[b].kind];
                trial.attempt(&format!("kinds {kinds:?} exchanged"), true, |bytes| {
                    let (a, b) = (HEADER + a * ENTRY, HEADER + b * ENTRY);
                    bytes[a..a + 4].copy_from_slice(&kinds[1].to_le_bytes());
                    bytes[b..b + 4].copy_from_slice(&kinds[0].to_le_bytes());
                });
            }
        }
        all.push(trial);
    }
    finish(all);
}

#[test]
fn extreme_parameters() {
    let mut all = Vec::new();
    for mut trial in trials() {
        let small = [
            (kind::META, 1),
            (kind::SEGMENTS, 1),
            (kind::LIST_TABLE, 1),
            (kind::MEAN, 3),
            (kind::ROTATION_SCALES, 3),
            (kind::LIST_FACTORS, 5),
            (kind::CENTROIDS, 29),
            (kind::CODEBOOK_SCALES, 37),
            (kind::CODEBOOK_OFFSETS, 37),
            (kind::CODEBOOKS, 997),
            (kind::RANGES, 3),
        ];
        for (kind, stride) in small {
            let section = trial.of(kind);
            for at in (0..section.length).step_by(4 * stride) {
                // Lists are many in some of the files.
                if at > 1024 && kind == kind::LIST_TABLE {
                    break;
                }
                let place = section.offset + at;
                let mut values = extremes_32(u32_at(&trial.original, place));
                values.extend(EXTREMES_F32.map(f32::to_bits));
                for value in values {
                    let what = format!("section {kind} u32 at {at} = {value:#x}");
                    trial.attempt(&what, true, |bytes| {
                        bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
                    });
                }
                if at % 8 == 0 && at + 8 <= section.length {
                    for value in extremes_64(u64_at(&trial.original, place)) {
                        let what = format!("section {kind} u64 at {at} = {value:#x}");
                        trial.attempt(&what, true, |bytes| {
                            bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
                        });
                    }
                }
            }
        }
        assert!(trial.refused > 100 && trial.searched > 100, "{}", trial.name);
        // Not one check refuses all.
        assert!(trial.texts.len() >= 10, "{}: {:?}", trial.name, trial.texts);
        all.push(trial);
    }
    finish(all);
}

/// NaN or infinity in any of the parameters is refused, as are numbers that contradict others.
#[test]
fn parameters_that_make_no_sense_are_refused() {
    let mut all = Vec::new();
    for mut trial in trials() {
        let (meta, segments) = (trial.of(kind::META), trial.of(kind::SEGMENTS));
        let set = |at: usize, value: [u8; 4]| {
            move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&value)
        };
        let not_finite = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        // nlist, blocks, dims, keep, id bytes, additive bytes, lists, family: u64, u64, u32...
        trial.must_refuse("a scale of zero", true, set(meta.offset + 48, [0; 4]));
        trial.must_refuse("a negative scale", true, set(meta.offset + 48, (-1f32).to_le_bytes()));
        for (at, values) in [
            (0, vec![0, 2, 151, u32::MAX]),
            (4, vec![1, u32::MAX]),
            (8, vec![0, u32::MAX]),
            (16, vec![0, 1, 16, 20, 32, u32::MAX]),
            (20, vec![3, 4, u32::MAX]),
            (24, vec![0, 1, 2, 3, 5, 16, u32::MAX]),
            (28, vec![0, 1, 3, 8, u32::MAX]),
            (32, vec![2, 3, u32::MAX]),
            (36, vec![5, 9, 10, 11, u32::MAX]),
            (80, vec![0, 1, 149, 151, u32::MAX]),
            (84, vec![1, u32::MAX]),
            (88, vec![33, 64, u32::MAX]),
            (92, vec![0, 1, 2, 257, u32::MAX]),
            (100, vec![0, 1, 2, 3, 40, 257, u32::MAX]),
            (104, vec![0, 1, 257, u32::MAX]),
        ] {
            for value in values {
                if value != u32_at(&trial.original, meta.offset + at) {
                    let what = format!("meta u32 at {at} = {value:#x}");
                    trial.must_refuse(&what, true, set(meta.offset + at, value.to_le_bytes()));
                }
            }
        }
        for at in (48..80).step_by(4).chain([96]) {
            for value in not_finite {
                let what = format!("meta f32 at {at} = {value}");
                trial.must_refuse(&what, true, set(meta.offset + at, value.to_le_bytes()));
            }
        }
        for entry in (0..segments.length).step_by(40) {
            for (at, values) in [
                (0, vec![0, 1, 4, 7, 12, 28, 1 << 16, 1 << 31, u32::MAX - 7]),
                (4, vec![14, 15, 32, u32::MAX]),
                (8, vec![3, 4, 13, u32::MAX]),
            ] {
                for value in values {
                    let place = segments.offset + entry + at;
                    let what = format!("segments u32 at {} = {value:#x}", entry + at);
                    trial.must_refuse(&what, true, set(place, value.to_le_bytes()));
                }
            }
            for at in (12..40).step_by(4) {
                for value in not_finite {
                    let place = segments.offset + entry + at;
                    let what = format!("segments f32 at {} = {value}", entry + at);
                    trial.must_refuse(&what, true, set(place, value.to_le_bytes()));
                }
            }
        }
        for kind in [
            kind::RANGES,
            kind::MEAN,
            kind::ROTATION_SCALES,
            kind::LIST_FACTORS,
            kind::CENTROIDS,
            kind::CODEBOOK_SCALES,
            kind::CODEBOOK_OFFSETS,
        ] {
            let section = trial.of(kind);
            if section.length == 0 {
                continue;
            }
            for value in not_finite {
                // The last number of a list's factors is an integer.
                let last = if kind == kind::LIST_FACTORS { 8 } else { 4 };
                for at in [0, section.length / 32 * 16, section.length - last] {
                    let what = format!("section {kind} f32 at {at} = {value}");
                    // Centroids are as many as lists and are not read on opening.
                    let mutate = set(section.offset + at, value.to_le_bytes());
                    if kind == kind::CENTROIDS {
                        trial.attempt(&what, true, mutate);
                    } else {
                        trial.must_refuse(&what, true, mutate);
                    }
                }
            }
        }
        all.push(trial);
    }
    finish(all);
}

/// Bytes that have no meaning are zero, so that they can be given one.
#[test]
fn reserved_bytes_are_refused() {
    let mut all = Vec::new();
    for mut trial in trials() {
        let meta = trial.of(kind::META);
        // Each kind of codes has fields that mean nothing to others, and one is for `prq` alone. Columns of
        // one bit are in none of these files.
        let (saq, codebooks) = ([60, 64, 68, 72, 76], [92, 100]);
        let spec = trial.original[meta.offset + 36];
        let mut other = match spec {
            0..3 => codebooks.to_vec(),
            3..11 => saq.to_vec(),
            _ => [&saq[..], &codebooks].concat(),
        };
        if !matches!(spec, 3..14) {
            other.push(96);
        }
        if !matches!(spec, 9 | 10) {
            other.push(104);
        }
        for at in other.into_iter().chain([108]) {
            let what = format!("meta reserved at {at}");
            trial.must_refuse(&what, true, |bytes| bytes[meta.offset + at] = 1);
        }
        all.push(trial);
    }
    finish(all);
}

#[test]
fn outliers_that_are_out_of_order_are_refused() {
    let mut all = Vec::new();
    for mut trial in trials() {
        let positions = trial.of(kind::OUTLIER_POSITIONS);
        for at in (0..positions.length).step_by(8) {
            let place = positions.offset + at;
            let found = u64_at(&trial.original, place);
            let before = if at > 0 { u64_at(&trial.original, place - 8) } else { 0 };
            let after = match at + 8 == positions.length {
                true => ROWS as u64,
                false => u64_at(&trial.original, place + 8),
            };
            let least = before + u64::from(at > 0);
            for value in extremes_64(found).into_iter().chain([before, after, ROWS as u64]) {
                let what = format!("outlier-positions u64 at {at} = {value:#x}");
                let mutate = |bytes: &mut Vec<u8>| {
                    bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
                };
                if (least..after).contains(&value) {
                    trial.attempt(&what, true, mutate);
                } else {
                    trial.must_refuse(&what, true, mutate);
                }
            }
        }
        all.push(trial);
    }
    finish(all);
}

#[test]
fn a_list_table_that_does_not_add_up_is_refused() {
    let mut all = Vec::new();
    for mut trial in trials() {
        let table = trial.of(kind::LIST_TABLE);
        for at in (0..table.length.min(2048)).step_by(8) {
            let place = table.offset + at;
            for value in extremes_64(u64_at(&trial.original, place)) {
                let what = format!("list-table u64 at {at} = {value:#x}");
                let mutate = |bytes: &mut Vec<u8>| {
                    bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
                };
                // A boundary between two lists may move within the same blocks.
                let counts = at % 24 != 8;
                if counts && value <= ROWS as u64 && at >= 24 && at + 24 < table.length {
                    trial.attempt(&what, true, mutate);
                } else {
                    trial.must_refuse(&what, true, mutate);
                }
            }
        }
        all.push(trial);
    }
    finish(all);
}

#[test]
fn files_cut_off_or_too_long_are_refused() {
    let mut all = Vec::new();
    for mut trial in trials() {
        let length = trial.original.len();
        let mut cuts: BTreeSet<usize> = (0..300.min(length)).collect();
        for place in trial.places.clone() {
            for end in [place.offset, place.offset + place.length] {
                cuts.extend(end.saturating_sub(2)..(end + 2).min(length));
            }
        }
        let mut random = Random::new(42, 1);
        cuts.extend((0..100).map(|_| random.below(length as u64) as usize));
        for cut in cuts {
            trial.must_refuse(&format!("cut to {cut}"), false, |bytes| bytes.truncate(cut));
            trial.must_refuse(&format!("cut to {cut}, length right"), true, |bytes| {
                bytes.truncate(cut);
                if cut >= 64 {
                    bytes[56..64].copy_from_slice(&(cut as u64).to_le_bytes());
                }
            });
        }
        for more in [1, 63, 64, 4096] {
            trial.must_refuse(&format!("{more} bytes more"), false, |bytes| {
                bytes.resize(length + more, 0);
            });
            trial.must_refuse(&format!("{more} bytes more, length right"), true, |bytes| {
                bytes.resize(length + more, 0);
                bytes[56..64].copy_from_slice(&((length + more) as u64).to_le_bytes());
            });
        }
        all.push(trial);
    }
    finish(all);
}

#[test]
fn random_damage() {
    let mut all = Vec::new();
    let mut random = Random::new(43, 1);
    for mut trial in trials() {
        let places = trial.places.clone();
        for turn in 0..600 {
            // Most sections are small; give each the same share of the damage.
            let section = places[random.below(places.len() as u64) as usize];
            let range = match turn % 4 {
                0 => 0..trial.original.len(),
                1 => 0..HEADER + places.len() * ENTRY,
                _ if section.length == 0 => 0..HEADER,
                _ => section.offset..section.offset + section.length,
            };
            let count = 1 << random.below(7);
            let seed = random.next_u64();
            let what = format!("{count} changes with seed {seed:#x} in {range:?}");
            trial.attempt(&what, turn % 8 != 0, |bytes| {
                let mut random = Random::new(seed, 2);
                for _ in 0..count {
                    let at = range.start + random.below(range.len() as u64) as usize;
                    match random.below(4) {
                        0 => bytes[at] = random.next_u64() as u8,
                        1 => bytes[at] = 0xff,
                        2 => bytes[at] = 0,
                        _ => bytes[at] ^= 1 << random.below(8),
                    }
                }
            });
        }
        assert!(trial.refused > 50 && trial.searched > 50, "{}", trial.name);
        all.push(trial);
    }
    finish(all);
}

/// Codes, factors, ids and kept vectors are not read on opening: anything may stand there.
#[test]
fn bodies_of_nonsense_are_searched() {
    let mut all = Vec::new();
    let mut random = Random::new(44, 1);
    let bodies = [
        kind::SCAN,
        kind::SPILLED,
        kind::REST,
        kind::IDS,
        kind::KEPT,
        kind::OUTLIER_VECTORS,
        kind::CENTROIDS,
        kind::CENTROIDS_PACKED,
        kind::ROTATION,
        kind::CODEBOOKS,
    ];
    for mut trial in trials() {
        for body in bodies {
            let section = trial.of(body);
            for fill in [0x00, 0xff, 0x7f, 0x80, 0x01, 0x55] {
                let what = format!("section {body} filled with {fill:#x}");
                let outcome = trial.attempt(&what, true, |bytes| {
                    bytes[section.offset..section.offset + section.length].fill(fill);
                });
                assert_eq!(outcome, Outcome::Searched, "{what}");
            }
            for _ in 0..10 {
                let seed = random.next_u64();
                let what = format!("section {body} filled with seed {seed:#x}");
                let outcome = trial.attempt(&what, true, |bytes| {
                    let mut random = Random::new(seed, 3);
                    for byte in &mut bytes[section.offset..section.offset + section.length] {
                        *byte = random.next_u64() as u8;
                    }
                });
                assert_eq!(outcome, Outcome::Searched, "{what}");
            }
        }
        all.push(trial);
    }
    finish(all);
}

/// A file whose rotation is a hole of half a gigabyte: a dimension that no build makes, but whose
/// sections have the right sizes. The kernels' limit of 16,384 fields must not become a panic.
#[test]
#[cfg(unix)]
fn a_dimension_that_no_build_makes() {
    let dim: u32 = 16_392;
    let wide = dim as usize;
    let mut meta = Vec::new();
    for value in [1u64, 1] {
        meta.extend(value.to_le_bytes());
    }
    // dims, keep, id bytes, additive bytes, lists, family 2 (one segment) of 4 bits.
    for value in [dim, 0, 4, 2, 0, 2, 4, 0] {
        meta.extend(value.to_le_bytes());
    }
    // Scale, lowest additive factor and its step, correction, step of the shift, noise.
    for value in [1.0f32, 0.0, 1.0, 0.0, 1.0, 1.0] {
        meta.extend(value.to_le_bytes());
    }
    meta.resize(112, 0);
    let mut segment = Vec::new();
    for value in [dim, 4, 0] {
        segment.extend(value.to_le_bytes());
    }
    for value in [1.0f32; 7] {
        segment.extend(value.to_le_bytes());
    }
    let table: Vec<u8> = [0u64, 0, 0, 1, 1, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let packed = wide.next_multiple_of(16) * wide * 2;
    let sections = [
        (kind::META, 64, 112, meta),
        (kind::SEGMENTS, 64, 40, segment),
        (kind::MEAN, 64, wide * 4, Vec::new()),
        (kind::ROTATION_SCALES, 64, wide * 4, Vec::new()),
        (kind::ROTATION, 64, packed, Vec::new()),
        (kind::LIST_FACTORS, 64, 0, Vec::new()),
        (kind::CENTROIDS_PACKED, 64, 0, Vec::new()),
        (kind::CENTROIDS, 64, 0, Vec::new()),
        (kind::LIST_TABLE, 64, 48, table),
        (kind::SCAN, 4096, 64, Vec::new()),
        (kind::SPILLED, 4096, 0, Vec::new()),
        (kind::REST, 4096, wide / 2 + 1, Vec::new()),
        (kind::IDS, 4096, 4, Vec::new()),
        (kind::KEPT, 4096, 0, Vec::new()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hole");
    write_sparse(&path, dim, 1, 0, &sections);
    let outcome = catch_unwind(|| match Index::open(&path) {
        Ok(index) => {
            let found = index.search(&vec![1.0; wide], 1, &SearchParams::default()).unwrap();
            assert_eq!(found.len(), 1);
            Outcome::Searched
        }
        Err(error) => Outcome::Refused(error.to_string()),
    });
    match outcome.expect("neither opening nor searching panics") {
        // The sizes are right: what is refused is the dimension or the segment.
        Outcome::Refused(text) => assert!(text.contains("16392"), "{text}"),
        Outcome::Searched => {}
    }
}

/// Writes a file with the given sections (kind, alignment, length, first bytes), the rest holes.
#[cfg(unix)]
fn write_sparse(
    path: &std::path::Path,
    dim: u32,
    count: u64,
    metric: u32,
    sections: &[(u32, usize, usize, Vec<u8>)],
) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    let mut table = Vec::new();
    let mut end = HEADER + sections.len() * ENTRY + 4;
    for (kind, alignment, length, bytes) in sections {
        let offset = end.next_multiple_of(*alignment);
        end = offset + length;
        file.write_all_at(bytes, offset as u64).unwrap();
        table.extend(kind.to_le_bytes());
        table.extend(0u32.to_le_bytes());
        table.extend((offset as u64).to_le_bytes());
        table.extend((*length as u64).to_le_bytes());
        table.extend(0u32.to_le_bytes());
        table.extend((*alignment as u32).to_le_bytes());
        table.extend(0u64.to_le_bytes());
    }
    let sum = crc32c::crc32c(&table);
    table.extend(sum.to_le_bytes());
    let mut header = b"NONIUS\x1a\x0a".to_vec();
    for value in [1, HEADER as u32, 0, dim] {
        header.extend(value.to_le_bytes());
    }
    header.extend(count.to_le_bytes());
    for value in [metric, 1, sections.len() as u32, 0] {
        header.extend(value.to_le_bytes());
    }
    header.extend((HEADER as u64).to_le_bytes());
    header.extend((end as u64).to_le_bytes());
    header.resize(124, 0);
    let sum = crc32c::crc32c(&header);
    header.extend(sum.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
    file.write_all_at(&table, HEADER as u64).unwrap();
    file.set_len(end as u64).unwrap();
}
