//! How the matrix kernels cut their work: which part of the product is summed when, so that what
//! is read again is still in a near cache. Every level walks the same kind of tiles.

use std::ops::Range;

/// A piece of the product that a kernel computes in registers: `rows x panels` of the result,
/// summed over `steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows of the left operand.
    pub(crate) rows: Range<usize>,
    /// Panels of the right operand.
    pub(crate) panels: Range<usize>,
    /// Pairs (or quads) of columns.
    pub(crate) steps: Range<usize>,
}

/// The sizes that suit a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Rows of a tile, at most.
    pub(crate) rows: usize,
    /// Panels of a tile, at most.
    pub(crate) panels: usize,
    /// Steps of a tile, at most: its panels, 64 bytes a step, must fit into the first cache.
    pub(crate) steps: usize,
}

/// The bytes of the left operand that are walked again for each group of panels: they must stay in
/// the second cache.
const LEFT_BYTES: usize = 256 << 10;

/// All tiles of a product, in the order in which to compute them. Together they cover each
/// (row, panel, step) once, and for a given row and panel the steps come in order, from 0.
pub(crate) struct Tiles {
    shape: Shape,
    rows: usize,
    panels: usize,
    steps: usize,
    /// Rows walked for a group of panels before the next group's turn.
    row_block: usize,
    /// The next tile's start.
    block: usize,
    row: usize,
    panel: usize,
    step: usize,
}

impl Tiles {
    /// The tiles of a product of `rows` rows with `panels` panels over `steps` steps of 4 bytes.
    pub(crate) fn new(shape: Shape, rows: usize, panels: usize, steps: usize) -> Tiles {
        // Equal parts: a short last one would be all overhead.
        let parts = steps.div_ceil(shape.steps).max(1);
        let shape = Shape { steps: steps.div_ceil(parts), ..shape };
        let row_block = (LEFT_BYTES / (4 * steps.max(1))).max(1).next_multiple_of(shape.rows);
        Tiles { shape, rows, panels, steps, row_block, block: 0, row: 0, panel: 0, step: 0 }
    }
}

impl Iterator for Tiles {
    type Item = Tile;

    #[inline]
    fn next(&mut self) -> Option<Tile> {
        if self.row >= self.rows || self.panels == 0 || self.steps == 0 {
            return None;
        }
        let block_end = self.rows.min(self.block + self.row_block);
        let tile = Tile {
            rows: self.row..block_end.min(self.row + self.shape.rows),
            panels: self.panel..self.panels.min(self.panel + self.shape.panels),
            steps: self.step..self.steps.min(self.step + self.shape.steps),
        };
        // Rows first, then steps, then panels, then the next block of rows.
        self.row = tile.rows.end;
        if self.row == block_end {
            self.row = self.block;
            self.step = tile.steps.end;
            if self.step == self.steps {
                self.step = 0;
                self.panel = tile.panels.end;
                if self.panel == self.panels {
                    self.panel = 0;
                    self.block = block_end;
                    self.row = block_end;
                }
            }
        }
        Some(tile)
    }
}

/// Writes a matrix kernel `fn $name(a, depth, b, c)` for an instruction set.
///
/// `left` is the unit of 4 bytes that a row of `a` is made of, `right` the 64 bytes of a panel's
/// step that it meets. `columns` loads the latter, `broadcast` the former, `dot` adds their
/// products to the 16 sums of a panel, which start at `zero`; `load` and `store` keep sums in `c`
/// between tiles. Each sum runs over the steps in order. The results lie as [`crate::gemm_i16`]
/// says; `depth` is at least 1, and the door has checked all lengths (a wrong one panics here).
macro_rules! matrix_kernel {
    (
        $name:ident, $tile:ident, features = $features:literal,
        left = [$left:ty; $per_step:literal], right = [$right:ty; $per_panel:literal],
        shape = $shape:expr, rows = [$($rows:literal)*], panels = [$($panels:literal)*],
        zero = $zero:ident, columns = $columns:ident, broadcast = $broadcast:ident,
        dot = $dot:ident, sum = $sum:ty, load = $load:ident, store = $store:ident $(,)?
    ) => {
        #[target_feature(enable = $features)]
        pub(crate) fn $name(a: &[$left], depth: usize, b: &[$right], c: &mut [$sum]) {
            #[inline]
            #[target_feature(enable = $features)]
            fn rows<const P: usize>(
                tile: &crate::tile::Tile,
                steps: usize,
                panels: usize,
                a: &[[$left; $per_step]],
                b: &[[$right; $per_panel]],
                c: &mut [[$sum; 16]],
            ) {
                match tile.rows.len() {
                    $($rows => $tile::<$rows, P>(tile, steps, panels, a, b, c),)*
                    _ => $tile::<1, P>(tile, steps, panels, a, b, c),
                }
            }
            let (a, b) = (a.as_chunks::<$per_step>().0, b.as_chunks::<$per_panel>().0);
            let c = c.as_chunks_mut::<16>().0;
            let steps = depth / $per_step;
            let (row_count, panels) = (a.len() / steps, b.len() / steps);
            for tile in crate::tile::Tiles::new($shape, row_count, panels, steps) {
                match tile.panels.len() {
                    $($panels => rows::<$panels>(&tile, steps, panels, a, b, c),)*
                    _ => rows::<1>(&tile, steps, panels, a, b, c),
                }
            }
        }

        #[target_feature(enable = $features)]
        fn $tile<const R: usize, const P: usize>(
            tile: &crate::tile::Tile,
            steps: usize,
            panels: usize,
            a: &[[$left; $per_step]],
            b: &[[$right; $per_panel]],
            c: &mut [[$sum; 16]],
        ) {
            let count = tile.steps.len();
            let mut left: [&[[$left; $per_step]]; R] = [&[]; R];
            for r in 0..R {
                left[r] = &a[(tile.rows.start + r) * steps + tile.steps.start..][..count];
            }
            let mut right: [&[[$right; $per_panel]]; P] = [&[]; P];
            for p in 0..P {
                right[p] = &b[(tile.panels.start + p) * steps + tile.steps.start..][..count];
            }
            let mut sums = [[$zero(); P]; R];
            let first = tile.rows.start * panels + tile.panels.start;
            if tile.steps.start > 0 {
                for r in 0..R {
                    for p in 0..P {
                        sums[r][p] = $load(&c[first + r * panels + p]);
                    }
                }
            }
            for t in 0..count {
                let mut columns = [$columns(&right[0][t]); P];
                for p in 1..P {
                    columns[p] = $columns(&right[p][t]);
                }
                for r in 0..R {
                    let row = $broadcast(left[r][t]);
                    for p in 0..P {
                        sums[r][p] = $dot(sums[r][p], row, columns[p]);
                    }
                }
            }
            for r in 0..R {
                for p in 0..P {
                    $store(&mut c[first + r * panels + p], sums[r][p]);
                }
            }
        }
    };
}
pub(crate) use matrix_kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_each_step_once_and_in_order() {
        let shape = Shape { rows: 8, panels: 3, steps: 5 };
        for rows in [0, 1, 7, 8, 9, 40] {
            for panels in [0, 1, 3, 4, 7] {
                for steps in [0, 1, 5, 6, 11, 20_000] {
                    if rows * panels * steps > 1 << 20 {
                        continue;
                    }
                    let mut done = vec![0; rows * panels];
                    for tile in Tiles::new(shape, rows, panels, steps) {
                        assert!(tile.rows.len() <= 8 && !tile.rows.is_empty());
                        assert!(tile.panels.len() <= 3 && !tile.panels.is_empty());
                        assert!(tile.steps.len() <= 5 && !tile.steps.is_empty());
                        for row in tile.rows {
                            for panel in tile.panels.clone() {
                                let done = &mut done[row * panels + panel];
                                assert_eq!(*done, tile.steps.start);
                                *done = tile.steps.end;
                            }
                        }
                    }
                    assert!(done.iter().all(|&done| done == steps));
                }
            }
        }
    }
}
