"""taichi on Vulkan: a kernel over a million numbers, every result compared with numpy's."""

import numpy
import taichi

taichi.init(arch=taichi.vulkan, offline_cache=False)
assert taichi.cfg.arch == taichi.vulkan, taichi.cfg.arch

COUNT = 1 << 20
numbers = taichi.field(taichi.f32, COUNT)


@taichi.kernel
def fill():
    for i in numbers:
        x = i * 0.001
        for _ in range(16):
            x = x * 0.5 + 1.0
        numbers[i] = x


fill()
expected = numpy.arange(COUNT, dtype=numpy.float32) * numpy.float32(0.001)
for _ in range(16):
    expected = expected * numpy.float32(0.5) + numpy.float32(1.0)
numpy.testing.assert_allclose(numbers.to_numpy(), expected, rtol=1e-5)
print("taichi right")
