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

import torch

from torch_work import Work

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


class GpuWork(Work):
    """With random inputs, and what a replay gives in `loss`."""

    def __init__(self, task, model, batch, patch, mode):
        torch.manual_seed(1)
        views = 4 if task == "pretrain" else 1
        x = [torch.rand(batch, 1, *patch) * 2 - 1 for _ in range(views)]
        y, pos = torch.randint(0, 3, (batch, *patch)), torch.rand(batch, 3)
        super().__init__(task, model, x, y, pos, mode, DEVICE)
        self.loss = torch.zeros((), device=DEVICE)

    def replayed(self):
        value = self.step()
        self.loss.copy_(value.float().abs().mean() if self.task == "inference" else value)


def measure(name, task, model, batch, patch, mode, runs):
    torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    torch.backends.cudnn.allow_tf32 = mode == "tf32"
    torch.cuda.reset_peak_memory_stats()
    work = GpuWork(task, model, batch, patch, mode)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work.replayed()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    first = float(work.loss)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work.replayed()
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
