"""Networks of the methods and backbones beside MACL's own: what `step.py` trains. Names and layouts are macl's.

A network is made of a backbone's parts (`encoder`, `decoder`, `head`, widths) and of what a method puts on them. MACL on the
U-Net is the published example's (`examples/pytorch/macl_unet.py`).
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
from macl_unet import (  # noqa: E402
    SLOPE,
    ConvPair,
    Decoder,
    Encoder,
    ImageProjector,
    MaclPretraining,
    MaclUNet,
    lambda_divisor,
)

FUSION_CLASSES = 5


class InstanceNorm(nn.Module):
    """Statistics of each sample and channel, eps 1e-5, affine, none kept."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.1, 1e-5)


class PlainPair(nn.Module):
    """Twice convolution → InstanceNorm → LeakyReLU; the first convolution has the stride."""

    def __init__(self, inputs, outputs, kernel, stride=(1, 1, 1)):
        super().__init__()
        pad = tuple(k // 2 for k in kernel)
        self.conv1 = nn.Conv3d(inputs, outputs, tuple(kernel), tuple(stride), pad)
        self.norm1 = InstanceNorm(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, tuple(kernel), 1, pad)
        self.norm2 = InstanceNorm(outputs)

    def forward(self, x):
        x = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(x)), SLOPE)


def plain_width(m, level):
    return min(m["filters"] * 2**level, 512 if m["dims"] == 2 else 320)


class PlainEncoder(nn.Module):
    def __init__(self, m):
        super().__init__()
        strides = [[1, 1, 1], *m["strides"]]
        widths = [plain_width(m, t) for t in range(m["levels"] + 1)]
        inputs = [m["inChannels"], *widths]
        self.stages = nn.ModuleList(
            PlainPair(inputs[t], widths[t], m["kernels"][t], strides[t]) for t in range(m["levels"] + 1)
        )

    def forward(self, x):
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[-1], features[:-1]


class PlainBlock(PlainPair):
    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__(2 * outputs, outputs, kernel)
        self.up = nn.ConvTranspose3d(inputs, outputs, tuple(stride), tuple(stride))

    def forward(self, x, skip):
        return super().forward(torch.cat([self.up(x), skip], 1))


class PlainDecoder(nn.Module):
    def __init__(self, m, count):
        super().__init__()
        levels = [m["levels"] - 1 - i for i in range(count)]
        self.blocks = nn.ModuleList(
            PlainBlock(plain_width(m, l + 1), plain_width(m, l), m["kernels"][l], m["strides"][l]) for l in levels
        )

    def forward(self, x, skips):
        for i, block in enumerate(self.blocks):
            x = block(x, skips[len(skips) - 1 - i])
        return x


def is_plain(m):
    return m["backbone"] == "nnunet-plain"


def width(m, level):
    return plain_width(m, level) if is_plain(m) else m["filters"] << level


def encoder(m):
    return PlainEncoder(m) if is_plain(m) else Encoder(m)


class Segmentation(nn.Module):
    """Logits [B, classes, D, H, W] of the whole decoder."""

    def __init__(self, m, classes, pretext=False):
        super().__init__()
        self.encoder = encoder(m)
        self.decoder = PlainDecoder(m, m["levels"]) if is_plain(m) else Decoder(m, m["levels"])
        head = nn.Conv3d(width(m, 0), classes, 1)
        self.last = [head]  # as a list: its parameters have one name
        name, module = ("heads", nn.ModuleDict({str(m["levels"] - 1): head})) if is_plain(m) else ("head", head)
        if pretext:
            self.pretext = nn.ModuleDict({name: module})
        else:
            setattr(self, name, module)

    def forward(self, x):
        return self.last[0](self.decoder(*self.encoder(x)))


class Projector(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.mean((2, 3, 4)))))


class Pair(nn.Module):
    """One encoder and one projector for both views; each view is a batch of its own."""

    def __init__(self, m, outputs):
        super().__init__()
        wide = width(m, m["levels"])
        self.encoder = encoder(m)
        self.projector = nn.ModuleDict({"image": Projector(wide, wide, outputs)})

    def forward(self, v1, v2):
        return [self.projector["image"](self.encoder(v)[0]) for v in (v1, v2)]


class MaclOnPlain(MaclPretraining):
    def __init__(self, m):
        nn.Module.__init__(self)
        wide, narrow = width(m, m["levels"]), width(m, m["levels"] - m["decoderBlocks"])
        self.divisor = lambda_divisor(m)
        self.encoder = PlainEncoder(m)
        self.decoder = PlainDecoder(m, m["decoderBlocks"])
        image = {"dominant": ImageProjector(narrow, narrow), "auxiliary": ImageProjector(wide, narrow)}
        pixel = ConvPair(wide, narrow, m["kernels"][m["levels"]])
        self.projector = nn.ModuleDict({"image": nn.ModuleDict(image), "pixel": pixel})


def make(config):
    m, method = config["model"], config.get("method")
    if config["task"] == "finetune":
        return Segmentation(m, m["classes"]) if is_plain(m) else MaclUNet(m)
    if method == "macl":
        return MaclOnPlain(m) if is_plain(m) else MaclPretraining(m)
    if method == "volumefusion":
        return Segmentation(m, FUSION_CLASSES, pretext=True)
    return Pair(m, {"simclr": 128, "pcl": 512}[method])
