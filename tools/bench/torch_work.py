"""One MACL pre-training step, fine-tuning step or inference in PyTorch, written as fast as a careful user would: channels last,
fused optimisers, set_to_none, one batched SupCon over all positions, masks made once, 2-D networks with 2-D operations.

gpu_step.py captures it as a CUDA graph; peer.py runs it on a processor, eager or compiled.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))
import macl_unet  # noqa: E402
from macl_unet import resize  # noqa: E402
from networks import make  # noqa: E402

THRESHOLD, TEMPERATURE, DENSE = 0.1, 0.1, 0.5


def supcon(dominant, auxiliary, same, others):
    z = F.normalize(torch.cat([dominant, auxiliary], 0).float(), dim=-1, eps=1e-12)
    logits = torch.einsum("isc,jsc->sij", z, z) / TEMPERATURE
    log_sum = torch.logsumexp(logits.masked_fill(~others, -torch.inf), -1, keepdim=True)
    return (-((logits - log_sum) * same).sum(-1) / same.sum(-1)).mean()


def segmentation_loss(logits, y, classes):
    """Cross-entropy + Dice over the batch, without the background."""
    p = torch.softmax(logits, 1)
    onehot = F.one_hot(y, classes).movedim(-1, 1).to(p.dtype)
    axes = (0, 2, 3, 4)
    dice = (2 * (p * onehot).sum(axes) + 1e-5) / (p.sum(axes) + onehot.sum(axes) + 1e-5)
    return F.cross_entropy(logits, y) + 1 - dice[1:].mean()


class Plane(nn.Module):
    """A 2-D layer in a network of tensors [B, C, 1, H, W]."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.squeeze(2)).unsqueeze(2)


def plane_layer(conv):
    """nn.Conv3d or nn.ConvTranspose3d of depth 1 as its 2-D twin with the same weights."""
    kind = nn.ConvTranspose2d if isinstance(conv, nn.ConvTranspose3d) else nn.Conv2d
    twin = kind(conv.in_channels, conv.out_channels, conv.kernel_size[1:], conv.stride[1:], conv.padding[1:])
    twin.weight = nn.Parameter(conv.weight.detach().squeeze(2).to(memory_format=torch.channels_last))
    twin.bias = nn.Parameter(conv.bias.detach())
    return Plane(twin)


def planes(net):
    """The network with 2-D operations throughout."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (nn.Conv3d, nn.ConvTranspose3d)):
                setattr(parent, name, plane_layer(child))

    def max_pool(x, kernel, stride):
        if x.shape[2] != 1:  # the module is patched for good: a 3-D network may come after
            return F.max_pool3d(x, kernel, stride)
        return F.max_pool2d(x.squeeze(2), kernel[1:], stride[1:]).unsqueeze(2)

    macl_unet.F = SimpleNamespace(**{**vars(F), "max_pool3d": max_pool})
    return net


def network_of(task, model):
    """The same as the golden tests': `task` is pretrain, finetune or inference."""
    config = {"task": "pretrain", "method": "macl"} if task == "pretrain" else {"task": "finetune"}
    return make({**config, "model": {"backbone": "unet", **model}})


class Work:
    """x: the views of a pre-training step, else the one input; y, pos: labels, positions. mode: fp32, tf32 or bf16."""

    def __init__(self, task, model, x, y=None, pos=None, mode="fp32", device="cpu", last=True, weights=None, lr=1e-4):
        self.task, self.mode, self.device, self.classes = task, mode, device, model.get("classes", 3)
        layout = torch.channels_last_3d if last else torch.contiguous_format
        net = network_of(task, model)
        if weights is not None:
            net.load_state_dict(weights, strict=True)
        if model["dims"] == 2:
            net = planes(net)
        self.net = net.to(device)
        if last and model["dims"] == 3:
            self.net = self.net.to(memory_format=layout)
        self.net.train(task != "inference")
        parameters = list(self.net.parameters())
        if task == "pretrain":
            self.optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-5, fused=True)
        elif task == "finetune":
            self.optimizer = torch.optim.Adam(parameters, lr=lr, fused=True, capturable=device == "cuda")
        self.x = [v.to(device).to(memory_format=layout) for v in x]
        self.y = None if y is None else y.to(device).long()
        if pos is not None:
            near = ((pos[:, None] - pos[None]).abs() < THRESHOLD).all(-1).repeat(2, 2).to(device)
            self.others = ~torch.eye(len(near), dtype=torch.bool, device=device)
            self.same = (near & self.others).float()

    def forward(self):
        """The loss of a step; the logits of an inference."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.mode == "bf16"):
            out = self.net(*self.x)
        if self.task == "inference":
            return out
        if self.task == "finetune":
            return segmentation_loss(out.float(), self.y, self.classes)
        dom, aux = (t.float() for t in out["bottleneck"])
        er = (dom - resize(aux, dom.shape[2:])).abs().mean()
        pixel = [z.flatten(2).transpose(1, 2) for z in out["pixel"]]
        image = [z.unsqueeze(1) for z in out["image"]]
        return supcon(*image, self.same, self.others) + DENSE * supcon(*pixel, self.same, self.others) + er

    def step(self, forward=None):
        """`forward`: in place of the eager one (a compiled one). What forward gives, without its graph."""
        forward = forward or self.forward
        if self.task == "inference":
            with torch.no_grad():
                return forward()
        self.optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        self.optimizer.step()
        return loss.detach()
