//! The range of each dimension: where codes of a few bits leave least.
//!
//! A few thousand vectors stand for all. Others have values beyond the largest of theirs, and at 8 bits these would
//! leave as much as all the rest. So each end of a histogram is half what was found there, half an
//! exponential tail of the same mean.

use nonius_simd::{Vectorize, level};
use rayon::prelude::*;

use super::Range;
use super::encode::nearest;

/// Bins of a histogram.
const BINS: usize = 1 << 10;

/// How far a histogram reaches beyond the values on each side, in parts of their width.
const MARGIN: f64 = 0.125;

/// Of so few rows ranges are fitted to the values themselves in the end.
const FEW: usize = 1 << 9;

/// Columns that are read together.
const TOGETHER: usize = 16;

/// An end of a histogram is this part of the values, and so many at most.
const END: (u64, u64) = (64, 64);

/// Values that stand for an exponential tail.
const POINTS: u32 = 256;

/// How often codes and range are fitted to each other at most.
const ITERATIONS: usize = 8;

/// An iteration that mends less than this part of what is left is the last one.
const WORTH: f64 = 2e-3;

/// Fits a range of `1 << bits` codes to each column of `rows` (`n x dims`), by least squares.
pub(super) fn fit(rows: &[f32], dims: usize, bits: u32) -> Vec<Range> {
    (0..dims.div_ceil(TOGETHER))
        .into_par_iter()
        .flat_map_iter(|group| {
            let start = group * TOGETHER;
            fit_columns(Columns { rows, dims, start, end: dims.min(start + TOGETHER) }, bits)
        })
        .collect()
}

/// Some columns of rows.
#[derive(Clone, Copy)]
struct Columns<'a> {
    rows: &'a [f32],
    dims: usize,
    start: usize,
    end: usize,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        self.rows.chunks_exact(self.dims).map(move |row| &row[self.start..self.end])
    }
}

fn fit_columns(columns: Columns<'_>, bits: u32) -> Vec<Range> {
    let Columns { rows, dims, start, end } = columns;
    let (least, most) = level().vectorize(Extremes { columns });
    let ends = |column: usize| (f64::from(least[column]), f64::from(most[column]));
    let mut scales = [Scale::default(); TOGETHER];
    for (column, scale) in scales[..end - start].iter_mut().enumerate() {
        if of_equal(ends(column)).is_none() {
            *scale = Scale::around(ends(column));
        }
    }
    let mut counts = vec![[0; BINS]; end - start];
    level().vectorize(Bins { columns, scales: &scales, counts: &mut counts });
    let mut before = [[0.0; 3]; BINS + 1];
    let of_column = |(column, counts): (usize, &[u32; BINS])| {
        let ends = ends(column);
        if let Some(range) = of_equal(ends) {
            return range;
        }
        let range = fit_histogram(counts, scales[column], ends, bits, &mut before);
        if rows.len() / dims > FEW {
            return range;
        }
        let values: Vec<f64> = columns.iter().map(|row| f64::from(row[column])).collect();
        fit_values(&values, [ends, range.ends(bits)], bits)
    };
    counts.iter().enumerate().map(of_column).collect()
}

/// The least and the largest value of each column.
struct Extremes<'a> {
    columns: Columns<'a>,
}

impl Vectorize for Extremes<'_> {
    type Output = ([f32; TOGETHER], [f32; TOGETHER]);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (mut least, mut most) = ([f32::INFINITY; TOGETHER], [f32::NEG_INFINITY; TOGETHER]);
        for row in self.columns.iter() {
            for ((least, most), &x) in least.iter_mut().zip(&mut most).zip(row) {
                *least = if x < *least { x } else { *least };
                *most = if x > *most { x } else { *most };
            }
        }
        (least, most)
    }
}

/// The bins of a histogram: number `i` begins at `low + i / inverse`.
#[derive(Clone, Copy, Default)]
struct Scale {
    low: f32,
    inverse: f32,
}

impl Scale {
    fn around((least, most): (f64, f64)) -> Scale {
        let width = most - least;
        let inverse = BINS as f64 / ((1.0 + 2.0 * MARGIN) * width);
        Scale { low: (least - MARGIN * width) as f32, inverse: inverse as f32 }
    }

    /// A value in bins from the start of the first one.
    fn place(self, x: f64) -> f64 {
        (x - f64::from(self.low)) * f64::from(self.inverse)
    }
}

/// Counts the values of each column in each bin.
struct Bins<'a> {
    columns: Columns<'a>,
    scales: &'a [Scale; TOGETHER],
    counts: &'a mut [[u32; BINS]],
}

impl Vectorize for Bins<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const LAST: f32 = (BINS - 1) as f32;
        let Bins { columns, scales, counts } = self;
        let (low, inverse) = (scales.map(|s| s.low), scales.map(|s| s.inverse));
        let mut bins = [0u16; TOGETHER];
        for row in columns.iter() {
            for (((bin, x), low), inverse) in bins.iter_mut().zip(row).zip(&low).zip(&inverse) {
                // The whole number nearest to what is half a bin less is that of the bin.
                *bin = nearest((x - low) * inverse - 0.5, LAST);
            }
            for (counts, &bin) in counts.iter_mut().zip(&bins) {
                counts[bin as usize] += 1;
            }
        }
    }
}

/// The range of no values, or of values that are all but equal.
fn of_equal((least, most): (f64, f64)) -> Option<Range> {
    // Code 0 is exact; others are not used.
    let range = |low| Some(Range { low, step: f32::MIN_POSITIVE });
    match most - least {
        // From infinity to minus infinity.
        width if width < 0.0 => range(0.0),
        // The inverse of a bin's width has to be a number.
        width if width <= f64::from(f32::MIN_POSITIVE) * (4 * BINS) as f64 => range(least as f32),
        _ => None,
    }
}

impl Range {
    /// The values of the first code and of the last one.
    fn ends(self, bits: u32) -> (f64, f64) {
        let (low, last) = (f64::from(self.low), f64::from((1u32 << bits) - 1));
        (low, low + last * f64::from(self.step))
    }
}

/// The range of some values.
fn fit_values(values: &[f64], starts: [(f64, f64); 2], bits: u32) -> Range {
    let moments = [values.len() as f64, values.iter().sum()];
    let last = f64::from((1u32 << bits) - 1);
    let coded = |low: f64, step: f64| {
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
    };
    let smallest = f64::from(f32::MIN_POSITIVE);
    let fits = starts.map(|start| fit_codes(moments, &[start], smallest, 0.0, bits, coded));
    let Fitted { low, step, .. } = fits.into_iter().min_by(Fitted::order).unwrap_or_default();
    Range { low: low as f32, step: step as f32 }
}

/// The range of the values in a histogram, each of which is taken for the middle of its bin. In bins from the start of
/// the first one, and with weights that are whole, all sums are whole numbers and halves, and exact.
///
/// `before` is a buffer: number, sum and sum of squares of the values in all bins before each.
fn fit_histogram(
    counts: &[u32; BINS],
    scale: Scale,
    (least, most): (f64, f64),
    bits: u32,
    before: &mut [[f64; 3]; BINS + 1],
) -> Range {
    let mut weights = [0i64; BINS];
    for (weight, &count) in weights.iter_mut().zip(counts) {
        *weight = 2 * i64::from(POINTS) * i64::from(count);
    }
    let rows = counts.iter().map(|&count| u64::from(count)).sum();
    if rows > FEW as u64 {
        smooth(&mut weights, rows, |bin| bin);
        smooth(&mut weights, rows, |bin| BINS - 1 - bin);
    }
    // Integers are summed up faster. Of the middle of the bin they are twice and four times as much.
    let [mut number, mut sum, mut sum_sq] = [0i64; 3];
    for (bin, (&weight, before)) in weights.iter().zip(&mut before[1..]).enumerate() {
        let x = 2 * bin as i64 + 1;
        number += weight;
        sum += weight * x;
        sum_sq += weight * x * x;
        *before = [number as f64, 0.5 * sum as f64, 0.25 * sum_sq as f64];
    }
    let sums = |from: usize, to: usize| {
        let of = |i: usize| before[to][i] - before[from][i];
        [of(0), of(1), of(2)]
    };
    let last = (1usize << bits) - 1;
    let [count, sum, _] = sums(0, BINS);
    let coded = |low: f64, step: f64| {
        let mut coded = Coded::default();
        let (mut start, mut below) = (0, [0.0; 3]);
        for code in 0..=last {
            // The first bin whose middle is nearer to the next code.
            let border = (low + step * (code as f64 + 0.5) + 0.5) as usize;
            let end = if code == last { BINS } else { border.clamp(start, BINS) };
            let upto = before[end];
            let [number, sum, sum_sq] = [0, 1, 2].map(|i| upto[i] - below[i]);
            let (code, x) = (code as f64, low + step * code as f64);
            coded.left_sq += sum_sq - 2.0 * x * sum + x * x * number;
            coded.codes += number * code;
            coded.codes_sq += number * code * code;
            coded.product += code * sum;
            (start, below) = (end, upto);
        }
        coded
    };
    // Values that lie on a grid from end to end are best left where they are.
    let starts = [range_of(&sums, bits), (scale.place(least), scale.place(most))];
    let Fitted { low, step, .. } = fit_codes([count, sum], &starts, 1e-6, WORTH, bits, coded);
    let width = 1.0 / f64::from(scale.inverse);
    Range { low: (f64::from(scale.low) + low * width) as f32, step: (step * width) as f32 }
}

/// Makes half of what lies at an end an exponential tail. `at` tells the places of bins from the end on.
fn smooth(weights: &mut [i64; BINS], rows: u64, at: impl Fn(usize) -> usize) {
    let whole = 2 * i64::from(POINTS);
    let wanted = whole * (rows / END.0).min(END.1) as i64;
    let Some(first) = (0..BINS).find(|&bin| weights[at(bin)] > 0) else { return };
    let (mut bin, mut number, mut moment) = (first, 0, 0);
    while bin < BINS && number + weights[at(bin)] <= wanted {
        number += weights[at(bin)];
        moment += weights[at(bin)] * bin as i64;
        bin += 1;
    }
    // Values that many rows share are no tail.
    if number < wanted / 2 || number == 0 {
        return;
    }
    for taken in first..bin {
        weights[at(taken)] /= 2;
    }
    let mean = bin as f64 - moment as f64 / number as f64;
    let mut passed = 0.0;
    for point in 0..POINTS {
        // Of so many exponential numbers the next one is this far on, on average; it counts from halfway there.
        let on = 0.5 / f64::from(POINTS - point);
        let place = bin as f64 - mean * (passed + on);
        passed += 2.0 * on;
        weights[at(place.max(0.0) as usize)] += number / whole;
    }
}

/// The values of the first and the last code that leave least if each value between leaves `step^2 / 12` on average, as
/// many evenly spread ones would. What is left is then convex in both ends, and each is found by bisection for the other.
fn range_of(sums: &impl Fn(usize, usize) -> [f64; 3], bits: u32) -> (f64, f64) {
    let [count, ..] = sums(0, BINS);
    // What is left grows with the width by so much.
    let codes = f64::from(1u32 << bits);
    let slope = |low: usize, high: usize| count * (high - low) as f64 / (12.0 * codes * codes);
    let (mut low, mut high) = (0, BINS);
    for _ in 0..4 {
        // And shrinks by the distances of what lies beyond.
        let beyond = |high: usize| {
            let [number, sum, _] = sums(high, BINS);
            sum - number * high as f64
        };
        high = first_of(low + 1, BINS, |high| slope(low, high) >= beyond(high));
        let below = |low: usize| {
            let [number, sum, _] = sums(0, low);
            number * low as f64 - sum
        };
        low = first_of(0, high - 1, |low| slope(low, high) <= below(low)).min(high - 1);
    }
    let half = 0.5 * (high - low) as f64 / codes;
    (low as f64 + half, high as f64 - half)
}

/// The first number for which something holds that holds for all after it; `end` if there is none.
fn first_of(mut start: usize, mut end: usize, holds: impl Fn(usize) -> bool) -> usize {
    while start < end {
        let middle = start.midpoint(end);
        if holds(middle) { end = middle } else { start = middle + 1 }
    }
    start
}

/// What the codes of all values sum up to.
#[derive(Clone, Copy, Default)]
struct Coded {
    /// What codes leave, squared.
    left_sq: f64,
    codes: f64,
    codes_sq: f64,
    /// Codes times values.
    product: f64,
}

/// A range, and what its codes sum up to.
#[derive(Clone, Copy, Default)]
struct Fitted {
    low: f64,
    step: f64,
    sums: Coded,
}

impl Fitted {
    /// The better one is less.
    fn order(a: &Fitted, b: &Fitted) -> std::cmp::Ordering {
        a.sums.left_sq.total_cmp(&b.sums.left_sq)
    }
}

/// As the iterations of k-means, with centroids that lie evenly: codes are chosen for the range, then the
/// range is fitted to the codes. It begins with the best of `starts`, each from the value of the first code to that of
/// the last one; `count` and `sum` are those of the values, and `coded` sums their codes up for the least value
/// and the step of a range.
fn fit_codes(
    [count, sum]: [f64; 2],
    starts: &[(f64, f64)],
    smallest: f64,
    worth: f64,
    bits: u32,
    coded: impl Fn(f64, f64) -> Coded,
) -> Fitted {
    let last = f64::from((1u32 << bits) - 1);
    let fitted = |low: f64, step: f64| Fitted { low, step, sums: coded(low, step) };
    let starts = starts.iter().map(|&(from, to)| fitted(from, ((to - from) / last).max(smallest)));
    let mut best = starts.min_by(Fitted::order).unwrap_or_default();
    for _ in 0..ITERATIONS {
        let Coded { left_sq, codes, codes_sq, product } = best.sums;
        // All values may have the same code: then there is no slope.
        let step = (count * product - codes * sum) / (count * codes_sq - codes * codes);
        let low = (sum - step * codes) / count;
        if !step.is_finite() || step <= smallest {
            break;
        }
        let next = fitted(low, step);
        if next.sums.left_sq < left_sq {
            best = next;
        }
        if best.sums.left_sq >= (1.0 - worth) * left_sq {
            break;
        }
    }
    best
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

    /// What ranges from end to end leave at best, of so many widths.
    fn best_of_all(values: &[f32], bits: u32) -> f32 {
        let far = values.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let of = |part: i32| {
            let far = far * part as f32 / 400.0;
            let step = 2.0 * far / ((1u32 << bits) - 1) as f32;
            left_sq(values, Range { low: -far, step }, bits)
        };
        (1..=400).map(of).fold(f32::INFINITY, f32::min)
    }

    #[test]
    fn a_few_thousand_values_tell_the_range_of_all() {
        let normal = |random: &mut Random| random.normal() as f32;
        let exponential = |random: &mut Random| {
            let (a, b, sign) = (random.normal(), random.normal(), random.normal().signum());
            (sign * (a * a + b * b)) as f32
        };
        type Kind = (&'static str, fn(&mut Random) -> f32, [f32; 3]);
        let kinds: [Kind; 2] = [
            ("normal", normal, [1.03, 1.06, 1.15]),
            ("exponential", exponential, [1.03, 1.12, 1.7]),
        ];
        for (name, draw, most) in kinds {
            let mut random = Random::new(3, 1);
            let all: Vec<f32> = (0..100_000).map(|_| draw(&mut random)).collect();
            for (bits, most) in [4, 6, 8].into_iter().zip(most) {
                let of = |some: &[f32]| left_sq(&all, fit(some, 1, bits)[0], bits);
                let left = all.chunks(4096).take(20).map(of).sum::<f32>() / 20.0;
                let best = best_of_all(&all, bits);
                assert!(
                    left <= most * best,
                    "{name}, {bits} bits: {left}, {best} would be the least"
                );
            }
        }
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
            // At 8 bits there is room for values beyond these, which costs them a little.
            let most = if bits < 8 { plain } else { 1.02 * plain };
            assert!(found <= most, "{bits} bits leave {found}, from end to end {plain}");
        }
    }

    #[test]
    fn a_far_value_is_cut_off_where_that_pays() {
        let mut random = Random::new(4, 0);
        for (count, far) in
            [(300, 8.0), (300, 40.0), (3000, 8.0), (3000, 40.0), (100_000, 40.0), (100_000, 10.0)]
        {
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
    fn ranges_follow_the_units() {
        let mut random = Random::new(5, 0);
        let normal: Vec<f32> = (0..3000).map(|_| random.normal() as f32).collect();
        for values in [&normal[..FEW], &normal] {
            for bits in [4, 6, 8] {
                let in_units = |scale: f32, offset: f32| {
                    let values: Vec<f32> = values.iter().map(|x| x * scale + offset).collect();
                    let range = fit(&values, 1, bits)[0];
                    Range { low: (range.low - offset) / scale, step: range.step / scale }
                };
                let expected = left_sq(values, in_units(1.0, 0.0), bits);
                for (scale, offset) in [(1e-30f32, 0.0f32), (1e18, 0.0), (1.0, 1e3)] {
                    let found = left_sq(values, in_units(scale, offset), bits);
                    assert!(
                        (0.99..1.01).contains(&(found / expected)),
                        "{bits} bits at {scale}: {found} instead of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn values_that_many_share_are_no_tail() {
        let mut weights = [0; BINS];
        let whole = 2 * i64::from(POINTS);
        (weights[100], weights[300], weights[500]) = (2000 * whole, 1000 * whole, whole);
        let before = weights;
        smooth(&mut weights, 3001, |bin| bin);
        assert_eq!(weights, before, "two thirds of all values lie at the first end");
        // At the other one 46 are asked for, and there is one.
        smooth(&mut weights, 3001, |bin| BINS - 1 - bin);
        assert_eq!(weights, before);
        // Of a slope half goes farther out; nothing is lost.
        let mut weights = [0; BINS];
        for bin in 0..400 {
            weights[300 + bin] = whole * (400 - bin as i64);
        }
        let before = weights;
        smooth(&mut weights, 80_200, |bin| BINS - 1 - bin);
        assert_eq!(weights.iter().sum::<i64>(), before.iter().sum());
        let beyond = weights[700..].iter().sum::<i64>();
        assert!((1..=10 * whole).contains(&beyond), "{beyond}");
        assert_eq!(weights[..680], before[..680]);
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
