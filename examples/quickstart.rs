//! Build an index from a slice of floats, save it, open it again and search it.

use nonius::{Index, IndexConfig, MatrixView, Metric, SearchParams};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 1,000 vectors of 64 dimensions; yours come from an embedding model.
    let values: Vec<f32> = (0..64_000).map(|i| (i as f32 * 0.37).sin()).collect();
    let vectors = MatrixView::new(64, &values)?;

    let config = IndexConfig { metric: Metric::Cosine, ..IndexConfig::default() };
    let path = std::env::temp_dir().join("quickstart.nonius");
    Index::build(&vectors, &config)?.save(&path)?;

    let index = Index::open(&path)?;
    let params = SearchParams { rerank: 50, ..SearchParams::default() };
    for neighbor in index.search(vectors.row(17), 3, &params)? {
        println!("vector {:4}, cosine distance {:.4}", neighbor.id, neighbor.distance);
    }
    std::fs::remove_file(&path)?;
    Ok(())
}
