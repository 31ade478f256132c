"""Writes test/fixtures/ops-<op>.safetensors: golden values of every operation, from PyTorch (warp3d: NumPy) in float64.

    python tools/goldens/ops.py [op ...]

Tensors are `<case>.<name>`; activations channels last [N, D, H, W, C], weights in PyTorch's layouts. Inputs are fp32
(exact in both precisions), results F64. Metadata: golden = JSON of op, cases (from test/cases), seed, torch. For every
op dy is an upstream gradient and dx, dw, … the gradients of Σ y · dy; for a loss, of the loss itself.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from cases import read_cases
from meta import golden_metadata
from step import cross_entropy, dice_loss, resize, supcon
from warp import warp_case

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures"
SEED = 2309


class Source:
    """fp32 random inputs, handed on as float64 leaves that want a gradient."""

    def __init__(self, seed):
        self.gen = torch.Generator().manual_seed(seed)

    def normal(self, *shape, mean=0.0, std=1.0):
        t = (mean + std * torch.randn(shape, generator=self.gen)).float().double()
        return t.requires_grad_(True)

    def uniform(self, *shape):
        return torch.rand(shape, generator=self.gen).float().double()

    def labels(self, classes, *shape):
        return torch.randint(0, classes, shape, generator=self.gen)


def first(x):
    """Channels last → channels first."""
    return x.movedim(-1, 1)


def last(y):
    return y.movedim(1, -1)


def backward(y, dy, **leaves):
    grads = torch.autograd.grad(y, list(leaves.values()), dy)
    return {f"d{name}": g for name, g in zip(leaves, grads)}


def conv3d(c, s):
    kd, kh, kw = c["kernel"]
    x = s.normal(*c["x"])
    w = s.normal(c["out"], c["x"][4], kd, kh, kw, std=0.5)
    b = s.normal(c["out"])
    pad = [k // 2 for k in c["kernel"]]
    y = last(F.conv3d(first(x), w, b if c["bias"] else None, c["stride"], pad))
    dy = s.normal(*y.shape)
    leaves = {"x": x, "w": w} | ({"b": b} if c["bias"] else {})
    flat = y.detach().reshape(-1, c["out"])
    stats = {"mean": flat.mean(0), "var": flat.var(0, correction=0)} if c.get("stats") else {}
    return leaves | {"y": y, "dy": dy} | stats | backward(y, dy, **leaves)


def upconv3d(c, s):
    x = s.normal(*c["x"])
    w = s.normal(c["x"][4], c["out"], *c["stride"], std=0.5)
    b = s.normal(c["out"])
    y = last(F.conv_transpose3d(first(x), w, b if c["bias"] else None, c["stride"]))
    dy = s.normal(*y.shape)
    leaves = {"x": x, "w": w} | ({"b": b} if c["bias"] else {})
    return leaves | {"y": y, "dy": dy} | backward(y, dy, **leaves)


def normact(c, s):
    channels = c["x"][4]
    # `offset` has a mean that is large against the deviation: E[x²] − E[x]² in fp32 would fail here.
    x = s.normal(*c["x"], mean=300.0 if c["name"] == "offset" else 0.3, std=1.5)
    gamma, beta = s.normal(channels, mean=1.0, std=0.3), s.normal(channels, std=0.3)
    out = {"x": x}
    leaves = {"x": x}
    z = x
    if c["affine"]:
        leaves |= {"gamma": gamma, "beta": beta}
    else:
        gamma = beta = None
    flat = x.detach().flatten(0 if c["norm"] == "batch" else 1, 3)
    if c["norm"] in ("batch", "instance"):
        over = flat.dim() - 2
        out |= {"mean": flat.mean(over), "var": flat.var(over, correction=0)}
    if c["norm"] == "instance":
        z = last(F.instance_norm(first(x), weight=gamma, bias=beta, eps=1e-5))
    elif c["norm"] == "batch" and not c["affine"]:
        z = last(F.batch_norm(first(x), None, None, training=True, eps=1e-5))
    elif c["norm"] != "none":
        rm, rv = s.normal(channels).detach(), (s.uniform(channels) + 0.5).float().double()
        new_rm, new_rv = rm.clone(), rv.clone()
        z = last(F.batch_norm(first(x), new_rm, new_rv, gamma, beta, c["norm"] == "batch", 0.1, 1e-5))
        out |= {"rm": rm, "rv": rv}
        if c["norm"] == "batch":
            out |= {"new_rm": new_rm, "new_rv": new_rv}
    y = F.leaky_relu(z, c["slope"])
    out |= leaves | {"y": y}
    if c["pool"] != [1, 1, 1]:
        out["pooled"] = last(F.max_pool3d(first(y), c["pool"]))
    dy = s.normal(*y.shape)
    return out | {"dy": dy} | backward(y, dy, **leaves)


def maxpool3d(c, s):
    x = s.normal(*c["x"])
    if c["name"] == "ties":
        x = x.detach().round().requires_grad_(True)
    y = last(F.max_pool3d(first(x), c["stride"]))
    dy = s.normal(*y.shape)
    return {"x": x, "y": y, "dy": dy} | backward(y, dy, x=x)


def avgpool(c, s):
    x = s.normal(*c["x"])
    y = x.mean((1, 2, 3), keepdim=True)
    dy = s.normal(*y.shape)
    return {"x": x, "y": y, "dy": dy} | backward(y, dy, x=x)


def resize3d(c, s):
    x = s.normal(*c["x"])
    y = last(resize(first(x), c["to"]))
    dy = s.normal(*y.shape)
    return {"x": x, "y": y, "dy": dy} | backward(y, dy, x=x)


def linear(c, s):
    x, w, b = s.normal(c["n"], c["inputs"]), s.normal(c["out"], c["inputs"], std=0.4), s.normal(c["out"])
    y = F.linear(x, w, b if c["bias"] else None)
    dy = s.normal(*y.shape)
    leaves = {"x": x, "w": w} | ({"b": b} if c["bias"] else {})
    return leaves | {"y": y, "dy": dy} | backward(y, dy, **leaves)


def supcon_case(c, s):
    # A common part, so that similarities are not all near zero.
    common = s.normal(*c["z"]).detach()
    z1 = (common + s.normal(*c["z"])).detach().float().double().requires_grad_(True)
    z2 = (common + s.normal(*c["z"])).detach().float().double().requires_grad_(True)
    pos = s.uniform(c["z"][0], len(c["threshold"]))
    loss = c["scale"] * supcon(z1.flatten(1, 3), z2.flatten(1, 3), pos, c["tau"], c["threshold"])
    u = F.normalize(torch.cat([z1, z2]).flatten(1, 3).detach(), dim=-1)
    cosine = torch.einsum("isc,jsc->sij", u, u)
    n = u.shape[0]
    off = (cosine.sum((1, 2)) - cosine.diagonal(dim1=1, dim2=2).sum(-1)) / (n * (n - 1))
    return {"z1": z1, "z2": z2, "pos": pos, "loss": loss, "cosine": off.mean()} | backward(loss, None, z1=z1, z2=z2)


def l1(c, s):
    a, b = s.normal(*c["x"]), s.normal(*c["x"])
    if c["relative"]:
        loss = (a - b).abs().sum() / (0.5 * (a.abs().sum() + b.abs().sum()) + 1e-12)
    else:
        loss = (a - b).abs().mean()
    return {"a": a, "b": b, "loss": loss, "meansq": (a * a).mean()} | backward(loss, None, a=a, b=b)


def segment_inputs(c, s):
    x = s.normal(*c["x"], std=2.0)
    y = s.labels(c["x"][4], *c["x"][:4])
    if c["ignored"] < 0:
        y[0] = 255  # a whole sample without a label
    else:
        y[s.uniform(*y.shape) < c["ignored"]] = 255
    return x, y


def softmaxce(c, s):
    x, y = segment_inputs(c, s)
    cw = None if c["classWeights"] is None else torch.tensor(c["classWeights"], dtype=torch.float64)
    loss = cross_entropy(first(x), y, cw)
    return {"x": x, "y": y.int().unsqueeze(-1), "loss": loss} | backward(loss, None, x=x)


def dice(c, s):
    x, y = segment_inputs(c, s)
    loss = dice_loss(first(x), y, per_sample=c["perSample"], background=c["background"])
    return {"x": x, "y": y.int().unsqueeze(-1), "loss": loss} | backward(loss, None, x=x)


def boxmix(c, s):
    """Voxel by voxel, from the definition: the last box that holds it says its share of f."""
    f, b = s.normal(*c["x"]).detach(), s.normal(*c["x"]).detach()
    n, *grid, _ = c["x"]
    boxes = torch.zeros(n, c["boxes"], 7, dtype=torch.int32)
    for axis in range(3):
        boxes[..., axis] = s.labels(grid[axis] + 2, n, c["boxes"]) - 2
        boxes[..., 3 + axis] = s.labels(grid[axis] + 2, n, c["boxes"])
    boxes[..., 6] = s.labels(c["levels"] + 1, n, c["boxes"])
    labels = torch.zeros(n, *grid, 1, dtype=torch.int32)
    for i, *at in np.ndindex(n, *grid):
        for row in boxes[i].tolist():
            if all(row[a] <= at[a] < row[a] + row[3 + a] for a in range(3)):
                labels[(i, *at, 0)] = row[6]
    share = labels.double() / c["levels"]
    return {"f": f, "b": b, "boxes": boxes, "mixed": share * f + (1 - share) * b, "labels": labels}


def add(c, s):
    a, b = s.normal(*c["x"]), s.normal(*c["x"])
    y = a + b
    if c["inPlace"]:
        return {"a": a, "b": b, "y": y}
    dy = s.normal(*y.shape)
    return {"a": a, "b": b, "y": y, "dy": dy} | backward(y, dy, a=a, b=b)


def copy(c, s):
    def values(*shape):
        return s.labels(5, *shape).int() if c["labels"] else s.normal(*shape).detach()

    x, before = values(*c["x"]), values(*c["x"][:4], c["of"])
    part = x[..., c["from"] : c["from"] + c["channels"]]
    y = before.clone()
    there = y[..., c["to"] : c["to"] + c["channels"]]
    there.copy_(there + part if c["accumulate"] else part)
    if c["labels"] or c["of"] != c["x"][4]:
        return {"x": x, "before": before, "y": y}
    dy = s.normal(*y.shape)
    return {"x": x, "y": y, "dy": dy, "dx": dy}


def concat(c, s):
    a, b = s.normal(*c["a"]), s.normal(*c["a"][:4], c["more"])
    y = torch.cat([a, b], -1)
    dy = s.normal(*y.shape)
    return {"a": a, "b": b, "y": y, "dy": dy} | backward(y, dy, a=a, b=b)


def fill(c, s):
    before = s.labels(5, *c["y"]).int() if c["dtype"] == "i32" else s.normal(*c["y"]).detach()
    y = before.clone()
    y[..., c["from"] : c["from"] + c["channels"]] = c["value"]
    return {"before": before, "y": y}


def wsum(c, s):
    terms = {f"s{i}": s.normal(1) for i in range(len(c["weights"]))}
    loss = sum(w * t for w, t in zip(c["weights"], terms.values()))
    return terms | {"loss": loss} | backward(loss, torch.ones(1, dtype=torch.float64), **terms)


def round_(c, s):
    # By NumPy's frexp, not by the bits that kernels work on: a bf16 number is a whole one of at most 8 bits times 2^e.
    if c["span"] == 0:
        x = torch.randint(-2048, 2049, tuple(c["x"]), generator=s.gen).double() / 512
    else:
        x = s.normal(*c["x"]).detach() * 2.0 ** torch.round(c["span"] * (s.uniform(*c["x"]) - 0.5))
        x = x.float().double()
    part = x[..., c["from"] : c["from"] + c["channels"]].numpy()
    exponent = np.maximum(np.frexp(part)[1], -125) - 8
    y = x.clone()
    y[..., c["from"] : c["from"] + c["channels"]] = torch.from_numpy(np.ldexp(np.rint(np.ldexp(part, -exponent)), exponent))
    return {"x": x, "y": y}


def scale(c, s):
    x = s.normal(1)
    loss = c["factor"] * x
    return {"x": x, "loss": loss} | backward(loss, torch.ones(1, dtype=torch.float64), x=x)


def optim(c, s):
    w = s.normal(c["n"])
    g = s.normal(3, c["n"]).detach()
    p = torch.nn.Parameter(w.detach().clone())
    common = {"lr": c["lr"], "weight_decay": c["weightDecay"], "foreach": False}
    if c["kind"] == "sgd":
        optimizer = torch.optim.SGD([p], momentum=c["momentum"], **common)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[c["kind"]]([p], **common)
    after, norms, clips = [], [], []
    for step in range(3):
        p.grad = g[step].clone()
        limit = c["maxNorm"] or torch.inf
        norms.append(torch.nn.utils.clip_grad_norm_([p], limit))
        clips.append((p.grad[0] / g[step][0]).detach())
        optimizer.step()
        after.append(p.detach().clone())
    return {"w": w, "g": g, "after": torch.stack(after), "norm": torch.stack(norms), "clip": torch.stack(clips)}


OPS = {
    "add": add,
    "avgpool": avgpool,
    "boxmix": boxmix,
    "concat": concat,
    "conv3d": conv3d,
    "copy": copy,
    "dice": dice,
    "fill": fill,
    "l1": l1,
    "linear": linear,
    "maxpool3d": maxpool3d,
    "normact": normact,
    "optim": optim,
    "resize3d": resize3d,
    "round": round_,
    "scale": scale,
    "softmaxce": softmaxce,
    "supcon": supcon_case,
    "upconv3d": upconv3d,
    "warp3d": warp_case,
    "wsum": wsum,
}
INPUTS = {"x", "f", "w", "b", "dy", "a", "z1", "z2", "pos", "gamma", "beta", "rm", "rv", "g", "before"}


def stored(name, t):
    if isinstance(t, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(t))
    t = t.detach()
    if t.dtype == torch.float64 and name in INPUTS:
        if not torch.equal(t.float().double(), t):
            raise ValueError(f"{name} is not exact in fp32")
        t = t.float()
    return t.reshape(t.shape or (1,)).clone(memory_format=torch.contiguous_format)


def main():
    torch.set_num_threads(1)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for op in sys.argv[1:] or OPS:
        make = OPS[op]
        cases = [c for c in read_cases(op) if c["golden"]]
        tensors = {}
        for index, c in enumerate(cases):
            source = np.random.default_rng([SEED, index]) if op == "warp3d" else Source(SEED + index)
            tensors |= {f"{c['name']}.{k}": stored(k, v) for k, v in make(c, source).items()}
        meta = golden_metadata(op=op, cases=cases, seed=SEED, torch=torch.__version__)
        path = FIXTURES / f"ops-{op}.safetensors"
        save_file(tensors, path, metadata=meta)
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
