// The best candidates of each query, in order: one workgroup a query. Ties go to the smaller number.

struct Params {
    queries: u32,
    grid_x: u32,
    // Candidates of a query in `candidates`.
    capacity: u32,
    // How many are kept, at most HALF.
    keep: u32,
    // The limit becomes the key of candidate number `limit`, from 1 on; 0 to leave it.
    limit: u32,
    // 1 if a candidate's number is its rank, 0 if it is its place in `candidates`.
    by_rank: u32,
    // Candidates of each query; 0 if `state` has the number.
    count: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> candidates: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> state: array<u32>;
// Key and number.
@group(0) @binding(3) var<storage, read_write> best: array<vec2<u32>>;

const THREADS: u32 = 256u;
var<workgroup> sorted: array<vec2<u32>, 2u * HALF>;

fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x < b.x || (a.x == b.x && a.y < b.y);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let query = group.y * p.grid_x + group.x;
    if (query >= p.queries) {
        return;
    }
    let count = min(select(p.count, state[p.queries + query], p.count == 0u), p.capacity);
    for (var i = thread; i < HALF; i += THREADS) {
        sorted[i] = vec2<u32>(NONE, NONE);
    }
    // The best so far are the first half, and new ones come into the second.
    for (var start = 0u; start < count; start += HALF) {
        for (var i = thread; i < HALF; i += THREADS) {
            let at = start + i;
            var entry = vec2<u32>(NONE, NONE);
            if (at < count) {
                let candidate = candidates[query * p.capacity + at];
                entry = vec2<u32>(candidate.x, select(at, candidate.w, p.by_rank == 1u));
            }
            sorted[HALF + i] = entry;
        }
        workgroupBarrier();
        for (var size = 2u; size <= 2u * HALF; size *= 2u) {
            for (var width = size / 2u; width > 0u; width /= 2u) {
                for (var i = thread; i < HALF; i += THREADS) {
                    let low = 2u * i - (i & (width - 1u));
                    let high = low + width;
                    let a = sorted[low];
                    let b = sorted[high];
                    let descending = (low & size) != 0u;
                    if (before(b, a) != descending) {
                        sorted[low] = b;
                        sorted[high] = a;
                    }
                }
                workgroupBarrier();
            }
        }
    }
    workgroupBarrier();
    for (var i = thread; i < p.keep; i += THREADS) {
        best[query * p.keep + i] = sorted[i];
    }
    if (thread == 0u && p.limit > 0u) {
        state[query] = sorted[p.limit - 1u].x;
    }
}
