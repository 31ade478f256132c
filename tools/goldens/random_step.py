"""Random configurations, weights and batches for `macl step`: small enough for seconds, odd enough to find mistakes."""

import numpy as np
import torch

from step import make_network, read_config


def random_config(rng, task, dims):
    """Levels 1–3, strides 1 or 2 and kernels 1 or 3 an axis, filters that are no multiple of a vector."""
    levels = int(rng.integers(1, 4))
    n = int(rng.integers(1, min(levels, 2) + 1))
    in_plane = [[1, 2], [2, 1], [2, 2], [2, 2], [2, 2]]
    strides, kernels = [], []
    for _ in range(levels):
        strides.append([1 if dims == 2 else int(rng.integers(1, 3)), *in_plane[rng.integers(len(in_plane))]])
    for _ in range(levels + 1):
        k = [1 if dims == 2 else int(rng.choice([1, 3])), *(int(v) for v in rng.choice([1, 3, 3, 3], 2))]
        kernels.append(k)
    model = {"dims": dims, "inChannels": int(rng.integers(1, 4)), "filters": int(rng.choice([2, 3, 4, 5, 8])),
             "levels": levels, "decoderBlocks": n, "strides": strides, "kernels": kernels}
    if rng.random() < 0.4:
        del model["strides"], model["kernels"]
    if task == "finetune":
        model["classes"] = int(rng.integers(2, 6))
        return {"task": task, "model": model, "loss": {"name": str(rng.choice(["ce", "ce+dice"]))},
                "optimizer": {"name": "adam", "lr": 5e-4, "weightDecay": float(rng.choice([0, 1e-5]))}}
    axes = 3 if dims == 3 else 1
    threshold = round(float(rng.uniform(0.1, 0.4)), 3)
    if rng.random() < 0.5:
        threshold = [round(float(t), 3) for t in rng.uniform(0.2, 0.6, axes)]
    weights = {k: round(float(rng.uniform(0.2, 1.5)), 2) for k in ("global", "dense", "er")}
    return {"task": task, "model": model,
            "loss": {"temperature": round(float(rng.uniform(0.07, 0.3)), 3), "threshold": threshold, "weights": weights},
            "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weightDecay": 1e-5}}


def unit_size(config):
    """The axis lengths that every patch must be a multiple of."""
    m = read_config(config)["model"]
    unit = []
    for axis in range(3):
        product = 1
        for l in range(m["levels"]):
            s = m["strides"][l][axis]
            product *= s * (s if config["task"] == "pretrain" and l >= m["levels"] - m["decoderBlocks"] else 1)
        unit.append(product)
    return unit


def random_size(rng, config, voxels=6000):
    """Unequal D, H, W of about so many voxels at most."""
    unit = unit_size(config)
    size = list(unit)
    while True:
        axis = int(rng.integers(1 if config["model"]["dims"] == 2 else 0, 3))
        if np.prod(size) / size[axis] * (size[axis] + unit[axis]) > voxels:
            return size
        size[axis] += unit[axis]


def random_weights(rng, config, fresh=False):
    """Kaiming normal; biases, norms and running statistics as training begins (`fresh`), or moved off that; float32."""
    gen = torch.Generator().manual_seed(int(rng.integers(2**31)))
    state = {}
    for name, t in make_network(read_config(config)).state_dict().items():
        noise = torch.randn(t.shape, generator=gen)
        if ".norm" in name:
            base = 0.0 if name.endswith(("bias", "running_mean")) else 1.0
            value = base + (0 if fresh else 0.2) * noise
            value = value.abs().clamp_min(0.3) if name.endswith("running_var") else value
        elif t.dim() == 1:
            value = (0 if fresh else 0.05) * noise
        else:
            fan_in = t[0].numel()  # PyTorch's: for a transposed convolution too
            value = noise * (2 / (1 + 0.01**2) / fan_in) ** 0.5
        state[name] = value.float().contiguous()
    return state


def random_batch(rng, config, samples, size):
    gen = torch.Generator().manual_seed(int(rng.integers(2**31)))
    m = read_config(config)["model"]
    image = lambda: torch.randn([samples, m["inChannels"], *size], generator=gen)  # noqa: E731
    if config["task"] == "finetune":
        y = torch.randint(0, m["classes"], [samples, *size], generator=gen, dtype=torch.int32)
        y[torch.rand(y.shape, generator=gen) < 0.1] = 255
        return {"x": image(), "y": y}
    if config.get("method") == "volumefusion":
        return {"f": image(), "b": image(), "boxes": random_boxes(gen, samples, size)}
    pos = torch.rand([samples, 3 if m["dims"] == 3 else 1], generator=gen)
    if config.get("method") == "simclr":
        return {"v1": image(), "v2": image()}
    if config.get("method") == "pcl":
        return {"v1": image(), "v2": image(), "pos": pos}
    return {"i1": image(), "i2": image(), "v1": image(), "v2": image(), "pos": pos}


def random_boxes(gen, samples, size, count=6):
    """[N, M, 7] int32: boxes that overlap, touch the edges and (the last) hold nothing."""
    rows = torch.zeros([samples, count, 7], dtype=torch.int32)
    for n in range(samples):
        for i in range(count - 1):
            for axis in range(3):
                length = int(torch.randint(1, max(1, size[axis] // 2) + 1, [1], generator=gen))
                rows[n, i, axis] = int(torch.randint(0, size[axis] - length + 1, [1], generator=gen))
                rows[n, i, 3 + axis] = length
            rows[n, i, 6] = int(torch.randint(0, 5, [1], generator=gen))
    return rows
