//! The range of each dimension: where codes of a few bits leave least.

use rayon::prelude::*;

use super::Range;

/// Values that a range is fitted to one by one; of more rows it is their histogram, of so many bins.
const VALUES: usize = 1 << 12;

/// Columns that are read together.
const TOGETHER: usize = 32;

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
            let mut ends = vec![(f32::INFINITY, f32::NEG_INFINITY); TOGETHER.min(dims - start)];
            for row in columns() {
                for ((least, most), &x) in ends.iter_mut().zip(row) {
                    (*least, *most) = (least.min(x), most.max(x));
                }
            }
            let ends = ends.into_iter().map(|(least, most)| (f64::from(least), f64::from(most)));
            let fits: Vec<Range> = if few {
                let of_column = |(column, ends)| {
                    let values: Vec<f64> = columns().map(|row| f64::from(row[column])).collect();
                    fit_values(&values, ends, bits)
                };
                ends.enumerate().map(of_column).collect()
            } else {
                let mut histograms: Vec<Histogram> = ends.map(Histogram::new).collect();
                for row in columns() {
                    for (histogram, &x) in histograms.iter_mut().zip(row) {
                        histogram.add(x);
                    }
                }
                histograms.iter().map(|histogram| histogram.fit(bits)).collect()
            };
            fits
        })
        .collect()
}

/// The range of no values, or of values that are all but equal.
fn of_equal((least, most): (f64, f64), bits: u32) -> Option<Range> {
    let last = f64::from((1u32 << bits) - 1);
    // Code 0 is exact; others are not used.
    let range = |low| Some(Range { low, step: f32::MIN_POSITIVE });
    match most - least {
        // From infinity to minus infinity.
        width if width < 0.0 => range(0.0),
        width if width <= f64::from(f32::MIN_POSITIVE) * last => range(least as f32),
        _ => None,
    }
}

/// The range of some values between `ends`.
fn fit_values(values: &[f64], ends: (f64, f64), bits: u32) -> Range {
    if let Some(range) = of_equal(ends, bits) {
        return range;
    }
    let sum_of = |of: &dyn Fn(f64) -> f64| values.iter().map(|&x| of(x)).sum::<f64>();
    let moments = [values.len() as f64, sum_of(&|x| x), sum_of(&|x| x * x)];
    let last = f64::from((1u32 << bits) - 1);
    let (low, step) = fit_codes(moments, ends, f64::from(f32::MIN_POSITIVE), bits, |low, step| {
        let mut sums = Coded::default();
        for &x in values {
            let code = ((x - low) / step).round().clamp(0.0, last);
            let left = x - (low + step * code);
            sums.left_sq += left * left;
            sums.codes += code;
            sums.codes_sq += code * code;
            sums.product += code * x;
        }
        sums
    });
    Range { low: low as f32, step: step as f32 }
}

/// How many values lie in each of [`VALUES`] bins of equal width between two ends.
struct Histogram {
    ends: (f64, f64),
    inverse: f64,
    counts: Vec<u32>,
}

impl Histogram {
    fn new(ends: (f64, f64)) -> Histogram {
        Histogram { ends, inverse: VALUES as f64 / (ends.1 - ends.0), counts: vec![0; VALUES] }
    }

    fn add(&mut self, x: f32) {
        let bin = ((f64::from(x) - self.ends.0) * self.inverse) as usize;
        self.counts[bin.min(VALUES - 1)] += 1;
    }

    /// The range of the values, each of which is taken for the middle of its bin. In units of the bins' width from the
    /// first end on all sums are of integers and halves, and exact.
    fn fit(&self, bits: u32) -> Range {
        if let Some(range) = of_equal(self.ends, bits) {
            return range;
        }
        let last = (1usize << bits) - 1;
        // Number, sum and sum of squares of the values in all bins before each.
        let mut before = vec![[0.0f64; 3]; VALUES + 1];
        for (bin, &count) in self.counts.iter().enumerate() {
            let (x, count) = (bin as f64 + 0.5, f64::from(count));
            let [number, sum, sum_sq] = before[bin];
            before[bin + 1] = [number + count, sum + count * x, sum_sq + count * x * x];
        }
        let width = (self.ends.1 - self.ends.0) / VALUES as f64;
        let smallest = f64::from(f32::MIN_POSITIVE) / width;
        let ends = (0.0, VALUES as f64);
        let (low, step) = fit_codes(before[VALUES], ends, smallest, bits, |low, step| {
            let mut sums = Coded::default();
            let mut start = 0;
            for code in 0..=last {
                // The first bin whose middle is nearer to the next code.
                let border = (low + step * (code as f64 + 0.5) - 0.5).ceil() as usize;
                let end = if code == last { VALUES } else { border.clamp(start, VALUES) };
                let of = |i: usize| before[end][i] - before[start][i];
                let (number, sum, sum_sq) = (of(0), of(1), of(2));
                let (code, x) = (code as f64, low + step * code as f64);
                sums.left_sq += sum_sq - 2.0 * x * sum + x * x * number;
                sums.codes += number * code;
                sums.codes_sq += number * code * code;
                sums.product += code * sum;
                start = end;
            }
            sums
        });
        Range { low: (self.ends.0 + low * width) as f32, step: (step * width) as f32 }
    }
}

/// What the codes of all values sum up to.
#[derive(Default)]
struct Coded {
    /// What codes leave, squared.
    left_sq: f64,
    codes: f64,
    codes_sq: f64,
    /// Codes times values.
    product: f64,
}

/// As the iterations of k-means, with centroids that lie evenly: codes are chosen for the range, then the
/// range is fitted to the codes. `moments` are number, sum and sum of squares of the values, and `coded` sums their
/// codes up for the least value and the step of a range, which is what is returned.
fn fit_codes(
    [count, sum, sum_sq]: [f64; 3],
    (least, most): (f64, f64),
    smallest: f64,
    bits: u32,
    coded: impl Fn(f64, f64) -> Coded,
) -> (f64, f64) {
    let last = f64::from((1u32 << bits) - 1);
    let mean = sum / count;
    let deviation = (sum_sq / count - mean * mean).max(0.0).sqrt();
    let around =
        |reach: f64| ((mean - reach * deviation).max(least), (mean + reach * deviation).min(most));
    let mut best = (f64::INFINITY, (0.0, 0.0));
    // Where there are no values so far away, several start from end to end.
    let starts = std::iter::once((least, most))
        .chain(STARTS.map(around).into_iter().filter(|&start| start != (least, most)));
    for (from, to) in starts {
        let (mut low, mut step) = (from, (to - from) / last);
        let mut before = None;
        for _ in 0..ITERATIONS {
            // What was tried just before would be found again.
            if !step.is_finite() || step <= smallest || before == Some((low, step)) {
                break;
            }
            before = Some((low, step));
            let sums = coded(low, step);
            if sums.left_sq < best.0 {
                best = (sums.left_sq, (low, step));
            }
            // All values may have the same code: then there is no slope.
            step = (count * sums.product - sums.codes * sum)
                / (count * sums.codes_sq - sums.codes * sums.codes);
            low = (sum - step * sums.codes) / count;
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
    fn a_histogram_fits_as_well_as_single_values() {
        let mut random = Random::new(5, 0);
        let normal: Vec<f32> = (0..3000).map(|_| random.normal() as f32).collect();
        for (scale, offset) in [(1.0f32, 0.0f32), (1e-30, 0.0), (1e18, 0.0), (1.0, 1e3)] {
            let few: Vec<f32> = normal.iter().map(|x| x * scale + offset).collect();
            let many = few.repeat(2);
            for bits in [4, 6, 8] {
                let of = |values: &[f32]| {
                    let range = fit(values, 1, bits)[0];
                    let last = f64::from((1u32 << bits) - 1);
                    let (low, step) = (f64::from(range.low), f64::from(range.step));
                    let left = |&x: &f32| {
                        let code = ((f64::from(x) - low) / step).round().clamp(0.0, last);
                        ((f64::from(x) - low - step * code) / f64::from(scale)).powi(2)
                    };
                    few.iter().map(left).sum::<f64>()
                };
                let (single, binned) = (of(&few), of(&many));
                assert!(
                    binned <= 1.02 * single,
                    "{bits} bits at {scale}: {binned} in bins, {single} one by one"
                );
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
