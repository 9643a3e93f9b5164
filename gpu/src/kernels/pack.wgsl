// Puts the bits of codes where they belong in records: a thread a word.

struct Params {
    rows: u32,
    grid_x: u32,
    // Words of a record.
    words: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// As `adjust.wgsl` leaves them.
@group(0) @binding(1) var<storage, read> codes: array<u32>;
// Of each byte: the first dimension, how far the next ones are, the lowest bit, the width.
@group(0) @binding(2) var<storage, read> places: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> records: array<u32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = (group.y * p.grid_x + group.x) * THREADS + thread;
    let row = number % p.rows;
    let word = number / p.rows;
    if (word >= p.words) {
        return;
    }
    var packed = 0u;
    for (var byte = 0u; byte < 4u; byte += 1u) {
        let place = places[4u * word + byte];
        if (place.w > 0u) {
            let mask = (1u << place.w) - 1u;
            var at = place.x;
            for (var bit = 0u; bit < 8u; bit += place.w) {
                packed |= ((codes[at * p.rows + row] >> place.z) & mask) << (8u * byte + bit);
                at += place.y;
            }
        }
    }
    records[row * p.words + word] = packed;
}
