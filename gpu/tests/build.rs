//! An index that a GPU helped to build is that of the processor alone, byte for byte.

use nonius::random::Random;
use nonius::{IndexBuilder, IndexConfig, Matrix, Metric};

mod common;
use common::context;

/// Vectors around some centres, far from zero; some are there twice.
fn vectors(rows: usize, dim: usize) -> Matrix {
    let mut random = Random::new(3, dim as u64);
    let centres: Vec<f32> = (0..20 * dim).map(|_| 1.0 + random.normal() as f32).collect();
    let mut matrix = Matrix::zeros(rows, dim);
    for row in 0..rows {
        let centre = random.below(20) as usize * dim;
        if row % 7 == 6 {
            let before = matrix.row(row - 1).to_vec();
            matrix.row_mut(row).copy_from_slice(&before);
            continue;
        }
        for (value, centre) in matrix.row_mut(row).iter_mut().zip(&centres[centre..]) {
            *value = centre + 0.7 * random.normal() as f32;
        }
    }
    matrix
}

#[test]
fn a_gpu_builds_the_same_bytes() {
    let Some(context) = context() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (rows, dim, nlist, metric, spill) in [
        (3000, 40, 50, Metric::L2, 0.0),
        (1500, 65, 130, Metric::Cosine, 0.3),
        (700, 5, 9, Metric::InnerProduct, 0.0),
        (300, 24, 1, Metric::L2, 0.0),
    ] {
        let vectors = vectors(rows, dim);
        let config = IndexConfig { metric, nlist: Some(nlist), spill, ..IndexConfig::default() };
        let paths = ["with", "without"].map(|name| folder.path().join(name));
        let with = IndexBuilder::new(&config)
            .accelerator(context)
            .write(&vectors.view(), &paths[0])
            .unwrap();
        let without = IndexBuilder::new(&config).write(&vectors.view(), &paths[1]).unwrap();
        assert_eq!(with.inertia, without.inertia);
        let [with, without] = paths.map(|path| std::fs::read(path).unwrap());
        assert!(with == without, "{rows} x {dim} in {nlist} lists");
    }
}
