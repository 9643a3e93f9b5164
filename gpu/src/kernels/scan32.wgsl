// Values of 32 bits, a word each, and their keys: a value `x` adds `x * (square * x - factor)`. What is subtracted
// from a bound is the negated sum.

// For each word of a code the factor of each query.
var<workgroup> table: array<array<f32, QUERIES>, SLICE>;

struct Sums {
    sums: array<f32, QUERIES>,
}

fn load(thread: u32, of_query: ptr<function, array<u32, QUERIES>>, word: u32, end: u32) {
    for (var i = thread; i < (end - word) * QUERIES; i += THREADS) {
        let g = i % QUERIES;
        let at = pairs[(*of_query)[g]].query * p.table + word + i / QUERIES;
        table[i / QUERIES][g] = bitcast<f32>(tables[at]);
    }
}

fn add(base: u32, offset: u32, count: u32, sums: ptr<function, Sums>) {
    for (var w = 0u; w < count; w++) {
        let x = bitcast<f32>(codes[base + w * 32u]);
        let square = p.square * x;
#repeat g QUERIES
        (*sums).sums[$g] += x * (square - table[offset + w][$g]);
#end
    }
}

fn value(sums: ptr<function, Sums>, g: u32, slope: f32, offset: f32) -> f32 {
    return -(*sums).sums[g];
}
