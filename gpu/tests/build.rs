//! An index that a GPU helped to build is that of the processor alone, byte for byte.

use nonius::random::Random;
use nonius::{Encoding, IndexBuilder, IndexConfig, Keep, Matrix, Metric, QuantizerSpec};

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
        for (i, (value, centre)) in
            matrix.row_mut(row).iter_mut().zip(&centres[centre..]).enumerate()
        {
            // Directions differ in what they hold, so that a plan has several segments.
            *value = centre + 2.0 / (1.0 + 0.2 * i as f32) * random.normal() as f32;
        }
    }
    matrix
}

/// How many vectors the GPU has encoded of an index that is the same with it and without.
fn encoded(vectors: &Matrix, config: &IndexConfig) -> u64 {
    let Some(context) = context() else { return 0 };
    let folder = tempfile::tempdir().unwrap();
    let paths = ["with", "without"].map(|name| folder.path().join(name));
    let with =
        IndexBuilder::new(config).accelerator(context).write(&vectors.view(), &paths[0]).unwrap();
    let without = IndexBuilder::new(config).write(&vectors.view(), &paths[1]).unwrap();
    assert_eq!(with.inertia, without.inertia);
    assert_eq!(without.by_device, 0);
    let [one, other] = paths.map(|path| std::fs::read(path).unwrap());
    assert!(one == other, "{} x {}: {config:?}", vectors.rows(), vectors.dim());
    with.by_device
}

#[test]
fn a_gpu_builds_the_same_bytes() {
    if context().is_none() {
        return;
    }
    for (rows, dim, nlist, metric, spill) in [
        (3000, 40, 50, Metric::L2, 0.0),
        (1500, 65, 130, Metric::Cosine, 0.3),
        (700, 5, 9, Metric::InnerProduct, 0.0),
        (300, 24, 1, Metric::L2, 0.0),
        // More than go to the device at a time, and with one row more.
        (8193, 8, 30, Metric::L2, 0.0),
    ] {
        let config = IndexConfig { metric, nlist: Some(nlist), spill, ..IndexConfig::default() };
        let by_device = encoded(&vectors(rows, dim), &config);
        assert!(by_device > 9 * rows as u64 / 10, "{by_device} of {rows}");
    }
}

#[test]
fn codes_of_every_kind_are_the_same() {
    if context().is_none() {
        return;
    }
    let vectors = vectors(600, 44);
    for name in
        ["saq:0.5", "saq:1", "saq:2", "saq:3.3", "saq:5", "saq:8", "saq:11", "rabitq", "erabitq:4"]
    {
        for encoding in [Encoding::Full, Encoding::Fast] {
            for nlist in [1, 12] {
                let quantizer: QuantizerSpec = name.parse().unwrap();
                let nlist = Some(nlist);
                let config = IndexConfig { quantizer, encoding, nlist, ..IndexConfig::default() };
                let by_device = encoded(&vectors, &config);
                assert!(by_device > 540, "{name}, {encoding:?}, {nlist:?}: {by_device} of 600");
            }
        }
    }
    // No codes for a GPU.
    let quantizer = "sq:8".parse().unwrap();
    assert_eq!(encoded(&vectors, &IndexConfig { quantizer, ..IndexConfig::default() }), 0);
}

/// Vectors that a device's arithmetic does not reach, or that are nothing at all relative to their centroids.
#[test]
fn vectors_out_of_the_ordinary_are_the_same() {
    if context().is_none() {
        return;
    }
    let plain = vectors(400, 24);
    let change = |f: &dyn Fn(usize, usize, f32) -> f32| {
        let mut matrix = plain.clone();
        for row in 0..400 {
            for (i, value) in matrix.row_mut(row).iter_mut().enumerate() {
                *value = f(row, i, *value);
            }
        }
        matrix
    };
    let by_rows = |f: &dyn Fn(usize) -> f32| change(&|row, _, x| x * f(row));
    for (name, vectors) in [
        ("huge", by_rows(&|_| 1e17)),
        ("tiny", by_rows(&|_| 1e-17)),
        ("of all sizes", by_rows(&|row| 10f32.powi(row as i32 % 30 - 15))),
        ("some zero", by_rows(&|row| (row % 3) as f32)),
        ("all zero", by_rows(&|_| 0.0)),
        ("all equal", change(&|_, i, _| i as f32)),
        ("few directions", change(&|_, i, x| if i < 2 { x } else { 0.0 })),
        ("small directions", change(&|_, i, x| if i < 8 { x } else { 1e-14 * x })),
        ("few values", change(&|_, _, x| x.round())),
        ("one beyond", change(&|row, _, x| if row == 123 { 1e15 * x } else { x })),
    ] {
        for (nlist, metric) in [(1, Metric::L2), (9, Metric::L2), (9, Metric::InnerProduct)] {
            let quantizer = "saq:3".parse().unwrap();
            let nlist = Some(nlist);
            let config = IndexConfig {
                quantizer,
                metric,
                nlist,
                keep: Keep::None,
                ..IndexConfig::default()
            };
            let by_device = encoded(&vectors, &config);
            // Without any variance there is no scale; that of one vector far away is far from those of the others.
            match name {
                "all zero" | "all equal" => assert_eq!(by_device, 0, "{name}"),
                "one beyond" => {}
                _ => assert!(by_device > 380, "{name}, {nlist:?}, {metric}: {by_device}"),
            }
        }
    }
}
