"""One training step of macl in PyTorch: the independent other side of `macl step`, with the same arguments.

    python tools/goldens/step.py --config C.json --weights W.safetensors --batch B.safetensors --out O.safetensors \
        [--dtype float64|float32] [--steps 1]

Names, layouts and definitions are those of `macl step` (src/step). Written from the description alone; shares no code with src/ or native/.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
from macl_unet import model_config, resize  # noqa: E402

import networks  # noqa: E402

SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weightDecay": 1e-5}
CONTRAST = {"temperature": 0.1, "threshold": 0.1}
# By method; fine-tuning is one of its own.
DEFAULTS = {
    "macl": {"loss": {**CONTRAST, "weights": {"global": 1.0, "dense": 0.5, "er": 1.0}}, "optimizer": SGD},
    "simclr": {"loss": {"temperature": 0.5}, "optimizer": SGD},
    "pcl": {"loss": CONTRAST, "optimizer": SGD},
    "volumefusion": {"loss": {"name": "ce+dice"}, "optimizer": SGD},
    "finetune": {"loss": {"name": "ce+dice"}, "optimizer": {"name": "adam", "lr": 5e-4, "weightDecay": 0.0}},
}
MODEL_KEYS = {"backbone", "dims", "inChannels", "filters", "levels", "decoderBlocks", "strides", "kernels", "classes"}
IGNORE = 255


def read_config(config):
    """The configuration with defaults; a key that does not exist is an error."""
    task = config["task"]
    if task not in ("pretrain", "finetune"):
        raise ValueError(f"unknown task {task!r}")
    _known(config, {"task", "method", "model", "loss", "optimizer"}, "")
    _known(config["model"], MODEL_KEYS, "model.")
    method = config.get("method", "macl") if task == "pretrain" else "finetune"
    defaults = DEFAULTS[method]
    loss = {**defaults["loss"], **config.get("loss", {})}
    _known(loss, defaults["loss"], "loss.")
    if method == "macl":
        loss["weights"] = {**defaults["loss"]["weights"], **loss["weights"]}
        _known(loss["weights"], defaults["loss"]["weights"], "loss.weights.")
    optimizer = {**defaults["optimizer"], **config.get("optimizer", {})}
    _known(optimizer, {"name", "lr", "momentum", "weightDecay"}, "optimizer.")
    model = model_config({"backbone": "unet", **config["model"]})
    return {"task": task, "method": method, "model": model, "loss": loss, "optimizer": optimizer}


def _known(given, allowed, where):
    for key in given:
        if key not in allowed:
            raise ValueError(f"unknown key {where}{key}")


# ---- losses -----------------------------------------------------------------------------------------------------


def positives(pos, threshold):
    """[2B, 2B] booleans: every axis of the positions differs by less than the threshold; never i itself."""
    pos = pos.double()
    limit = torch.as_tensor(threshold, dtype=torch.float64).expand(pos.shape[1])
    near = ((pos[:, None, :] - pos[None, :, :]).abs() < limit).all(-1)
    near = near.repeat(2, 2)
    near.fill_diagonal_(False)
    return near


def supcon(dominant, auxiliary, pos, temperature, threshold):
    """Position-aware SupCon at every position of z [B, S, C] separately, averaged over S (the image level has S = 1)."""
    z = torch.cat([dominant, auxiliary], 0)
    u = z / z.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    logits = torch.einsum("isc,jsc->sij", u, u) / temperature
    others = ~torch.eye(z.shape[0], dtype=torch.bool)
    log_sum = torch.logsumexp(logits.masked_fill(~others, -torch.inf), -1, keepdim=True)
    mask = positives(pos, threshold).to(z.dtype)
    per_anchor = -((logits - log_sum) * mask).sum(-1) / mask.sum(-1)
    return per_anchor.mean()


def as_vectors(z):
    """[B, C, D, H, W] → [B, S, C]."""
    return z.flatten(2).transpose(1, 2)


def cross_entropy(logits, y, weight=None):
    return F.cross_entropy(logits, y, weight=weight, ignore_index=IGNORE)


def dice_loss(logits, y, smooth=1e-5, per_sample=False, background=False):
    """1 − the mean over classes k > 0, or all (and over samples, if each has its own sums), of the soft Dice."""
    p = torch.softmax(logits, 1)
    kept = (y != IGNORE).unsqueeze(1)
    onehot = F.one_hot(torch.where(y == IGNORE, 0, y), logits.shape[1]).movedim(-1, 1).to(p.dtype) * kept
    p = p * kept
    axes = (2, 3, 4) if per_sample else (0, 2, 3, 4)
    dice = (2 * (p * onehot).sum(axes) + smooth) / (p.sum(axes) + onehot.sum(axes) + smooth)
    return 1 - dice[..., 0 if background else 1 :].mean()


def nt_xent(z1, z2, temperature):
    """SimCLR's: the other view among all other rows, as a classification."""
    rows = len(z1)
    u = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (u @ u.T / temperature).masked_fill(torch.eye(2 * rows, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * rows).roll(rows))


def compose(f, b, boxes, levels=4):
    """VolumeFusion's input and labels. boxes [N, M, 7]: start D, H, W, size D, H, W, level; later ones lie above."""
    labels = torch.zeros(f.shape[0], *f.shape[2:], dtype=torch.long)
    for n, sample in enumerate(boxes.long().tolist()):
        for d, h, w, sd, sh, sw, level in sample:
            labels[n, d : d + sd, h : h + sh, w : w + sw] = level
    alpha = (labels.to(f.dtype) / levels).unsqueeze(1)
    return alpha * f + (1 - alpha) * b, labels


def simclr_losses(net, batch, loss):
    return nt_xent(*net(batch["v1"], batch["v2"]), loss["temperature"]), {}


def pcl_losses(net, batch, loss):
    z1, z2 = (z.unsqueeze(1) for z in net(batch["v1"], batch["v2"]))
    return supcon(z1, z2, batch["pos"], loss["temperature"], loss["threshold"]), {}


def fusion_losses(net, batch, loss):
    x, y = compose(batch["f"], batch["b"], batch["boxes"])
    logits = net(x)
    parts = {"ce": F.cross_entropy(logits, y)}
    if loss["name"] == "ce+dice":
        parts["dice"] = dice_loss(logits, y, background=True)
    return sum(parts.values()), parts


def pretrain_losses(net, batch, loss):
    out = net(batch["i1"], batch["i2"], batch["v1"], batch["v2"])
    dom, aux = out["bottleneck"]
    arguments = (batch["pos"], loss["temperature"], loss["threshold"])
    pixel = [as_vectors(z) for z in out["pixel"]]
    image = [z.unsqueeze(1) for z in out["image"]]
    parts = {
        "global": supcon(*image, *arguments),
        "dense": supcon(*pixel, *arguments),
        "er": (dom - resize(aux, dom.shape[2:])).abs().mean(),
    }
    return sum(loss["weights"][k] * part for k, part in parts.items()), parts


def finetune_losses(net, batch, loss):
    logits = net(batch["x"])
    y = batch["y"].long()
    parts = {"ce": cross_entropy(logits, y)}
    if loss["name"] == "ce+dice":
        parts["dice"] = dice_loss(logits, y)
    elif loss["name"] != "ce":
        raise ValueError(f"unknown loss {loss['name']!r}")
    return sum(parts.values()), parts


# ---- the step ---------------------------------------------------------------------------------------------------


LOSSES = {
    "macl": pretrain_losses,
    "simclr": simclr_losses,
    "pcl": pcl_losses,
    "volumefusion": fusion_losses,
    "finetune": finetune_losses,
}


def make_network(config):
    return networks.make(config)


def make_optimizer(optimizer, parameters):
    common = {"lr": optimizer["lr"], "weight_decay": optimizer.get("weightDecay", 0.0), "foreach": False}
    if optimizer["name"] == "sgd":
        return torch.optim.SGD(parameters, momentum=optimizer.get("momentum", 0.9), **common)
    if optimizer["name"] == "adam":
        return torch.optim.Adam(parameters, **common)
    if optimizer["name"] == "adamw":
        return torch.optim.AdamW(parameters, **common)
    raise ValueError(f"unknown optimizer {optimizer['name']!r}")


class Trainer:
    def __init__(self, config, weights, dtype=torch.float64):
        self.config = read_config(config)
        self.dtype = dtype
        self.net = make_network(self.config).to(dtype)
        self.net.load_state_dict({k: v.to(dtype) for k, v in weights.items()}, strict=True)
        self.net.train()
        self.optimizer = make_optimizer(self.config["optimizer"], list(self.net.parameters()))
        self.losses = LOSSES[self.config["method"]]

    def step(self, batch):
        """One step; the losses as floats (of the state before it)."""
        # Positions stay as they are given: which pairs are positive must not depend on the precision.
        batch = {k: v if k in ("y", "pos", "boxes") else v.to(self.dtype) for k, v in batch.items()}
        self.optimizer.zero_grad(set_to_none=True)
        total, parts = self.losses(self.net, batch, self.config["loss"])
        total.backward()
        self.optimizer.step()
        return {"loss": total.detach(), **{f"loss.{k}": v.detach() for k, v in parts.items()}}

    def results(self, losses):
        out = {k: v.reshape(1).clone() for k, v in losses.items()}
        for name, p in self.net.named_parameters():
            out[f"grad.{name}"] = p.grad.detach().clone()
        for name, v in self.net.state_dict().items():
            out[f"new.{name}"] = v.detach().clone()
        return {k: v.contiguous() for k, v in out.items()}


def run_step(config, weights, batch, dtype=torch.float64, steps=1):
    trainer = Trainer(config, weights, dtype)
    for _ in range(steps):
        losses = trainer.step(batch)
    return trainer.results(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("config", "weights", "batch", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument("--steps", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(1)
    config = json.loads(Path(a.config).read_text())
    out = run_step(config, load_file(a.weights), load_file(a.batch), getattr(torch, a.dtype), a.steps)
    save_file(out, a.out, metadata={"torch": torch.__version__, "config": json.dumps(config)})


if __name__ == "__main__":
    main()
