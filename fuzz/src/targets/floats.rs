//! Vectors of any floats: trained on, encoded, decoded, estimated, indexed and searched.

use nonius::{
    Encoding, Index, IndexConfig, Keep, Matrix, Metric, Quantizer, QuantizerConfig, QuantizerSpec,
    Saq, SaqConfig, SearchParams,
};

use super::{Memory, Target};
use crate::input::Input;
use crate::{mutate, note};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "floats",
    about: "any floats: training, encoding, decoding, estimating, building, searching",
    run,
    seeds: || {
        (0..QUANTIZERS.len() * 3)
            .map(|seed| (0..200).map(|i| (seed * 3 + i * i * 7) as u8).collect())
            .collect()
    },
    mutate: |data, random, others| mutate::bytes(data, random, WORDS, others),
    memory: Memory { times: 1, bytes: 64 << 20 },
};

/// Floats at the ends of everything.
const WORDS: &[&[u8]] = &[
    b"\x00\x00\x80\x7f",
    b"\x00\x00\x80\xff",
    b"\x00\x00\xc0\x7f",
    b"\xff\xff\x7f\x7f",
    b"\xff\xff\x7f\xff",
    b"\x01\x00\x00\x00",
    b"\xff\xff\x7f\x00",
    b"\x00\x00\x80\x00",
    b"\x00\x00\x00\x80",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xff\xff\x7f\x5f",
    b"\x00\x00\x80\x5f",
    b"\x00\x00\x80\x1f",
    b"\x00\x00\x80\x3f",
];

/// Every quantizer, with few and many bits.
const QUANTIZERS: [&str; 27] = [
    "saq:4",
    "saq:0.5",
    "saq:12",
    "saq:4B",
    "saq:30B",
    "rabitq",
    "erabitq:4",
    "erabitq:13",
    "rvq:5B",
    "rvq:8B",
    "pq:5B",
    "pq:9B",
    "opq:7B",
    "pq4:5B",
    "pq4:9B",
    "opq4:6B",
    "prq:2x7B",
    "pq1:5B",
    "rvq6:6B",
    "opq11:7B",
    "sq:4",
    "sq:8",
    "lvq:5",
    "lvq:4x1",
    "lvq:4x8",
    "f16",
    "bf16",
];

/// Trains, encodes, decodes and estimates with the vectors that the bytes stand for, without an index
/// and with one. Whatever is refused is refused in words; nothing that comes out is NaN.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let name = input.choose(&QUANTIZERS);
    let quantizer: QuantizerSpec = name.parse().expect("the names are right");
    let metric = input.choose(&Metric::ALL);
    let encoding = input.choose(&[Encoding::Full, Encoding::Fast]);
    let keep = input.choose(&Keep::ALL);
    let (dim, rows) = (1 + input.below(36), 1 + input.below(48));
    let nlist = 1 + input.below(4);
    let spill = input.choose(&[0.0, 0.5, 1.0]);
    let outlier_bytes = input.choose(&[0.0, 20.0, 1e9]);
    let values = draw(&mut input, rows * dim);
    let vectors = match Matrix::new(dim, values) {
        Ok(vectors) => vectors,
        Err(error) => return note(error),
    };
    let query: Vec<f32> = match input.below(3) {
        0 => vectors.row(input.below(rows)).to_vec(),
        1 => (0..dim).map(|_| input.any_float()).collect(),
        _ => vec![f32::from(input.byte()); dim],
    };
    alone(quantizer, metric, encoding, &vectors, &query);

    let config = IndexConfig {
        metric,
        quantizer,
        nlist: Some(nlist),
        spill,
        outlier_bytes,
        keep,
        encoding,
        ..IndexConfig::default()
    };
    let index = match Index::build(&vectors, &config) {
        Ok(index) => index,
        Err(error) => return note(error),
    };
    // What is built can be opened, and is whole.
    let opened = Index::from_bytes(index.as_bytes()).expect("what was built is opened");
    opened.verify().expect("what was built is whole");
    for rerank in [0, 4] {
        let rerank = if keep == Keep::None { 0 } else { rerank };
        let params = SearchParams { nprobe: usize::MAX, rerank, ..SearchParams::default() };
        match opened.search(&query, rows + 1, &params) {
            Ok(found) => {
                let set = Set { quantizer, metric, encoding, vectors: &vectors };
                let more =
                    || format!("{set}, {nlist} lists, {keep}, rerank {rerank}, query {query:?}");
                assert_eq!(found.len(), rows, "not all are found: {}", more());
                let nan = found.iter().position(|n| n.distance.is_nan());
                assert!(nan.is_none(), "result {nan:?} is NaN: {}", more());
                let mut ids: Vec<u64> = found.iter().map(|n| n.id).collect();
                ids.sort_unstable();
                assert!(ids.iter().copied().eq(0..rows as u64), "{ids:?}: {}", more());
            }
            Err(error) => note(error),
        }
    }
    note(format_args!("{name} {metric} {keep} is searched"));
}

/// What a promise was broken for, in words.
#[derive(Clone, Copy)]
struct Set<'a> {
    quantizer: QuantizerSpec,
    metric: Metric,
    encoding: Encoding,
    vectors: &'a Matrix,
}

impl std::fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Set { quantizer, metric, encoding, vectors } = self;
        let (rows, dim) = (vectors.rows(), vectors.dim());
        let shown = &vectors.data()[..vectors.data().len().min(24)];
        write!(f, "{quantizer} {metric} {encoding:?}, {rows} x {dim} of {shown:?}")
    }
}

/// The quantizer without an index.
fn alone(
    quantizer: QuantizerSpec,
    metric: Metric,
    encoding: Encoding,
    vectors: &Matrix,
    query: &[f32],
) {
    let (view, rows) = (vectors.view(), vectors.rows());
    let finite = |values: &[f32], what: &str| {
        if let Some(at) = values.iter().position(|x| x.is_nan()) {
            let set = Set { quantizer, metric, encoding, vectors };
            panic!("{what} {at} is NaN: {set}, query {query:?}");
        }
    };
    let config = QuantizerConfig { metric, quantizer, encoding, ..QuantizerConfig::default() };
    let trained = Quantizer::train(view, &config);
    match trained.map(|trained| trained.encode(view).map(|codes| (trained, codes))) {
        Ok(Ok((trained, codes))) => {
            for i in 0..rows {
                finite(&trained.decode(&codes, i), "decoded value");
            }
            match trained.estimate(&codes, query) {
                Ok(found) => finite(&found, "estimate"),
                Err(error) => note(error),
            }
            match trained.symmetric(&codes, 0) {
                Ok(found) => finite(&found, "symmetric distance"),
                Err(error) => note(error),
            }
        }
        Ok(Err(error)) => note(error),
        Err(error) => note(error),
    }
    match quantizer {
        QuantizerSpec::Saq(_) | QuantizerSpec::OneSegment { .. } => {
            let config = SaqConfig { metric, quantizer, encoding, seed: 1 };
            let (saq, codes) = match Saq::train(view, &config) {
                Ok(saq) => match saq.encode(view) {
                    Ok(codes) => (saq, codes),
                    Err(error) => return note(error),
                },
                Err(error) => return note(error),
            };
            for i in 0..rows {
                finite(&saq.decode(&codes, i), "decoded value");
            }
            match saq.estimate(&codes, query) {
                Ok(found) => {
                    let of = |value: fn(&nonius::Estimate) -> f32| -> Vec<f32> {
                        found.iter().map(value).collect()
                    };
                    finite(&of(|e| e.distance), "distance");
                    finite(&of(|e| e.deviation), "deviation");
                }
                Err(error) => note(error),
            }
        }
        _ => {}
    }
}

/// `count` floats of one of several kinds.
fn draw(input: &mut Input<'_>, count: usize) -> Vec<f32> {
    let kind = input.below(8);
    let (scale, period) = (2f32.powi(input.below(250) as i32 - 125), 1 + input.below(40));
    let start = input.clone();
    (0..count)
        .map(|i| {
            // Short inputs make large sets: they are read again from their start.
            if input.is_empty() {
                *input = start.clone();
            }
            match kind {
                0 => input.any_float(),
                1 => Some(input.any_float()).filter(|x| x.is_finite()).unwrap_or(1.0),
                // All of about one magnitude, the smallest and the largest included.
                2 | 3 => (f32::from(input.byte()) - 100.0) / 64.0 * scale,
                // Dimensions of very different spread.
                4 => f32::from(input.byte()) * 0.25f32.powi((i % period) as i32),
                // Few different vectors.
                5 => f32::from((i % period) as u8),
                6 => f32::from(input.byte() / 128),
                // Denormals.
                _ => f32::from_bits(u32::from(input.byte())),
            }
        })
        .collect()
}
