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
        let mut chosen = std::collections::HashSet::with_capacity(count);
        for top in bound - count..bound {
            let pick = self.below(top as u64 + 1) as usize;
            if !chosen.insert(pick) {
                chosen.insert(top);
            }
        }
        let mut sorted: Vec<usize> = chosen.into_iter().collect();
        sorted.sort_unstable();
        sorted
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

    /// Index bytes depend on these values: they may never differ. They come from another program, which
    /// follows the papers.
    #[test]
    fn the_streams_never_change() {
        for (seed, stream, expected) in [
            (0, 0x0, [0x5317_5d61_490b_23df, 0x61da_6f3d_c380_d507]),
            // Rotations.
            (42, 0x100, [0x40f6_557e_537c_e6d4, 0x34da_65f7_6272_e2ed]),
            // Far pairs.
            (42, 0x200, [0x2f0e_031f_bd42_3d33, 0xc4bb_5541_7fa0_bb0a]),
            // K-means, its sample.
            (42, 0x6b6d65616e7301, [0x224c_5a4d_5aa6_1ce6, 0xb705_8565_0646_8bfe]),
            // K-means, the first centroids.
            (42, 0x6b6d65616e7302, [0xfb03_ad78_1486_2b9f, 0xb886_69b6_faf0_8cdc]),
            // K-means, repairs.
            (42, 0x6b6d65616e7303, [0xe8cb_38c8_0c42_433a, 0x373f_4f7c_dcde_9c4e]),
            // The training sample.
            (42, 0x73616d706c65, [0xf117_5680_6ade_d939, 0x5286_59c3_78cd_33a0]),
            (u64::MAX, u64::MAX, [0xc114_ea2a_d60b_207f, 0x0388_f424_056d_625e]),
        ] {
            let mut random = Random::new(seed, stream);
            assert_eq!([(); 2].map(|()| random.next_u64()), expected, "{seed} {stream:#x}");
        }
        let mut random = Random::new(42, 1);
        assert_eq!([(); 5].map(|()| random.below(1000)), [727, 149, 853, 834, 705]);
        // More than half of all numbers: some draws are rejected.
        assert_eq!(random.below(3 << 62), 7_427_836_114_545_270_468);
        let mut random = Random::new(42, 2);
        let units = [(); 2].map(|()| random.unit().to_bits());
        assert_eq!(units, [0x3fd3_caee_254c_2aa2, 0x3fe7_bdbe_023b_4227]);
        let mut random = Random::new(42, 3);
        let normals = [(); 2].map(|()| random.normal().to_bits());
        assert_eq!(normals, [0xbfc6_4939_2944_6a10, 0xbff4_2660_20cc_eb4c]);
        let sample = Random::new(42, 4).sample_sorted(100, 8);
        assert_eq!(sample, [16, 25, 38, 42, 45, 53, 80, 87]);
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        Random::new(42, 5).shuffle(&mut items);
        assert_eq!(items, [8, 1, 7, 5, 9, 6, 4, 2, 3, 0]);
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
