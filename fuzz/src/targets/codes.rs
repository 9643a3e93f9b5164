//! Codes of vectors: those that a quantizer tells, and those that an index file holds, which are
//! taken out of the file here by FORMAT.md alone.

use nonius::{
    Encoding, Index, IndexConfig, Keep, Matrix, Metric, Quantizer, QuantizerConfig, QuantizerSpec,
    Saq, SaqConfig,
};
use nonius_tests::file::{HEADER, kind, place, places, u32_at, u64_at};

use super::kernels::field;
use super::{Memory, Target};
use crate::input::Input;
use crate::{mutate, note};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "codes",
    about: "codes packed into files and unpacked again, against a naive reader of the format",
    run,
    seeds: || {
        (0..60).map(|seed| (0..240).map(|i| (seed + i * seed * 77) as u8).collect()).collect()
    },
    mutate: |data, random, others| mutate::bytes(data, random, &[], others),
    memory: Memory { times: 1, bytes: 64 << 20 },
};

/// Sizes of every kind: one and two bits in the first stage, dropped dimensions, each number of bits
/// in the rest.
const SAQ: [&str; 18] = [
    "rabitq",
    "erabitq:2",
    "erabitq:3",
    "erabitq:4",
    "erabitq:5",
    "erabitq:6",
    "erabitq:7",
    "erabitq:8",
    "erabitq:9",
    "erabitq:10",
    "erabitq:11",
    "erabitq:12",
    "erabitq:13",
    "saq:0.5",
    "saq:2",
    "saq:4",
    "saq:11B",
    "saq:40B",
];

/// Quantizers with codebooks, each with the bits of a centroid's number.
const ADDITIVE: [(&str, u32); 12] = [
    ("pq:5B", 8),
    ("pq:9B", 8),
    ("pq4:5B", 4),
    ("pq4:8B", 4),
    ("opq4:6B", 4),
    ("opq:6B", 8),
    ("rvq:6B", 8),
    ("prq:2x7B", 8),
    ("pq1:5B", 1),
    ("pq3:7B", 3),
    ("rvq5:7B", 5),
    ("pq12:8B", 12),
];

/// Encodes vectors that the bytes stand for, alone and in an index, and compares.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    // Codebooks take far longer to train.
    let additive = input.below(8) == 0;
    let (name, bits) = if additive { input.choose(&ADDITIVE) } else { (input.choose(&SAQ), 0) };
    let quantizer: QuantizerSpec = name.parse().expect("the names are right");
    let metric = input.choose(&[Metric::L2, Metric::InnerProduct]);
    let encoding = input.choose(&[Encoding::Full, Encoding::Fast]);
    let (dim, rows) = (1 + input.below(if additive { 24 } else { 80 }), 2 + input.below(70));
    let seed = u64::from(input.byte());
    let bytes = input.rest();
    let values: Vec<f32> = (0..rows * dim)
        .map(|i| {
            let byte = bytes.get(i % bytes.len().max(1)).copied().unwrap_or(0);
            // Earlier dimensions spread more, as they do after principal components.
            (f32::from(byte) - 100.0) / (1.0 + (i % dim) as f32) + (i / bytes.len().max(1)) as f32
        })
        .collect();
    let vectors = Matrix::new(dim, values).expect("bytes are finite");
    let config = IndexConfig {
        metric,
        quantizer,
        nlist: Some(1),
        keep: Keep::None,
        seed,
        encoding,
        ..IndexConfig::default()
    };
    let index = Index::build(&vectors, &config).expect("finite vectors can be indexed");
    note(format_args!("{name} {metric} {encoding:?}"));
    if additive {
        let config =
            QuantizerConfig { metric, quantizer, encoding, seed, ..QuantizerConfig::default() };
        let trained = Quantizer::train(vectors.view(), &config).expect("it is trained");
        let codes = trained.encode(vectors.view()).expect("it is encoded");
        for i in 0..rows {
            let code = codes.code(i);
            assert_eq!(code.len(), trained.codebooks(), "{name}");
            assert!(code.iter().all(|&c| u32::from(c) < 1 << bits), "{name}: {code:?}");
            assert_eq!(code, additive_code(index.as_bytes(), bits, i), "{name}, vector {i}");
            let decoded = trained.decode(&codes, i);
            assert_eq!(decoded, trained.decode_levels(&codes, i, trained.levels()), "{name}");
        }
        // A vector's code does not depend on its place in a block.
        let last = Matrix::new(dim, vectors.row(rows - 1).to_vec()).expect("as above");
        let alone = trained.encode(last.view()).expect("it is encoded");
        assert_eq!(alone.code(0), codes.code(rows - 1), "{name}");
    } else {
        let config = SaqConfig { metric, quantizer, encoding, seed };
        let trained = Saq::train(vectors.view(), &config).expect("it is trained");
        let codes = trained.encode(vectors.view()).expect("it is encoded");
        let bits: Vec<u32> =
            trained.plan().iter().flat_map(|s| std::iter::repeat_n(s.bits, s.dims)).collect();
        for i in 0..rows {
            let code = codes.code(i);
            assert!(code.iter().zip(&bits).all(|(&c, &b)| u32::from(c) >> b == 0), "{code:?}");
            assert_eq!(code, saq_code(index.as_bytes(), i), "{name}, vector {i} of {rows}");
            let (all, top) = (trained.decode(&codes, i), trained.decode_bits(&codes, i, 13));
            assert_eq!(all, top, "{name}");
        }
        let last = Matrix::new(dim, vectors.row(rows - 1).to_vec()).expect("as above");
        let alone = trained.encode(last.view()).expect("it is encoded");
        assert_eq!(alone.code(0), codes.code(rows - 1), "{name}");
    }
}

/// Bytes of a section.
fn section(file: &[u8], kind: u32) -> &[u8] {
    let place = place(&places(file), kind);
    &file[place.offset..place.offset + place.length]
}

/// The 4 bits of a vector in a group.
fn group(codes: &[u8], group: usize, v: usize) -> u8 {
    let byte = codes[group * 16 + v % 16];
    if v < 16 { byte & 15 } else { byte >> 4 }
}

/// The code of vector `i` in a flat index of SAQ, dimension by dimension.
fn saq_code(file: &[u8], i: usize) -> Vec<u16> {
    let (meta, segments) = (section(file, kind::META), section(file, kind::SEGMENTS));
    let vectors = u64_at(&file[..HEADER], 24) as usize;
    let blocks = u64_at(meta, 8) as usize;
    let scan = section(file, kind::SCAN);
    let block = &scan[i / 32 * (scan.len() / blocks)..];
    let rest = section(file, kind::REST);
    let row = &rest[i * (rest.len() / vectors)..];
    let entries: Vec<[usize; 3]> = segments
        .chunks_exact(40)
        .map(|entry| [0, 4, 8].map(|at| u32_at(entry, at) as usize))
        .collect();
    // The scales of segments that the first stage does not read come first.
    let mut start: usize =
        entries.iter().filter(|e| e[2] == 0).map(|e| if e[1] <= 4 { 1 } else { 2 }).sum();
    let (mut first, mut code) = (0, Vec::new());
    for [dims, bits, scan_bits] in entries {
        let mut values = vec![0u16; dims];
        if scan_bits > 0 {
            for (d, value) in values.iter_mut().enumerate() {
                let bit = d * scan_bits;
                let four = group(block, first + bit / 4, i % 32);
                *value = u16::from(four >> (bit % 4)) & ((1 << scan_bits) - 1);
            }
        }
        first += dims * scan_bits / 4;
        let mut left = bits - scan_bits;
        while left > 0 {
            let width = [4, 2, 1].into_iter().find(|&width| width <= left).expect("1 fits");
            for (d, value) in values.iter_mut().enumerate() {
                let lower = u16::from(field(&row[start..], width, dims, d));
                *value = *value << width | lower;
            }
            start += dims * width / 8;
            left -= width;
        }
        code.extend(values);
    }
    code
}

/// The code of vector `i` in a flat index of an additive quantizer, column by column.
fn additive_code(file: &[u8], bits: u32, i: usize) -> Vec<u16> {
    let meta = section(file, kind::META);
    let (blocks, columns) = (u64_at(meta, 8) as usize, u32_at(meta, 92) as usize);
    let scan = section(file, kind::SCAN);
    let block = &scan[i / 32 * (scan.len() / blocks)..];
    let bytes = (columns * bits as usize).div_ceil(8);
    let bit = |at: usize| u16::from(block[i % 32 * bytes + at / 8] >> (at % 8) & 1);
    let number = |k: usize| match bits {
        8 => u16::from(block[k * 32 + i % 32]),
        4 => u16::from(group(block, k, i % 32)),
        _ => (0..bits as usize).map(|j| bit(k * bits as usize + j) << j).sum(),
    };
    (0..columns).map(number).collect()
}
