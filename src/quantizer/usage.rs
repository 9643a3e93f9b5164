//! How codebooks are used.

use super::additive::CENTROIDS;

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
    codebooks: usize,
    counts: Vec<u32>,
}

impl Uses {
    /// For codes that name a centroid of each of so many codebooks.
    pub(crate) fn new(codebooks: usize) -> Uses {
        Uses { codebooks, counts: vec![0; codebooks * CENTROIDS] }
    }

    /// Counts records that begin with their codes, each `stride` bytes.
    pub(crate) fn add(&mut self, records: &[u8], stride: usize) {
        if self.codebooks == 0 {
            return;
        }
        for record in records.chunks_exact(stride) {
            let codebooks = self.counts.as_chunks_mut::<CENTROIDS>().0;
            for (counts, &code) in codebooks.iter_mut().zip(record) {
                let count = &mut counts[usize::from(code)];
                *count = count.saturating_add(1);
            }
        }
    }

    /// How often each centroid is named: `codebooks * 256`.
    pub(crate) fn into_counts(self) -> Vec<u32> {
        self.counts
    }

    /// What was counted, for each codebook.
    pub(crate) fn report(&self) -> Vec<CodebookUse> {
        let of_codebook = |counts: &[u32; CENTROIDS]| {
            let all = counts.iter().map(|&count| u64::from(count)).sum::<u64>().max(1) as f64;
            let entropy: f64 = counts
                .iter()
                .filter(|&&count| count > 0)
                .map(|&count| f64::from(count) / all)
                .map(|share| -share * share.log2())
                .sum();
            CodebookUse {
                centroids: CENTROIDS,
                used: counts.iter().filter(|&&count| count > 0).count(),
                perplexity: entropy.exp2(),
            }
        };
        self.counts.as_chunks::<CENTROIDS>().0.iter().map(of_codebook).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_is_the_number_of_equal_shares() {
        let mut uses = Uses::new(3);
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
        let mut uses = Uses::new(1);
        uses.add(&[0, 1, 1, 1], 1);
        assert!((uses.report()[0].perplexity - 1.7547653506).abs() < 1e-9);
        assert!(Uses::new(0).report().is_empty());
    }
}
