"""The operations of native/bench/cuda_ops_bench.cu in PyTorch: the same shapes, JSON lines with the same "op" where the
work is the same.

fp32 with TF32 off, channels_last_3d, random data, sets of tensors rotated past the L2 cache, all sets in one CUDA graph
that is replayed between events ("mode": "graph"), medians. A backward pass is the difference of forward with backward and
forward. With --compile supcon and the losses are measured with torch.compile as well ("mode": "compile"; minutes).
Usage: python tools/bench/gpu_ops.py [--compile] [part of a name ...]
"""

import json
import math
import statistics
import sys

import torch
import torch.nn.functional as F

COMPILE = '--compile' in sys.argv
WANTED = [a for a in sys.argv[1:] if not a.startswith('--')]
LAYOUT = torch.channels_last_3d


def random(*size, low=-1.0, high=1.0):
    t = torch.empty(size, device='cuda').uniform_(low, high)
    return t.to(memory_format=LAYOUT) if len(size) == 5 else t


def microseconds(calls):
    """One call's time: all of them captured in one graph, replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def group(count):
        start.record()
        for _ in range(count):
            graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3 / count / len(calls)

    first = group(2)
    count = max(1, min(200, int(8000 / (first * len(calls)))))
    return statistics.median(group(count) for _ in range(7))


def say(op, size, us, mode='graph', **more):
    line = {'by': f'torch {torch.__version__}', 'op': op, 'size': 'x'.join(map(str, size)), 'mode': mode, 'us': round(us, 2)}
    print(json.dumps({**line, **more}), flush=True)


def wanted(op):
    return not WANTED or any(w in op for w in WANTED)


def forward_backward(make, sets):
    """make() gives (forward, leaves): microseconds of forward and of forward with backward."""
    made = [make() for _ in range(sets)]

    def both(forward, leaves):
        out = forward()
        torch.autograd.grad(out, leaves, grad_outputs=None if out.ndim == 0 else out.detach())

    def alone(forward):
        with torch.no_grad():
            forward()

    return (microseconds([lambda m=m: alone(m[0]) for m in made]), microseconds([lambda m=m: both(*m) for m in made]))


def normact(n, d, h, w, c):
    def make():
        x = random(n, c, d, h, w).requires_grad_()
        gamma, beta = random(c, low=1, high=2).requires_grad_(), random(c).requires_grad_()
        rm, rv = torch.zeros(c, device='cuda'), torch.ones(c, device='cuda')
        return lambda: F.leaky_relu(F.batch_norm(x, rm, rv, gamma, beta, True, 0.1), 0.01), (x, gamma, beta)

    sets = 2 if n * d * h * w * c * 4 > 1e8 else 8
    fwd, both = forward_backward(make, sets)
    say('normact stats+fwd', (n, d, h, w, c), fwd)
    say('normact bwd', (n, d, h, w, c), both - fwd)
    if wanted('maxpool3d'):

        def pool():
            x = random(n, c, d, h, w).requires_grad_()
            return lambda: F.max_pool3d(x, 2), (x,)

        fwd, both = forward_backward(pool, sets)
        say('maxpool3d fwd', (n, d, h, w, c), fwd)
        say('maxpool3d bwd', (n, d, h, w, c), both - fwd)


def dice_loss(x, y):
    p = x.softmax(1)
    hot = F.one_hot(y, x.shape[1]).movedim(-1, 1)
    axes = (0, 2, 3, 4)
    dice = (2 * (p * hot).sum(axes) + 1e-5) / (p.sum(axes) + hot.sum(axes) + 1e-5)
    return 1 - dice[1:].mean()


def losses(n, d, h, w, k):
    kinds = {
        'softmaxce fwd+bwd': F.cross_entropy,
        'dice fwd+bwd': dice_loss,
        'softmaxce+dice fwd+bwd': lambda x, y: F.cross_entropy(x, y) + dice_loss(x, y),
    }
    for op, loss in kinds.items():
        if not wanted(op):
            continue
        for mode in ['graph', 'compile'] if COMPILE else ['graph']:
            run = torch.compile(loss) if mode == 'compile' else loss

            def make(run=run):
                x = random(n, k, d, h, w, low=-4, high=4).requires_grad_()
                y = torch.randint(0, k, (n, d, h, w), device='cuda')
                return lambda: run(x, y), (x,)

            say(op, (n, d, h, w, k), forward_backward(make, 3)[1], mode)


def supcon_loss(z1, z2, pos):
    """z [B, S, C]: every position at once."""
    u = F.normalize(torch.cat([z1, z2]), dim=-1, eps=1e-12).transpose(0, 1)  # [S, 2B, C]
    logits = u @ u.transpose(1, 2) / 0.1
    m = logits.shape[1]
    near = (pos[:, None] - pos[None]).abs() < 0.1
    eye = torch.eye(m, dtype=torch.bool, device=z1.device)
    positive = near.repeat(2, 2) & ~eye
    log_p = logits - logits.masked_fill(eye, -math.inf).logsumexp(-1, keepdim=True)
    return -(log_p.masked_fill(~positive, 0).sum(-1) / positive.sum(-1)).mean()


def supcon(b, d, h, w, c):
    for mode in ['graph', 'compile'] if COMPILE else ['graph']:
        run = torch.compile(supcon_loss) if mode == 'compile' else supcon_loss

        def make(run=run):
            z1, z2 = (random(b, d * h * w, c).requires_grad_() for _ in range(2))
            pos = random(b, low=0)
            return lambda: run(z1, z2, pos), (z1, z2)

        say('supcon fwd+bwd', (b, d, h, w, c), forward_backward(make, 8)[1], mode)


def warp(n, side):
    """Volumes are fp32 (grid_sample takes no int16); the grid is made in the same call, as the kernel makes its own."""
    c, s = 0.9848, 0.1736
    for op, how in [('warp3d linear', 'bilinear'), ('warp3d nearest', 'nearest')]:
        if not wanted(op):
            continue

        def make(how=how):
            volume = random(n, 1, 128, 128, 128)
            f = side / 128
            theta = torch.tensor([[f * c, f * s, 0, 0.01], [-f * s, f * c, 0, 0.02], [0, 0, f, 0.03]], device='cuda')
            theta = theta.repeat(n, 1, 1)

            def call():
                grid = F.affine_grid(theta, (n, 1, side, side, side), align_corners=True)
                return F.grid_sample(volume, grid, how, 'zeros', align_corners=True) * 1.1 - 0.2

            return call

        with torch.no_grad():
            say(op, (n, side, side, side, 1), microseconds([make() for _ in range(8)]))


def optimiser(op, n):
    if op == 'gradnorm':
        grads = [random(n) for _ in range(2)]
        with torch.no_grad():
            say(op, (n,), microseconds([lambda g=g: torch.linalg.vector_norm(g) for g in grads]))
        return
    w = random(n).requires_grad_()
    w.grad = random(n)
    if op == 'adam':
        made = torch.optim.Adam([w], lr=1e-3, fused=True, capturable=True)
    else:
        made = torch.optim.SGD([w], lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    say(op, (n,), microseconds([made.step]))


def resize():
    def make():
        x = random(2, 64, 24, 24, 24).requires_grad_()
        return lambda: F.interpolate(x, (48, 48, 48), mode='trilinear', align_corners=True), (x,)

    fwd, both = forward_backward(make, 4)
    say('resize3d fwd', (2, 24, 24, 24, 64), fwd)
    say('resize3d bwd', (2, 24, 24, 24, 64), both - fwd)


def attempt(run, *size):
    try:
        run(*size)
    except Exception as error:  # one refusal of PyTorch's must not cost the other figures
        print(json.dumps({'by': f'torch {torch.__version__}', 'op': run.__name__, 'size': size, 'error': str(error)[:300]}), flush=True)
        torch.cuda.synchronize()


def main():
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    print(json.dumps({'device': torch.cuda.get_device_name(), 'torch': torch.__version__}))
    for size in [(16, 8, 16, 8, 128), (32, 8, 16, 8, 128), (16, 1, 1, 1, 128), (64, 1, 1, 1, 128)]:
        if wanted('supcon fwd+bwd'):
            attempt(supcon, *size)
    for size in [(2, 96, 96, 96, 32), (2, 96, 96, 96, 16), (2, 24, 24, 24, 128)]:
        if wanted('normact stats+fwd') or wanted('normact bwd') or wanted('maxpool3d'):
            attempt(normact, *size)
    for classes in [2, 5, 16]:
        attempt(losses, 2, 96, 96, 96, classes)
    attempt(warp, 4, 96)
    for op in ['adam', 'sgd', 'gradnorm']:
        if wanted(op):
            attempt(optimiser, op, 30_000_000)
    if wanted('resize3d'):
        attempt(resize)


if __name__ == '__main__':
    main()
