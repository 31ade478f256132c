"""Writes test/fixtures/step-*.safetensors: whole steps in float64, and the losses of 20 steps.

    python tools/goldens/make_steps.py [name ...]

Tensors: `weights.<name>`, `batch.<name>` (fp32, int32), `out.<name>` (F64, what `macl step --device reference` writes),
`losses.<part>` [20] (F64, step by step on the same batch), `spread.<part>` [20] (the largest relative difference from it
of PyTorch itself in fp32, eight runs whose weights differ by a rounding), `after.<name>` [2] (F64: sum and root of the sum of squares
of `new.<name>` after the 20 steps). Metadata: golden = JSON of config, seed, torch.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from meta import golden_metadata
from random_step import random_batch, random_weights
from step import Trainer, run_step

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures"
SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weightDecay": 1e-5}
ADAM = {"name": "adam", "lr": 5e-4}
STEPS = 20
# Small networks at large learning rates are chaotic: a relative change of 1e-15 in the weights may be 1e-2 of a loss after
# 20 steps, in any framework. The configurations are chosen so that it stays far below the 1e-8 that tests ask for.
SENSITIVITY = 1e-9

CASES = {
    "pretrain-2d": (
        {"task": "pretrain", "model": {"dims": 2, "inChannels": 1, "filters": 3, "levels": 2, "decoderBlocks": 2},
         "loss": {"temperature": 0.5, "threshold": 0.25}, "optimizer": {**SGD, "lr": 0.003}},
        4, [1, 16, 48], 71),
    "pretrain-3d": (
        {"task": "pretrain",
         "model": {"dims": 3, "inChannels": 2, "filters": 2, "levels": 2, "decoderBlocks": 1},
         "loss": {"temperature": 0.1, "threshold": 0.6, "weights": {"global": 1, "dense": 0.5, "er": 1}},
         "optimizer": {**SGD, "lr": 0.002}},
        3, [8, 16, 8], 71),
    "pretrain-anisotropic": (
        {"task": "pretrain",
         "model": {"dims": 3, "inChannels": 1, "filters": 3, "levels": 2, "decoderBlocks": 1,
                   "strides": [[1, 2, 2], [2, 2, 1]], "kernels": [[1, 3, 3], [3, 3, 1], [3, 1, 3]]},
         "loss": {"temperature": 0.2, "threshold": [0.3, 0.5, 0.2], "weights": {"global": 0.7, "dense": 0.9, "er": 0.3}},
         "optimizer": {**SGD, "lr": 0.03}},
        3, [4, 16, 10], 72),
    "finetune-ce-2d": (
        {"task": "finetune",
         "model": {"dims": 2, "inChannels": 1, "filters": 3, "levels": 2, "decoderBlocks": 1, "classes": 4},
         "loss": {"name": "ce"}, "optimizer": {**ADAM, "weightDecay": 1e-5}},
        2, [1, 20, 28], 73),
    "finetune-3d": (
        {"task": "finetune",
         "model": {"dims": 3, "inChannels": 1, "filters": 2, "levels": 2, "decoderBlocks": 1, "classes": 3,
                   "strides": [[2, 2, 2], [1, 2, 2]], "kernels": [[3, 3, 3], [3, 3, 3], [1, 3, 3]]},
         "loss": {"name": "ce+dice"}, "optimizer": ADAM},
        2, [6, 12, 20], 74),
    "simclr-3d": (
        {"task": "pretrain", "method": "simclr",
         "model": {"dims": 3, "inChannels": 2, "filters": 2, "levels": 2, "decoderBlocks": 1},
         "loss": {"temperature": 0.5}, "optimizer": {**SGD, "lr": 0.003}},
        4, [8, 12, 8], 75),
    "pcl-2d": (
        {"task": "pretrain", "method": "pcl",
         "model": {"dims": 2, "inChannels": 1, "filters": 3, "levels": 2, "decoderBlocks": 1},
         "loss": {"temperature": 0.2, "threshold": 0.3}, "optimizer": {**SGD, "lr": 0.003}},
        5, [1, 20, 28], 76),
    "volumefusion-3d": (
        {"task": "pretrain", "method": "volumefusion",
         "model": {"dims": 3, "inChannels": 2, "filters": 2, "levels": 2, "decoderBlocks": 1,
                   "strides": [[2, 2, 2], [1, 2, 2]], "kernels": [[3, 3, 3], [3, 3, 3], [1, 3, 3]]},
         "loss": {"name": "ce+dice"}, "optimizer": {**SGD, "lr": 0.003}},
        2, [6, 12, 20], 77),
    "plain-macl-3d": (
        {"task": "pretrain", "method": "macl",
         "model": {"backbone": "nnunet-plain", "dims": 3, "inChannels": 1, "filters": 3, "levels": 2, "decoderBlocks": 1,
                   "strides": [[1, 2, 2], [2, 2, 2]], "kernels": [[1, 3, 3], [3, 1, 3], [3, 3, 3]]},
         "loss": {"temperature": 0.5, "threshold": 0.4}, "optimizer": {**SGD, "lr": 0.002}},
        3, [8, 16, 16], 78),
    "plain-finetune-2d": (
        {"task": "finetune",
         "model": {"backbone": "nnunet-plain", "dims": 2, "inChannels": 2, "filters": 3, "levels": 2,
                   "decoderBlocks": 1, "classes": 3},
         "loss": {"name": "ce+dice"}, "optimizer": ADAM},
        2, [1, 20, 28], 79),
}


def fp32_spread(config, weights, batch, losses):
    spread = {part: torch.zeros(STEPS, dtype=torch.float64) for part in losses[0]}
    for _ in range(8):
        other = Trainer(config, {k: v * (1 + 6e-8 * torch.randn(v.shape)) for k, v in weights.items()}, torch.float32)
        for k, own in enumerate(losses):
            for part, value in other.step(batch).items():
                off = (value.double() - own[part]).abs() / own[part].abs()
                spread[part][k] = torch.maximum(spread[part][k], off)
    return spread


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or CASES:
        config, samples, size, seed = CASES[name]
        rng = np.random.default_rng(seed)
        weights, batch = random_weights(rng, config), random_batch(rng, config, samples, size)
        tensors = {f"weights.{k}": v for k, v in weights.items()} | {f"batch.{k}": v for k, v in batch.items()}
        tensors |= {f"out.{k}": v for k, v in run_step(config, weights, batch).items()}
        trainer = Trainer(config, weights)
        losses = [trainer.step(batch) for _ in range(STEPS)]
        nudged = {k: v.double() * (1 + 1e-15 * torch.randn(v.shape, dtype=torch.float64)) for k, v in weights.items()}
        other = Trainer(config, nudged)
        for own in losses:
            for part, value in other.step(batch).items():
                if (value - own[part]).abs() > SENSITIVITY * own[part].abs():
                    raise ValueError(f"{name} is too sensitive for a trajectory: {part} {own[part]} and {value}")
        spread = fp32_spread(config, weights, batch, losses)
        for part in losses[0]:
            tensors[f"spread.{part}"] = spread[part]
            tensors[f"losses.{part}"] = torch.stack([step[part] for step in losses])
        for key, v in trainer.net.state_dict().items():
            tensors[f"after.{key}"] = torch.stack([v.sum(), v.norm()])
        path = FIXTURES / f"step-{name}.safetensors"
        meta = golden_metadata(config=config, seed=seed, torch=torch.__version__)
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=meta)
        print(path.name, path.stat().st_size, [round(step["loss"].item(), 4) for step in losses[::5]])


if __name__ == "__main__":
    main()
