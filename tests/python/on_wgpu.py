"""wgpu on Vulkan: a WGSL kernel, every element of its output read back and compared."""

import array

import wgpu.backends.wgpu_native
import wgpu.utils.compute

KERNEL = """
@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    output[id.x] = input[id.x] * input[id.x] + 7u;
}
"""
COUNT = 1 << 18

adapter = wgpu.gpu.request_adapter_sync()
print("wgpu device", adapter.info["device"], adapter.info["backend_type"])
assert adapter.info["backend_type"] == "Vulkan"
numbers = array.array("I", range(COUNT))
outputs = wgpu.utils.compute.compute_with_buffers(
    input_arrays={0: numbers},
    output_arrays={1: (COUNT, "I")},
    shader=KERNEL,
    n=(COUNT // 64, 1, 1),
)
expected = [(n * n + 7) & 0xFFFFFFFF for n in range(COUNT)]
assert list(outputs[1]) == expected
print("wgpu right")
