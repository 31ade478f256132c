"""The convolutions of native/bench/cuda_conv_bench.cu in PyTorch (cuDNN): the same shapes, the same JSON lines.

channels_last_3d, cudnn.benchmark, fp32 with TF32 off ("fp32") and on ("tf32"), random data, rotated buffers, events.
Usage: python tools/bench/gpu_conv.py [fp32|tf32 ...]
"""

import json
import statistics
import sys

import torch

SHAPES = [  # n, d, h, w, in, out, kernel depth, kernel, transposed (kernel = stride = 2)
    (2, 96, 96, 96, 16, 16, 3, 3, False), (2, 96, 96, 96, 32, 16, 3, 3, False), (2, 96, 96, 96, 32, 32, 3, 3, False),
    (2, 64, 64, 64, 16, 16, 3, 3, False), (2, 64, 64, 64, 32, 32, 3, 3, False), (2, 64, 64, 64, 64, 64, 3, 3, False),
    (2, 48, 48, 48, 32, 32, 3, 3, False), (2, 48, 48, 48, 64, 64, 3, 3, False), (2, 48, 48, 48, 128, 128, 3, 3, False),
    (2, 24, 24, 24, 64, 64, 3, 3, False), (2, 24, 24, 24, 128, 128, 3, 3, False), (2, 12, 12, 12, 128, 128, 3, 3, False),
    (2, 96, 96, 96, 1, 16, 3, 3, False), (2, 96, 96, 96, 16, 5, 1, 1, False), (4, 1, 256, 256, 32, 32, 1, 3, False),
    (2, 48, 48, 48, 32, 16, 1, 1, True), (2, 24, 24, 24, 64, 32, 1, 1, True), (2, 12, 12, 12, 128, 64, 1, 1, True),
]
PASSES = {'fwd': (False, False, False), 'dx': (True, False, False), 'dw': (False, True, True)}


def group(run, count, sets):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for i in range(count):
        run(i % sets)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / count


def time_ms(run, sets):
    group(run, 2 * sets + 3, sets)
    first = group(run, sets, sets)
    count = max(sets, min(200, int(6 / first)))
    return statistics.median(group(run, count, sets) for _ in range(5))


def bench(table, shape):
    n, d, h, w, i, o, kd, k, up = shape
    taps = 8 if up else kd * k * k
    kernel = (2, 2, 2) if up else (kd, k, k)
    m = 2 if up else 1
    layout = torch.channels_last_3d

    def random(*size):
        return torch.randn(size, device='cuda').to(memory_format=layout)

    flop = 2 * n * d * h * w * taps * i * o
    size = 4 * n * d * h * w * (i + o * m**3)
    sets = max(1, min(8, (200 << 20) // size + 1))
    weight = random(i, o, *kernel) if up else random(o, i, *kernel)
    bias = torch.randn(o, device='cuda')
    xs = [random(n, i, d, h, w) for _ in range(sets)]
    ys = [random(n, o, d * m, h * m, w * m) for _ in range(sets)]
    stride, padding = ([2] * 3, [0] * 3) if up else ([1] * 3, [kd // 2, k // 2, k // 2])

    def forward(s):
        return torch.convolution(xs[s], weight, bias, stride, padding, [1] * 3, up, [0] * 3, 1)

    def backward(mask):
        return lambda s: torch.ops.aten.convolution_backward(
            ys[s], xs[s], weight, [o], stride, padding, [1] * 3, up, [0] * 3, 1, list(mask))

    for name, mask in PASSES.items():
        if name == 'dx' and i <= 4:
            continue
        ms = time_ms(forward if name == 'fwd' else backward(mask), sets)
        print(json.dumps({
            'by': f'torch {torch.__version__}', 'op': 'upconv3d' if up else 'conv3d', 'pass': name, 'table': table,
            'size': f'{n}x{d}x{h}x{w}', 'in': i, 'out': o, 'kernel': 'x'.join(map(str, kernel)), 'ms': round(ms, 4),
            'gflops': round(flop / ms * 1e-6)}), flush=True)


def main():
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    wanted = sys.argv[1:] or ['fp32', 'tf32']
    print(json.dumps({'device': torch.cuda.get_device_name(), 'torch': torch.__version__}))
    with torch.no_grad():
        for table in ['fp32', 'tf32']:
            if table in wanted:
                torch.backends.cudnn.allow_tf32 = table == 'tf32'
                torch.backends.cuda.matmul.allow_tf32 = table == 'tf32'
                for shape in SHAPES:
                    bench(table, shape)


if __name__ == '__main__':
    main()
