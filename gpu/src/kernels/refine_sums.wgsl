// Numbers of centroids: rows are the words of the scan, 32 vectors side by side. The table of a query has the inner product with
// every centroid of every column.

struct Segment {
    unused: u32,
}

fn word_at(slot: u32, w: u32) -> u32 {
    return rows[(slot / 32u * p.stride + w) * 32u + slot % 32u];
}

fn share(slot: u32, query: u32, lane: u32) -> f32 {
    // `segments` are here columns, `lists` the bits of each.
    let per_word = 32u / p.lists;
    let words = (p.segments + per_word - 1u) / per_word;
    let entries = 1u << p.lists;
    var sum = 0.0;
    for (var w = lane; w < words; w += SIDE) {
        let x = word_at(slot, w);
        let columns = min(per_word, p.segments - w * per_word);
        for (var j = 0u; j < columns; j++) {
            let number = (x >> (p.lists * j)) & (entries - 1u);
            sum += bitcast<f32>(tables[query * p.table + (w * per_word + j) * entries + number]);
        }
    }
    return sum;
}

fn key(slot: u32, query: u32, view: u32, sum: f32) -> f32 {
    let per_word = 32u / p.lists;
    let additive = bitcast<f32>(word_at(slot, (p.segments + per_word - 1u) / per_word));
    return (views[view] + additive) - p.alpha * p.correction * sum + 0.0 * f32(segments[0].unused);
}
