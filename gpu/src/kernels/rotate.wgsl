// Rotates rows of integers: a product of two matrices of integers, BITS each, as floats, less the rotated centroids.
//
// A workgroup takes TILE rows and TILE dimensions, each of its threads EACH of both, SLICE words at a time, which lie
// in workgroup memory.

struct Params {
    rows: u32,
    grid_x: u32,
    zero: u32,
    // Words of a row.
    depth: u32,
    // Rows of the rotation, and the dimension of the first one.
    dims: u32,
    start: u32,
    // Values of a centroid; 0 where there is none.
    centroid: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// `rows x depth`, and what they are multiplied by.
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
// `dims x depth`, and what they are multiplied by.
@group(0) @binding(3) var<storage, read> rotation: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<f32>;
// The list of each row.
@group(0) @binding(5) var<storage, read> lists: array<u32>;
@group(0) @binding(6) var<storage, read> centroids: array<f32>;
// All dimensions one after the other, each with all rows.
@group(0) @binding(7) var<storage, read_write> rotated: array<f32>;

// Threads on a side.
const SIDE: u32 = 16u;
const TILE: u32 = SIDE * EACH;
const SLICE: u32 = 8u;
const PER_WORD: u32 = 32u / BITS;

var<workgroup> row_slice: array<u32, TILE * SLICE>;
var<workgroup> rotation_slice: array<u32, TILE * SLICE>;

fn integer(word: u32, number: u32) -> i32 {
    return bitcast<i32>(word << (32u - BITS * (number + 1u))) >> (32u - BITS);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tiles = (p.dims + TILE - 1u) / TILE;
    let number = group.y * p.grid_x + group.x;
    let first_row = number / tiles * TILE;
    let first_dim = number % tiles * TILE;
    if (first_row >= p.rows) {
        return;
    }
    let own_row = thread % SIDE;
    let own_dim = thread / SIDE;
#repeat I EACH
    var sums_$I: array<i32, EACH>;
#end
    for (var at = 0u; at < p.depth; at += SLICE) {
        for (var i = thread; i < TILE * SLICE; i += SIDE * SIDE) {
            let column = at + i % SLICE;
            let row = first_row + i / SLICE;
            let dim = first_dim + i / SLICE;
            var of_row = 0u;
            if (row < p.rows && column < p.depth) {
                of_row = values[row * p.depth + column];
            }
            var of_rotation = 0u;
            if (dim < p.dims && column < p.depth) {
                of_rotation = rotation[dim * p.depth + column];
            }
            row_slice[i % SLICE * TILE + i / SLICE] = of_row;
            rotation_slice[i % SLICE * TILE + i / SLICE] = of_rotation;
        }
        workgroupBarrier();
        for (var d = 0u; d < SLICE; d += 1u) {
#repeat I EACH
            let row_$I = row_slice[d * TILE + own_row + $Iu * SIDE];
            let dim_$I = rotation_slice[d * TILE + own_dim + $Iu * SIDE];
#end
            for (var n = 0u; n < PER_WORD; n += 1u) {
#repeat I EACH
                let x_$I = integer(row_$I, n);
                let y_$I = integer(dim_$I, n);
#end
#repeat I EACH
#repeat J EACH
                sums_$I[$J] += x_$I * y_$J;
#end
#end
            }
        }
        workgroupBarrier();
    }
#repeat I EACH
    let at_row_$I = first_row + own_row + $Iu * SIDE;
    if (at_row_$I < p.rows) {
        let factor = factors[at_row_$I];
        var centroid = 0u;
        if (p.centroid > 0u) {
            centroid = lists[at_row_$I] * p.centroid + p.start;
        }
#repeat J EACH
        let at_dim_$J = first_dim + own_dim + $Ju * SIDE;
        if (at_dim_$J < p.dims) {
            var o = times(rounded(sums_$I[$J]), times(scales[at_dim_$J], factor));
            if (p.centroid > 0u) {
                o = subtract(o, centroids[centroid + at_dim_$J]);
            }
            rotated[(p.start + at_dim_$J) * p.rows + at_row_$I] = o;
        }
#end
    }
#end
}
