// Values of 16 bits, two a word, and their keys: a value `x` adds `x * (square * x - factor)`. What is subtracted
// from a bound is the negated sum.

// For each word of a code the two factors of each query.
var<workgroup> table: array<array<vec2<f32>, QUERIES>, SLICE>;

struct Sums {
    sums: array<f32, QUERIES>,
}

fn load(thread: u32, of_query: ptr<function, array<u32, QUERIES>>, word: u32, end: u32) {
    for (var i = thread; i < (end - word) * QUERIES; i += THREADS) {
        let g = i % QUERIES;
        let at = pairs[(*of_query)[g]].query * p.table + 2u * (word + i / QUERIES);
        table[i / QUERIES][g] = vec2<f32>(bitcast<f32>(tables[at]), bitcast<f32>(tables[at + 1u]));
    }
}

fn add(base: u32, offset: u32, count: u32, sums: ptr<function, Sums>) {
    for (var w = 0u; w < count; w++) {
        let word = codes[base + w * 32u];
        var x: vec2<f32>;
        if (BF16 == 1u) {
            x = vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
        } else {
            x = unpack2x16float(word);
        }
        let square = p.square * x;
#repeat g QUERIES
        let terms$g = x * (square - table[offset + w][$g]);
        (*sums).sums[$g] += terms$g.x;
        (*sums).sums[$g] += terms$g.y;
#end
    }
}

fn value(sums: ptr<function, Sums>, g: u32, slope: f32, offset: f32) -> f32 {
    return -(*sums).sums[g];
}
