"""The other side of `npm run bench -- peers`: one work in another framework, a step whenever it is told to.

    python tools/bench/peer.py SPEC.json

SPEC: {"peer": "eager" | "channels-last" | "compiled" | "onnxruntime" | "openvino", "mode": "fp32" | "bf16", "threads": N,
"work": {"kind": "pretrain" | "finetune" | "inference", "model": {…}, "weights": FILE, "batch": FILE}
     or {"kind": "windows", "model": {…}, "weights": FILE, "volume": FILE, "patch": [D, H, W], "starts": [[…], […], […]]}
     or {"kind": "conv3d", "pass": "forward" | "dx" | "dw", "voxels": [N, D, H, W], "i": I, "o": O, "k": [3, 3, 3]}
     or {"kind": "supcon", "positions": S, "rows": R, "channels": C}}
"output": FILE of safetensors that what the first runs computed is written to, where that is more than a loss.
"onnx": FILE: the network is written there instead, and nothing runs.

Says {"ready": versions, "values": those of its first runs} in one line; for each line on its standard input runs once and says
{"ms", "value"} (the loss, or the root mean square of what is computed); at its end {"peakBytes"}: resident, less what the
imported framework alone takes.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

from runtimes import onnx_of, session_of, versions

WARM_UP = 3


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def forget_peak():
    """So that what compiling took does not count."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def steps_of(spec):
    """A function that runs one step and gives its value."""
    from safetensors.torch import load_file

    from torch_work import Work

    work, peer = spec["work"], spec["peer"]
    batch = load_file(work["batch"])
    names = ["i1", "i2", "v1", "v2"] if work["kind"] == "pretrain" else ["x"]
    this = Work(
        work["kind"],
        work["model"],
        [batch[n] for n in names],
        batch.get("y"),
        batch.get("pos"),
        spec["mode"],
        last=peer != "eager",
        weights=load_file(work["weights"]),
        lr=work.get("lr", 1e-4),
    )
    if "onnx" in spec:
        Path(spec["onnx"]).write_bytes(onnx_of(this.net, this.x[0].contiguous()))
        return None
    if peer in ("onnxruntime", "openvino"):
        x = this.x[0].contiguous()
        run = session_of(peer, onnx_of(this.net, x), spec["threads"], spec["mode"])
        return lambda: torch.from_numpy(run(x.numpy()))
    forward = torch.compile(this.forward, dynamic=False) if peer == "compiled" else None
    return lambda: this.step(forward)


def conv_of(spec):
    work = spec["work"]
    flat = work["k"][0] == 1 and work["voxels"][1] == 1
    n, *grid = work["voxels"]
    grid, k = (grid[1:], work["k"][1:]) if flat else (grid, work["k"])
    last = torch.channels_last if flat else torch.channels_last_3d
    dtype = torch.bfloat16 if spec["mode"] == "bf16" else torch.float32
    layout = last if spec["peer"] != "eager" else torch.contiguous_format
    make = lambda *shape: (torch.rand(shape) * 2 - 1).to(dtype).to(memory_format=layout)
    x, w, dy, b = make(n, work["i"], *grid), make(work["o"], work["i"], *k), make(n, work["o"], *grid), torch.rand(work["o"])
    pad, ones = [v // 2 for v in k], [1] * len(k)
    if work["pass"] == "forward":
        return lambda: torch.ops.aten.convolution(x, w, b.to(dtype), ones, pad, ones, False, [0] * len(k), 1)
    mask = [work["pass"] == "dx", work["pass"] == "dw", work["pass"] == "dw"]
    at = 0 if work["pass"] == "dx" else 1
    back = torch.ops.aten.convolution_backward
    return lambda: back(dy, x, w, [work["o"]], ones, pad, ones, False, [0] * len(k), 1, mask)[at]


def supcon_of(spec):
    from torch_work import THRESHOLD, supcon

    work = spec["work"]
    s, rows, c = work["positions"], work["rows"], work["channels"]
    z = torch.randn(rows, s, c, requires_grad=True)
    pos = torch.rand(rows // 2, 3)
    near = ((pos[:, None] - pos[None]).abs() < THRESHOLD).all(-1).repeat(2, 2)
    others = ~torch.eye(rows, dtype=torch.bool)
    same = (near & others).float()

    def loss():
        return supcon(z[: rows // 2], z[rows // 2 :], same, others)

    forward = torch.compile(loss, dynamic=False) if spec["peer"] == "compiled" else loss

    def step():
        z.grad = None
        value = forward()
        value.backward()
        return value.detach()

    return step


def windows_of(spec):
    from windows import Windows

    return Windows(spec)


WORKS = {"conv3d": conv_of, "supcon": supcon_of, "windows": windows_of}


def value_of(result):
    result = result.float()
    return float(result if result.numel() == 1 else result.square().mean().sqrt())


def save_logits(run, path):
    """As the other side has them: channels last."""
    from safetensors.torch import save_file

    save_file({"output": run().float().movedim(1, -1).contiguous()}, path)


def main():
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.manual_seed(1)
    torch.set_num_threads(spec["threads"])
    before = resident()
    kind = spec["work"]["kind"]
    run = WORKS.get(kind, steps_of)(spec)
    if run is None:
        return

    def once():
        start = time.perf_counter()
        value = run()
        ms = (time.perf_counter() - start) * 1e3
        return ms, value_of(value)

    values = [once()[1] for _ in range(1 if kind == "windows" else WARM_UP)]
    if "output" in spec:
        run.save(spec["output"]) if kind == "windows" else save_logits(run, spec["output"])
    forget_peak()
    print(json.dumps({"ready": versions(spec["peer"]), "values": values}), flush=True)
    for _ in sys.stdin:
        ms, value = once()
        print(json.dumps({"ms": ms, "value": value}), flush=True)
    print(json.dumps({"peakBytes": peak() - before}), flush=True)


if __name__ == "__main__":
    main()
