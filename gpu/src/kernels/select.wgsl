// The best candidates of each query where they are too many to be sorted in workgroup memory: one workgroup a query. They
// come in any order.
//
// The last of the best is found by its digits of eight bits, those of the key and then those of the rank, by which ties are
// broken: a pass counts how many candidates that begin as it does go on with each digit.

struct Params {
    queries: u32,
    grid_x: u32,
    // Candidates of a query in `candidates`; `state` has how many there are.
    capacity: u32,
    // How many are kept.
    keep: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> candidates: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> state: array<u32>;
// Key and rank; no candidates behind the last one.
@group(0) @binding(3) var<storage, read_write> best: array<vec2<u32>>;

const THREADS: u32 = 256u;
const DIGITS: u32 = 256u;
var<workgroup> counts: array<atomic<u32>, DIGITS>;
var<workgroup> written: atomic<u32>;
// What the last of the best begins with, and how many of the candidates that begin with it are kept.
var<workgroup> begin: vec2<u32>;
var<workgroup> left: u32;

// The bits of a key and a rank that are known before a pass.
fn known(digit: u32) -> vec2<u32> {
    let of_key = select(0xffffffffu << (32u - 8u * min(digit, 3u)), 0u, digit == 0u);
    let of_rank = select(0xffffffffu << (32u - 8u * (max(digit, 5u) - 4u)), 0u, digit <= 4u);
    return vec2<u32>(select(of_key, 0xffffffffu, digit >= 4u), of_rank);
}

fn digit_of(entry: vec2<u32>, digit: u32) -> u32 {
    let word = select(entry.x, entry.y, digit >= 4u);
    return (word >> (24u - 8u * (digit % 4u))) & 0xffu;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let query = group.y * p.grid_x + group.x;
    if (query >= p.queries) {
        return;
    }
    let count = min(state[p.queries + query], p.capacity);
    let own = query * p.capacity;
    if (thread == 0u) {
        begin = vec2<u32>();
        left = p.keep;
        atomicStore(&written, 0u);
    }
    for (var i = thread; i < p.keep; i += THREADS) {
        best[query * p.keep + i] = vec2<u32>(NONE, NONE);
    }
    workgroupBarrier();
    for (var digit = 0u; digit < 8u; digit += 1u) {
        atomicStore(&counts[thread], 0u);
        workgroupBarrier();
        let mask = known(digit);
        let prefix = begin;
        for (var i = thread; i < count; i += THREADS) {
            let candidate = candidates[own + i];
            let entry = vec2<u32>(candidate.x, candidate.w);
            if (all((entry & mask) == prefix)) {
                atomicAdd(&counts[digit_of(entry, digit)], 1u);
            }
        }
        workgroupBarrier();
        if (thread == 0u) {
            var before = 0u;
            var next = 0u;
            for (var i = 0u; i < DIGITS; i += 1u) {
                let here = atomicLoad(&counts[i]);
                if (before + here >= left) {
                    next = i;
                    break;
                }
                before += here;
            }
            left -= before;
            let at = next << (24u - 8u * (digit % 4u));
            begin |= select(vec2<u32>(at, 0u), vec2<u32>(0u, at), digit >= 4u);
        }
        workgroupBarrier();
    }
    // Of fewer than are kept, all.
    let last = select(begin, vec2<u32>(NONE, NONE), count <= p.keep);
    for (var i = thread; i < count; i += THREADS) {
        let candidate = candidates[own + i];
        let entry = vec2<u32>(candidate.x, candidate.w);
        let within = entry.x < last.x || (entry.x == last.x && entry.y <= last.y);
        if (within && entry.x != NONE) {
            let place = atomicAdd(&written, 1u);
            if (place < p.keep) {
                best[query * p.keep + place] = entry;
            }
        }
    }
}
