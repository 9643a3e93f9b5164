//! How codebooks are used.

use super::additive::Layout;

/// How much of a codebook the codes of a set of vectors use.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CodebookUse {
    /// Its centroids.
    pub centroids: usize,
    /// Those of them that some vector's code names.
    pub used: usize,
    /// Two to the power of the entropy of the codes in bits: as many centroids, each used as often,
    /// would say as much. The number of centroids if all are used alike, 1 if only one is used.
    pub perplexity: f64,
}

/// Counts how often codes name each centroid.
pub(crate) struct Uses {
    /// None of quantizers without codebooks.
    layout: Option<Layout>,
    /// Codebooks x centroids.
    counts: Vec<u32>,
}

impl Uses {
    /// For codes of a layout.
    pub(crate) fn new(layout: Option<Layout>) -> Uses {
        let entries = layout.map_or(0, |layout| layout.columns * layout.centroids());
        Uses { layout, counts: vec![0; entries] }
    }

    /// Counts records that begin with their codes, each `stride` bytes.
    pub(crate) fn add(&mut self, records: &[u8], stride: usize) {
        let Some(layout) = self.layout else { return };
        for record in records.chunks_exact(stride) {
            self.count(layout.unpack(record));
        }
    }

    /// Counts the number of each column of a code.
    pub(crate) fn count(&mut self, code: impl Iterator<Item = u16>) {
        let Some(layout) = self.layout else { return };
        for (counts, number) in self.counts.chunks_exact_mut(layout.centroids()).zip(code) {
            let count = &mut counts[usize::from(number)];
            *count = count.saturating_add(1);
        }
    }

    /// What was counted, for each codebook.
    pub(crate) fn report(&self) -> Vec<CodebookUse> {
        let of_codebook = |counts: &[u32]| {
            let all = counts.iter().map(|&count| u64::from(count)).sum::<u64>().max(1) as f64;
            let entropy: f64 = counts
                .iter()
                .filter(|&&count| count > 0)
                .map(|&count| f64::from(count) / all)
                .map(|share| -share * share.log2())
                .sum();
            CodebookUse {
                centroids: counts.len(),
                used: counts.iter().filter(|&&count| count > 0).count(),
                perplexity: entropy.exp2(),
            }
        };
        let Some(layout) = self.layout else { return Vec::new() };
        self.counts.chunks_exact(layout.centroids()).map(of_codebook).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_is_the_number_of_equal_shares() {
        let layout = |columns, bits| Some(Layout { columns, bits, additive_bytes: 1 });
        let mut uses = Uses::new(layout(3, 8));
        // Codes of the first codebook are all different, of the second 0 or 1, of the third equal.
        let records: Vec<u8> = (0..=255).flat_map(|i| [i, i % 2, 9, 77]).collect();
        uses.add(&records[..400], 4);
        uses.add(&records[400..], 4);
        let found = uses.report();
        let all: Vec<(usize, usize)> = found.iter().map(|u| (u.centroids, u.used)).collect();
        assert_eq!(all, [(256, 256), (256, 2), (256, 1)]);
        for (found, expected) in found.iter().zip([256.0, 2.0, 1.0]) {
            assert!((found.perplexity - expected).abs() < 1e-9, "{found:?}");
        }
        // A quarter and three quarters: 2^(0.25 log 4 + 0.75 log 4/3).
        let mut uses = Uses::new(layout(1, 8));
        uses.add(&[0, 1, 1, 1], 1);
        assert!((uses.report()[0].perplexity - 1.7547653506).abs() < 1e-9);
        // Two columns a byte: the first is 3 and 4, the second 15, the third 0.
        let mut uses = Uses::new(layout(3, 4));
        uses.add(&[0xf3, 0, 9, 0xf4, 0, 9], 3);
        let found: Vec<(usize, usize)> =
            uses.report().iter().map(|u| (u.centroids, u.used)).collect();
        assert_eq!(found, [(16, 2), (16, 1), (16, 1)]);
        assert!(Uses::new(None).report().is_empty());
    }
}
