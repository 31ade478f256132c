"""Holds an output of `macl step` against the float64 truth, with the bounds that follow.

    python tools/goldens/compare_step.py --config C.json --weights W.safetensors --batch B.safetensors --ours O.safetensors
        [--truth T.safetensors] [--reference] [--steps 1]

Without --truth it is computed here (`step.py`, float64). `--reference` asks for 1e-8 of each tensor's largest entry (the
float64 device); otherwise the fp32 bounds hold. Prints one line a failure and a summary; exits 1 on any failure. The
5e-4 bound is one for the best of eight seeds: for a single file it is reported, not judged (see sweep.py).
"""

import argparse
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from step import make_optimizer, read_config, run_step

REFERENCE_TOLERANCE = 1e-8
LOSS_TOLERANCE = 1e-5  # losses and running statistics, relative to the largest entry, at least 1e-3
GRAD_L2 = 5e-2
GRAD_BEST = 5e-4
NEW_TOLERANCE = 1e-6
# Where every unit but one is dead, whole weights have a true gradient of zero (the cosine does not see a length). What is
# below this part of the step's largest gradient is measured on that instead of on its own rounding.
FLOOR = {True: 1e-6, False: 1e-4}


def weight_name(name):
    """A bias is measured on its weight's scale: that of a convolution before a norm has a true gradient of zero. (On its
    own where that is larger: behind units that are all dead the weight's gradient is zero and the bias's is not.)"""
    return re.sub(r"\.bias$", ".weight", name)


def optimiser_on_our_gradients(config, weights, ours):
    """The optimiser of the configuration, in float64, applied to our own grad.* (one step)."""
    names = [k[5:] for k in ours if k.startswith("grad.")]
    params = [torch.nn.Parameter(weights[n].double()) for n in names]
    for p, n in zip(params, names):
        p.grad = ours[f"grad.{n}"].double()
    make_optimizer(read_config(config)["optimizer"], params).step()
    return {n: p.detach() for n, p in zip(names, params)}


def compare(config, weights, ours, truth, reference=False, steps=1):
    """{failures: [str], worst: {kind: figure}, gradMax: {name: error of its largest entry}}"""
    failures, worst, grad_max = [], {}, {}

    def judge(kind, name, error, bound):
        worst[kind] = max(worst.get(kind, 0.0), error)
        if not error <= bound:
            failures.append(f"{kind} {name}: {error:.3e} > {bound:.0e}")

    for name in truth:
        if name not in ours:
            failures.append(f"missing {name}")
        elif tuple(ours[name].shape) != tuple(truth[name].shape):
            failures.append(f"shape {name}: expected {list(truth[name].shape)}, found {list(ours[name].shape)}")
        elif reference and ours[name].dtype != torch.float64:
            failures.append(f"dtype {name}: expected F64, found {ours[name].dtype}")
    failures += [f"unexpected {name}" for name in ours if name not in truth]
    if failures:
        return {"failures": failures, "worst": worst, "gradMax": grad_max}

    gradients = [t.double() for name, t in truth.items() if name.startswith("grad.")]
    floor = FLOOR[reference] * max((g.abs().max().item() for g in gradients), default=0.0)
    floor_l2 = FLOOR[reference] * max((g.norm().item() for g in gradients), default=0.0)
    expected_new = optimiser_on_our_gradients(config, weights, ours) if steps == 1 else {}
    for name, t in truth.items():
        t, o = t.double(), ours[name].double()
        difference = (o - t).abs().max().item()
        scale = t.abs().max().item()
        if name.startswith("grad."):
            on = truth[weight_name(name)].double() if name.endswith(".bias") else t
            scale = max(scale, on.abs().max().item(), floor, 1e-300)
            grad_max[name] = difference / scale
            if reference:
                judge("reference", name, difference / scale, REFERENCE_TOLERANCE)
            elif steps == 1:
                scale_l2 = max(t.norm().item(), on.norm().item(), floor_l2, 1e-300)
                judge("gradL2", name, (o - t).norm().item() / scale_l2, GRAD_L2)
        elif reference:
            if steps > 1 and config["optimizer"]["name"] != "sgd" and name.endswith(".bias"):
                continue  # Adam turns the rounding of a gradient that is truly zero into steps of lr
            if name.endswith(".bias") and weight_name(name) in truth:  # a bias that began at 0 is lr times such a gradient
                scale = max(scale, truth[weight_name(name)].abs().max().item())
            judge("reference", name, difference / max(scale, 1e-300), REFERENCE_TOLERANCE)
        elif name.startswith("loss") or "running_" in name:
            judge("loss" if name.startswith("loss") else "running", name, difference / max(scale, 1e-3), LOSS_TOLERANCE)
        elif steps == 1:
            want = expected_new[name[4:]]
            judge("new", name, (o - want).abs().max().item() / max(want.abs().max().item(), 1e-300), NEW_TOLERANCE)
    return {"failures": failures, "worst": worst, "gradMax": grad_max}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("config", "weights", "batch", "ours"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--truth")
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--steps", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(1)
    config = json.loads(Path(a.config).read_text())
    weights = load_file(a.weights)
    truth = load_file(a.truth) if a.truth else run_step(config, weights, load_file(a.batch), torch.float64, a.steps)
    result = compare(config, weights, load_file(a.ours), truth, a.reference, a.steps)
    for line in result["failures"]:
        print("FAIL", line)
    for kind, figure in result["worst"].items():
        print(f"worst {kind}: {figure:.3e}")
    if result["gradMax"]:
        name, figure = max(result["gradMax"].items(), key=lambda item: item[1])
        print(f"worst gradient entry: {figure:.3e} ({name}); {GRAD_BEST:.0e} is the bound on the best of eight seeds")
    print("failed" if result["failures"] else "passed")
    sys.exit(1 if result["failures"] else 0)


if __name__ == "__main__":
    main()
