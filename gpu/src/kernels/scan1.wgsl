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

fn add(base: u32, offset: u32, count: u32, sums: ptr<function, Sums>) {
    for (var w = 0u; w < count; w++) {
        let x = codes[base + w * 32u];
#repeat j 8
        let bits$j = (x >> $ju) & 0x01010101u;
#end
#repeat single SINGLE
        let low = table[2u * (offset + w)];
        let high = table[2u * (offset + w) + 1u];
        (*sums).sums[0] += dot4I8Packed(bits0, low.x) + dot4I8Packed(bits1, low.y)
            + dot4I8Packed(bits2, low.z) + dot4I8Packed(bits3, low.w)
            + dot4I8Packed(bits4, high.x) + dot4I8Packed(bits5, high.y)
            + dot4I8Packed(bits6, high.z) + dot4I8Packed(bits7, high.w);
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
}

fn value(sums: ptr<function, Sums>, g: u32, slope: f32, offset: f32) -> f32 {
    return slope * f32((*sums).sums[g]) + offset;
}
