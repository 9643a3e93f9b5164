//! What people type: command lines of the tool, and names of quantizers, metrics and files.

use std::ffi::OsString;

use nonius::{Keep, Metric, QuantizerSpec};
use nonius_datasets::Location;

use super::{Memory, Target};
use crate::{mutate, note};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "arguments",
    about: "command lines of the tool, and the names in them",
    run,
    seeds: || SEEDS.iter().map(|line| line.replace(' ', "\n").into_bytes()).collect(),
    mutate: |data, random, others| mutate::bytes(data, random, WORDS, others),
    // The parser holds the description of all commands.
    memory: Memory { times: 16, bytes: 8 << 20 },
};

const SEEDS: [&str; 22] = [
    "build base.fvecs -o x",
    "build base.fvecs -o x --metric cosine --quantizer saq:4 --nlist 3 --spill 0.5 --keep f32",
    "build base.fvecs -o x --bits 0.5 --seed 7 --fast --training-rows 100 --threads 2",
    "build base.fvecs -o x --quantizer pq --bytes 24 --ids ids.npy --json -",
    "build base.fvecs -o x --quantizer prq:2x12B",
    "build base.fvecs -o x --quantizer lvq:4x8",
    "build base.fvecs -o x --quantizer erabitq:13",
    "search a.nonius q.hdf5:test -k 10 -o r.ivecs --nprobe 4 --rerank 50 --confidence 3",
    "search a q.npy -o r.npy --patience 3 --centroid-ratio 1.5 --rerank-from b.fbin --warm",
    "search a q.npy -o r.npy --distances d.fvecs",
    "eval a q.npy truth.ivecs --nprobe 1,2,4 --rerank 0,10 --repeat 3",
    "quality base.npy q.npy --quantizers saq:1,rvq:16B,opq4:8B,sq:8,f16,bf16 --max-base 100",
    "quality base.npy q.npy --truth t.ivecs --svg x.svg --nlist 9",
    "truth base.parquet:v q.arrow:v -k 5 --metric ip -o t.ivecs",
    "info a --json -",
    "verify a --threads 3",
    "convert a.fvecs b.npy",
    "demo --data folder",
    "--help",
    "build --help",
    "--version",
    "",
];

const WORDS: &[&[u8]] = &[
    b"\n",
    b"--",
    b"-",
    b"=",
    b",",
    b":",
    b"x",
    b"B",
    b"NaN",
    b"inf",
    b"-inf",
    b"1e308",
    b"1e-45",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"4294967296",
    b"\nbuild",
    b"\nsearch",
    b"\neval",
    b"\nquality",
    b"\n--quantizer\n",
    b"\n--bits\n",
    b"\n--bytes\n",
    b"\n--nlist\n",
    b"\n--threads\n",
    b"\n--confidence=",
    b"\n--centroid-ratio=",
    b"\n--quantizers\n",
    b"\n--spill\n",
    b"\n--outlier-bytes\n",
    b"\n--seed\n",
    b"\n--nprobe\n",
    b"saq:",
    b"pq:",
    b"pq4:",
    b"opq:",
    b"opq4:",
    b"rvq:",
    b"prq:",
    b"prq:2x",
    b"rabitq",
    b"erabitq:",
    b"sq:",
    b"lvq:",
    b"lvq:4x",
    b"f16",
    b"bf16",
    b"l2",
    b"ip",
    b"cosine",
    b".hdf5:",
    b".parquet:",
    b".npy",
    b"\xff",
    "ß".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\0",
];

/// Reads the lines of the bytes as the words of a command line, and each of them as a name.
pub fn run(data: &[u8]) {
    let words: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    for word in &words {
        names(word);
    }
    let line = std::iter::once(OsString::from("nonius")).chain(words.into_iter().map(os_string));
    match nonius_cli::check_arguments(line) {
        Ok(()) => note("accepted"),
        Err(text) => {
            assert!(!text.trim().is_empty(), "a refusal without a word");
            // The help is long; what is quoted of the input may be.
            assert!(text.len() < 20_000 + 8 * data.len(), "{} bytes of error", text.len());
            // What follows a quotation mark may be the input.
            note(
                text.lines()
                    .next()
                    .unwrap_or_default()
                    .split(['\'', '"'])
                    .next()
                    .unwrap_or_default(),
            );
        }
    }
}

#[cfg(unix)]
fn os_string(word: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(word.to_vec())
}

#[cfg(not(unix))]
fn os_string(word: &[u8]) -> OsString {
    String::from_utf8_lossy(word).into_owned().into()
}

/// A name that is accepted is written as one that means the same.
fn names(word: &[u8]) {
    let word = String::from_utf8_lossy(word);
    match word.parse::<QuantizerSpec>() {
        Ok(spec) => {
            assert_eq!(spec.to_string().parse(), Ok(spec), "{word:?}");
            assert!(spec.validate().is_ok() && spec.bits(1) >= 0.0, "{word:?}");
            note(spec.name());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 600 + 8 * word.len(), "{text}");
            note(text.split([',', '"']).next().unwrap_or_default());
        }
    }
    if let Ok(metric) = word.parse::<Metric>() {
        assert_eq!(metric.to_string().parse(), Ok(metric));
    }
    if let Ok(keep) = word.parse::<Keep>() {
        assert_eq!(keep.to_string().parse(), Ok(keep));
    }
    if let Ok(location) = Location::parse(&*word) {
        let member = location.member.as_ref().map_or(String::new(), |member| format!(":{member}"));
        assert_eq!(format!("{}{member}", location.path.display()), word);
        note(format_args!("{:?}", location.format));
    }
}
