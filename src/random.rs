//! Random streams of our own, so that no dependency's update can change an index's bytes.

/// The xoshiro256++ generator of Blackman and Vigna, seeded by splitmix64.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of a seed; `stream` tells apart the uses of one seed.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut x = seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut next = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Random { state: [next(), next(), next(), next()] }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, every one equally likely (Lemire's method).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number lies below 0");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let low = product as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number of [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number of the standard normal distribution.
    ///
    /// The polar method needs only `ln` and `sqrt`; the sum of uniforms that we use instead needs
    /// neither, so the stream has the same bits whatever the system's mathematics library: twelve
    /// uniforms have variance 1, and their sum differs from a normal only in the far tails.
    pub fn normal(&mut self) -> f64 {
        let mut sum = -6.0;
        for _ in 0..12 {
            sum += self.unit();
        }
        sum
    }

    /// `count` different numbers below `bound`, ascending.
    ///
    /// # Panics
    /// If `count` exceeds `bound`.
    pub fn sample_sorted(&mut self, bound: usize, count: usize) -> Vec<usize> {
        assert!(count <= bound, "cannot draw {count} different numbers below {bound}");
        // Selection sampling (Knuth, algorithm S) would walk over all of `bound`; draw the gaps
        // by Floyd's method instead, which touches only what it returns.
        let mut chosen = std::collections::BTreeSet::new();
        for top in bound - count..bound {
            let pick = self.below(top as u64 + 1) as usize;
            if !chosen.insert(pick) {
                chosen.insert(top);
            }
        }
        chosen.into_iter().collect()
    }

    /// Shuffles a slice (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_never_changes() {
        // Index bytes depend on these values: they may never differ.
        let mut random = Random::new(42, 7);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        let mut again = Random::new(42, 7);
        assert_eq!(first, (0..3).map(|_| again.next_u64()).collect::<Vec<_>>());
        assert_ne!(Random::new(42, 8).next_u64(), first[0]);
        assert_ne!(Random::new(43, 7).next_u64(), first[0]);
    }

    #[test]
    fn samples_are_sorted_and_different() {
        let mut random = Random::new(1, 0);
        for (bound, count) in [(1, 1), (10, 10), (1000, 10), (5, 0)] {
            let sample = random.sample_sorted(bound, count);
            assert_eq!(sample.len(), count);
            assert!(sample.windows(2).all(|w| w[0] < w[1]));
            assert!(sample.iter().all(|&i| i < bound));
        }
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut random = Random::new(3, 0);
        let values: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
