// Codes of 4 bits, eight a word: each looks up a byte. Up to four queries have their bytes side by side in a word
// of the table.

// For each word of a code 8 x 16 entries.
var<workgroup> table: array<array<u32, PACKS>, SLICE * 128u>;

struct Sums {
    even: array<u32, PACKS>,
    odd: array<u32, PACKS>,
}

fn load(thread: u32, of_query: ptr<function, array<u32, QUERIES>>, word: u32, end: u32) {
    // Four entries of a group at a time.
    for (var i = thread; i < (end - word) * 32u; i += THREADS) {
        let at = word * 32u + i;
        for (var pack = 0u; pack < PACKS; pack++) {
            var x: array<u32, 4>;
            for (var j = 0u; j < 4u; j++) {
                x[j] = 0u;
                if (pack * 4u + j < QUERIES) {
                    x[j] = tables[pairs[(*of_query)[pack * 4u + j]].query * p.table + at];
                }
            }
            for (var entry = 0u; entry < 4u; entry++) {
                table[4u * i + entry][pack] = beside(x, 8u * entry);
            }
        }
    }
}

// Sums of a piece stay below 2^16: it has at most 256 groups.
fn add(base: u32, offset: u32, count: u32, sums: ptr<function, Sums>) {
    for (var w = 0u; w < count; w++) {
        let x = codes[base + w * 32u];
        let at = (offset + w) * 128u;
#repeat j 8
        let entry$j = table[at + 16u * $ju + ((x >> (4u * $ju)) & 15u)];
#repeat pack PACKS
        if (QUERIES == 1u) {
            (*sums).even[$pack] += entry$j[$pack];
        } else {
            (*sums).even[$pack] += entry$j[$pack] & 0x00ff00ffu;
            (*sums).odd[$pack] += (entry$j[$pack] >> 8u) & 0x00ff00ffu;
        }
#end
#end
    }
}

fn value(sums: ptr<function, Sums>, g: u32, slope: f32, offset: f32) -> f32 {
    let pack = g / 4u;
    let both = select((*sums).even[pack], (*sums).odd[pack], g % 2u == 1u);
    return slope * f32((both >> (8u * (g & 2u))) & 0xffffu) + offset;
}
