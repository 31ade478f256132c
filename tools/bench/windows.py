"""A whole volume by sliding window with ONNX Runtime or OpenVINO, as a careful user writes it in numpy: windows in batches of the
size that is fastest here, sums in float32, Gaussian weights made once, no division (it moves no largest class)."""

import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from runtimes import onnx_of, session_of
from torch_work import network_of

BATCHES = (1, 2, 4)
TRIALS = 2


def gaussian(size):
    """1 at the centre of a window, of an eighth of its length."""
    return np.exp(-(((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2) / 2)


def outer(d, h, w):
    return np.ascontiguousarray(d[:, None, None] * h[None, :, None] * w[None, None, :], dtype=np.float32)


class Windows:
    def __init__(self, spec):
        work = spec["work"]
        self.volume = load_file(work["volume"])["x"].numpy()
        self.patch, self.axes = work["patch"], work["starts"]
        self.starts = [(d, h, w) for d in self.axes[0] for h in self.axes[1] for w in self.axes[2]]
        self.weight = outer(*(gaussian(n) for n in self.patch))
        net = network_of("inference", work["model"])
        net.load_state_dict(load_file(work["weights"]), strict=True)
        net.eval()
        self.run, self.batch = self.fastest(net, spec)
        classes = self.run(np.zeros((self.batch, 1, *self.patch), np.float32)).shape[1]
        self.sums = np.empty((classes, *self.volume.shape), np.float32)
        self.part = np.empty((classes, *self.patch), np.float32)

    def fastest(self, net, spec):
        """(session, windows in a batch): the least time a window."""
        tried = []
        for n in BATCHES:
            x = torch.zeros(n, 1, *self.patch)
            run = session_of(spec["peer"], onnx_of(net, x), spec["threads"], spec["mode"])
            run(x.numpy())
            start = time.perf_counter()
            for _ in range(TRIALS):
                run(x.numpy())
            tried.append(((time.perf_counter() - start) / n, run, n))
        return min(tried, key=lambda t: t[0])[1:]

    def inside(self, start):
        return tuple(slice(s, s + n) for s, n in zip(start, self.patch))

    def __call__(self):
        """Labels [D, H, W]."""
        self.sums.fill(0)
        x = np.zeros((self.batch, 1, *self.patch), np.float32)
        for at in range(0, len(self.starts), self.batch):
            windows = [self.inside(start) for start in self.starts[at : at + self.batch]]
            for i, window in enumerate(windows):
                x[i, 0] = self.volume[window]
            logits = self.run(x)
            for i, window in enumerate(windows):
                np.multiply(logits[i], self.weight, out=self.part)
                self.sums[(slice(None), *window)] += self.part
        return torch.from_numpy(np.argmax(self.sums, 0).astype(np.uint8))

    def save(self, path):
        """The last run's labels, and by how much each voxel's largest mean logit beats the second, over their root mean square."""
        totals = []
        for length, size, starts in zip(self.volume.shape, self.patch, self.axes):
            total = np.zeros(length)
            for start in starts:
                total[start : start + size] += gaussian(size)
            totals.append(total)
        means = self.sums / outer(*totals)
        best = np.sort(means, 0)
        margins = (best[-1] - best[-2]) / np.sqrt(np.square(means).mean())
        labels = np.argmax(self.sums, 0).astype(np.uint8)
        save_file({"labels": torch.from_numpy(labels), "margins": torch.from_numpy(np.ascontiguousarray(margins))}, path)
