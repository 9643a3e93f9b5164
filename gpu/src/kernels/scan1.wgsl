// Single bits, 32 a word: each that is set adds a weight of the query, an integer of 8 bits. Four bits, eight apart, are
// multiplied at a time.

// For each word of a code 8 x 4 weights: of one query the eight one after the other, four in a vector; of more
// queries four side by side.
var<workgroup> table: array<vec4<u32>, SLICE * 2u * QUERIES>;

struct Sums {
    sums: array<i32, QUERIES>,
}

fn load(thread: u32, of_query: ptr<function, array<u32, QUERIES>>, word: u32, end: u32) {
#repeat single SINGLE
    let start = pairs[(*of_query)[0]].query * p.table + 8u * word;
    for (var i = thread; i < (end - word) * 2u; i += THREADS) {
        let at = start + 4u * i;
        table[i] = vec4<u32>(tables[at], tables[at + 1u], tables[at + 2u], tables[at + 3u]);
    }
#end
#repeat pack PACKS
    let a$pack = pairs[(*of_query)[4 * $pack]].query * p.table + 8u * word;
    let b$pack = pairs[(*of_query)[4 * $pack + 1]].query * p.table + 8u * word;
    let c$pack = pairs[(*of_query)[4 * $pack + 2]].query * p.table + 8u * word;
    let d$pack = pairs[(*of_query)[4 * $pack + 3]].query * p.table + 8u * word;
    for (var i = thread; i < (end - word) * 8u; i += THREADS) {
        table[i * PACKS + $packu] =
            vec4<u32>(tables[a$pack + i], tables[b$pack + i], tables[c$pack + i], tables[d$pack + i]);
    }
#end
}

// One word of a vector for one query: bits stay where they are, so those of number `j` in a byte count `2^j` times, and
// the top one is the sign. Each `j` has a sum of its own until the end of the piece.
fn add_single(x: u32, at: u32, low: ptr<function, vec4<i32>>, high: ptr<function, vec4<i32>>) {
    let a = table[at];
    let b = table[at + 1u];
    *low += vec4<i32>(dot4I8Packed(x & 0x01010101u, a.x), dot4I8Packed(x & 0x02020202u, a.y),
        dot4I8Packed(x & 0x04040404u, a.z), dot4I8Packed(x & 0x08080808u, a.w));
    *high += vec4<i32>(dot4I8Packed(x & 0x10101010u, b.x), dot4I8Packed(x & 0x20202020u, b.y),
        dot4I8Packed(x & 0x40404040u, b.z), dot4I8Packed(x & 0x80808080u, b.w));
}

fn add(base: u32, offset: u32, count: u32, sums: ptr<function, Sums>) {
#repeat single SINGLE
    var low = vec4<i32>();
    var high = vec4<i32>();
    var w = 0u;
    // Four loads on their way at a time.
    for (; w + 4u <= count; w += 4u) {
#repeat i 4
        let x$i = codes[base + (w + $iu) * 32u];
#end
#repeat i 4
        add_single(x$i, 2u * (offset + w + $iu), &low, &high);
#end
    }
    for (; w < count; w++) {
        add_single(codes[base + w * 32u], 2u * (offset + w), &low, &high);
    }
    let halves = (low >> vec4<u32>(0u, 1u, 2u, 3u)) + vec4<i32>(1, 1, 1, -1) * (high >> vec4<u32>(4u, 5u, 6u, 7u));
    (*sums).sums[0] += halves.x + halves.y + halves.z + halves.w;
#end
#repeat packed PACKED
    for (var w = 0u; w < count; w++) {
        let x = codes[base + w * 32u];
#repeat j 8
        let bits$j = (x >> $ju) & 0x01010101u;
#end
#repeat pack PACKS
#repeat j 8
        let weights$j_$pack = table[(8u * (offset + w) + $ju) * PACKS + $packu];
        (*sums).sums[4 * $pack] += dot4I8Packed(bits$j, weights$j_$pack.x);
        (*sums).sums[4 * $pack + 1] += dot4I8Packed(bits$j, weights$j_$pack.y);
        (*sums).sums[4 * $pack + 2] += dot4I8Packed(bits$j, weights$j_$pack.z);
        (*sums).sums[4 * $pack + 3] += dot4I8Packed(bits$j, weights$j_$pack.w);
#end
#end
    }
#end
}

fn value(sums: ptr<function, Sums>, g: u32, slope: f32, offset: f32) -> f32 {
    return slope * f32((*sums).sums[g]) + offset;
}
