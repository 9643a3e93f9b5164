// Candidates that were chosen first stay candidates, also those whose bound exceeds the limit that came from them:
// the scan, which finds the others once more, leaves these out.

struct Params {
    queries: u32,
    grid_x: u32,
    // Candidates of a query in `candidates`, and chosen ones.
    capacity: u32,
    keep: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
// The bounds of the chosen ones.
@group(0) @binding(1) var<storage, read> best: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> chosen: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> state: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> candidates: array<vec4<u32>>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * p.grid_x + group.x) * THREADS + thread;
    if (i >= p.queries * p.keep) {
        return;
    }
    let query = i / p.keep;
    let limit = atomicLoad(&state[query]);
    if (chosen[i].y != NONE && best[i].x > limit && chosen[i].x <= limit) {
        let place = atomicAdd(&state[p.queries + query], 1u);
        if (place < p.capacity) {
            candidates[query * p.capacity + place] = chosen[i];
        }
    }
}
