//! Codes that coordinate descent adjusts, beside the best ones there are.
//!
//! Extended RaBitQ (Gao and others, SIGMOD 2025) finds for a rotated vector the code whose direction is
//! nearest to it, by trying every scale at which a coordinate moves to its next value. That takes time by
//! `dims * 2^bits`; the library's encoder does not do it, and must come close.

use nonius::transform::random_orthogonal;
use nonius::{Encoding, Matrix, Metric, Saq, SaqConfig};
use nonius_tests::{spec, wordnet};

const VECTORS: usize = 300;

/// The largest cosine that a vector has to a code of `bits` bits: half-integers of up to `2^(bits - 1)` in
/// magnitude, with a scale of their own.
fn best_cosine(vector: &[f64], bits: u32) -> f64 {
    let values = 1u32 << (bits - 1);
    // At which scale each coordinate goes from value k - 1/2 to k + 1/2.
    let mut steps: Vec<(f64, usize, u32)> = Vec::new();
    let (mut dot, mut norm_sq) = (0.0f64, 0.0f64);
    for (i, x) in vector.iter().enumerate() {
        dot += 0.5 * x.abs();
        norm_sq += 0.25;
        if *x != 0.0 {
            steps.extend((1..values).map(|k| (f64::from(k) / x.abs(), i, k)));
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut best = dot / norm_sq.sqrt();
    for (_, i, k) in steps {
        dot += vector[i].abs();
        norm_sq += 2.0 * f64::from(k);
        best = best.max(dot / norm_sq.sqrt());
    }
    best / length
}

/// Tries every code.
fn exhaustive_cosine(vector: &[f64], bits: u32) -> f64 {
    let values = 1u64 << (bits - 1);
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let cosine = |number: u64| {
        let (mut dot, mut norm_sq, mut left) = (0.0f64, 0.0f64, number);
        for x in vector {
            let u = (left % values) as f64 + 0.5;
            left /= values;
            dot += u * x.abs();
            norm_sq += u * u;
        }
        dot / norm_sq.sqrt() / length
    };
    (0..values.pow(vector.len() as u32)).map(cosine).fold(0.0, f64::max)
}

#[test]
fn the_enumeration_finds_the_best_code() {
    for (vector, bits) in [
        (vec![0.3, -1.2, 0.01, 0.7, 2.0], 3),
        (vec![1.0, 1.0, -1.0, 0.5], 4),
        (vec![0.0, 5.0, -0.2, 0.1, 0.1, 3.0, 0.9], 2),
        (vec![0.4, -0.9, 0.77], 5),
    ] {
        let (found, best) = (best_cosine(&vector, bits), exhaustive_cosine(&vector, bits));
        assert!((found - best).abs() < 1e-12, "{bits} bits of {vector:?}: {found}, best {best}");
    }
}

#[test]
fn adjusted_codes_are_nearly_the_best_ones() {
    let set = wordnet();
    let (base, dim) = (&set.base, set.base.dim());
    let mut mean = vec![0.0f64; dim];
    for row in 0..base.rows() {
        for (sum, &x) in mean.iter_mut().zip(base.row(row)) {
            *sum += f64::from(x) / base.rows() as f64;
        }
    }
    let residual = |vector: &[f32]| -> Vec<f64> {
        vector.iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean).collect()
    };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let chosen: Vec<usize> = (0..VECTORS).map(|i| i * base.rows() / VECTORS).collect();
    // The library rotates by another matrix than this one: what the best codes are like on average
    // does not depend on which.
    let rotation = random_orthogonal(dim, 7, 0);
    let rotated: Vec<Vec<f64>> = chosen
        .iter()
        .map(|&row| {
            let o = residual(base.row(row));
            let along = |axis: &[f32]| axis.iter().zip(&o).map(|(&a, o)| f64::from(a) * o).sum();
            (0..dim).map(|i| along(rotation.row(i))).collect()
        })
        .collect();
    let rows: Vec<f32> = chosen.iter().flat_map(|&row| base.row(row).to_vec()).collect();
    let rows = Matrix::new(dim, rows).unwrap();
    for bits in 2..=8 {
        let best = rotated.iter().map(|o| best_cosine(o, bits)).sum::<f64>() / VECTORS as f64;
        for (encoding, most) in [(Encoding::Full, 1.12), (Encoding::Fast, 1.15)] {
            let config = SaqConfig {
                metric: Metric::L2,
                quantizer: spec(&format!("erabitq:{bits}")),
                encoding,
                ..SaqConfig::default()
            };
            let saq = Saq::train(base.view(), &config).unwrap();
            let codes = saq.encode(rows.view()).unwrap();
            let found = (0..VECTORS)
                .map(|i| {
                    let (o, code) = (residual(rows.row(i)), residual(&saq.decode(&codes, i)));
                    dot(&o, &code) / (dot(&o, &o) * dot(&code, &code)).sqrt()
                })
                .sum::<f64>()
                / VECTORS as f64;
            let what = format!("{bits} bits, {encoding:?}: {found:.7}, best {best:.7}");
            println!("{what}, 1 - cosine {:.3} times", (1.0 - found) / (1.0 - best));
            assert!(found > 0.995 * best, "{what}");
            // The cosine is near 1: what is missing from 1 says more.
            assert!(1.0 - found < most * (1.0 - best), "{what}");
        }
    }
}
