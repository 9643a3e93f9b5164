//! Thousands of random corruptions of an index of every quantizer: each is a typed error, or the
//! file answers without a panic; and nothing takes more memory than the file stands for.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nonius::random::Random;
use nonius_tests::damage::corrupt;
use nonius_tests::file::{QUANTIZER_KINDS, quantizer_kind, samples};
use nonius_tests::probe::{Outcome, open_and_search, reason};

/// Corruptions of each file; every quantizer has at least one.
const CORRUPTIONS: usize = 10_000;

/// The most bytes that opening and searching a file of so many bytes may hold at once: the copy of
/// the file, what is unpacked of it, and the buffers of a search, which do not grow with the file.
fn memory_cap(file: usize) -> u64 {
    2 * file as u64 + (256 << 10)
}

/// Corrupts those of the files for whose numbers `mine` says so.
fn corrupt_files(mine: impl Fn(usize) -> bool + Sync) {
    // Memory is counted for each thread; so all work of an attempt has to stay on one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for (number, (name, original)) in samples().iter().enumerate() {
            if mine(number) {
                corrupt_file(name, original);
            }
        }
    });
}

fn corrupt_file(name: &str, original: &[u8]) {
    let mut random = Random::new(48, crc32c::crc32c(name.as_bytes()).into());
    let (mut refused, mut searched, mut most) = (0, 0, 0);
    let mut reasons = BTreeSet::new();
    for turn in 0..CORRUPTIONS {
        let mut bytes = original.to_vec();
        let what = corrupt(&mut bytes, &mut random);
        let mut outcome = None;
        let start = Instant::now();
        let counted = allocation_counter::measure(|| {
            let attempt = || open_and_search(&bytes, turn % 5 == 0);
            outcome = Some(catch_unwind(AssertUnwindSafe(attempt)));
        });
        let taken = start.elapsed();
        let what = format!("{name}, corruption {turn}: {what}");
        match outcome.expect("the attempt was made") {
            Ok(Outcome::Refused(text)) => {
                refused += 1;
                reasons.insert(reason(&text));
            }
            Ok(Outcome::Searched) => searched += 1,
            Err(_) => panic!("{what}: panicked"),
        }
        let cap = memory_cap(bytes.len());
        assert!(counted.bytes_max <= cap, "{what}: held {} bytes of {cap}", counted.bytes_max);
        assert!(taken < Duration::from_secs(60), "{what}: took {taken:?}");
        most = most.max(counted.bytes_max);
    }
    let (reasons, length) = (reasons.len(), original.len());
    println!(
        "{name}: {refused} refused for {reasons} reasons, {searched} searched, at most {most} bytes \
         held for {length}"
    );
    // Neither is all of it found at the door, nor does all of it pass.
    assert!(refused > CORRUPTIONS / 10 && searched > CORRUPTIONS / 10 && reasons > 50, "{name}");
}

#[test]
fn corruptions_are_refused_or_searched_in_even_files() {
    corrupt_files(|number| number % 2 == 0);
}

#[test]
fn corruptions_are_refused_or_searched_in_odd_files() {
    corrupt_files(|number| number % 2 == 1);
}

/// A quantizer that is added has to be among the samples as well.
#[test]
fn every_quantizer_is_corrupted() {
    let of_sample =
        |name: &str| name.split(' ').find_map(|word| word.parse().ok()).map(quantizer_kind);
    let samples = samples();
    let corrupted: BTreeSet<usize> =
        samples.iter().map(|sample| of_sample(&sample.0).expect("named after it")).collect();
    assert!(corrupted.into_iter().eq(0..QUANTIZER_KINDS));
}
