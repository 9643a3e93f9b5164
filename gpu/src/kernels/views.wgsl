// How queries look from their lists: one workgroup a pair.
//
// A view is `constant, distance_sq, segment_sq of each segment`, then `slope, offset` of each piece of the
// first stage. See `nonius::raw`.

struct Params {
    pairs: u32,
    grid_x: u32,
    dims: u32,
    segments: u32,
    pieces: u32,
    // Floats of a query in `queries`.
    query: u32,
    lists: u32,
    distance: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pairs: array<Pair>;
// For each query: constant, norm_sq, confidence, variance (2), then for each piece slope, bias, near,
// variance (2), then its rotated values.
@group(0) @binding(2) var<storage, read> queries: array<f32>;
// Two values a word.
@group(0) @binding(3) var<storage, read> centroids: array<u32>;
// Of each list: unit and squared norm.
@group(0) @binding(4) var<storage, read> list_factors: array<vec2<f32>>;
// The dimensions of each segment.
@group(0) @binding(5) var<storage, read> lengths: array<u32>;
@group(0) @binding(6) var<storage, read_write> views: array<f32>;

const THREADS: u32 = 64u;
const HEAD: u32 = 5u;
const LINE: u32 = 5u;
var<workgroup> sums: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = group.y * p.grid_x + group.x;
    if (number >= p.pairs) {
        return;
    }
    let pair = pairs[number];
    let query = pair.query * p.query;
    let values = query + HEAD + LINE * p.pieces;
    let out = number * (2u + p.segments + 2u * p.pieces);
    let factors = list_factors[pair.list];
    var distance_sq = 0.0;
    var start = 0u;
    for (var s = 0u; s < p.segments; s++) {
        let length = lengths[s];
        var sum = 0.0;
        for (var i = start + thread; i < start + length; i += THREADS) {
            var x = queries[values + i];
            if (p.lists == 1u) {
                let word = centroids[(pair.list * p.dims + i) / 2u];
                let value = bitcast<i32>(word << (16u * (1u - i % 2u))) >> 16u;
                x -= f32(value) * factors.x;
            }
            sum += x * x;
        }
        sums[thread] = sum;
        workgroupBarrier();
        for (var width = THREADS / 2u; width > 0u; width /= 2u) {
            if (thread < width) {
                sums[thread] += sums[thread + width];
            }
            workgroupBarrier();
        }
        let all = sums[0];
        workgroupBarrier();
        distance_sq += all;
        if (thread == 0u) {
            views[out + 2u + s] = all;
        }
        start += length;
    }
    if (thread == 0u) {
        var constant = queries[query];
        if (p.lists == 1u) {
            if (p.distance == 1u) {
                constant = distance_sq - factors.y;
            } else {
                constant -= 0.5 * (queries[query + 1u] + factors.y - distance_sq);
            }
        }
        views[out] = constant;
        views[out + 1u] = distance_sq;
    }
    let variance = queries[query + 3u] + queries[query + 4u] * pair.distance_sq;
    var by_variance = 0.0;
    if (variance > 0.0) {
        by_variance = queries[query + 2u] / sqrt(variance);
    }
    let distance = sqrt(pair.distance_sq);
    for (var i = thread; i < p.pieces; i += THREADS) {
        let line = query + HEAD + LINE * i;
        let own = queries[line + 3u] + queries[line + 4u] * pair.distance_sq;
        let at = out + 2u + p.segments + 2u * i;
        views[at] = queries[line];
        views[at + 1u] = queries[line + 1u] + queries[line + 2u] * distance + by_variance * own;
    }
}
