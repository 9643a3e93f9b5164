// Copies a buffer: what the device's memory can do at best.

struct Params {
    words: u32,
    threads: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> copied: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = group.x * 256u + thread; i < p.words; i += p.threads) {
        copied[i] = source[i];
    }
}
