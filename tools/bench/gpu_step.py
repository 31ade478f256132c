"""Whole training steps and inference in PyTorch on one GPU, made as fast as a careful user would: the other side of
`npm run bench -- step --device cuda`, with the same networks, losses and sizes.

    python tools/bench/gpu_step.py [--filter TEXT] [--runs N] [--modes fp32,tf32,bf16] > steps.jsonl

channels_last_3d, cudnn.benchmark, fused optimisers, set_to_none, one batched SupCon over all positions, the whole step
captured as one CUDA graph. One JSON line a work and mode: median, best and worst milliseconds of a replay, the loss after
the first and the last step (so that nobody skips anything), peak bytes. A mode whose loss is not finite says so.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
from macl_unet import MaclPretraining, MaclUNet, resize  # noqa: E402

DEVICE = "cuda"


def unet(dims, filters, levels, blocks):
    return {"dims": dims, "inChannels": 1, "filters": filters, "levels": levels, "decoderBlocks": blocks, "classes": 3}


# The same as WORKS in bench/step.bench.ts.
SIZES = [
    ("3-D f16 2×48×64×48", unet(3, 16, 3, 1), 2, (48, 64, 48)),
    ("2-D f32 4×256²", unet(2, 32, 4, 2), 4, (1, 256, 256)),
    ("3-D f32 4×96³", unet(3, 32, 4, 1), 4, (96, 96, 96)),
    ("3-D f32 2×128³", unet(3, 32, 4, 2), 2, (128, 128, 128)),
    ("2-D f32 16×512²", unet(2, 32, 4, 2), 16, (1, 512, 512)),
]


def supcon(dominant, auxiliary, same, others, temperature):
    z = F.normalize(torch.cat([dominant, auxiliary], 0).float(), dim=-1, eps=1e-12)
    logits = torch.einsum("isc,jsc->sij", z, z) / temperature
    log_sum = torch.logsumexp(logits.masked_fill(~others, -torch.inf), -1, keepdim=True)
    return (-((logits - log_sum) * same).sum(-1) / same.sum(-1)).mean()


class Work:
    def __init__(self, task, model, batch, patch, mode):
        torch.manual_seed(1)
        self.task, self.mode = task, mode
        net = (MaclPretraining if task == "pretrain" else MaclUNet)(model)
        self.net = net.to(DEVICE).to(memory_format=torch.channels_last_3d)
        self.net.train(task != "inference")
        parameters = list(self.net.parameters())
        if task == "pretrain":
            self.optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-5, fused=True)
        elif task == "finetune":
            self.optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True, capturable=True)
        views = 4 if task == "pretrain" else 1
        self.x = [
            (torch.rand(batch, 1, *patch, device=DEVICE) * 2 - 1).to(memory_format=torch.channels_last_3d)
            for _ in range(views)
        ]
        self.y = torch.randint(0, 3, (batch, *patch), device=DEVICE)
        pos = torch.rand(batch, 3, device=DEVICE)
        near = ((pos[:, None] - pos[None]).abs() < 0.1).all(-1).repeat(2, 2)
        self.others = ~torch.eye(2 * batch, dtype=torch.bool, device=DEVICE)
        self.same = (near & self.others).float()
        self.loss = torch.zeros((), device=DEVICE)

    def forward(self):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.mode == "bf16"):
            out = self.net(*self.x)
        if self.task == "inference":
            return out.float().abs().mean()
        if self.task == "finetune":
            logits = out.float()
            p = torch.softmax(logits, 1)
            onehot = F.one_hot(self.y, 3).movedim(-1, 1).to(p.dtype)
            sums = (2 * (p * onehot).sum((0, 2, 3, 4)) + 1e-5) / (p.sum((0, 2, 3, 4)) + onehot.sum((0, 2, 3, 4)) + 1e-5)
            return F.cross_entropy(logits, self.y) + 1 - sums[1:].mean()
        dom, aux = (t.float() for t in out["bottleneck"])
        er = (dom - resize(aux, dom.shape[2:])).abs().mean()
        pixel = [z.flatten(2).transpose(1, 2) for z in out["pixel"]]
        image = [z.unsqueeze(1) for z in out["image"]]
        args = (self.same, self.others, 0.1)
        return supcon(*image, *args) + 0.5 * supcon(*pixel, *args) + er

    def step(self):
        if self.task == "inference":
            with torch.no_grad():
                self.loss.copy_(self.forward())
            return
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward()
        loss.backward()
        self.optimizer.step()
        self.loss.copy_(loss.detach())


def measure(name, task, model, batch, patch, mode, runs):
    torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    torch.backends.cudnn.allow_tf32 = mode == "tf32"
    torch.cuda.reset_peak_memory_stats()
    work = Work(task, model, batch, patch, mode)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work.step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    first = float(work.loss)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work.step()
    times = []
    for i in range(runs + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if i >= 2:
            times.append(start.elapsed_time(end))
    print(
        json.dumps(
            {
                "work": f"{name} {task}",
                "mode": mode,
                "medianMs": statistics.median(times),
                "bestMs": min(times),
                "worstMs": max(times),
                "samplesPerSecond": 1000 * batch / statistics.median(times),
                "lossAfterWarmUp": first,
                "lossLast": float(work.loss),
                "peakBytes": torch.cuda.max_memory_allocated(),
                "torch": torch.__version__,
                "device": torch.cuda.get_device_name(),
            },
            ensure_ascii=False,
        ),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--modes", default="fp32,tf32,bf16")
    a = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    for name, model, batch, patch in SIZES:
        for task in ("pretrain", "finetune", "inference"):
            if a.filter not in f"{name} {task}":
                continue
            for mode in a.modes.split(","):
                try:
                    measure(name, task, model, batch, patch, mode, a.runs)
                except torch.OutOfMemoryError as error:
                    print(json.dumps({"work": f"{name} {task}", "mode": mode, "error": str(error)}), flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
