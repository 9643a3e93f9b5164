// What kernels share. Keys are compared as unsigned integers of the same order.

// A query's list.
struct Pair {
    query: u32,
    list: u32,
    // What all bounds share, and the squared distance of query and centroid; both about.
    constant: f32,
    distance_sq: f32,
    // Where its vectors go among the query's first candidates.
    first: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

// No candidate: behind all keys.
const NONE: u32 = 0xffffffffu;

fn ordered(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

// A byte of each of four words, the byte at a bit of all.
fn beside(words: array<u32, 4>, bit: u32) -> u32 {
    return ((words[0] >> bit) & 0xffu)
        | (((words[1] >> bit) & 0xffu) << 8u)
        | (((words[2] >> bit) & 0xffu) << 16u)
        | (((words[3] >> bit) & 0xffu) << 24u);
}
