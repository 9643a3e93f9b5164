//! How many vectors are encoded a second, rotation included: with one thread and with two, at full
//! quality and in the fast mode, the four taking turns so that what disturbs one disturbs all.
//!
//! `cargo bench -p nonius-benches --bench encode_rate -- [FILE [QUANTIZER [REPEATS]]]`
//!
//! Training is timed too, once, on all cores. FILE holds the vectors in any format of `nonius-datasets`, for example `.npy`; without one they
//! are generated, of 384 dimensions. The quantizer is `saq:4` unless said.

use std::time::Instant;

use nonius::{Encoding, Matrix, Quantizer, QuantizerConfig, QuantizerSpec};
use nonius_benches::{measures, pool, quantile};
use nonius_datasets::{Synthetic, read_matrix};

const MODES: [Encoding; 2] = [Encoding::Full, Encoding::Fast];
const THREADS: [usize; 2] = [1, 2];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let set: Matrix = match arguments.first() {
        Some(file) => nonius_datasets::load(file)?,
        None => {
            let rows = if measures() { 50_000 } else { 500 };
            let set = Synthetic { rows, dim: 384, seed: 1, ..Synthetic::default() };
            read_matrix(&set.generator())?
        }
    };
    let quantizer: QuantizerSpec = arguments.get(1).map_or("saq:4", String::as_str).parse()?;
    let repeats: usize = arguments.get(2).map_or("11", String::as_str).parse()?;

    let mut trained = [0.0; 2];
    let mut encoders = Vec::new();
    for (encoding, seconds) in MODES.into_iter().zip(&mut trained) {
        let start = Instant::now();
        let config = QuantizerConfig { quantizer, encoding, ..QuantizerConfig::default() };
        encoders.push(Quantizer::train(set.view(), &config)?);
        *seconds = start.elapsed().as_secs_f64();
    }
    let pools = THREADS.map(pool);
    let mut rates = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    // The first round is for caches and memory, and does not count.
    for round in 0..=repeats {
        for (encoder, rates) in encoders.iter().zip(&mut rates) {
            for (pool, rates) in pools.iter().zip(rates) {
                let start = Instant::now();
                let count = pool.install(|| encoder.encode(set.view()))?.len();
                let seconds = start.elapsed().as_secs_f64();
                if round > 0 {
                    rates.push(count as f64 / seconds);
                }
            }
        }
    }

    println!("{} vectors of {} dimensions, {quantizer}, {repeats} repeats", set.rows(), set.dim());
    println!(
        "trained on all of them in {:.1} s, for the fast mode in {:.1} s",
        trained[0], trained[1]
    );
    println!("{:>5} {:>8} {:>12} {:>12}   vectors/s", "mode", "threads", "best", "median");
    for (mode, rates) in MODES.iter().zip(&mut rates) {
        let mut best_of_one = None;
        for (threads, rates) in THREADS.iter().zip(rates) {
            let (best, median) = (quantile(rates, 1.0), quantile(rates, 0.5));
            let one = *best_of_one.get_or_insert((best, median));
            let mode = format!("{mode:?}").to_lowercase();
            println!(
                "{mode:>5} {threads:>8} {best:>12.0} {median:>12.0}   x{:.2} best, x{:.2} median",
                best / one.0,
                median / one.1
            );
        }
    }
    Ok(())
}
