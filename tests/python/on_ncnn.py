"""ncnn on Vulkan: a convolution on the GPU next to the same on the CPU."""

import numpy
import ncnn

NETWORK = """7767517
2 2
Input in 0 1 in
Convolution conv 1 1 in out 0=16 1=3 4=1 5=1 6=1152
"""


def run(gpu):
    net = ncnn.Net()
    net.opt.use_vulkan_compute = gpu
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param_mem(NETWORK)
    generator = numpy.random.default_rng(1)
    weights = generator.standard_normal(1152 + 16).astype(numpy.float32)
    # A tag of 0 says that the weights are plain; the bias has none.
    model = numpy.uint32(0).tobytes() + weights.tobytes()
    net.load_model_mem(model)
    # ncnn.Mat does not copy: this array must live.
    image = generator.standard_normal((8, 64, 64)).astype(numpy.float32)
    with net.create_extractor() as extractor:
        extractor.input("in", ncnn.Mat(image))
        status, result = extractor.extract("out")
    assert status == 0, status
    return numpy.array(result)


assert ncnn.get_gpu_count() > 0, "no GPU"
print("ncnn device", ncnn.get_gpu_info(0).device_name())
numpy.testing.assert_allclose(run(True), run(False), rtol=1e-3, atol=1e-3)
print("ncnn right")
