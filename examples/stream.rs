//! Build an index file from blocks that are produced on the fly, so that the vectors never need to
//! lie in memory together; show the progress, and cancel a build.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nonius::random::Random;
use nonius::{
    BlockSource, BuildError, Index, IndexBuilder, IndexConfig, Progress, QuantizerSpec,
    SearchParams,
};

const ROWS: usize = 50_000;
const DIM: usize = 96;
const BLOCK: usize = 1_000;

/// Block `number` of the vectors; every pass over the source must yield the same.
fn block(number: usize) -> Vec<f32> {
    let mut random = Random::new(42, number as u64);
    (0..BLOCK * DIM).map(|i| random.normal() as f32 / (1.0 + (i % DIM) as f32 / 16.0)).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = BlockSource::new(ROWS, DIM, || (0..ROWS / BLOCK).map(block));
    let config = IndexConfig { quantizer: QuantizerSpec::saq(4.0), ..IndexConfig::default() };
    let path = std::env::temp_dir().join("stream.nonius");

    let mut stage = None;
    let mut progress = |progress: Progress| {
        if stage.replace(progress.stage) != Some(progress.stage) {
            println!("{} ...", progress.stage.name());
        }
        ControlFlow::Continue(())
    };
    // Ids of one's own: the keys of a database, say.
    let ids: Vec<u64> = (0..ROWS as u64).map(|row| 1_000_000 + row).collect();
    let report =
        IndexBuilder::new(&config).ids(&ids).progress(&mut progress).write(&source, &path)?;
    println!(
        "{} vectors in {} lists, {:.1} bytes each instead of {}",
        report.vectors,
        report.nlist,
        report.bytes_per_vector,
        4 * DIM
    );

    let index = Index::open(&path)?;
    let best = index.search(&block(7)[..DIM], 1, &SearchParams::default())?;
    println!("the nearest to row 7000 is id {}", best[0].id);
    std::fs::remove_file(&path)?;

    // A build that takes too long: the callback breaks, and no file is left behind.
    let start = Instant::now();
    let mut impatient = |_: Progress| {
        if start.elapsed() > Duration::from_millis(20) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    match IndexBuilder::new(&config).progress(&mut impatient).write(&source, &path) {
        Err(BuildError::Cancelled) => println!("the second build was cancelled"),
        Err(error) => return Err(error.into()),
        Ok(_) => println!("the second build was too quick to cancel"),
    }
    Ok(())
}
