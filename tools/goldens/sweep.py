"""Random configurations through `macl step`, each held against PyTorch in float64.

    python tools/goldens/sweep.py --device reference --count 6
    python tools/goldens/sweep.py --device cpu --count 3 --seeds 8 -- --threads 2
    python tools/goldens/sweep.py --device wasm --command "node dist/cli/main.js"

A configuration is drawn by --seed + its index; its weights and batch are drawn anew for each of --seeds (8 on an fp32
device, for the bound on the best of eight; 1 on reference). What follows -- goes to `macl step`. A failing case stays in
--keep DIR as the files that `compare_step.py` takes.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from compare_step import GRAD_BEST, compare
from random_step import random_batch, random_config, random_size, random_weights
from step import run_step


def run_ours(command, folder, device, steps, extra):
    args = ["step", "--config", "C.json", "--weights", "W.safetensors", "--batch", "B.safetensors"]
    args += ["--out", "O.safetensors", "--device", device, "--steps", str(steps), *extra]
    done = subprocess.run([*command, *args], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        return None, f"exit {done.returncode}: {done.stderr.strip()[-400:]}"
    return load_file(folder / "O.safetensors"), ""


def one_seed(config, rng, folder, a, reference, fresh):
    size = random_size(rng, config, a.voxels)
    samples = int(rng.integers(2, 5))
    weights, batch = random_weights(rng, config, fresh), random_batch(rng, config, samples, size)
    save_file(weights, folder / "W.safetensors")
    save_file(batch, folder / "B.safetensors")
    (folder / "C.json").write_text(json.dumps(config))
    ours, error = run_ours(a.command, folder, a.device, a.steps, a.extra)
    if ours is None:
        return {"failures": [error], "worst": {}, "gradMax": {}}
    truth = run_step(config, weights, batch, torch.float64, a.steps)
    return compare(config, weights, ours, truth, reference, a.steps)


def main():
    argv = sys.argv[1:]
    extra = argv[argv.index("--") + 1 :] if "--" in argv else []
    argv = argv[: argv.index("--")] if "--" in argv else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="reference")
    parser.add_argument("--command", default="node dist/cli/main.js", help="how macl is called, from the project's root")
    parser.add_argument("--count", type=int, default=6, help="configurations")
    parser.add_argument("--seeds", type=int, help="weights and batches a configuration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--voxels", type=int, default=6000, help="about the most voxels of a patch")
    parser.add_argument("--task", choices=["pretrain", "finetune"], help="one task alone")
    parser.add_argument("--keep", type=Path, help="where failing cases go")
    a = parser.parse_args(argv)
    root = Path(__file__).resolve().parents[2]
    a.extra = extra
    a.command = [str(root / part) if (root / part).is_file() else part for part in shlex.split(a.command)]
    reference = a.device == "reference"
    seeds = a.seeds or (1 if reference else 8)
    torch.set_num_threads(1)
    failed = 0
    for index in range(a.count):
        rng = np.random.default_rng([a.seed, index])
        config = random_config(rng, a.task or ("pretrain", "finetune")[index % 2], 3 if (index // 2) % 2 == 0 else 2)
        failures, worst, best = [], {}, {}
        for s in range(seeds):
            with tempfile.TemporaryDirectory() as name:
                result = one_seed(config, rng, Path(name), a, reference, (index + s) % 3 == 2)
                if result["failures"] and a.keep:
                    shutil.copytree(name, a.keep / f"{index}-{s}", dirs_exist_ok=True)
            failures += [f"seed {s}: {line}" for line in result["failures"]]
            for kind, figure in result["worst"].items():
                worst[kind] = max(worst.get(kind, 0.0), figure)
            for key, figure in result["gradMax"].items():
                best[key] = min(best.get(key, np.inf), figure)
        if not reference and a.steps == 1 and seeds >= 8:
            failures += [f"best of {seeds} {k}: {v:.3e} > {GRAD_BEST:.0e}" for k, v in best.items() if v > GRAD_BEST]
        failed += bool(failures)
        figures = "  ".join(f"{kind} {figure:.1e}" for kind, figure in worst.items())
        if best:
            figures += f"  gradient entry, best seed {max(best.values()):.1e}"
        m = config["model"]
        title = f"{index} {config['task']} {m['dims']}-D f={m['filters']} L={m['levels']} n={m['decoderBlocks']}"
        print(f"{'FAIL' if failures else 'ok  '} {title}: {figures}", flush=True)
        for line in failures[:20]:
            print("     ", line)
    print(f"{a.count - failed} passed, {failed} failed on {a.device}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
