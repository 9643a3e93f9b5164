//! The codes of a segment: see `adjust.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;

/// Threads of a workgroup.
pub(crate) const THREADS: u32 = 64;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) rows: u32,
    pub(crate) grid_x: u32,
    pub(crate) zero: u32,
    pub(crate) segment: u32,
    pub(crate) start: u32,
    pub(crate) dims: u32,
    pub(crate) centroid: u32,
    pub(crate) bits: u32,
    pub(crate) try_count: u32,
    pub(crate) visits: u32,
    pub(crate) scale_shift: u32,
    pub(crate) scale_base: u32,
    pub(crate) scale_max: u32,
    pub(crate) unit: f32,
    pub(crate) inverse_unit: f32,
    pub(crate) least: f32,
    pub(crate) tries: [f32; 4],
    pub(crate) gaussian_step: f32,
    pub(crate) along: f32,
    pub(crate) boundary: f32,
    pub(crate) inner: f32,
    pub(crate) outer: f32,
    pub(crate) unused: [u32; 3],
}

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "adjust",
        parts: &[include_str!("exact.wgsl"), include_str!("adjust.wgsl")],
        constants: Vec::new(),
        writes: &[false, false, false, true, true],
    }
}

/// The twin.
#[cfg(test)]
pub(crate) fn adjust(
    p: &Params,
    rotated: &[u32],
    lists: &[u32],
    centroids: &[u32],
    codes: &mut [u32],
    found: &mut [u32],
) {
    use nonius::accelerator::UNSURE;

    let (rows, dims) = (p.rows as usize, p.dims as usize);
    let limit = ((1u32 << p.bits) - 1) as f32 * 0.5;
    let nearest = |x: f32| x.max(-limit).min(limit).floor() + 0.5;
    for row in 0..rows {
        let at = |d: usize| (p.start as usize + d) * rows + row;
        let answer = |i: usize| (5 * p.segment as usize + i) * rows + row;
        let o: Vec<f32> = (0..dims).map(|d| f32::from_bits(rotated[at(d)])).collect();
        let c: Vec<f32> = match p.centroid {
            0 => Vec::new(),
            values => {
                let start = lists[row] as usize * values as usize + p.start as usize;
                centroids[start..start + dims].iter().map(|&c| f32::from_bits(c)).collect()
            }
        };
        let between = |least: i32| {
            let range = 2f32.powi(least)..2f32.powi(20);
            move |x: &f32| *x == 0.0 || range.contains(&x.abs())
        };
        let norm_sq = o.iter().fold(0.0, |sum, o| sum + o * o);
        let largest = o.iter().fold(0.0f32, |largest, o| largest.max(o.abs()));
        let live = norm_sq > p.least;
        found[answer(0)] = norm_sq.to_bits();
        if !(live || largest == 0.0) || !o.iter().all(between(-40)) || !c.iter().all(between(-60)) {
            found[answer(1)] = UNSURE;
            (0..dims).for_each(|d| codes[at(d)] = 0);
            continue;
        }
        let (mut inverse_step, mut scale, mut code) = (0.0, 0.0, 0);
        let mut u = vec![0.5; dims];
        if live {
            let of_gaussian = (norm_sq / dims as f32).sqrt() * p.gaussian_step;
            let of_largest = largest / (limit + 0.5);
            let low = of_gaussian.min(of_largest) * 0.97;
            let span = of_gaussian.max(of_largest) * 1.03 - low;
            let mut best = f32::INFINITY;
            for fraction in &p.tries[..p.try_count as usize] {
                let inverse = 1.0 / (low + span * fraction);
                let (mut dot, mut square) = (0.0, 0.0);
                for o in &o {
                    let u = nearest(o * inverse);
                    dot += u * o;
                    square += u * u;
                }
                let exact = norm_sq / dot;
                let bits = (exact * p.inverse_unit).to_bits() + (1 << (p.scale_shift - 1));
                let stored_code =
                    (bits.saturating_sub(p.scale_base) >> p.scale_shift).clamp(1, p.scale_max);
                let stored = f32::from_bits((stored_code << p.scale_shift) + p.scale_base) * p.unit;
                let across = exact * (square / dot);
                let off = exact / stored;
                if across < best {
                    (best, scale, code) = (across, stored, stored_code);
                    inverse_step = if off < 0.98 { 1.0 / stored } else { inverse * off.min(1.02) };
                }
            }
            for (u, o) in u.iter_mut().zip(&o) {
                *u = nearest(o * inverse_step);
            }
            let dot = u.iter().zip(&o).fold(0.0, |sum, (u, o)| sum + u * o);
            let mu = p.along / norm_sq;
            let mut excess = dot - norm_sq / scale;
            if p.bits == 1 {
                inverse_step = 1.0 / scale;
            }
            for d in (0..p.visits as usize).map(|visit| visit % dims) {
                let pull = o[d] * mu;
                let slope = o[d] * inverse_step - u[d] - pull * excess;
                let step = if slope < 0.0 { -1.0 } else { 1.0 };
                if slope.abs() * 2.0 - 1.0 - pull * o[d] > 0.0 && (u[d] + step).abs() <= limit {
                    u[d] += step;
                    excess += step * o[d];
                }
            }
        }
        let mut sums = [0.0f32; 3];
        for (c, (o, u)) in c.iter().zip(o.iter().zip(&u)) {
            let level = if u.abs() < p.boundary { p.inner } else { p.outer };
            for (sum, x) in sums.iter_mut().zip([*o, *u, level.copysign(*u)]) {
                *sum += c * x;
            }
        }
        found[answer(1)] = code;
        for (i, sum) in sums.iter().enumerate() {
            found[answer(2 + i)] = sum.to_bits();
        }
        for (d, u) in u.iter().enumerate() {
            codes[at(d)] = (u + limit) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::cast_slice;
    use nonius::accelerator::UNSURE;
    use nonius::random::Random;

    use super::super::testing::{context, run};
    use super::*;

    /// A segment of so many bits whose scales have one byte, or two.
    fn params(bits: u32, rows: u32, dims: u32, centroid: u32) -> Params {
        let (scale_shift, scale_max, range) =
            if bits <= 4 { (18, 255, 3) } else { (11, 65_535, 8) };
        let gaussian_step = 2.2 / (1u32 << bits) as f32;
        let unit = 0.7 * gaussian_step;
        let try_count = if bits == 1 { 1 } else { 3 };
        Params {
            rows,
            segment: 1,
            start: 8,
            dims,
            centroid,
            bits,
            try_count,
            visits: dims + dims / 8,
            scale_shift,
            scale_base: (127 - range) << 23,
            scale_max,
            unit,
            inverse_unit: 1.0 / unit,
            least: dims as f32 * (unit / 64.0) * (unit / 64.0),
            tries: [0.1, 0.4, 0.8, 0.0],
            gaussian_step,
            along: 0.4 * dims as f32,
            boundary: if bits >= 2 { (1u32 << (bits - 2)) as f32 } else { 1e6 },
            inner: 0.6,
            outer: 1.7,
            ..Params::default()
        }
    }

    #[test]
    fn codes_are_those_of_the_twin() {
        let Some(context) = context() else { return };
        let mut random = Random::new(10, 0);
        for bits in 1..=13 {
            let (rows, dims) = (70, 8 * (bits % 4 + 1));
            for centroid in [0, 48] {
                let mut params = params(bits, rows, dims, centroid);
                let mut floats = |count: u32| -> Vec<f32> {
                    (0..count).map(|_| random.normal() as f32).collect()
                };
                let mut rotated = floats((8 + dims) * rows);
                for d in 8..8 + dims as usize {
                    let row = &mut rotated[d * rows as usize..][..rows as usize];
                    row[0] = 0.0;
                    row[1] = -0.0;
                    // Too small for the smallest scale, too small for floats, and too large.
                    row[2] *= 1e-6;
                    row[3] *= 1e-14;
                    row[4] *= 1e12;
                    row[5] = if d == 9 { 3.0 } else { 0.0 };
                    row[6] = 1.0;
                    // Near the ends of what scales reach.
                    row[7] *= 0.03;
                    row[8] *= 500.0;
                    row[9] = if d == 8 { 1e-13 } else { row[9] };
                }
                let mut centroids = floats(3 * 48);
                // A value of the third that floats are too coarse for, and a zero.
                centroids[2 * 48 + 9] = 1e-19;
                centroids[48 + 9] = 0.0;
                let lists: Vec<u32> =
                    (0..rows).map(|row| if row == 10 { 2 } else { row % 2 }).collect();
                let mut codes = vec![9; ((8 + dims) * rows) as usize];
                let mut found = vec![9; 10 * rows as usize];
                let (rotated, centroids) = (cast_slice(&rotated), cast_slice(&centroids));
                let answers = run(
                    context,
                    &kernel(),
                    rows.div_ceil(THREADS),
                    |grid_x| {
                        params.grid_x = grid_x;
                        params
                    },
                    &[rotated, &lists, centroids, &codes, &found],
                );
                adjust(&params, rotated, &lists, centroids, &mut codes, &mut found);
                assert_eq!(answers[0], codes, "{bits} bits");
                // Of a row that is not sure the norm does not matter.
                let scales = &found[6 * rows as usize..7 * rows as usize];
                for (i, (answer, expected)) in answers[1].iter().zip(&found).enumerate() {
                    let sure = scales[i % rows as usize] != UNSURE;
                    assert!(!sure || answer == expected, "{bits} bits, {i}: {answer} {expected}");
                }
                let unsure = (0..rows as usize).filter(|&row| scales[row] == UNSURE);
                let expected =
                    [2, 3, 4, 9, 10].into_iter().filter(|&row| row != 10 || centroid > 0);
                assert!(unsure.eq(expected), "{bits} bits: {scales:?}");
            }
        }
    }
}
