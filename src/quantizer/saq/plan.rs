//! The plan: where the dimensions are cut into segments, and how many bits each segment gets.
//!
//! The paper (Li et al., SIGMOD 2026, section 4) finds cuts and bits with a dynamic program over
//! (dimension, bits used). Ours differs in four points:
//!
//! - The budget is in *bytes of the whole vector*: codes and factors, everything but the id.
//! - Errors of independent segments add as variances, so a segment costs
//!   `sum(variance) * sum(weight) / dims * error(bits)`, where the weights are the variances of
//!   the queries.
//! - Bits strictly fall from segment to segment: two neighbours with equal bits are better merged,
//!   since the rotation inside a segment spreads the error evenly and one factor is saved.
//! - Dropping the last dimensions costs more than their variance: near neighbours agree there
//!   too, so their distances are overestimated. The expected inner product of near pairs over the
//!   dropped dimensions enters the cost as a bias.

use std::fmt;

use super::scale;

/// The largest number of bits of a dimension.
pub const MAX_BITS: u32 = 13;

/// Consecutive dimensions (after rotation) that share a number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Segment {
    /// How many dimensions.
    pub dims: usize,
    /// Bits per dimension, 0 to [`MAX_BITS`]; 0 keeps nothing but the segment's norm.
    pub bits: u32,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.dims, self.bits)
    }
}

/// The mean squared error of a segment's estimate relative to its energy, `1 / cos^2 - 1`, at 0
/// to 13 bits: measured on Gaussian segments of 64 dimensions after adjustment.
const ERROR: [f64; MAX_BITS as usize + 1] = [
    1.0, 0.562, 0.1275, 0.0338, 0.00870, 0.00216, 0.000535, 0.000134, 3.35e-5, 8.4e-6, 2.1e-6,
    5.2e-7, 1.3e-7, 3.3e-8,
];

/// The relative squared error of a segment's estimate at so many bits.
pub(crate) fn error(bits: u32) -> f64 {
    ERROR[bits as usize]
}

/// The share of the near pairs' inner product over dropped dimensions that the correction of
/// [`Saq`](super::Saq) is expected to leave as a bias.
pub(crate) const UNCORRECTED: f64 = 0.3;

/// What the dynamic program works on. All slices have one entry a dimension.
pub(crate) struct PlanInput<'a> {
    /// The variance of the vectors along each dimension, falling.
    pub(crate) variances: &'a [f64],
    /// The mean square of the queries along each dimension.
    pub(crate) weights: &'a [f64],
    /// The mean product of the coordinates of near pairs.
    pub(crate) near: &'a [f64],
    /// The share of it that is left as a bias where dimensions are dropped: [`UNCORRECTED`], or 1
    /// where there is no correction.
    pub(crate) uncorrected: f64,
}

/// The dimensions that cuts are a multiple of: finer where there are few dimensions, coarser
/// where a finer grid would not pay for its search.
pub(crate) fn granularity(dim: usize) -> usize {
    match dim {
        0..=256 => 8,
        257..=1536 => 16,
        _ => 16 * dim.div_ceil(1536),
    }
}

/// The best plan whose codes and scales take at most `budget` bytes.
///
/// The dimensions of the plan sum to the length of the input, which is a multiple of 8.
pub(crate) fn plan(input: &PlanInput<'_>, budget: usize) -> Vec<Segment> {
    let dims = input.variances.len();
    let grain = granularity(dims);
    let units = dims.div_ceil(grain);
    let end = |unit: usize| (unit * grain).min(dims);
    // Sums of ranges are added up, not differences of sums from the first unit on: where that has nearly
    // all of the variance nothing would be left of what the others have.
    let of_units = |values: &[f64]| -> Vec<f64> {
        (0..units).map(|unit| values[end(unit)..end(unit + 1)].iter().sum()).collect()
    };
    let variance = of_units(input.variances);
    let weight = of_units(input.weights);

    // More bytes than every dimension at the largest width are of no use.
    let budget = budget.min(dims * MAX_BITS as usize / 8 + 2);
    let width = budget + 1;
    // best[unit * width + bytes]: the least cost of the first `unit` units with segments of at
    // least the current number of bits, in exactly `bytes` bytes.
    let mut best = vec![f64::INFINITY; (units + 1) * width];
    best[0] = 0.0;
    // For each number of bits: the unit where the segment that ends here starts; u32::MAX if none.
    let mut starts: Vec<Vec<u32>> = vec![Vec::new(); MAX_BITS as usize + 1];
    for bits in (1..=MAX_BITS).rev() {
        let mut next = best.clone();
        let mut start = vec![u32::MAX; (units + 1) * width];
        for from in 0..units {
            let source = &best[from * width..(from + 1) * width];
            let Some(first) = source.iter().position(|cost| cost.is_finite()) else { continue };
            let last = source.iter().rposition(|cost| cost.is_finite()).unwrap_or(first);
            let (mut range_variance, mut range_weight) = (0.0, 0.0);
            for to in from + 1..=units {
                range_variance += variance[to - 1];
                range_weight += weight[to - 1];
                let count = end(to) - end(from);
                let bytes = count * bits as usize / 8 + scale::bytes(bits);
                if first + bytes > budget {
                    break;
                }
                let cost = range_variance * range_weight / count as f64 * ERROR[bits as usize];
                let target = to * width + bytes;
                for used in first..=last.min(budget - bytes) {
                    let candidate = source[used] + cost;
                    if candidate < next[target + used] {
                        next[target + used] = candidate;
                        start[target + used] = from as u32;
                    }
                }
            }
        }
        best = next;
        starts[bits as usize] = start;
    }

    // Close with a dropped tail of any length.
    let products: Vec<f64> =
        input.variances.iter().zip(input.weights).map(|(v, w)| v * w).collect();
    let (product, near) = (of_units(&products), of_units(input.near));
    let (mut tail_product, mut tail_near) = (0.0, 0.0);
    let mut winner = (f64::INFINITY, 0, 0);
    for unit in (0..=units).rev() {
        if unit < units {
            tail_product += product[unit];
            tail_near += near[unit];
        }
        let tail = if unit == units { 0 } else { scale::bytes(0) };
        if tail > budget && unit < units {
            continue;
        }
        let bias = input.uncorrected * f64::max(tail_near, 0.0);
        let dropped = tail_product + bias * bias;
        for used in 0..=budget.saturating_sub(tail) {
            let cost = best[unit * width + used] + dropped;
            // Of equally good plans the one with the longest tail, in the fewest bytes.
            if cost < winner.0 || (cost == winner.0 && unit < winner.1) {
                winner = (cost, unit, used);
            }
        }
    }
    let (_, mut unit, mut used) = winner;
    let mut segments = Vec::new();
    if unit < units {
        segments.push(Segment { dims: dims - end(unit), bits: 0 });
    }
    for bits in 1..=MAX_BITS {
        let start = starts[bits as usize][unit * width + used];
        if start != u32::MAX {
            let from = start as usize;
            let count = end(unit) - end(from);
            segments.push(Segment { dims: count, bits });
            used -= count * bits as usize / 8 + scale::bytes(bits);
            unit = from;
        }
    }
    segments.reverse();
    segments
}

/// The bytes of codes and scales that a plan takes for each vector.
#[cfg(test)]
pub(crate) fn plan_bytes(segments: &[Segment]) -> usize {
    segments.iter().map(|s| s.dims * s.bits as usize / 8 + scale::bytes(s.bits)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decaying(dims: usize) -> Vec<f64> {
        (0..dims).map(|i| 1.0 / (1.0 + i as f64 / 10.0)).collect()
    }

    fn plan_of(dims: usize, budget: usize) -> Vec<Segment> {
        let v = decaying(dims);
        let near: Vec<f64> = v.iter().map(|v| v * 0.5).collect();
        plan(
            &PlanInput { variances: &v, weights: &v, near: &near, uncorrected: UNCORRECTED },
            budget,
        )
    }

    #[test]
    fn plans_cover_all_dimensions_within_the_budget() {
        for dims in [8, 16, 104, 128, 384, 768] {
            for budget in [0, 1, 2, 7, dims / 16 + 6, dims / 8 + 6, dims / 2 + 6, dims * 2] {
                let segments = plan_of(dims, budget);
                assert_eq!(segments.iter().map(|s| s.dims).sum::<usize>(), dims);
                let dropped = segments.len() == 1 && segments[0].bits == 0;
                assert!(plan_bytes(&segments) <= budget || dropped, "{segments:?} for {budget}");
                assert!(segments.windows(2).all(|w| w[0].bits > w[1].bits), "{segments:?}");
            }
        }
    }

    #[test]
    fn more_bytes_never_cost_more() {
        let v = decaying(128);
        let near: Vec<f64> = v.iter().map(|v| v * 0.5).collect();
        let cost = |segments: &[Segment]| {
            let mut from = 0;
            let mut cost = 0.0;
            for s in segments {
                let sum: f64 = v[from..from + s.dims].iter().sum();
                if s.bits == 0 {
                    cost += v[from..].iter().map(|v| v * v).sum::<f64>();
                    cost += (UNCORRECTED * near[from..].iter().sum::<f64>()).powi(2);
                } else {
                    cost += sum * sum / s.dims as f64 * ERROR[s.bits as usize];
                }
                from += s.dims;
            }
            cost
        };
        let costs: Vec<f64> = (0..200).map(|budget| cost(&plan_of(128, budget))).collect();
        assert!(costs.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-12)));
        assert!(costs[150] < costs[20] / 100.0);
    }

    #[test]
    fn equals_an_exhaustive_search() {
        // 4 units of 8 dimensions: every plan of strictly falling bits, by brute force.
        fn all(left: usize, below: u32, head: Vec<Segment>, out: &mut Vec<Vec<Segment>>) {
            if left == 0 {
                out.push(head);
                return;
            }
            for units in 1..=left {
                for bits in 0..below {
                    if bits == 0 && units < left {
                        continue;
                    }
                    let mut next = head.clone();
                    next.push(Segment { dims: units * 8, bits });
                    all(left - units, bits, next, out);
                }
            }
        }
        let mut plans = Vec::new();
        all(4, MAX_BITS + 1, Vec::new(), &mut plans);
        // In the others a few dimensions have nearly all of the variance, so that the rest is what rounding must leave.
        let falling = |factor: f64| (0..32).map(|i| (-factor * f64::from(i)).exp2()).collect();
        let stepped = |low: f64| {
            (0..32).map(|i| if i < 16 { 1.0 } else { (low - f64::from(i)).exp2() }).collect()
        };
        let sets: [Vec<f64>; 6] =
            [decaying(32), falling(1.0), falling(3.0), stepped(4.0), stepped(-4.0), stepped(-30.0)];
        for (set, v) in sets.iter().enumerate() {
            let near: Vec<f64> = v.iter().map(|v| v * 0.5).collect();
            let cost_of = |s: &[Segment]| -> f64 {
                let mut from = 0;
                let mut cost = 0.0;
                for s in s {
                    let part = &v[from..from + s.dims];
                    let sum: f64 = part.iter().sum();
                    cost += if s.bits == 0 {
                        part.iter().map(|v| v * v).sum::<f64>()
                            + (UNCORRECTED * near[from..].iter().sum::<f64>()).powi(2)
                    } else {
                        sum * sum / s.dims as f64 * ERROR[s.bits as usize]
                    };
                    from += s.dims;
                }
                cost
            };
            for budget in 3..60 {
                let input =
                    PlanInput { variances: v, weights: v, near: &near, uncorrected: UNCORRECTED };
                let found = plan(&input, budget);
                let least = plans
                    .iter()
                    .filter(|p| plan_bytes(p) <= budget)
                    .map(|p| cost_of(p))
                    .fold(f64::INFINITY, f64::min);
                let off = (cost_of(&found) - least).abs();
                assert!(off <= 1e-12 * least, "set {set}, {budget} bytes: {found:?}, {off:e}");
            }
        }
    }
}
