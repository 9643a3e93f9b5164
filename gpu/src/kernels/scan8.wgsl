// Codes of 8 bits, four a word: each looks up a byte. Up to four queries have their bytes side by side in a
// word of the table; a query alone has four entries in a word.

const ENTRIES: u32 = select(256u, 64u, QUERIES == 1u);
// For each word of a code four columns.
var<workgroup> table: array<u32, SLICE * 4u * ENTRIES>;

struct Sums {
    // Of one query the sum; of more the sums of even and of odd ones, two a word.
    even: u32,
    odd: u32,
}

fn load(thread: u32, of_query: ptr<function, array<u32, QUERIES>>, word: u32, end: u32) {
    // Four entries of a column at a time.
    for (var i = thread; i < (end - word) * 256u; i += THREADS) {
        let at = word * 256u + i;
        if (QUERIES == 1u) {
            table[i] = tables[pairs[(*of_query)[0]].query * p.table + at];
        } else {
            var x: array<u32, 4>;
            for (var j = 0u; j < 4u; j++) {
                x[j] = tables[pairs[(*of_query)[min(j, QUERIES - 1u)]].query * p.table + at];
            }
            for (var entry = 0u; entry < 4u; entry++) {
                table[4u * i + entry] = beside(x, 8u * entry);
            }
        }
    }
}

// Sums stay below 2^16: a piece has at most 256 columns.
fn add(base: u32, offset: u32, count: u32, sums: ptr<function, Sums>) {
    for (var w = 0u; w < count; w++) {
        let x = codes[base + w * 32u];
        let column = 4u * (offset + w) * ENTRIES;
#repeat j 4
        let code$j = (x >> (8u * $ju)) & 0xffu;
        if (QUERIES == 1u) {
            let four = table[column + $ju * ENTRIES + code$j / 4u];
            (*sums).even += (four >> (8u * (code$j % 4u))) & 0xffu;
        } else {
            let entry = table[column + $ju * ENTRIES + code$j];
            (*sums).even += entry & 0x00ff00ffu;
            (*sums).odd += (entry >> 8u) & 0x00ff00ffu;
        }
#end
    }
}

fn value(sums: ptr<function, Sums>, g: u32, slope: f32, offset: f32) -> f32 {
    let both = select((*sums).even, (*sums).odd, g % 2u == 1u);
    return slope * f32((both >> (8u * (g & 2u))) & 0xffffu) + offset;
}
