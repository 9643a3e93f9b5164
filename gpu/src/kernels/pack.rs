//! Puts the bits of codes where they belong: see `pack.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::Kernel;

/// Threads of a workgroup.
pub(crate) const THREADS: u32 = 64;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) rows: u32,
    pub(crate) grid_x: u32,
    pub(crate) words: u32,
    pub(crate) unused: u32,
}

pub(crate) fn kernel() -> Kernel {
    Kernel {
        name: "pack",
        parts: &[include_str!("pack.wgsl")],
        constants: Vec::new(),
        writes: &[false, false, true],
    }
}

/// The twin.
#[cfg(test)]
pub(crate) fn pack(p: &Params, codes: &[u32], places: &[[u32; 4]], records: &mut [u32]) {
    let (rows, words) = (p.rows as usize, p.words as usize);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(records);
    for (row, record) in bytes.chunks_exact_mut(4 * words).take(rows).enumerate() {
        for (out, &[dim, far, shift, width]) in record.iter_mut().zip(places) {
            *out = 0;
            for part in 0..8u32.checked_div(width).unwrap_or(0) {
                let code = codes[(dim + part * far) as usize * rows + row];
                *out |= ((code >> shift & ((1 << width) - 1)) << (part * width)) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nonius::random::Random;

    use super::super::testing::{context, run};
    use super::*;

    #[test]
    fn records_are_those_of_the_twin() {
        let Some(context) = context() else { return };
        let mut random = Random::new(9, 0);
        for (rows, dims, words) in [(1, 8, 1), (70, 24, 5), (129, 64, 33)] {
            let mut words_of = |count: u32| -> Vec<u32> {
                (0..count).map(|_| random.next_u64() as u32 & 0x1fff).collect()
            };
            let codes = words_of(rows * dims);
            let places: Vec<[u32; 4]> = words_of(4 * words)
                .into_iter()
                .map(|word| {
                    let width = [0, 1, 2, 4][word as usize % 4];
                    let (dim, far) = (word / 4 % (dims - 7), 1);
                    [dim, far, word % 10, width]
                })
                .collect();
            let before = vec![u32::MAX; (rows * words) as usize];
            let mut params = Params { rows, words, ..Params::default() };
            let found = run(
                context,
                &kernel(),
                (rows * words).div_ceil(THREADS),
                |grid_x| {
                    params.grid_x = grid_x;
                    params
                },
                &[&codes, places.as_flattened(), &before],
            );
            let mut expected = before;
            pack(&params, &codes, &places, &mut expected);
            assert_eq!(found[0], expected);
        }
    }
}
