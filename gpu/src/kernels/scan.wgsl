// The first stage: bounds of vectors, or keys of floats, and which of them are candidates. One workgroup an
// item of work: some blocks of one list, and up to `QUERIES` queries that search it.
//
// The scan of each kind of codes is another file, which has the table of some queries in workgroup
// memory, whole or a slice of it at a time: `load` brings it there, and `add` adds up what the words of a vector look up.

struct Params {
    items: u32,
    grid_x: u32,
    // 1 for the first candidates, which all have their place; 0 for those within the limits.
    first: u32,
    // Candidates of a query in `candidates`.
    capacity: u32,
    // Words of a vector.
    stride: u32,
    // Words of its code.
    words: u32,
    pieces: u32,
    // Words whose table is in workgroup memory at a time.
    slice: u32,
    // Floats of a view, and where its slopes and offsets begin.
    view: u32,
    lines: u32,
    // Words of a query's table.
    table: u32,
    // Where members and pieces begin in `work`.
    members: u32,
    piece_table: u32,
    // The first slot of the chunk.
    slot: u32,
    // 1 if a word with what the vector adds to bounds follows the code.
    additive: u32,
    // Of floats: what a value's square is multiplied by.
    square: f32,
    queries: u32,
}

// Codes: word `w` of vector `v` lies at `(v / 32 * stride + w) * 32 + v % 32`.
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
// Ranks of ids, by slot of the chunk.
@group(0) @binding(2) var<storage, read> ranks: array<u32>;
// Items: first vector within the chunk, vectors, first member, members, number within the list. Then members:
// numbers of pairs. Then pieces: words, word of the scale, its shift within, shift and base of its format.
@group(0) @binding(3) var<storage, read> work: array<u32>;
@group(0) @binding(4) var<storage, read> pairs: array<Pair>;
@group(0) @binding(5) var<storage, read> tables: array<u32>;
@group(0) @binding(6) var<storage, read> views: array<f32>;
// The limit of keys of each query, then the number of candidates of each.
@group(0) @binding(7) var<storage, read_write> state: array<atomic<u32>>;
// Key, slot, pair, rank.
@group(0) @binding(8) var<storage, read_write> candidates: array<vec4<u32>>;

// Slope and offset of each piece for each query, and what pieces are.
var<workgroup> lines: array<array<vec2<f32>, QUERIES>, PIECES>;
var<workgroup> piece_words: array<array<u32, PIECE>, PIECES>;

const ITEM: u32 = 5u;
const PIECE: u32 = 5u;

// Keeps a candidate, the vector at `at` in the chunk and number `number` of its list, if it is one.
fn offer(pair: u32, key: u32, slot: u32, at: u32, number: u32) {
    let query = pairs[pair].query;
    if (p.first == 1u) {
        let place = pairs[pair].first + number;
        candidates[query * p.capacity + place] = vec4<u32>(key, slot, pair, ranks[at]);
    } else if (key <= atomicLoad(&state[query])) {
        let place = atomicAdd(&state[p.queries + query], 1u);
        if (place < p.capacity) {
            candidates[query * p.capacity + place] = vec4<u32>(key, slot, pair, ranks[at]);
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = group.y * p.grid_x + group.x;
    if (number >= p.items) {
        return;
    }
    let item = number * ITEM;
    let first = work[item];
    let count = work[item + 1u];
    let member = p.members + work[item + 2u];
    let members = work[item + 3u];
    let in_list = work[item + 4u];
    // Where there are fewer queries than there is room for, the last one fills it.
    var of_query: array<u32, QUERIES>;
#repeat g QUERIES
    of_query[$g] = work[member + min($gu, members - 1u)];
#end
    if (thread < p.pieces) {
#repeat i 5
        piece_words[thread][$i] = work[p.piece_table + PIECE * thread + $iu];
#end
#repeat g QUERIES
        let line$g = of_query[$g] * p.view + p.lines + 2u * thread;
        lines[thread][$g] = vec2<f32>(views[line$g], views[line$g + 1u]);
#end
    }
    let whole = p.words <= p.slice;
    if (whole) {
        load(thread, &of_query, 0u, p.words);
    }
    workgroupBarrier();
    var constants: array<f32, QUERIES>;
#repeat g QUERIES
    constants[$g] = pairs[of_query[$g]].constant;
#end
    for (var start = 0u; start < count; start += THREADS) {
        let v = start + thread;
        // Lanes beyond the end read the last vector, and are not looked at.
        let at = first + min(v, count - 1u);
        let base = at / 32u * p.stride * 32u + at % 32u;
        var bounds: array<f32, QUERIES>;
        var factor = 0.0;
        if (p.additive == 1u) {
            factor = bitcast<f32>(codes[base + p.words * 32u]);
        }
#repeat g QUERIES
        bounds[$g] = constants[$g] + factor;
#end
        var word = 0u;
        for (var i = 0u; i < p.pieces; i++) {
            let end = word + piece_words[i][0];
            // On its way while the sums are made.
            var scale = 1.0;
            var scales = 0u;
            let scale_word = piece_words[i][1];
            if (scale_word != NONE) {
                scales = codes[base + scale_word * 32u];
            }
            var sums: Sums;
            while (word < end) {
                let slice_end = min(end, word + p.slice);
                var offset = word;
                if (!whole) {
                    workgroupBarrier();
                    load(thread, &of_query, word, slice_end);
                    workgroupBarrier();
                    offset = 0u;
                }
                add(base + word * 32u, offset, slice_end - word, &sums);
                word = slice_end;
            }
            if (scale_word != NONE) {
                let code = (scales >> piece_words[i][2]) & 0xffffu;
                let bits = (code << piece_words[i][3]) + piece_words[i][4];
                scale = select(bitcast<f32>(bits), 0.0, code == 0u);
            }
#repeat g QUERIES
            let line$g = lines[i][$g];
            bounds[$g] -= scale * value(&sums, $gu, line$g.x, line$g.y);
#end
        }
        if (p.pieces == 0u) {
            // Nothing is known.
#repeat g QUERIES
            bounds[$g] = -3e38;
#end
        }
        if (v < count) {
            let slot = p.slot + at;
#repeat g QUERIES
            if ($gu < members) {
                offer(of_query[$g], ordered(bounds[$g]), slot, at, in_list + v);
            }
#end
        }
    }
}
