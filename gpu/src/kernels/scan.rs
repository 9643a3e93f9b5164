//! The first stage: see `scan.wgsl`, and `scan1.wgsl`, `scan4.wgsl`, `scan8.wgsl`, `scan16.wgsl` and `scan32.wgsl` for the kinds of codes.

use bytemuck::{Pod, Zeroable};

use nonius::raw::RawFloat;

use super::Kernel;
#[cfg(test)]
use super::{Candidate, NONE, Pair, ordered};

/// Threads of a workgroup.
pub(crate) const THREADS: u32 = 64;

/// Words of an item of work, and of a piece.
pub(crate) const ITEM: usize = 5;
pub(crate) const PIECE: usize = 5;

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) items: u32,
    pub(crate) grid_x: u32,
    pub(crate) first: u32,
    pub(crate) capacity: u32,
    pub(crate) stride: u32,
    pub(crate) words: u32,
    pub(crate) pieces: u32,
    pub(crate) slice: u32,
    pub(crate) view: u32,
    pub(crate) lines: u32,
    pub(crate) table: u32,
    pub(crate) members: u32,
    pub(crate) piece_table: u32,
    pub(crate) slot: u32,
    pub(crate) additive: u32,
    pub(crate) square: f32,
    pub(crate) queries: u32,
}

/// What words of codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// Single bits.
    One,
    /// Eight codes of 4 bits.
    Four,
    /// Four codes of 8 bits.
    Eight,
    /// Two values, or one of `f32`.
    Float(RawFloat),
}

impl Codes {
    /// How many queries a workgroup can serve, from the most.
    pub(crate) fn queries(self) -> &'static [u32] {
        match self {
            Codes::One | Codes::Four | Codes::Float(_) => &[8, 4, 1],
            Codes::Eight => &[4, 1],
        }
    }

    /// Bytes of workgroup memory of a word's table for some queries.
    pub(crate) fn table_bytes(self, queries: u32) -> u32 {
        match self {
            Codes::One => 32 * queries,
            Codes::Four => 128 * 4 * queries.div_ceil(4),
            Codes::Eight if queries == 1 => 1024,
            Codes::Eight => 4096,
            Codes::Float(RawFloat::F32) => 4 * queries,
            Codes::Float(_) => 8 * queries,
        }
    }

    /// Words of a query's table for each word of a code.
    pub(crate) fn table_words(self) -> usize {
        match self {
            Codes::One => 8,
            Codes::Four => 32,
            Codes::Eight => 256,
            Codes::Float(RawFloat::F32) => 1,
            Codes::Float(_) => 2,
        }
    }
}

/// The most pieces: each is one thread's at the start.
pub(crate) const MOST_PIECES: u32 = THREADS;

/// Bytes of workgroup memory beside the table.
pub(crate) fn piece_bytes(queries: u32, pieces: u32) -> u32 {
    (8 * queries + 4 * PIECE as u32) * pieces.max(1)
}

/// For workgroups that serve so many queries, with tables of `slice` words of codes at a time, and so many pieces, at
/// most [`MOST_PIECES`].
pub(crate) fn kernel(codes: Codes, queries: u32, slice: u32, pieces: u32) -> Kernel {
    const FRAME: &str = include_str!("scan.wgsl");
    let mut constants = vec![("THREADS", THREADS), ("QUERIES", queries), ("SLICE", slice)];
    constants.push(("PIECES", pieces.max(1)));
    let (name, parts): (_, &[&str]) = match codes {
        Codes::One => {
            constants.push(("SINGLE", u32::from(queries == 1)));
            constants.push(("PACKED", u32::from(queries > 1)));
            constants.push(("PACKS", queries / 4));
            ("scan1", &[FRAME, include_str!("scan1.wgsl")])
        }
        Codes::Four => {
            constants.push(("PACKS", queries.div_ceil(4)));
            ("scan4", &[FRAME, include_str!("scan4.wgsl")])
        }
        Codes::Eight => ("scan8", &[FRAME, include_str!("scan8.wgsl")]),
        Codes::Float(RawFloat::F32) => ("scan32", &[FRAME, include_str!("scan32.wgsl")]),
        Codes::Float(format) => {
            constants.push(("BF16", u32::from(format == RawFloat::Bf16)));
            ("scan16", &[FRAME, include_str!("scan16.wgsl")])
        }
    };
    let writes = &[false, false, false, false, false, false, true, true];
    Kernel { name, parts, constants, writes }
}

/// The twin. Candidates beyond the first come in another order.
#[cfg(test)]
pub(crate) fn scan(
    kind: Codes,
    p: &Params,
    codes: &[u32],
    ranks: &[u32],
    work: &[u32],
    pairs: &[Pair],
    tables: &[u32],
    views: &[f32],
    state: &mut [u32],
    candidates: &mut [Candidate],
) {
    for item in work.chunks_exact(ITEM).take(p.items as usize) {
        let [first, count, member, members, number] = item else { unreachable!() };
        for &pair in &work[(p.members + member) as usize..][..*members as usize] {
            let Pair { query, constant, first: place, .. } = pairs[pair as usize];
            let query = query as usize;
            let table = &tables[query * p.table as usize..];
            for v in 0..*count {
                let at = (first + v) as usize;
                let word =
                    |w: u32| codes[(at / 32 * p.stride as usize + w as usize) * 32 + at % 32];
                let mut bound = constant;
                if p.additive == 1 {
                    bound += f32::from_bits(word(p.words));
                }
                let mut w = 0;
                for i in 0..p.pieces {
                    let piece = &work[p.piece_table as usize + PIECE * i as usize..][..PIECE];
                    let words = w..w + piece[0];
                    w += piece[0];
                    let line = (pair * p.view + p.lines + 2 * i) as usize;
                    let (slope, offset) = (views[line], views[line + 1]);
                    let byte = |at: u32| table[at as usize / 4] >> (8 * (at % 4)) & 255;
                    let value = match kind {
                        Codes::One => {
                            let weight = |w: u32, bit: u32| {
                                byte(32 * w + 4 * (bit % 8) + bit / 8) as u8 as i8
                            };
                            let mut sum = 0i32;
                            for w in words {
                                for bit in (0..32).filter(|bit| word(w) >> bit & 1 == 1) {
                                    sum += i32::from(weight(w, bit));
                                }
                            }
                            slope * sum as f32 + offset
                        }
                        Codes::Four => {
                            let entry =
                                |w: u32, j: u32| byte(128 * w + 16 * j + (word(w) >> (4 * j) & 15));
                            let sum: u32 =
                                words.flat_map(|w| (0..8).map(move |j| entry(w, j))).sum();
                            slope * sum as f32 + offset
                        }
                        Codes::Eight => {
                            let entry = |w: u32, j: u32| {
                                byte(256 * (4 * w + j) + (word(w) >> (8 * j) & 255))
                            };
                            let sum: u32 =
                                words.flat_map(|w| (0..4).map(move |j| entry(w, j))).sum();
                            slope * sum as f32 + offset
                        }
                        Codes::Float(format) => {
                            let per_word = kind.table_words() as u32;
                            let mut sum = 0.0;
                            for w in words {
                                for j in 0..per_word {
                                    let bits = word(w) >> (16 * j);
                                    let x = match format {
                                        RawFloat::F16 => half::f16::from_bits(bits as u16).into(),
                                        RawFloat::Bf16 => half::bf16::from_bits(bits as u16).into(),
                                        RawFloat::F32 => f32::from_bits(bits),
                                    };
                                    let factor = f32::from_bits(table[(per_word * w + j) as usize]);
                                    sum += x * (p.square * x - factor);
                                }
                            }
                            -sum
                        }
                    };
                    let mut scale = 1.0;
                    if piece[1] != NONE {
                        let code = word(piece[1]) >> piece[2] & 0xffff;
                        scale = f32::from_bits((code << piece[3]) + piece[4]);
                        scale = if code == 0 { 0.0 } else { scale };
                    }
                    bound -= scale * value;
                }
                if p.pieces == 0 {
                    bound = -3e38;
                }
                let key = ordered(bound);
                let place = if p.first == 1 {
                    place + number + v
                } else if key <= state[query] {
                    let count = &mut state[p.queries as usize + query];
                    *count += 1;
                    *count - 1
                } else {
                    continue;
                };
                if place < p.capacity {
                    candidates[query * p.capacity as usize + place as usize] =
                        [key, p.slot + at as u32, pair, ranks[at]];
                }
            }
        }
    }
}
