//! Searches that compare each list with its checksum when they first read it; and files that shrink
//! while they are mapped.

use std::collections::BTreeSet;
use std::ops::Range;

use nonius::random::Random;
use nonius::{
    Index, IndexConfig, Keep, Matrix, Metric, OpenError, OpenOptions, SearchError, SearchParams,
};
use nonius_tests::damage::{assemble, reseal, take_apart};
use nonius_tests::file::{Place, kind, place, places, samples, u32_at, u64_at};
use nonius_tests::{all_lists, bits, config, synthetic, without_kept};

fn checked(bytes: &[u8]) -> Result<Index, OpenError> {
    OpenOptions::new().check_lists(true).from_bytes(bytes)
}

fn query(dim: usize) -> Vec<f32> {
    (0..dim).map(|i| (i as f32 * 0.7).sin() + 0.1).collect()
}

/// An entry of `list-table` by the format: the first vector, block and copy of a list.
fn list_entry(bytes: &[u8], table: Place, list: usize) -> [usize; 3] {
    [0, 8, 16].map(|field| u64_at(bytes, table.offset + 24 * list + field) as usize)
}

/// Where the parts of a list lie in the file, and whether they are kept vectors.
fn parts_of_list(bytes: &[u8], index: &Index, list: usize) -> Vec<(Range<usize>, bool)> {
    let places = places(bytes);
    let table = place(&places, kind::LIST_TABLE);
    let last = list_entry(bytes, table, index.nlist());
    let [start, end] = [list, list + 1].map(|list| list_entry(bytes, table, list));
    // What a number stands for, of the whole section's numbers.
    [(kind::SCAN, 1), (kind::SPILLED, 2), (kind::REST, 0), (kind::IDS, 0), (kind::KEPT, 0)]
        .into_iter()
        .filter_map(|(kind, by)| {
            let place = place(&places, kind);
            let stride = place.length.checked_div(last[by])?;
            let range = place.offset + start[by] * stride..place.offset + end[by] * stride;
            (!range.is_empty()).then_some((range, kind == kind::KEPT))
        })
        .collect()
}

#[test]
fn whole_files_answer_the_same() {
    for (name, bytes) in samples() {
        let (plain, checked) = (Index::from_bytes(&bytes).unwrap(), checked(&bytes).unwrap());
        let query = query(plain.dim());
        for rerank in [0, 30] {
            if rerank > 0 && plain.keep() == Keep::None {
                continue;
            }
            for nprobe in [1, usize::MAX] {
                let params = SearchParams { nprobe, rerank, ..SearchParams::default() };
                let [one, two] =
                    [&plain, &checked].map(|index| index.search(&query, 20, &params).unwrap());
                assert_eq!(bits(&one), bits(&two), "{name}");
            }
        }
    }
}

/// One flipped bit in any part of any list is met by the searches that read the list, the first and every
/// later one, and by no other.
#[test]
fn damage_to_a_list_is_met_when_it_is_read() {
    let mut random = Random::new(7, 0);
    for (name, original) in samples() {
        let whole = Index::from_bytes(&original).unwrap();
        let query = query(whole.dim());
        let two = Matrix::new(whole.dim(), [&query[..], &query[..]].concat()).unwrap();
        for _ in 0..6 {
            let list = random.below(whole.nlist() as u64) as usize;
            for (range, kept) in parts_of_list(&original, &whole, list) {
                let mut bytes = original.clone();
                let at = range.start + random.below(range.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                let what = format!("{name}: list {list}, byte {at}");
                let index = checked(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
                let plain = SearchParams { confidence: f32::MAX, ..all_lists() };
                let params = SearchParams { rerank: if kept { 1000 } else { 0 }, ..plain };
                let damaged = SearchError::Damaged {
                    list,
                    what: if kept { "kept vectors" } else { "codes" },
                };
                for _ in 0..2 {
                    let found = index.search(&query, 5, &params);
                    assert_eq!(found, Err(damaged.clone()), "{what}");
                    let found = index.search_batch(two.view(), 5, &params);
                    assert_eq!(found.unwrap_err(), damaged, "{what}");
                }
                // Without rerank nobody reads kept vectors; without checks nobody sees.
                if kept {
                    let [one, two] =
                        [&index, &whole].map(|index| index.search(&query, 5, &plain).unwrap());
                    assert_eq!(bits(&one), bits(&two), "{what}");
                }
                assert!(Index::from_bytes(&bytes).unwrap().search(&query, 5, &plain).is_ok());
            }
        }
    }
}

/// Searches of other lists go on.
#[test]
fn other_lists_are_searched() {
    let (base, _) = synthetic(3000, 16, 5);
    let built = Index::build(&base, &config(Metric::L2, "saq:4", 40)).unwrap();
    let mut bytes = built.as_bytes().to_vec();
    for (range, _) in parts_of_list(&bytes.clone(), &built, 17) {
        bytes[range.start] ^= 1;
    }
    let index = checked(&bytes).unwrap();
    let params = SearchParams { nprobe: 3, ..SearchParams::default() };
    let (mut met, mut answered) = (0, 0);
    for row in 0..300 {
        match index.search(base.row(row * 10), 5, &params) {
            Ok(found) => {
                let expected = built.search(base.row(row * 10), 5, &params).unwrap();
                assert_eq!(bits(&found), bits(&expected));
                answered += 1;
            }
            Err(error) => {
                assert_eq!(error, SearchError::Damaged { list: 17, what: "codes" });
                met += 1;
            }
        }
    }
    assert!(met > 3 && answered > 200, "{met} {answered}");
}

/// Threads that read lists for the first time at the same moment find the same.
#[test]
fn many_threads_check_lists_at_once() {
    let (base, _) = synthetic(3000, 16, 5);
    let config = IndexConfig { spill: 0.5, keep: Keep::F32, ..config(Metric::L2, "saq:4", 40) };
    let built = Index::build(&base, &config).unwrap();
    let mut bytes = built.as_bytes().to_vec();
    for (range, _) in parts_of_list(&bytes.clone(), &built, 17) {
        bytes[range.start] ^= 1;
    }
    let params = SearchParams { nprobe: 4, rerank: 20, ..SearchParams::default() };
    let answer = |index: &Index, row: usize| {
        index.search(base.row(row), 5, &params).map(|found| bits(&found))
    };
    let alone = checked(&bytes).unwrap();
    let expected: Vec<_> = (0..300).map(|row| answer(&alone, row * 10)).collect();
    assert!(expected.iter().any(|found| found.is_ok()));
    assert!(expected.iter().any(|found| found.is_err()));
    for _ in 0..5 {
        let index = checked(&bytes).unwrap();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (index, expected, start, answer) = (&index, &expected, &start, &answer);
                scope.spawn(move || {
                    start.wait();
                    for turn in 0..300 {
                        let at = (turn * 7 + thread * 41) % 300;
                        assert_eq!(answer(index, at * 10), expected[at], "row {at}");
                    }
                });
            }
        });
    }
}

/// A copy stands for a vector of a list that need not be searched: its damage is met all the same.
#[test]
fn damage_behind_a_copy_is_met() {
    const LISTS: usize = 20;
    let (base, _) = synthetic(1000, 16, 6);
    let config = IndexConfig { spill: 1.0, ..config(Metric::L2, "saq:6", LISTS) };
    let built = Index::build(&base, &without_kept(config)).unwrap();
    let mut bytes = built.as_bytes().to_vec();
    // All rows of `rest` are changed, and the damage of lists of even numbers is sealed.
    let places = places(&bytes);
    let rest = place(&places, kind::REST);
    bytes[rest.offset..rest.offset + rest.length].iter_mut().for_each(|byte| *byte ^= 0x10);
    let sums = place(&places, kind::LIST_CHECKSUMS);
    for list in (0..LISTS).step_by(2) {
        let parts = parts_of_list(&bytes, &built, list).into_iter();
        let whole: Vec<u8> = parts.flat_map(|(range, _)| bytes[range].to_vec()).collect();
        let sum = crc32c::crc32c(&whole).to_le_bytes();
        bytes[sums.offset + 4 * list..][..4].copy_from_slice(&sum);
    }
    reseal(&mut bytes);
    let index = checked(&bytes).unwrap();
    // The ids of each list, which are the numbers of rows.
    let (table, ids) = (place(&places, kind::LIST_TABLE), place(&places, kind::IDS));
    let members: Vec<BTreeSet<u64>> = (0..LISTS)
        .map(|list| {
            let [start, end] = [list, list + 1].map(|list| list_entry(&bytes, table, list)[0]);
            (start..end).map(|at| u32_at(&bytes, ids.offset + 4 * at).into()).collect()
        })
        .collect();
    let params = SearchParams { nprobe: 1, ..SearchParams::default() };
    let (mut behind, mut untouched) = (0, 0);
    for row in 0..1000 {
        // The list that is searched is the one all of whose vectors are found.
        let found = built.search(base.row(row), 1000, &params).unwrap();
        let found: BTreeSet<u64> = found.iter().map(|n| n.id).collect();
        let searched = (0..LISTS).find(|&list| members[list].is_subset(&found)).unwrap();
        match index.search(base.row(row), 1000, &params) {
            Ok(_) => {
                assert!(searched % 2 == 0, "row {row}: list {searched}");
                untouched += 1;
            }
            Err(SearchError::Damaged { list, what: "codes" }) => {
                assert!(list % 2 == 1, "row {row}: list {list}");
                // All copies were refined, as all of their vectors were asked for.
                let odd = |id: &u64| (1..LISTS).step_by(2).any(|list| members[list].contains(id));
                assert!(found.iter().any(odd), "row {row}");
                behind += usize::from(searched % 2 == 0);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(behind > 100, "{behind} behind copies, {untouched} without damage");
}

/// What opening does not read list by list is compared at once.
#[test]
fn damage_to_small_sections_is_met_on_opening() {
    let mut random = Random::new(8, 0);
    for (name, original) in samples() {
        let of_lists = [kind::SCAN, kind::SPILLED, kind::REST, kind::IDS, kind::KEPT];
        for place in places(&original) {
            if place.length == 0 || of_lists.contains(&place.kind) {
                continue;
            }
            let mut bytes = original.clone();
            let at = place.offset + random.below(place.length as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            // Some of it makes no sense and is refused before any checksum is computed.
            match checked(&bytes) {
                Err(OpenError::Checksum { offset, .. }) => {
                    assert_eq!(offset, place.offset as u64, "{name}: byte {at}");
                }
                Err(OpenError::Corrupt { .. }) => {}
                other => panic!("{name}: byte {at}: {other:?}"),
            }
        }
    }
}

/// A file without checksums of lists is verified whole.
#[test]
fn files_without_checksums_of_lists_are_verified() {
    for (name, original) in samples() {
        let mut pieces = take_apart(&original);
        pieces.retain(|piece| piece.kind != kind::LIST_CHECKSUMS);
        let mut bytes = assemble(&original, &pieces);
        let index = checked(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let query = query(index.dim());
        let whole = Index::from_bytes(&original).unwrap();
        let [one, two] =
            [&index, &whole].map(|index| index.search(&query, 9, &all_lists()).unwrap());
        assert_eq!(bits(&one), bits(&two), "{name}");
        let scan = place(&places(&bytes), kind::SCAN);
        bytes[scan.offset + scan.length / 2] ^= 4;
        let error = checked(&bytes).unwrap_err();
        assert!(matches!(error, OpenError::Checksum { what: "scan", .. }), "{name}: {error}");
    }
}

/// A mapped file that another program shortens: the next search says so, instead of the system ending
/// the process. (Windows does not let anybody shorten it.)
#[test]
#[cfg(unix)]
fn a_file_that_was_shortened_is_reported_by_searches() {
    let (base, _) = synthetic(3000, 16, 9);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let built = Index::build(&base, &config(Metric::L2, "saq:4", 20)).unwrap();
    built.save(&path).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    for check in [false, true] {
        let open = |into_memory| {
            let options = OpenOptions::new().check_lists(check).into_memory(into_memory);
            options.open(&path).unwrap()
        };
        let (mapped, read) = (open(false), open(true));
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(mapped.search(base.row(0), 3, &all_lists()).is_ok());
        for shorter in [length - 1, length / 2, 0] {
            file.set_len(shorter).unwrap();
            let expected = SearchError::Shortened { expected: length, found: shorter };
            assert_eq!(mapped.search(base.row(0), 3, &all_lists()), Err(expected.clone()));
            let batch = mapped.search_batch(base.view(), 3, &all_lists());
            assert_eq!(batch.unwrap_err(), expected);
            let error = mapped.check_file().unwrap_err();
            assert!(matches!(error, OpenError::Truncated { .. }), "{error}");
            assert!(matches!(mapped.verify(), Err(OpenError::Truncated { .. })));
            // What was read into memory is as it was.
            read.check_file().unwrap();
            read.verify().unwrap();
            assert!(read.search(base.row(0), 3, &all_lists()).is_ok());
        }
        built.save(&path).unwrap();
    }
}
