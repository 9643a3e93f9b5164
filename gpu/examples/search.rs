//! Searches an index on the GPU and on the processor.
//!
//! ```text
//! cargo run --release -p nonius-gpu --example search [NAME OF THE GPU]
//! ```

use nonius::random::Random;
use nonius::{Index, IndexConfig, Matrix, SearchParams};
use nonius_gpu::{GpuContext, GpuIndex, adapters};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for adapter in adapters() {
        println!("{}: {}, by {}", adapter.name, adapter.kind, adapter.backend);
    }
    let name = std::env::args().nth(1);
    let context = GpuContext::new(name.as_deref())?;

    let mut random = Random::new(1, 0);
    let mut vectors = Matrix::zeros(20_000, 64);
    vectors.data_mut().fill_with(|| random.normal() as f32);
    let index = Index::build(&vectors.view(), &IndexConfig::default())?;
    let on_gpu = GpuIndex::upload(&context, &index)?;
    println!("{} bytes on {}", on_gpu.bytes(), context.adapter().name);

    let mut queries = Matrix::zeros(100, 64);
    queries.data_mut().fill_with(|| random.normal() as f32);
    let params = SearchParams { nprobe: 64, ..SearchParams::default() };
    let found = on_gpu.search_batch(queries.view(), 10, &params)?;
    let (expected, _) = index.search_batch(queries.view(), 10, &params)?;
    let ids = |found: &[nonius::Neighbor]| found.iter().map(|n| n.id).collect::<Vec<_>>();
    let same = found.iter().zip(&expected).filter(|(a, b)| ids(a) == ids(b)).count();
    println!("{same} of {} queries have the ids that the processor finds", queries.rows());
    println!("the first: {:?}", found[0][0]);
    Ok(())
}
