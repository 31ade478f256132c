"""The other side of `npm run bench -- peers`: one work in another framework, a step whenever it is told to.

    python tools/bench/peer.py SPEC.json

SPEC: {"peer": "eager" | "channels-last" | "compiled" | "onnxruntime" | "openvino", "mode": "fp32" | "bf16", "threads": N,
"work": {"kind": "pretrain" | "finetune" | "inference", "model": {…}, "weights": FILE, "batch": FILE}
     or {"kind": "conv3d", "pass": "forward" | "dx" | "dw", "voxels": [N, D, H, W], "i": I, "o": O, "k": [3, 3, 3]}
     or {"kind": "supcon", "positions": S, "rows": R, "channels": C}}

Says {"ready": versions, "values": those of its first runs} in one line; for each line on its standard input runs once and says
{"ms", "value"} (the loss, or the mean of what is computed); at its end {"peakBytes"}: resident, less what the imported framework
alone takes.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

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
    if peer in ("onnxruntime", "openvino"):
        return exported(this, peer, spec["threads"])
    forward = torch.compile(this.forward, dynamic=False) if peer == "compiled" else None
    return lambda: this.step(forward)


def exported(work, peer, threads):
    import io

    file = io.BytesIO()
    x = work.x[0].contiguous()
    torch.onnx.export(work.net, (x,), file, input_names=["x"], output_names=["y"], dynamo=False, opset_version=17)
    data = x.numpy()
    if peer == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        return lambda: torch.from_numpy(session.run(None, {"x": data})[0])
    import openvino

    core = openvino.Core()
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(io.BytesIO(file.getvalue())), "CPU", config)
    return lambda: torch.from_numpy(compiled([data])[0])


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


def main():
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.manual_seed(1)
    torch.set_num_threads(spec["threads"])
    before = resident()
    kind = spec["work"]["kind"]
    run = conv_of(spec) if kind == "conv3d" else supcon_of(spec) if kind == "supcon" else steps_of(spec)

    def once():
        start = time.perf_counter()
        value = run()
        ms = (time.perf_counter() - start) * 1e3
        return ms, float(value.float().mean())

    values = [once()[1] for _ in range(WARM_UP)]
    forget_peak()
    print(json.dumps({"ready": {"torch": torch.__version__}, "values": values}), flush=True)
    for _ in sys.stdin:
        ms, value = once()
        print(json.dumps({"ms": ms, "value": value}), flush=True)
    print(json.dumps({"peakBytes": peak() - before}), flush=True)


if __name__ == "__main__":
    main()
