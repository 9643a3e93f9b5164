//! Every kernel at every level that this processor has, as one Markdown table.
//!
//! ```text
//! cargo run --release -p nonius-benches --example nonius-kernels -- [REPEATS]
//! ```
//!
//! Distances have those of SimSIMD beside them. Every figure is the median of repeats (15 unless
//! told otherwise). They alternate: each repeat goes through all kernels and levels before the next
//! begins, so that a slow moment of the machine meets all of them alike.

mod peer;

use std::error::Error;
use std::time::{Duration, Instant};

use nonius_benches::cases::{BEYOND_CACHE, Case, IN_CACHE, READ, Work, kernels};
use nonius_benches::quantile;
use nonius_simd::{Level, available, with_level};

/// A sample runs a kernel for about this long, and once at least.
const SAMPLE: Duration = Duration::from_millis(2);

/// A case, and what it took.
struct Row {
    case: Case,
    levels: Vec<(Level, Samples)>,
    /// The same by another library, at whatever level it chooses.
    peer: Option<(Case, Samples)>,
}

impl Row {
    fn new(mut case: Case, peers: &mut Vec<Case>) -> Row {
        let levels = available()
            .into_iter()
            .map(|level| (level, with_level(level, || Samples::new(&mut case))))
            .collect();
        let same = |peer: &Case| peer.kernel == case.kernel && peer.shape == case.shape;
        let peer = peers.iter().position(same).map(|at| {
            let mut peer = peers.swap_remove(at);
            let samples = Samples::new(&mut peer);
            (peer, samples)
        });
        Row { case, levels, peer }
    }

    fn sample(&mut self) {
        for (level, samples) in &mut self.levels {
            with_level(*level, || samples.take(&mut self.case));
        }
        if let Some((case, samples)) = &mut self.peer {
            samples.take(case);
        }
    }

    /// The median time of a call at each level.
    fn medians(&mut self) -> Vec<f64> {
        self.levels.iter_mut().map(|(_, samples)| samples.median()).collect()
    }
}

/// Times of one case.
struct Samples {
    /// Calls a sample.
    calls: usize,
    /// Seconds a call.
    seconds: Vec<f64>,
}

impl Samples {
    fn new(case: &mut Case) -> Samples {
        // The first call only warms up.
        (case.run)();
        let calls = (SAMPLE.as_secs_f64() / seconds(1, case)).ceil() as usize;
        Samples { calls, seconds: Vec::new() }
    }

    fn take(&mut self, case: &mut Case) {
        self.seconds.push(seconds(self.calls, case));
    }

    fn median(&mut self) -> f64 {
        quantile(&mut self.seconds, 0.5)
    }
}

/// The time of a call.
fn seconds(calls: usize, case: &mut Case) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        (case.run)();
    }
    start.elapsed().as_secs_f64() / calls as f64
}

/// A time in the unit of the work.
fn figure(work: Work, seconds: f64) -> String {
    match work {
        Work::MultiplyAdds(count) => format!("{:.1}", count as f64 / seconds / 1e9),
        Work::Vectors(count) => {
            let nanoseconds = seconds / count as f64 * 1e9;
            format!("{nanoseconds:.*}", if nanoseconds < 10.0 { 2 } else { 1 })
        }
        Work::Bytes(count) => format!("{:.1}", count as f64 / seconds / 1e9),
    }
}

fn unit(work: Work) -> &'static str {
    match work {
        Work::MultiplyAdds(_) => "G multiply-adds/s",
        Work::Vectors(_) => "ns/vector",
        Work::Bytes(_) => "GB/s",
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let repeats: usize = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 15,
    };
    let mut peers = peer::cases();
    let mut rows: Vec<Row> = kernels().into_iter().map(|case| Row::new(case, &mut peers)).collect();
    for _ in 0..repeats {
        for row in &mut rows {
            row.sample();
        }
    }
    let levels = available();
    let medians: Vec<Vec<f64>> = rows.iter_mut().map(Row::medians).collect();

    let names: Vec<&str> = levels.iter().map(|level| level.name()).collect();
    println!(
        "| kernel | shape | unit | {} | best over scalar | {} |",
        names.join(" | "),
        peer::NAME
    );
    println!("|---|---|---|{}---:|---:|", "---:|".repeat(levels.len()));
    for (row, medians) in rows.iter_mut().zip(&medians) {
        let Case { kernel, shape, work, .. } = &row.case;
        let figures: Vec<String> = medians.iter().map(|&time| figure(*work, time)).collect();
        let best = medians.iter().copied().fold(f64::INFINITY, f64::min);
        let peer = row.peer.as_mut().map(|(case, samples)| figure(case.work, samples.median()));
        println!(
            "| {kernel} | {shape} | {} | {} | {:.1} | {} |",
            unit(*work),
            figures.join(" | "),
            medians[0] / best,
            peer.unwrap_or_default()
        );
    }

    let of = |shape: &str| rows.iter().zip(&medians).find(|(row, _)| row.case.shape == shape);
    if let (Some((near, in_cache)), Some((_, beyond)), Some((_, read))) =
        (of(IN_CACHE), of(BEYOND_CACHE), of(READ))
    {
        let limit = read.iter().copied().fold(f64::INFINITY, f64::min);
        println!();
        for (i, level) in levels.iter().enumerate() {
            println!(
                "- First stage at {level}: {} ns a vector of 44 bytes in the cache; beyond it \
                 {:.0} % of the fastest read, {:.0} % of the read at this level.",
                figure(near.case.work, in_cache[i]),
                100.0 * limit / beyond[i],
                100.0 * read[i] / beyond[i]
            );
        }
    }
    Ok(())
}
