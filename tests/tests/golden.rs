//! Files that were written once, and what they must give for ever after.
//!
//! `golden/vN/` has an index file of every quantizer in version N of the format, and `answers.txt` with
//! what searches of them found. Each file must open, verify and give the same answers in every later
//! version. `golden/builds.txt` has the checksums of the sections that builds of the same input have now:
//! they may change with a version that says so, but with no dependency, processor or number of threads.
//! (Files whose names end in `-unsummed` are from before there were checksums of lists.)
//!
//! ```sh
//! cargo test -p nonius-tests --test golden -- --ignored rewrite
//! ```
//!
//! writes the files that are missing, of quantizers that are new, and both texts anew. It touches no
//! file that is there: what an older library wrote stays a witness. What it changes shows in the diff.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use nonius::random::Random;
use nonius::{
    Encoding, Index, IndexBuilder, IndexConfig, Keep, Matrix, Metric, OpenError, SearchParams,
};
use nonius_simd::{available, with_level};
use nonius_tests::damage::{Piece, assemble, reseal, take_apart};
use nonius_tests::file::{self, QUANTIZER_KINDS, quantizer_kind};
use nonius_tests::{all_lists, bits, config};
use rayon::ThreadPoolBuilder;

/// The version of the format that builds have.
const VERSION: u32 = 1;
const ROWS: usize = 200;
/// Not a multiple of what kernels like.
const DIM: usize = 19;
const QUERIES: usize = 4;

/// How an index of the golden input is built.
struct Case {
    config: IndexConfig,
    /// Norms that differ by orders of magnitude.
    wide: bool,
    /// Ids that need 8 bytes.
    large_ids: bool,
    /// Every eighth vector counts for more.
    weighted: bool,
}

impl Case {
    /// The name of the file.
    fn name(&self) -> String {
        let config = &self.config;
        let mut name = config.quantizer.to_string().replace([':', '.'], "-");
        let _ = write!(name, "-{}-{}", config.metric, config.nlist.unwrap());
        if config.spill > 0.0 {
            let _ = write!(name, "-spill{}", (config.spill * 100.0).round());
        }
        if config.keep != Keep::None {
            let _ = write!(name, "-{}", config.keep);
        }
        for (flag, word) in [
            (config.encoding == Encoding::Fast, "fast"),
            (config.outlier_bytes > 0.0, "outliers"),
            (config.anisotropic.is_some(), "anisotropic"),
            (self.wide, "wide"),
            (self.large_ids, "ids8"),
            (self.weighted, "weighted"),
        ] {
            if flag {
                let _ = write!(name, "-{word}");
            }
        }
        name
    }

    fn build(&self) -> Index {
        let base = base(self.wide);
        let ids: Vec<u64> =
            (0..ROWS as u64).map(|i| (i * 7) << (32 * u64::from(self.large_ids))).collect();
        let weights: Vec<f32> = (0..ROWS).map(|i| if i % 8 == 0 { 5.0 } else { 1.0 }).collect();
        let mut builder = IndexBuilder::new(&self.config).ids(&ids);
        if self.weighted {
            builder = builder.weights(&weights);
        }
        builder.build(&base).unwrap_or_else(|error| panic!("{}: {error}", self.name())).0
    }
}

/// Every quantizer, and every variant of what an index has beside its codes.
fn cases() -> Vec<Case> {
    let case = |metric, quantizer, nlist, spill, keep| Case {
        config: IndexConfig { keep, spill, ..config(metric, quantizer, nlist) },
        wide: false,
        large_ids: false,
        weighted: false,
    };
    use Metric::{Cosine, InnerProduct, L2};
    let mut cases = vec![
        case(L2, "saq:4", 1, 0.0, Keep::F16),
        Case { large_ids: true, ..case(L2, "saq:4", 5, 1.0, Keep::F32) },
        case(Cosine, "saq:0.5", 4, 0.5, Keep::F16),
        case(InnerProduct, "saq:2.5", 3, 0.0, Keep::None),
        case(L2, "saq:11B", 4, 0.3, Keep::None),
        Case { large_ids: true, ..case(InnerProduct, "rabitq", 1, 0.0, Keep::F16) },
        Case { wide: true, ..case(L2, "erabitq:13", 1, 0.0, Keep::None) },
        case(Cosine, "erabitq:4", 200, 1.0, Keep::F32),
        Case { wide: true, large_ids: true, ..case(L2, "saq:12", 6, 0.0, Keep::F32) },
        case(L2, "rvq:6B", 4, 0.5, Keep::F16),
        Case { wide: true, ..case(InnerProduct, "rvq:5B", 1, 0.0, Keep::None) },
        Case { large_ids: true, ..case(InnerProduct, "pq:5B", 1, 0.0, Keep::F16) },
        case(Cosine, "opq:6B", 5, 0.5, Keep::None),
        case(L2, "prq:2x6B", 3, 0.0, Keep::F16),
        case(L2, "pq4:5B", 5, 0.5, Keep::F16),
        case(InnerProduct, "opq4:6B", 1, 0.0, Keep::None),
        case(L2, "pq3:6B", 4, 0.5, Keep::None),
        case(Cosine, "rvq9:7B", 1, 0.0, Keep::None),
        case(L2, "sq:6", 4, 0.5, Keep::F16),
        Case { wide: true, large_ids: true, ..case(InnerProduct, "sq:4", 1, 0.0, Keep::None) },
        case(Cosine, "lvq:4x3", 5, 0.5, Keep::None),
        Case { wide: true, ..case(InnerProduct, "lvq:8", 1, 0.0, Keep::F16) },
        Case { wide: true, ..case(L2, "f16", 1, 0.0, Keep::None) },
        Case { large_ids: true, ..case(InnerProduct, "bf16", 6, 0.5, Keep::F16) },
        Case { weighted: true, ..case(L2, "pq:6B", 4, 0.0, Keep::None) },
        // The files of the other quantizers that rotate nothing are from when they stored a matrix that does nothing.
        case(L2, "pq:7B", 3, 0.5, Keep::None),
        case(InnerProduct, "sq:8", 1, 0.0, Keep::F32),
        case(L2, "lvq:4x4", 4, 0.0, Keep::None),
        case(Cosine, "f16", 5, 0.0, Keep::None),
        case(Cosine, "f32", 5, 0.5, Keep::None),
    ];
    let mut fast = case(L2, "saq:4", 4, 0.0, Keep::None);
    fast.config.encoding = Encoding::Fast;
    let mut anisotropic = case(InnerProduct, "pq4:6B", 4, 0.0, Keep::None);
    anisotropic.config.anisotropic = Some(0.2);
    // One of ten vectors.
    let outlier_bytes = (4 * DIM + 8) as f64 / 10.0;
    let outliers =
        [case(L2, "rvq:7B", 4, 0.5, Keep::F16), case(InnerProduct, "saq:3", 1, 0.0, Keep::None)];
    cases.extend([fast, anisotropic]);
    cases.extend(
        outliers.map(|case| Case { config: IndexConfig { outlier_bytes, ..case.config }, ..case }),
    );
    cases
}

/// The vectors: some around each of nine centres, in dimensions that matter less and less. Made here, by
/// the library's random numbers and arithmetic that is exact to the bit everywhere.
fn base(wide: bool) -> Matrix {
    let values = vectors(ROWS, 1);
    let factor = |row: usize| match wide {
        true => [0.01, 0.5, 1.0, 3.0, 200.0][row % 5],
        false => 1.0,
    };
    let values = values.iter().enumerate().map(|(i, &x)| x * factor(i / DIM)).collect();
    Matrix::new(DIM, values).unwrap()
}

fn queries() -> Matrix {
    Matrix::new(DIM, vectors(QUERIES, 2)).unwrap()
}

fn vectors(rows: usize, stream: u64) -> Vec<f32> {
    let mut centres = Random::new(2024, 0);
    let centres: Vec<f64> = (0..9 * DIM).map(|_| centres.normal()).collect();
    let mut random = Random::new(2024, stream);
    let mut values = Vec::new();
    for row in 0..rows {
        for column in 0..DIM {
            let weight = 1.0 / (1.0 + column as f64 / 4.0);
            let value = centres[row % 9 * DIM + column] + 0.4 * random.normal();
            values.push((weight * value) as f32);
        }
    }
    values
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Every committed file, and the version of its folder.
fn files() -> Vec<(u32, PathBuf)> {
    let mut files = Vec::new();
    for version in 1..=VERSION {
        let folder = folder().join(format!("v{version}"));
        let of_version = nonius_tests::files_in(&folder).into_iter();
        let indexes = of_version.filter(|name| name.ends_with(".nonius"));
        files.extend(indexes.map(|name| (version, folder.join(name))));
    }
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// What searches find: a line for each query and choice of parameters, with ids and the bits of distances.
fn answers(name: &str, index: &Index) -> String {
    let queries = queries();
    let mut lines = String::new();
    let mut choices = vec![
        ("two", SearchParams { nprobe: 2, ..SearchParams::default() }),
        ("all", all_lists()),
        ("sure", SearchParams { confidence: 1e6, ..all_lists() }),
    ];
    if index.keep() != Keep::None {
        choices.push(("rerank", SearchParams { rerank: 25, ..all_lists() }));
    }
    for (choice, params) in choices {
        let (batch, _) = index.search_batch(queries.view(), 8, &params).unwrap();
        for (number, found) in batch.iter().enumerate() {
            let alone = index.search(queries.row(number), 8, &params).unwrap();
            assert_eq!(bits(found), bits(&alone), "{name} {choice} {number}");
            let _ = write!(lines, "{name} {choice} {number}");
            for (id, distance) in bits(found) {
                let _ = write!(lines, " {id}:{distance:08x}");
            }
            lines.push('\n');
        }
    }
    lines
}

/// The length of a file and the checksum of each of its sections: where two differ, this says in what.
fn sums(name: &str, bytes: &[u8]) -> String {
    let mut line = format!("{name} {}", bytes.len());
    for place in file::places(bytes) {
        let sum = crc32c::crc32c(&bytes[place.offset..place.offset + place.length]);
        let _ = write!(line, " {}:{sum:08x}", place.kind);
    }
    let _ = writeln!(line, " all:{:08x}", crc32c::crc32c(bytes));
    line
}

/// The first line in which two texts differ.
fn assert_same_lines(found: &str, expected: &str, what: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{what}");
}

#[test]
fn golden_files_open_verify_and_answer() {
    for level in available() {
        let mut found = vec![String::new(); VERSION as usize];
        in_pool(1, || {
            with_level(level, || {
                for (version, path) in files() {
                    let name = path.file_stem().unwrap().to_str().unwrap();
                    let index = Index::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
                    index.verify().unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert_eq!(index.info().version, version, "{name}");
                    found[version as usize - 1] += &answers(name, &index);
                }
            });
        });
        for (number, found) in found.iter().enumerate() {
            let version = number + 1;
            let expected = text(&folder().join(format!("v{version}/answers.txt")));
            assert_same_lines(found, &expected, &format!("version {version} at {level}"));
        }
    }
}

/// The sums of all builds.
fn builds() -> String {
    cases().iter().map(|case| sums(&case.name(), case.build().as_bytes())).collect()
}

#[test]
fn builds_have_the_golden_bytes_with_any_number_of_threads() {
    let expected = text(&folder().join("builds.txt"));
    for threads in [1, 2, 7] {
        assert_same_lines(&in_pool(threads, builds), &expected, &format!("{threads} threads"));
    }
}

#[test]
fn builds_have_the_golden_bytes_at_every_level() {
    let expected = text(&folder().join("builds.txt"));
    for level in available() {
        // One thread, as a level is forced for the thread that asks for it.
        let found = in_pool(1, || with_level(level, builds));
        assert_same_lines(&found, &expected, &format!("at {level}"));
    }
}

/// A quantizer that is added has to be among the files as well.
#[test]
fn every_quantizer_has_a_golden_file() {
    let kinds: BTreeSet<usize> = files()
        .iter()
        .map(|(_, path)| quantizer_kind(Index::open(path).unwrap().info().quantizer))
        .collect();
    assert!(kinds.into_iter().eq(0..QUANTIZER_KINDS));
    let names: BTreeSet<String> = cases().iter().map(Case::name).collect();
    assert_eq!(names.len(), cases().len(), "two cases have one name");
    let files: BTreeSet<String> = files()
        .iter()
        .filter(|(version, _)| *version == VERSION)
        .map(|(_, path)| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(names.is_subset(&files), "{:?} have no file", names.difference(&files));
}

/// Files of a later library: of a newer version they are refused by its number; with a section that is not
/// known they give the same answers if it may be skipped, and are refused by its number if not.
#[test]
fn files_of_a_later_library_are_refused_or_understood() {
    const UNKNOWN: u32 = 0x4e4f_4e45;
    for (_, path) in files() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for version in [VERSION + 1, u32::MAX] {
            let mut newer = bytes.clone();
            newer[8..12].copy_from_slice(&version.to_le_bytes());
            reseal(&mut newer);
            match Index::from_bytes(&newer).unwrap_err() {
                OpenError::Version { found, newest } => {
                    assert_eq!((found, newest), (version, VERSION))
                }
                error => panic!("{name}: {error}"),
            }
        }
        let expected = answers(name, &Index::from_bytes(&bytes).unwrap());
        for (flags, place) in [(1, 0), (1, 5), (0, 5)] {
            let mut pieces = take_apart(&bytes);
            pieces
                .insert(place, Piece { kind: UNKNOWN, flags, alignment: 512, body: vec![7; 999] });
            let later = assemble(&bytes, &pieces);
            match Index::from_bytes(&later) {
                Ok(index) if flags == 1 => {
                    index.verify().unwrap();
                    assert_same_lines(&answers(name, &index), &expected, name);
                    // Skipped, but not unwatched.
                    let mut damaged = later.clone();
                    damaged[file::place(&file::places(&later), UNKNOWN).offset + 500] ^= 1;
                    let error = Index::from_bytes(&damaged).unwrap().verify().unwrap_err();
                    assert!(matches!(error, OpenError::Checksum { .. }), "{name}: {error}");
                }
                Err(OpenError::UnknownSection { kind }) if flags == 0 => assert_eq!(kind, UNKNOWN),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
#[ignore = "writes files that are missing, and the texts anew"]
fn rewrite() {
    let newest = folder().join(format!("v{VERSION}"));
    std::fs::create_dir_all(&newest).unwrap();
    let mut builds = String::new();
    for case in cases() {
        let index = case.build();
        builds += &sums(&case.name(), index.as_bytes());
        let path = newest.join(format!("{}.nonius", case.name()));
        if !path.exists() {
            index.save(path).unwrap();
        }
    }
    std::fs::write(folder().join("builds.txt"), builds).unwrap();
    for version in 1..=VERSION {
        let of_version = files().into_iter().filter(|file| file.0 == version);
        let lines: String = of_version
            .map(|(_, path)| {
                answers(path.file_stem().unwrap().to_str().unwrap(), &Index::open(&path).unwrap())
            })
            .collect();
        std::fs::write(folder().join(format!("v{version}/answers.txt")), lines).unwrap();
    }
}
