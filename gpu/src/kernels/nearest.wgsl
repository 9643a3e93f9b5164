// The nearest centroid of each row, and the score of the second: a matrix product of which nothing is kept but that.
//
// A workgroup takes TILE rows through all centroids, TILE at a time, each thread EACH rows and EACH centroids. Products are
// summed over SLICE dimensions at a time, for which rows and centroids lie in workgroup memory, transposed.

struct Params {
    rows: u32,
    grid_x: u32,
    // A multiple of SLICE; what is beyond the dimensions of the vectors is zero.
    depth: u32,
    centroids: u32,
    // The number of the first of these centroids.
    first: u32,
    // 0 for the first centroids of a row: what is in `found` does not count.
    goes_on: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> centroids: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> norms_sq: array<f32>;
// The centroid's number, its score, that of the second.
@group(0) @binding(4) var<storage, read_write> found: array<vec4<u32>>;

// Threads on a side.
const SIDE: u32 = 16u;
const TILE: u32 = SIDE * EACH;
const SLICE: u32 = 8u;
const HUGE: f32 = 3.4e38;

var<workgroup> row_slice: array<f32, TILE * SLICE>;
var<workgroup> centroid_slice: array<f32, TILE * SLICE>;
var<workgroup> best: array<vec4<u32>, SIDE * SIDE>;

// The better of two, and the better of what is left.
fn merged(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let x = bitcast<f32>(a.y);
    let y = bitcast<f32>(b.y);
    if (y < x) {
        return vec4<u32>(b.x, b.y, bitcast<u32>(min(x, bitcast<f32>(b.z))), 0u);
    }
    return vec4<u32>(a.x, a.y, bitcast<u32>(min(y, bitcast<f32>(a.z))), 0u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = (group.y * p.grid_x + group.x) * TILE;
    if (start >= p.rows) {
        return;
    }
    let own_rows = thread / SIDE * EACH;
    let own_centroid = thread % SIDE;
    // Two threads load the slice of a row.
    let loads = thread / 2u;
    let half = thread % 2u;
    var least: array<f32, EACH>;
    var second: array<f32, EACH>;
    var number: array<u32, EACH>;
#repeat I EACH
    least[$I] = HUGE;
    second[$I] = HUGE;
    number[$I] = 0u;
#end
    for (var tile = 0u; tile < p.centroids; tile += TILE) {
#repeat I EACH
        var sums_$I: array<f32, EACH>;
#end
        for (var at = 0u; at < p.depth; at += SLICE) {
            let column = at / 4u + half;
            var of_row = vec4<f32>();
            if (start + loads < p.rows) {
                of_row = rows[(start + loads) * (p.depth / 4u) + column];
            }
            var of_centroid = vec4<f32>();
            if (tile + loads < p.centroids) {
                of_centroid = centroids[(tile + loads) * (p.depth / 4u) + column];
            }
#repeat I 4
            row_slice[(4u * half + $Iu) * TILE + loads] = of_row[$I];
            centroid_slice[(4u * half + $Iu) * TILE + loads] = of_centroid[$I];
#end
            workgroupBarrier();
            for (var d = 0u; d < SLICE; d += 1u) {
#repeat J EACH
                let c_$J = centroid_slice[d * TILE + own_centroid + $Ju * SIDE];
#end
#repeat I EACH
                let x_$I = row_slice[d * TILE + own_rows + $Iu];
#repeat J EACH
                sums_$I[$J] += x_$I * c_$J;
#end
#end
            }
            workgroupBarrier();
        }
#repeat J EACH
        let at_$J = tile + own_centroid + $Ju * SIDE;
        if (at_$J < p.centroids) {
            let norm_sq = norms_sq[at_$J];
#repeat I EACH
            let score_$I = norm_sq - 2.0 * sums_$I[$J];
            if (score_$I < least[$I]) {
                second[$I] = least[$I];
                least[$I] = score_$I;
                number[$I] = p.first + at_$J;
            } else {
                second[$I] = min(second[$I], score_$I);
            }
#end
        }
#end
    }
#repeat I EACH
    best[thread] = vec4<u32>(number[$I], bitcast<u32>(least[$I]), bitcast<u32>(second[$I]), 0u);
    workgroupBarrier();
    if (own_centroid == 0u && start + own_rows + $Iu < p.rows) {
        let row = start + own_rows + $Iu;
        var of_row = best[thread];
        for (var i = 1u; i < SIDE; i += 1u) {
            of_row = merged(of_row, best[thread + i]);
        }
        if (p.goes_on == 1u) {
            of_row = merged(found[row], of_row);
        }
        found[row] = of_row;
    }
    workgroupBarrier();
#end
}
