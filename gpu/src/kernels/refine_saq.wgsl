// SAQ: a row is what the vector adds to its key, the codes of all scales, two a word, and its codes in planes of up to
// four bits from the top, segment by segment. A word of a plane has 8 dimensions: the first four in the low
// halves of its bytes. The table of a query has its integers in two digits, 128 * high + low, four dimensions a word: all
// the high ones, then all the low ones; then what a unit is worth in each segment.

struct Segment {
    // First dimension and dimensions, in fours.
    start: u32,
    fours: u32,
    bits: u32,
    // Where its planes begin in a row.
    plane: u32,
    scale_shift: u32,
    scale_base: u32,
    unit: f32,
    energy: f32,
}

fn scale_of(row: u32, s: u32) -> f32 {
    let code = (rows[row + 1u + s / 2u] >> (16u * (s % 2u))) & 0xffffu;
    let scale = bitcast<f32>((code << segments[s].scale_shift) + segments[s].scale_base);
    return select(scale * segments[s].unit, 0.0, code == 0u);
}

// What a thread's words of all planes add to the inner product of query and code.
fn share(slot: u32, query: u32, lane: u32) -> f32 {
    let row = slot * p.stride;
    let high = query * p.table;
    let dims4 = segments[p.segments - 1u].start + segments[p.segments - 1u].fours;
    let low = high + dims4;
    let steps = low + dims4;
    var dot = 0.0;
    for (var s = 0u; s < p.segments; s++) {
        let segment = segments[s];
        if (segment.bits == 0u) {
            continue;
        }
        let words = segment.fours / 2u;
        var plane = row + segment.plane;
        var left = segment.bits;
        var sum = 0.0;
        while (left > 0u) {
            // The top plane has what does not fill four bits.
            let width = select(4u, (left - 1u) % 4u + 1u, left == segment.bits);
            left -= width;
            // Fields become odd numbers around zero: 2 f - (2^width - 1).
            let centre = (129u - (1u << width)) * 0x01010101u;
            var whole = 0;
            for (var w = lane; w < words; w += SIDE) {
                let x = rows[plane + w];
                let a = (((x & 0x0f0f0f0fu) << 1u) + centre) ^ 0x80808080u;
                let b = (((x >> 3u) & 0x1e1e1e1eu) + centre) ^ 0x80808080u;
                let at = segment.start + 2u * w;
                whole += 128 * (dot4I8Packed(a, tables[high + at]) + dot4I8Packed(b, tables[high + at + 1u]))
                    + dot4I8Packed(a, tables[low + at]) + dot4I8Packed(b, tables[low + at + 1u]);
            }
            sum += f32(whole) * f32(1u << left);
            plane += words;
        }
        dot += scale_of(row, s) * (0.5 * bitcast<f32>(tables[steps + s]) * sum);
    }
    return dot;
}

fn key(slot: u32, query: u32, view: u32, dot: f32) -> f32 {
    let row = slot * p.stride;
    let plain = views[view] + bitcast<f32>(rows[row]) - p.alpha * dot;
    let last = p.segments - 1u;
    if (p.correction <= 0.0 || segments[last].bits > 0u) {
        return plain;
    }
    let tail = scale_of(row, last);
    var kept_sq = 0.0;
    var kept_query_sq = 0.0;
    for (var s = 0u; s < last; s++) {
        if (segments[s].bits > 0u) {
            let scale = scale_of(row, s);
            kept_sq += segments[s].energy * scale * scale;
            kept_query_sq += views[view + 2u + s];
        }
    }
    if (tail > 0.0 && kept_sq > 0.0 && kept_query_sq > 0.0) {
        let kept_dot = select(dot, 0.5 * (kept_sq + tail * tail + views[view + 1u] - plain), p.lists == 1u);
        let cosine = clamp(kept_dot / sqrt(kept_sq * kept_query_sq), 0.0, 1.0);
        return plain - p.alpha * (p.correction * cosine * cosine * tail * sqrt(views[view + 2u + last]));
    }
    return plain;
}
