// The kernels, one invocation to an element of `output`.

@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

// Every element depends on its input and on its place: check.rs computes the same.
@compute @workgroup_size(64)
fn scramble(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    output[i] = (input[i] * 2654435761u) ^ (i << 7u);
}

// Counts the dispatches.
@compute @workgroup_size(64)
fn count(@builtin(global_invocation_id) id: vec3<u32>) {
    output[id.x] += 1u;
}

// Arithmetic and nothing else: input[0] rounds of it.
@compute @workgroup_size(64)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let rounds = input[0];
    var x = f32(id.x);
    for (var i = 0u; i < rounds; i++) {
        x = fma(x, 0.75, 1.0);
    }
    output[id.x] = bitcast<u32>(x);
}
