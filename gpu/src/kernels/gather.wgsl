// Brings the candidates that `top` has chosen together, for the next stage.

struct Params {
    queries: u32,
    grid_x: u32,
    // Candidates of a query in `candidates`, and chosen ones.
    capacity: u32,
    keep: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> candidates: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> best: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> chosen: array<vec4<u32>>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * p.grid_x + group.x) * THREADS + thread;
    if (i >= p.queries * p.keep) {
        return;
    }
    let number = best[i].y;
    var entry = vec4<u32>(NONE, NONE, NONE, NONE);
    if (number != NONE) {
        entry = candidates[i / p.keep * p.capacity + number];
    }
    chosen[i] = entry;
}
