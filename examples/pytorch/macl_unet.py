"""The networks of macl as PyTorch modules: their state_dict has the names and layouts of macl's `model.safetensors`.

What it is: the U-Net (`MaclUNet`: encoder, decoder, head), the pre-training network (`MaclPretraining`: encoder, partial
decoder, projectors), and `load_weights`. 2-D networks are 3-D ones whose kernels and strides are 1 along D, so tensors
are [B, C, D, H, W] everywhere. What it is not: losses, training, or reading of images (see `predict.py`).
"""

import json
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

PROJECTION_WIDTH = 128
SLOPE = 0.01


class Norm(nn.Module):
    """BatchNorm, eps 1e-5, momentum 0.1, running variance unbiased; a file's `num_batches_tracked` is ignored."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum=0.1, eps=1e-5
        )

    def _load_from_state_dict(self, state_dict, prefix, *args):
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def conv(inputs, outputs, kernel):
    return nn.Conv3d(inputs, outputs, tuple(kernel), padding=tuple(k // 2 for k in kernel))


class ConvPair(nn.Module):
    """Twice convolution → BatchNorm → LeakyReLU."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self._make(inputs, outputs, kernel)

    def _make(self, inputs, outputs, kernel):
        self.conv1 = conv(inputs, outputs, kernel)
        self.norm1 = Norm(outputs)
        self.conv2 = conv(outputs, outputs, kernel)
        self.norm2 = Norm(outputs)

    def forward(self, x):
        x = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(x)), SLOPE)


class Centre(nn.Module):
    """Twice convolution → ReLU, no norm."""

    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv1 = conv(inputs, outputs, kernel)
        self.conv2 = conv(outputs, outputs, kernel)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class Encoder(nn.Module):
    def __init__(self, m):
        super().__init__()
        widths = [m["filters"] << l for l in range(m["levels"] + 1)]
        inputs = [m["inChannels"], *widths]
        self.strides = [tuple(s) for s in m["strides"]]
        self.blocks = nn.ModuleList(ConvPair(inputs[l], widths[l], m["kernels"][l]) for l in range(m["levels"]))
        self.centre = Centre(widths[-2], widths[-1], m["kernels"][m["levels"]])

    def forward(self, x):
        """The bottleneck, and the skip of every level (before its pooling)."""
        skips = []
        for block, stride in zip(self.blocks, self.strides):
            x = block(x)
            skips.append(x)
            x = F.max_pool3d(x, stride, stride)
        return self.centre(x), skips


class DecoderBlock(ConvPair):
    """Transposed convolution (kernel = stride), the upsampled half first and the skip second, two convolutions."""

    def __init__(self, inputs, outputs, kernel, stride):
        nn.Module.__init__(self)
        self.up = nn.ConvTranspose3d(inputs, outputs, tuple(stride), tuple(stride))
        self._make(2 * outputs, outputs, kernel)

    def forward(self, x, skip):
        return super().forward(torch.cat([self.up(x), skip], 1))


class Decoder(nn.Module):
    """The deepest `count` blocks; block i undoes level L − 1 − i."""

    def __init__(self, m, count):
        super().__init__()
        levels = [m["levels"] - 1 - i for i in range(count)]
        self.blocks = nn.ModuleList(
            DecoderBlock(m["filters"] << (l + 1), m["filters"] << l, m["kernels"][l], m["strides"][l]) for l in levels
        )

    def forward(self, x, skips):
        for i, block in enumerate(self.blocks):
            x = block(x, skips[len(skips) - 1 - i])
        return x


class ImageProjector(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, PROJECTION_WIDTH)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.mean((2, 3, 4)))))


class MaclUNet(nn.Module):
    """The segmentation network: [B, inChannels, D, H, W] → logits [B, classes, D, H, W]."""

    def __init__(self, model):
        super().__init__()
        m = model_config(model)
        self.encoder = Encoder(m)
        self.decoder = Decoder(m, m["levels"])
        self.head = nn.Conv3d(m["filters"], m["classes"], 1)

    def forward(self, x):
        return self.head(self.decoder(*self.encoder(x)))


class MaclPretraining(nn.Module):
    """The pre-training network; what a step computes with it is in `forward`."""

    def __init__(self, model):
        super().__init__()
        m = model_config(model)
        n = m["decoderBlocks"]
        wide, narrow = m["filters"] << m["levels"], m["filters"] << (m["levels"] - n)
        self.divisor = lambda_divisor(m)
        self.encoder = Encoder(m)
        self.decoder = Decoder(m, n)
        self.projector = nn.ModuleDict(
            {
                "image": nn.ModuleDict(
                    {"dominant": ImageProjector(narrow, narrow), "auxiliary": ImageProjector(wide, narrow)}
                ),
                "pixel": ConvPair(wide, narrow, m["kernels"][m["levels"]]),
            }
        )

    def forward(self, i1, i2, v1, v2):
        """The four encoder passes in the order in which BatchNorm's running statistics see them."""
        image = self.projector["image"]
        aux, _ = self.encoder(i2)
        dom, dom_skips = self.encoder(shrink(i1, self.divisor))
        aux_v, _ = self.encoder(v2)
        dom_v, dom_v_skips = self.encoder(shrink(v1, self.divisor))
        pixel_dom = self.decoder(dom, dom_skips)
        image_dom = image["dominant"](self.decoder(dom_v, dom_v_skips))
        return {
            "bottleneck": (dom, aux),
            "pixel": (pixel_dom, self.projector["pixel"](aux)),
            "image": (image_dom, image["auxiliary"](aux_v)),
        }


def model_config(model):
    """`model` of a configuration with its defaults filled in: strides 2, kernels 3, both 1 along D in 2-D."""
    m = {"dims": 3, "inChannels": 1, "filters": 32, "levels": 4, "decoderBlocks": 2, **model}
    d2 = m["dims"] == 2
    if not m.get("strides"):
        m["strides"] = [[1 if d2 else 2, 2, 2]] * m["levels"]
    if not m.get("kernels"):
        m["kernels"] = [[1 if d2 else 3, 3, 3]] * (m["levels"] + 1)
    return m


def infer_model(state):
    """`model` of a configuration from the shapes of a segmentation network's tensors (it needs no metadata)."""

    def shape(name):
        return list(state[name].shape)

    levels = 0
    while f"encoder.blocks.{levels}.conv1.weight" in state:
        levels += 1
    filters, channels = shape("encoder.blocks.0.conv1.weight")[:2]
    kernels = [shape(f"encoder.blocks.{l}.conv1.weight")[2:] for l in range(levels)]
    kernels.append(shape("encoder.centre.conv1.weight")[2:])
    strides = [shape(f"decoder.blocks.{levels - 1 - l}.up.weight")[2:] for l in range(levels)]
    flat = all(k[0] == 1 for k in kernels) and all(s[0] == 1 for s in strides)
    return {"dims": 2 if flat else 3, "inChannels": channels, "filters": filters, "levels": levels,
            "decoderBlocks": levels, "strides": strides, "kernels": kernels,
            "classes": shape("head.weight")[0]}  # fmt: skip


def load_unet(path):
    """(MaclUNet in evaluation mode, metadata) of a fine-tuned `model.safetensors`."""
    state, metadata = load_weights(path)
    net = MaclUNet(infer_model(state))
    net.load_state_dict(state, strict=True)
    return net.eval(), metadata


def lambda_divisor(m):
    """1 / λ an axis: the product of the deepest n strides."""
    deepest = m["strides"][m["levels"] - m["decoderBlocks"] :]
    return [_product(s[axis] for s in deepest) for axis in range(3)]


def _product(values):
    result = 1
    for v in values:
        result *= v
    return result


def resize(x, size):
    """Linear with aligned corners; an axis that becomes 1 takes its first sample."""
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=True)


def shrink(x, divisor):
    for axis, (length, by) in enumerate(zip(x.shape[2:], divisor)):
        if length % by:
            raise ValueError(f"axis {'DHW'[axis]} has length {length}, which {by} does not divide")
    return resize(x, [length // by for length, by in zip(x.shape[2:], divisor)])


def load_weights(path):
    """(state_dict, metadata) of a safetensors file; metadata values that are JSON are parsed."""
    from safetensors import safe_open

    state = OrderedDict()
    with safe_open(str(path), framework="pt") as f:
        metadata = f.metadata() or {}
        for name in f.keys():
            state[name] = f.get_tensor(name)
    return state, {key: _parsed(value) for key, value in metadata.items()}


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text
