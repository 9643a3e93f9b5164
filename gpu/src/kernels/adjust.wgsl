// The code of a segment of each row: the step, the code and its adjustment. A thread a row.
//
// As `encode_segment` of the library does it, operation by operation: what it is about stands there.

struct Params {
    rows: u32,
    grid_x: u32,
    zero: u32,
    // The number of the segment, its first dimension and how many it has.
    segment: u32,
    start: u32,
    dims: u32,
    // Values of a centroid; 0 where there is none.
    centroid: u32,
    bits: u32,
    try_count: u32,
    visits: u32,
    scale_shift: u32,
    scale_base: u32,
    scale_max: u32,
    unit: f32,
    inverse_unit: f32,
    least: f32,
    tries: vec4<f32>,
    gaussian_step: f32,
    along: f32,
    boundary: f32,
    inner: f32,
    outer: f32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// Rotated rows, as `rotate.wgsl` leaves them: the bits of floats.
@group(0) @binding(1) var<storage, read> rotated: array<u32>;
// The list of each row.
@group(0) @binding(2) var<storage, read> lists: array<u32>;
// The bits of floats.
@group(0) @binding(3) var<storage, read> centroids: array<u32>;
// As rotated rows.
@group(0) @binding(4) var<storage, read_write> codes: array<u32>;
// Of each segment five words, each of all rows: squared norm, scale or UNSURE, and inner products with the centroid of
// the row, the code, and the first stage.
@group(0) @binding(5) var<storage, read_write> found: array<u32>;

const THREADS: u32 = 64u;
const UNSURE: u32 = 0xffffffffu;
// 2^-40, 2^-60 and 2^20: the squares and products of what lies between are normal floats.
const SMALLEST: u32 = 0x2b800000u;
const SMALLEST_CENTROID: u32 = 0x21800000u;
const LARGEST: u32 = 0x49800000u;

// The half-integer nearest to a number, within -limit..=limit.
fn nearest(x: f32, limit: f32) -> f32 {
    let above = select(-limit, x, x > -limit);
    let cut = select(limit, above, above < limit);
    return floor(cut) + 0.5;
}

fn scale_code(value: f32) -> u32 {
    let bits = bitcast<u32>(value) + (1u << (p.scale_shift - 1u));
    let above = select(0u, bits - p.scale_base, bits > p.scale_base);
    return clamp(above >> p.scale_shift, 1u, p.scale_max);
}

fn scale_of(code: u32) -> f32 {
    return bitcast<f32>((code << p.scale_shift) + p.scale_base);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (group.y * p.grid_x + group.x) * THREADS + thread;
    if (row >= p.rows) {
        return;
    }
    let first = p.start * p.rows + row;
    let end = first + p.dims * p.rows;
    let dims = f32(p.dims);
    let limit = f32((1u << p.bits) - 1u) * 0.5;
    var centroid = 0u;
    if (p.centroid > 0u) {
        centroid = lists[row] * p.centroid + p.start;
    }
    var sure = true;
    var norm_sq = 0.0;
    var largest = 0.0;
    for (var d = 0u; d < p.dims; d += 1u) {
        let bits = rotated[first + d * p.rows];
        let size = bits & 0x7fffffffu;
        sure = sure && (size == 0u || (size >= SMALLEST && size < LARGEST));
        if (p.centroid > 0u) {
            let c = centroids[centroid + d] & 0x7fffffffu;
            sure = sure && (c == 0u || (c >= SMALLEST_CENTROID && c < LARGEST));
        }
        let o = bitcast<f32>(bits);
        norm_sq = add(norm_sq, times(o, o));
        largest = max(largest, bitcast<f32>(size));
    }
    let live = norm_sq > p.least;
    sure = sure && (live || largest == 0.0);
    let answers = 5u * p.segment * p.rows + row;
    found[answers] = bitcast<u32>(norm_sq);
    if (!sure) {
        found[answers + p.rows] = UNSURE;
        for (var at = first; at < end; at += p.rows) {
            codes[at] = 0u;
        }
        return;
    }

    var inverse_step = 0.0;
    var scale = 0.0;
    var code = 0u;
    if (live) {
        let of_gaussian = times(root(quotient(norm_sq, dims)), p.gaussian_step);
        let of_largest = quotient(largest, limit + 0.5);
        let low = times(min(of_gaussian, of_largest), 0.97);
        let span = subtract(times(max(of_gaussian, of_largest), 1.03), low);
        var best = 3.4e38;
        for (var i = 0u; i < p.try_count; i += 1u) {
            let inverse = quotient(1.0, add(low, times(span, p.tries[i])));
            var dot = 0.0;
            var square = 0.0;
            for (var at = first; at < end; at += p.rows) {
                let o = bitcast<f32>(rotated[at]);
                let u = nearest(times(o, inverse), limit);
                dot = add(dot, times(u, o));
                square = add(square, times(u, u));
            }
            let exact = quotient(norm_sq, dot);
            let stored_code = scale_code(times(exact, p.inverse_unit));
            let stored = times(scale_of(stored_code), p.unit);
            let across = times(exact, quotient(square, dot));
            let off = quotient(exact, stored);
            if (across < best) {
                best = across;
                inverse_step = times(inverse, min(off, 1.02));
                if (off < 0.98) {
                    inverse_step = quotient(1.0, stored);
                }
                scale = stored;
                code = stored_code;
            }
        }
    }
    var dot = 0.0;
    for (var at = first; at < end; at += p.rows) {
        let o = bitcast<f32>(rotated[at]);
        let u = nearest(times(o, inverse_step), limit);
        codes[at] = u32(u + limit);
        dot = add(dot, times(u, o));
    }
    if (live) {
        let mu = quotient(p.along, norm_sq);
        var excess = subtract(dot, quotient(norm_sq, scale));
        if (p.bits == 1u) {
            inverse_step = quotient(1.0, scale);
        }
        for (var visit = 0u; visit < p.visits; visit += 1u) {
            let at = first + visit % p.dims * p.rows;
            let o = bitcast<f32>(rotated[at]);
            let u = f32(codes[at]) - limit;
            let pull = times(o, mu);
            let slope = subtract(subtract(times(o, inverse_step), u), times(pull, excess));
            let step = select(1.0, -1.0, slope < 0.0);
            let gain = subtract(subtract(times(abs(slope), 2.0), 1.0), times(pull, o));
            let moved = u + step;
            if (gain > 0.0 && abs(moved) <= limit) {
                codes[at] = u32(moved + limit);
                excess = add(excess, times(step, o));
            }
        }
    }

    var of_row = 0.0;
    var of_code = 0.0;
    var of_first = 0.0;
    if (p.centroid > 0u) {
        for (var d = 0u; d < p.dims; d += 1u) {
            let at = first + d * p.rows;
            let u = f32(codes[at]) - limit;
            let c = bitcast<f32>(centroids[centroid + d]);
            let level = abs(select(p.outer, p.inner, abs(u) < p.boundary));
            of_row = add(of_row, times(c, bitcast<f32>(rotated[at])));
            of_code = add(of_code, times(c, u));
            of_first = add(of_first, times(c, select(level, -level, u < 0.0)));
        }
    }
    found[answers + p.rows] = code;
    found[answers + 2u * p.rows] = bitcast<u32>(of_row);
    found[answers + 3u * p.rows] = bitcast<u32>(of_code);
    found[answers + 4u * p.rows] = bitcast<u32>(of_first);
}
