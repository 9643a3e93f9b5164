//! Which lists to search: centroids in order of their distance to a query.
//!
//! All centroids are compared, in eight bits with seven of the query: of the list table of an index they are
//! the part that is read for every query, so their bytes count. So few bits lose about a thousandth of the
//! norm; the exact distance is computed for lists that are searched.
//!
//! Lists are ranked by `|q - c|^2 + SPREAD * r^2`, where `r^2` is the mean squared distance of the
//! list's vectors to the centroid: of two lists at the same distance the denser one holds more
//! of the nearest neighbours. Half of `r^2` was best or close to it on every set that was tried, and
//! scans up to 15% fewer vectors for the same recall.

use nonius_simd::{BLOCK, Panels8, Vectorize, at_most, for_each_set};

use super::format::{ListFactors, Parts};
use crate::metric::Metric;
use crate::train::{RowsI7, RowsI8, shifted_dot};

/// The weight of a list's mean squared distance in its rank.
const SPREAD: f64 = 0.5;

/// Lists whose mean distance others are compared with: one alone says little of how far those with
/// neighbours reach. With 5 to 20 as many vectors are scanned for the same recall within 5%; with one, more than without a limit up to a recall of 0.95.
const NEAREST: usize = 10;

/// What one unit of a centroid's eight bits is in sixteen.
pub(super) const FINER: f32 = 256.0;

/// Rotated centroids as an index holds them.
pub(super) struct CompactCentroids {
    /// In eight bits, as [`Panels8`]: what ranks them.
    pub(super) packed: Vec<i8>,
    /// In sixteen bits, row by row.
    pub(super) fine: Vec<i16>,
    pub(super) factors: Vec<ListFactors>,
}

impl CompactCentroids {
    /// From rotated centroids (`nlist x dims`) and the mean squared distance of each list.
    pub(super) fn new(metric: Metric, dims: usize, rotated: &[f32], spread: &[f64]) -> Self {
        let mut rows = RowsI8::default();
        rows.quantize(dims, rotated);
        let mut fine = vec![0; rotated.len()];
        let factors = rotated
            .chunks_exact(dims)
            .zip(fine.chunks_exact_mut(dims))
            .enumerate()
            .map(|(list, (row, fine))| {
                let unit = rows.inverse()[list] / FINER;
                let limit = f32::from(i16::MAX);
                let mut norm_sq = 0.0;
                for (fine, x) in fine.iter_mut().zip(row) {
                    let integer = if unit > 0.0 { (x / unit).round_ties_even() } else { 0.0 };
                    *fine = integer.clamp(-limit, limit) as i16;
                    norm_sq += f64::from(f32::from(*fine) * unit).powi(2);
                }
                let norm_sq = norm_sq as f32;
                let key = match metric {
                    Metric::L2 | Metric::Cosine => norm_sq + (SPREAD * spread[list]) as f32,
                    Metric::InnerProduct => 0.0,
                };
                ListFactors { norm_sq, key, inverse: rows.inverse()[list], sum: rows.sums()[list] }
            })
            .collect();
        let packed = Panels8::pack(spread.len(), rows.depth(), rows.values());
        CompactCentroids { packed, fine, factors }
    }
}

/// A query's first lists come in the order of their rank, this part of all and at least
/// [`LEAST_LEAD`]: they bring the threshold down.
const LEAD: usize = 8;

/// See [`LEAD`].
const LEAST_LEAD: usize = 4;

/// Compares queries with all centroids.
#[derive(Default)]
pub(super) struct Ranking {
    rows: RowsI7,
    product: Vec<i32>,
    values: Vec<[f32; BLOCK]>,
    nearest: Nearest,
}

/// The lists that a query searches, in their order.
///
/// After the first few, in the order of their rank, come the others in the order of their numbers:
/// many queries can then go through an index together and read each list once. What is found is
/// the same either way, for the first few lists bring the threshold close to where it ends.
#[derive(Default)]
pub(super) struct Route {
    probes: Vec<Probe>,
    /// How many are in the order of their rank.
    lead: usize,
    /// The last by rank.
    farthest: Option<Probe>,
    constants: Vec<f32>,
}

/// A list to search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) list: u32,
    /// `<q, c>`, about.
    pub(super) dot: f32,
}

impl Probe {
    /// `|q - c|^2`, about, of a query of squared norm `norm_sq`.
    pub(super) fn distance_sq(&self, parts: &Parts, norm_sq: f32) -> f32 {
        let centroid_sq = parts.list_factors[self.list as usize].norm_sq;
        (norm_sq + centroid_sq - 2.0 * self.dot).max(0.0)
    }
}

impl Route {
    /// The lists.
    #[inline]
    pub(super) fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// How many of them come in the order of their rank.
    pub(super) fn lead(&self) -> usize {
        self.lead
    }

    /// The one that ranks last.
    pub(super) fn farthest(&self) -> Option<Probe> {
        self.farthest
    }

    /// Brings the lists, which are in the order of their rank, into the order of the route, or keeps
    /// them all in that of their rank.
    pub(super) fn arrange(&mut self, by_rank: bool) {
        let count = self.probes.len();
        self.farthest = self.probes.last().copied();
        self.lead = match count {
            _ if by_rank => count,
            // A flat index.
            1 => 0,
            _ => (count / LEAD).max(LEAST_LEAD).min(count),
        };
        self.probes[self.lead..].sort_unstable_by_key(|probe| probe.list);
    }

    /// Gives up those of the lists that were taken whose centroid is farther from the query than [`limit`]
    /// says; `norm_sq` is the query's squared norm.
    fn keep_within(&mut self, parts: &Parts, norm_sq: f32, ratio: f32) {
        let distance_sq = |probe: &Probe| probe.distance_sq(parts, norm_sq);
        let limit = limit(self.probes.iter().map(distance_sq), ratio);
        self.probes.retain(|probe| distance_sq(probe) <= limit);
    }

    /// For each list what all of its keys share, about; no number for the lists of the route:
    /// copies of their vectors need not be looked at.
    pub(super) fn constants(&self) -> &[f32] {
        &self.constants
    }
}

impl Ranking {
    /// Finds out, for the copies that lists hold, what all keys of their vectors' lists share
    /// ([`Route::constants`]); `constant` is what all keys of the query share.
    pub(super) fn prepare_copies(
        &self,
        parts: &Parts,
        row: usize,
        constant: f32,
        route: &mut Route,
    ) {
        let padded = parts.centroid_panels().padded_rows();
        route.constants.resize(parts.nlist, 0.0);
        nonius_simd::level().vectorize(Values {
            factors: &parts.list_factors,
            product: &self.product[row * padded..(row + 1) * padded],
            weight: parts.frame().alpha() * self.rows.inverse()[row],
            base: |_: &ListFactors| constant,
            values: &mut route.constants,
        });
        for probe in &route.probes {
            route.constants[probe.list as usize] = f32::NAN;
        }
    }

    /// Ranks all lists for rotated queries (`rows x dims`); [`take`](Ranking::take) reads the
    /// result for one of them. Returns the bytes of the index that it takes.
    pub(super) fn compare(&mut self, parts: &Parts, queries: &[f32]) -> u64 {
        if !parts.frame().lists {
            return 0;
        }
        self.rows.quantize(parts.frame().dims, queries);
        self.rows.multiply(parts.centroid_panels(), &mut self.product);
        (size_of_val(&*parts.centroids_packed) + size_of_val(&*parts.list_factors)) as u64
    }

    /// Begins a route with the `nprobe` nearest lists of query `row`, nearest first, or with those of them
    /// within a `ratio` (see [`limit`]); `norm_sq` is the query's squared norm.
    pub(super) fn take(
        &mut self,
        parts: &Parts,
        row: usize,
        norm_sq: f32,
        nprobe: usize,
        ratio: Option<f32>,
        route: &mut Route,
    ) {
        route.probes.clear();
        if !parts.frame().lists {
            route.probes.push(Probe { list: 0, dot: 0.0 });
            return;
        }
        let padded = parts.centroid_panels().padded_rows();
        let factors = &parts.list_factors[..];
        let product = &self.product[row * padded..(row + 1) * padded];
        let (alpha, inverse) = (parts.frame().alpha(), self.rows.inverse()[row]);
        // Behind the last list are no numbers: they are never chosen.
        self.values.resize(parts.nlist.div_ceil(BLOCK), [f32::NAN; BLOCK]);
        let values = &mut self.values.as_flattened_mut()[..parts.nlist];
        let weight = alpha * inverse;
        nonius_simd::level().vectorize(Values {
            factors,
            product,
            weight,
            base: |f: &ListFactors| f.key,
            values,
        });
        let metric = parts.frame().metric;
        let nearest = match ratio {
            Some(ratio) if metric != Metric::InnerProduct => {
                self.nearest.take_within(&self.values, parts.nlist, nprobe, norm_sq, ratio)
            }
            _ => self.nearest.take(&self.values, parts.nlist, nprobe),
        };
        route.probes.extend(nearest.iter().map(|&key| {
            let list = key as u32;
            let f = factors[list as usize];
            Probe { list, dot: inverse * f.inverse * shifted_dot(product[list as usize], f.sum) }
        }));
        // Inner products rank by something else than what the ratio is of.
        if let (Some(ratio), Metric::InnerProduct) = (ratio, metric) {
            route.keep_within(parts, norm_sq, ratio);
        }
    }
}

/// The largest squared distance that is within `ratio` of the mean of the first [`NEAREST`] of `distances_sq`; of
/// the first one if that is larger.
fn limit(distances_sq: impl Iterator<Item = f32> + Clone, ratio: f32) -> f32 {
    let first = distances_sq.clone().next().unwrap_or(0.0);
    let (sum, count) =
        distances_sq.take(NEAREST).fold((0.0, 0), |(sum, count), x| (sum + x, count + 1));
    (ratio * ratio * (sum / count.max(1) as f32)).max(first)
}

/// Finds the smallest of many values.
#[derive(Default)]
struct Nearest {
    sample: Vec<f32>,
    masks: Vec<u32>,
    keys: Vec<u64>,
}

impl Nearest {
    /// The `count` smallest of the first `len` values, ascending, equal ones by their number, which
    /// is in the lower half of the result.
    fn take(&mut self, blocks: &[[f32; BLOCK]], len: usize, count: usize) -> &[u64] {
        self.masks.resize(blocks.len(), 0);
        let values = &blocks.as_flattened()[..len];
        let limit = self.limit(values, count);
        at_most(blocks, limit, &mut self.masks);
        if self.masks.iter().map(|mask| mask.count_ones() as usize).sum::<usize>() < count {
            // The sample was not like the rest, or some values are no numbers.
            self.masks.fill(u32::MAX);
        }
        self.sorted(values, count)
    }

    /// Of the `count` smallest of the first `len` values, as [`take`](Nearest::take) has them, those that
    /// with `more` added are within `ratio`.
    fn take_within(
        &mut self,
        blocks: &[[f32; BLOCK]],
        len: usize,
        count: usize,
        more: f32,
        ratio: f32,
    ) -> &[u64] {
        let first = self.take(blocks, len, NEAREST.min(count));
        let nearest = first.first().map_or(f32::NAN, |&key| value_of(key));
        let limit = limit(first.iter().map(|&key| value_of(key) + more), ratio) - more;
        at_most(blocks, limit.max(nearest), &mut self.masks);
        self.sorted(&blocks.as_flattened()[..len], count)
    }

    /// The `count` smallest of the values whose bits are set.
    fn sorted(&mut self, values: &[f32], count: usize) -> &[u64] {
        self.keys.clear();
        for_each_set(&self.masks, |number| {
            if let Some(&value) = values.get(number) {
                self.keys.push(numbered(value, number as u32));
            }
        });
        if count < self.keys.len() {
            self.keys.select_nth_unstable(count);
            self.keys.truncate(count);
        }
        self.keys.sort_unstable();
        &self.keys
    }

    /// A value that about `count` values do not exceed, and rarely fewer: from a sample, whose
    /// share is taken generously.
    fn limit(&mut self, values: &[f32], count: usize) -> f32 {
        const SAMPLE: usize = 128;
        let step = values.len() / SAMPLE;
        let wanted = SAMPLE * count.min(values.len()) / values.len().max(1);
        let index = wanted + 2 + 2 * (wanted as f32).sqrt() as usize;
        if step < 4 || index >= SAMPLE {
            return f32::INFINITY;
        }
        self.sample.clear();
        self.sample.extend(values.iter().step_by(step).take(SAMPLE));
        *self.sample.select_nth_unstable_by(index, f32::total_cmp).1
    }
}

/// A value and a number as one integer, which is ordered by the value and then by the number.
#[inline]
pub(super) fn numbered(value: f32, number: u32) -> u64 {
    u64::from(ordered(value)) << 32 | u64::from(number)
}

/// The value of a [`numbered`] one; the number is its lower half.
#[inline]
pub(super) fn value_of(numbered: u64) -> f32 {
    from_ordered((numbered >> 32) as u32)
}

/// Bits that are ordered as floats are.
#[inline]
fn ordered(value: f32) -> u32 {
    // Floats are ordered as sign and magnitude.
    let bits = value.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The float of [`ordered`] bits.
#[inline]
fn from_ordered(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 0 { !bits } else { bits & !(1 << 31) })
}

/// For each list what `base` says less the weighted inner product of query and centroid.
struct Values<'a, B> {
    factors: &'a [ListFactors],
    product: &'a [i32],
    weight: f32,
    base: B,
    values: &'a mut [f32],
}

impl<B: Fn(&ListFactors) -> f32> Vectorize for Values<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Values { factors, product, weight, base, values } = self;
        for ((value, f), &product) in values.iter_mut().zip(factors).zip(product) {
            *value = base(f) - weight * f.inverse * shifted_dot(product, f.sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Values in blocks, as `Ranking` has them.
    fn blocks(values: &[f32]) -> Vec<[f32; BLOCK]> {
        let mut blocks = vec![[f32::NAN; BLOCK]; values.len().div_ceil(BLOCK)];
        blocks.as_flattened_mut()[..values.len()].copy_from_slice(values);
        blocks
    }

    #[test]
    fn nearest_are_those_of_a_sort() {
        let mut random = Random::new(5, 0);
        let mut nearest = Nearest::default();
        for len in [1usize, 2, 100, 511, 512, 513, 4000] {
            for distinct in [1, 3, 50, u64::MAX] {
                let mut values: Vec<f32> =
                    (0..len).map(|_| (random.next_u64() % distinct) as f32 - 7.0).collect();
                for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0] {
                    if len > 100 && distinct == 50 {
                        values[random.below(len as u64) as usize] = special;
                    }
                }
                let mut sorted: Vec<usize> = (0..len).collect();
                sorted.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
                for count in [1, 2, len / 10 + 1, len / 2 + 1, len.max(2) - 1, len, len + 5] {
                    let found = nearest.take(&blocks(&values), len, count);
                    let numbers: Vec<usize> = found.iter().map(|&k| k as u32 as usize).collect();
                    assert_eq!(numbers, sorted[..count.min(len)], "{count} of {len}");
                }
            }
        }
    }

    #[test]
    fn those_within_a_ratio_are_those_of_a_sort() {
        let mut random = Random::new(6, 0);
        let mut nearest = Nearest::default();
        for len in [1usize, 2, 9, 10, 11, 100, 600, 4000] {
            for (more, distinct) in [(0.0, 1000), (0.0, 3), (500.0, 1000)] {
                let mut values: Vec<f32> =
                    (0..len).map(|_| (1 + random.next_u64() % distinct) as f32 - more).collect();
                if len > 100 {
                    values[random.below(len as u64) as usize] = f32::NAN;
                }
                let mut sorted: Vec<usize> = (0..len).filter(|&i| !values[i].is_nan()).collect();
                sorted.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
                for ratio in [1.0, 1.1, 3.0, 1e6, f32::MAX] {
                    for count in [1, 5, 10, 40, len] {
                        let first = sorted.len().min(NEAREST).min(count);
                        let mean = sorted[..first].iter().map(|&i| values[i] + more).sum::<f32>()
                            / first as f32;
                        let within = |&&i: &&usize| {
                            i == sorted[0] || values[i] <= ratio * ratio * mean - more
                        };
                        let expected: Vec<usize> =
                            sorted.iter().take(count).filter(within).copied().collect();
                        let found = nearest.take_within(&blocks(&values), len, count, more, ratio);
                        let numbers: Vec<usize> =
                            found.iter().map(|&k| k as u32 as usize).collect();
                        assert_eq!(numbers, expected, "{count} of {len} within {ratio}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_keep_the_order_of_floats() {
        let values = [f32::NEG_INFINITY, -1e20, -1.0, -0.0, 0.0, 1e-20, 3.0, f32::INFINITY];
        assert!(values.map(ordered).is_sorted_by(|a, b| a < b));
        assert!(values.iter().all(|x| from_ordered(ordered(*x)).to_bits() == x.to_bits()));
    }
}
