// The second stage: keys of candidates from all of their bits. Eight threads a candidate, eight candidates a workgroup;
// some workgroups a query. What the codes look like is another file's.

struct Params {
    queries: u32,
    // Workgroups of a query.
    groups: u32,
    // Candidates of a query in `candidates`.
    capacity: u32,
    // Candidates of each query; 0 if `state` has the number.
    count: u32,
    // The slots of the chunk.
    slot: u32,
    slots: u32,
    // Words of a vector.
    stride: u32,
    // SAQ: segments, and whether there are lists. Others: columns, and bits of each.
    segments: u32,
    lists: u32,
    // Floats of a view.
    view: u32,
    // Words of a query's table.
    table: u32,
    alpha: f32,
    // SAQ: of dropped dimensions. Others: what sums are multiplied by.
    correction: f32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read> views: array<f32>;
@group(0) @binding(4) var<storage, read> state: array<u32>;
@group(0) @binding(5) var<storage, read> segments: array<Segment>;
@group(0) @binding(6) var<storage, read_write> candidates: array<vec4<u32>>;

const SIDE: u32 = 8u;
const THREADS: u32 = 64u;
var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = group.y * p.grid_x + group.x;
    let query = number / p.groups;
    if (query >= p.queries) {
        return;
    }
    let count = min(select(p.count, state[p.queries + query], p.count == 0u), p.capacity);
    let lane = thread % SIDE;
    let step = p.groups * THREADS / SIDE;
    for (var start = number % p.groups * THREADS / SIDE; start < count; start += step) {
        let i = start + thread / SIDE;
        let at = query * p.capacity + min(i, count - 1u);
        let candidate = candidates[at];
        let slot = candidate.y - p.slot;
        let here = i < count && candidate.y != NONE && candidate.y >= p.slot && slot < p.slots;
        var part = 0.0;
        if (here) {
            part = share(slot, query, lane);
        }
        parts[thread] = part;
        workgroupBarrier();
        for (var width = SIDE / 2u; width > 0u; width /= 2u) {
            if (lane < width) {
                parts[thread] += parts[thread + width];
            }
            workgroupBarrier();
        }
        if (here && lane == 0u) {
            candidates[at].x = ordered(key(slot, query, candidate.z * p.view, parts[thread]));
        }
        workgroupBarrier();
    }
}
