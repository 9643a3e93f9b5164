// All of `exact.wgsl`, for pairs of numbers: what shows whether a device rounds as it should.

struct Params {
    count: u32,
    grid_x: u32,
    zero: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Two positive floats and an integer.
@group(0) @binding(1) var<storage, read> numbers: array<vec4<u32>>;
// Sum, difference, product, quotient; root, the integer as a float, and a product and sum, and a sum of three.
@group(0) @binding(2) var<storage, read_write> results: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = (group.y * p.grid_x + group.x) * 64u + thread;
    if (number >= p.count) {
        return;
    }
    let a = bitcast<f32>(numbers[number].x);
    let b = bitcast<f32>(numbers[number].y);
    let c = rounded(bitcast<i32>(numbers[number].z));
    results[2u * number] = vec4<u32>(
        bitcast<u32>(add(a, b)),
        bitcast<u32>(subtract(a, b)),
        bitcast<u32>(times(a, b)),
        bitcast<u32>(quotient(a, b)),
    );
    results[2u * number + 1u] = vec4<u32>(
        bitcast<u32>(root(a)),
        bitcast<u32>(c),
        bitcast<u32>(add(c, times(a, b))),
        bitcast<u32>(add(subtract(a, b), c)),
    );
}
