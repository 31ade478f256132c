"""One training step with bf16 activations in PyTorch, in float64 with explicit roundings: the other side of
`macl step --device reference --precision bf16`.

    python tools/goldens/bf16.py            writes test/fixtures/step-bf16-*.safetensors
    python tools/goldens/bf16.py --measure  how far bf16 is from float64, and float32 accumulators from exact ones

A file has `out.<name>` (F64, as in step-*.safetensors), and `batch.<name>` where it differs; all else is in the file that its
metadata names (golden = JSON of `of`, torch). What is rounded and where stands in docs/step.md; here it is written from that description:
`store` rounds a tensor and its gradient, `fork` is a tensor with two readers, whose gradient is stored by one and added to
by the other, `multiplied` are weights as they are multiplied. --measure adds to every number, before it is rounded, an error
of float32's size, as accumulators of float32 do.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from make_steps import CASES, FIXTURES
from meta import golden_metadata
from random_step import random_batch, random_config, random_size, random_weights
from step import Trainer, as_vectors, cross_entropy, dice_loss, model_config, supcon
from macl_unet import lambda_divisor  # noqa: E402  (step.py knows where it is)

STEPS = ["pretrain-3d", "finetune-3d"]
SLOPE = 0.01

# Error before each rounding, in parts of the number; 0 for the exact oracle.
noise = {"size": 0.0, "generator": torch.Generator()}


def rounded(x):
    """To the nearest bf16 number, ties to even, once: PyTorch's own conversion of float64 goes by way of float32."""
    if noise["size"] > 0:
        x = x * (1 + noise["size"] * torch.randn(x.shape, generator=noise["generator"], dtype=x.dtype))
    bits = x.contiguous().view(torch.int64)
    bits = (bits + (1 << 44) - 1 + ((bits >> 45) & 1)) & ~((1 << 45) - 1)
    normal = bits.view(torch.float64)
    anchor = 1.5 * 2.0**-81  # its last place is that of bf16's subnormal numbers
    return torch.where(x.abs() < 2.0**-126, torch.copysign((x.abs() + anchor) - anchor, x), normal)


class Store(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return rounded(x)

    @staticmethod
    def backward(ctx, g):
        return rounded(g)


class Multiplied(torch.autograd.Function):
    """Masters stay as they are, and so do their gradients."""

    @staticmethod
    def forward(ctx, w):
        return rounded(w)

    @staticmethod
    def backward(ctx, g):
        return g


class Fork(torch.autograd.Function):
    """The first of the two results is the one whose gradient is stored first."""

    @staticmethod
    def forward(ctx, x):
        return x.clone(), x.clone()

    @staticmethod
    def backward(ctx, first, second):
        return rounded(rounded(first) + second)


store, multiplied, fork = Store.apply, Multiplied.apply, Fork.apply


# ---- the network, from its modules ------------------------------------------------------------------------------


def conv(m, x):
    return store(F.conv3d(x, multiplied(m.weight), m.bias, padding=m.padding))


def linear(m, x):
    return store(F.linear(x, multiplied(m.weight), m.bias))


def pair(m, x):
    for c, norm in ((m.conv1, m.norm1), (m.conv2, m.norm2)):
        x = store(F.leaky_relu(norm(conv(c, x)), SLOPE))
    return x


def encode(m, x, skips_used):
    """Skips that a decoder reads have two readers: its concatenation, whose gradient comes first, and the pooling."""
    skips, levels = [], len(m.blocks)
    for l, (block, stride) in enumerate(zip(m.blocks, m.strides)):
        x = pair(block, x)
        skip = None
        if l >= levels - skips_used:
            skip, x = fork(x)
        skips.append(skip)
        x = store(F.max_pool3d(x, stride, stride))
    for c in (m.centre.conv1, m.centre.conv2):
        x = store(F.relu(conv(c, x)))
    return x, skips


def decode(m, x, skips):
    for i, block in enumerate(m.blocks):
        up = block.up
        upsampled = store(F.conv_transpose3d(x, multiplied(up.weight), up.bias, stride=up.stride))
        x = pair(block, store(torch.cat([upsampled, skips[len(skips) - 1 - i]], 1)))
    return x


def project_image(m, x):
    return linear(m.fc2, store(F.relu(linear(m.fc1, store(x.mean((2, 3, 4)))))))


def resized(x, size):
    same = tuple(x.shape[2:]) == tuple(size)
    return x if same else store(F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=True))


def pretrain_losses(net, batch, loss):
    image = net.projector["image"]
    n = len(net.decoder.blocks)
    i1, i2, v1, v2 = (store(batch[k]) for k in ("i1", "i2", "v1", "v2"))
    small = [s // by for s, by in zip(i1.shape[2:], net.divisor)]
    aux, _ = encode(net.encoder, i2, 0)
    dom, dom_skips = encode(net.encoder, resized(i1, small), n)
    aux_v, _ = encode(net.encoder, v2, 0)
    dom_v, dom_v_skips = encode(net.encoder, resized(v1, small), n)
    # Backward, the equivariance loss comes first.
    dom_er, dom = fork(dom)
    aux_er, aux = fork(aux)
    pixel = decode(net.decoder, dom, dom_skips)
    z_dom = project_image(image["dominant"], decode(net.decoder, dom_v, dom_v_skips))
    z_aux = project_image(image["auxiliary"], aux_v)
    arguments = (batch["pos"], loss["temperature"], loss["threshold"])
    parts = {
        "global": supcon(z_dom.unsqueeze(1), z_aux.unsqueeze(1), *arguments),
        "dense": supcon(as_vectors(pixel), as_vectors(pair(net.projector["pixel"], aux)), *arguments),
        "er": (dom_er - resized(aux_er, dom_er.shape[2:])).abs().mean(),
    }
    return sum(loss["weights"][k] * part for k, part in parts.items()), parts


def finetune_losses(net, batch, loss):
    logits = conv(net.head, decode(net.decoder, *encode(net.encoder, store(batch["x"]), len(net.decoder.blocks))))
    y = batch["y"].long()
    if loss["name"] == "ce":
        parts = {"ce": cross_entropy(logits, y)}
    else:
        of_dice, of_ce = fork(logits)
        parts = {"ce": cross_entropy(of_ce, y), "dice": dice_loss(of_dice, y)}
    return sum(parts.values()), parts


def run_step(config, weights, batch, size=0.0, seed=0):
    noise["size"] = size
    noise["generator"].manual_seed(seed)
    trainer = Trainer(config, weights)
    trainer.losses = pretrain_losses if config["task"] == "pretrain" else finetune_losses
    return trainer.results(trainer.step(batch))


def without_ties(rng, config, batch):
    """Views in place of those that are downsampled. Interpolation between bf16 numbers divides by out − 1 an axis, so its true
    result is often exactly in the middle of two bf16 numbers, where the last bit of a float64 sum decides. Multiples of the
    divisors' product have whole numbers of at most 8 bits as results, which no rounding changes."""
    if config["task"] != "pretrain":
        return {}
    size = batch["i1"].shape
    divisor = lambda_divisor(model_config(config["model"]))
    step = 1
    for length, by in zip(size[2:], divisor):
        step *= max(1, length // by - 1) if by > 1 else 1
    most = 255 // step
    if most < 1:
        raise ValueError(f"interpolation by 1/{step} has more than 8 bits")
    view = lambda: torch.from_numpy(rng.integers(-most, most + 1, size) * (step / 64)).float()  # noqa: E731
    return {"i1": view(), "v1": view()}


# ---- how far apart ----------------------------------------------------------------------------------------------


def apart(found, truth):
    """Largest differences: losses and running statistics (of the largest entry, at least 1e-3), gradients in L2."""
    worst = {"loss": 0.0, "statistic": 0.0, "gradient": 0.0, "all gradients": 0.0}
    for name, want in truth.items():
        off = found[name] - want
        if name.startswith("grad."):
            scale = max(truth[name.replace(".bias", ".weight")].norm().item(), want.norm().item())
            if scale > 1e-4 * max(t.norm().item() for k, t in truth.items() if k.startswith("grad.")):
                worst["gradient"] = max(worst["gradient"], off.norm().item() / scale)
        elif name.startswith("loss") or "running" in name:
            kind = "loss" if name.startswith("loss") else "statistic"
            worst[kind] = max(worst[kind], (off.abs().max() / want.abs().max().clamp_min(1e-3)).item())
    flat = lambda t: torch.cat([v.flatten() for k, v in sorted(t.items()) if k.startswith("grad.")])  # noqa: E731
    worst["all gradients"] = ((flat(found) - flat(truth)).norm() / flat(truth).norm()).item()
    return worst


def measure(count):
    import step as exact

    def line(what, w):
        print(f"{what:44}", "  ".join(f"{k} {v:.1e}" for k, v in w.items()))

    cases = []
    for name, (config, samples, size, seed) in CASES.items():
        rng = np.random.default_rng(seed)
        cases.append((name, config, random_weights(rng, config), random_batch(rng, config, samples, size)))
    for seed in range(count):
        rng = np.random.default_rng(1000 + seed)
        task, dims = ["pretrain", "finetune"][seed % 2], [3, 2][seed // 2 % 2]
        config = random_config(rng, task, dims)
        size = random_size(rng, config)
        cases.append((f"random {seed} {task}", config, random_weights(rng, config, fresh=True), random_batch(rng, config, 3, size)))
    from_exact, from_bf16 = [], []
    for name, config, weights, batch in cases:
        own = run_step(config, weights, batch)
        from_exact.append(apart(own, exact.run_step(config, weights, batch)))
        line(f"{name}: bf16 from float64", from_exact[-1])
        runs = [apart(run_step(config, weights, batch, 2.0**-22, s), own) for s in range(4)]
        from_bf16.append({k: max(r[k] for r in runs) for k in runs[0]})
        line(f"{name}: float32 sums from exact", from_bf16[-1])
    for what, found in (("bf16 from float64", from_exact), ("float32 sums from exact", from_bf16)):
        for part, of in (("largest", max), ("median", lambda v: sorted(v)[len(v) // 2])):
            line(f"{part}: {what}", {k: of([f[k] for f in found]) for k in found[0]})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--count", type=int, default=16)
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.measure:
        return measure(a.count)
    for name in STEPS:
        config, samples, size, seed = CASES[name]
        rng = np.random.default_rng(seed)
        weights, batch = random_weights(rng, config), random_batch(rng, config, samples, size)
        own = without_ties(rng, config, batch)
        out = run_step(config, weights, batch | own)
        path = FIXTURES / f"step-bf16-{name}.safetensors"
        meta = golden_metadata(of=f"step-{name}", torch=torch.__version__)
        tensors = {f"out.{k}": v for k, v in out.items()} | {f"batch.{k}": v for k, v in own.items()}
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=meta)
        print(path.name, path.stat().st_size, {k: round(v.item(), 4) for k, v in out.items() if k.startswith("loss")})


if __name__ == "__main__":
    main()
