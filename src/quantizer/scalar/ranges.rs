//! The range of each dimension: where codes of a few bits leave least.

use rayon::prelude::*;

use super::Range;

/// Values that a range is fitted to one by one; of more rows it is their histogram, of so many bins.
const VALUES: usize = 1 << 12;

/// Columns that are read together.
const TOGETHER: usize = 16;

/// How often codes and range are fitted to each other.
const ITERATIONS: usize = 8;

/// Where fitting starts, beside the range from the least value to the largest: so many deviations from
/// the mean.
const STARTS: [f64; 4] = [2.5, 3.5, 5.0, 8.0];

/// Fits a range of `1 << bits` codes to each column of `rows` (`n x dims`), by least squares.
///
/// All rows count: at 8 bits the few values beyond the range of some thousand others would leave as much
/// as all the others do.
pub(super) fn fit(rows: &[f32], dims: usize, bits: u32) -> Vec<Range> {
    let few = rows.len() / dims <= VALUES;
    (0..dims.div_ceil(TOGETHER))
        .into_par_iter()
        .flat_map_iter(|group| {
            let start = group * TOGETHER;
            let columns =
                || rows.chunks_exact(dims).map(|row| &row[start..dims.min(start + TOGETHER)]);
            let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); TOGETHER.min(dims - start)];
            for row in columns() {
                for ((least, most), &x) in ends.iter_mut().zip(row) {
                    (*least, *most) = (least.min(f64::from(x)), most.max(f64::from(x)));
                }
            }
            let mut values = vec![Vec::new(); ends.len()];
            let width =
                |(least, most): (f64, f64)| ((most - least) / VALUES as f64).max(f64::MIN_POSITIVE);
            if !few {
                for (values, &ends) in values.iter_mut().zip(&ends) {
                    let middle = |bin: usize| ends.0 + (bin as f64 + 0.5) * width(ends);
                    values.extend((0..VALUES).map(|bin| (middle(bin), 0.0)));
                }
            }
            for row in columns() {
                for ((values, &ends), &x) in values.iter_mut().zip(&ends).zip(row) {
                    let x = f64::from(x);
                    if few {
                        values.push((x, 1.0));
                    } else {
                        values[(((x - ends.0) / width(ends)) as usize).min(VALUES - 1)].1 += 1.0;
                    }
                }
            }
            let of_column = move |(mut values, (least, most)): (Vec<(f64, f64)>, (f64, f64))| {
                values.retain(|&(_, count)| count > 0.0);
                fit_values(&values, least, most, bits)
            };
            values.into_iter().zip(ends).map(of_column)
        })
        .collect()
}

/// As the iterations of k-means, with centroids that lie evenly: codes are chosen for the range, then the
/// range is fitted to the codes. `values` are pairs of a value and how often it counts, from `least` to `most`.
fn fit_values(values: &[(f64, f64)], least: f64, most: f64, bits: u32) -> Range {
    let last = f64::from((1u32 << bits) - 1);
    if values.is_empty() || most - least <= f64::from(f32::MIN_POSITIVE) * last {
        // Code 0 is exact; others are not used.
        let low = if values.is_empty() { 0.0 } else { least as f32 };
        return Range { low, step: f32::MIN_POSITIVE };
    }
    let mut moments = [0.0; 3];
    for &(x, weight) in values {
        for (moment, power) in moments.iter_mut().zip([1.0, x, x * x]) {
            *moment += weight * power;
        }
    }
    let [count, sum, sum_sq] = moments;
    let mean = sum / count;
    let deviation = (sum_sq / count - mean * mean).max(0.0).sqrt();
    let around =
        |reach: f64| ((mean - reach * deviation).max(least), (mean + reach * deviation).min(most));
    let mut best = (f64::INFINITY, Range::default());
    for (from, to) in std::iter::once((least, most)).chain(STARTS.map(around)) {
        let (mut low, mut step) = (from, (to - from) / last);
        for _ in 0..ITERATIONS {
            if !step.is_finite() || step <= f64::from(f32::MIN_POSITIVE) {
                break;
            }
            let (mut left_sq, mut codes, mut codes_sq, mut product) = (0.0, 0.0, 0.0, 0.0);
            for &(x, weight) in values {
                let code = ((x - low) / step).round().clamp(0.0, last);
                let left = x - (low + step * code);
                left_sq += weight * (left * left);
                codes += weight * code;
                codes_sq += weight * (code * code);
                product += weight * (code * x);
            }
            if left_sq < best.0 {
                best = (left_sq, Range { low: low as f32, step: step as f32 });
            }
            // All values may have the same code: then there is no slope.
            step = (count * product - codes * sum) / (count * codes_sq - codes * codes);
            low = (sum - step * codes) / count;
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn left_sq(values: &[f32], range: Range, bits: u32) -> f32 {
        let last = ((1u32 << bits) - 1) as f32;
        let left = |x: f32| {
            x - (range.low + range.step * ((x - range.low) / range.step).round().clamp(0.0, last))
        };
        values.iter().map(|&x| left(x) * left(x)).sum::<f32>() / values.len() as f32
    }

    #[test]
    fn few_bits_leave_out_the_tails() {
        let mut random = Random::new(3, 0);
        let values: Vec<f32> = (0..20_000).map(|_| random.normal() as f32).collect();
        for (bits, most) in [(4, 0.0118), (6, 0.00108), (8, 1e-4)] {
            let [range] = fit(&values, 1, bits)[..] else { unreachable!("one dimension") };
            let whole = {
                let least = values.iter().copied().fold(f32::INFINITY, f32::min);
                let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                Range { low: least, step: (largest - least) / ((1u32 << bits) - 1) as f32 }
            };
            let (found, plain) = (left_sq(&values, range, bits), left_sq(&values, whole, bits));
            // The least that evenly spaced values leave of a normal distribution is 0.01154,
            // 0.00104 and 0.0000943 (Max, 1960).
            assert!(found <= most, "{bits} bits leave {found}");
            assert!(found <= plain, "{bits} bits leave {found}, from end to end {plain}");
        }
    }

    #[test]
    fn a_far_value_is_cut_off_where_that_pays() {
        let mut random = Random::new(4, 0);
        for (count, far) in [(3000, 8.0), (3000, 40.0), (100_000, 40.0), (100_000, 10.0)] {
            let mut values: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
            values[7] = far;
            let [range] = fit(&values, 1, 6)[..] else { unreachable!("one dimension") };
            let between = |low: f32, high: f32| Range { low, step: (high - low) / 63.0 };
            let found = left_sq(&values, range, 6);
            for (other, name) in
                [(between(-5.0, far), "from end to end"), (between(-4.0, 4.0), "without it")]
            {
                let left = left_sq(&values, other, 6);
                assert!(found <= 1.01 * left, "{count} {far}: {found}, {name} {left}");
            }
        }
    }

    #[test]
    fn equal_values_are_exact() {
        for values in [vec![], vec![2.5f32], vec![-1.0; 100], vec![0.0; 7]] {
            for range in fit(&values, 1, 4) {
                assert!(range.step > 0.0);
                assert!(values.iter().all(|&x| range.low == x), "{range:?}");
            }
        }
        let [range] = fit(&[1.0, 3.0, 1.0, 3.0], 1, 4)[..] else { unreachable!("one dimension") };
        assert!(left_sq(&[1.0, 3.0], range, 4) < 1e-12, "{range:?}");
    }
}
