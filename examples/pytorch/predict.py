"""Predicts one volume with a fine-tuned `model.safetensors` of macl, in PyTorch.

    python predict.py model.safetensors image.nii.gz prediction.nii.gz [--spacing 1,1,1] [--patch 48,64,48]

What it does: turns the volume to RAS, resamples it to the model's spacing (D, H, W in mm), normalises, slides a window
by half its size with Gaussian weights, resamples the logits to the input's grid, takes the largest, and writes the
labels on the input's own grid. Spacing, patch, normalisation and label values are read from the model's metadata;
flags go first. One channel. What it is not: macl's `predict` to the bit (resampling differs at the edges). Needs nibabel and scipy.
"""

import argparse

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import zoom

from macl_unet import load_unet


def to_ras(image):
    """[D, H, W] = k, j, i of the volume in RAS, its spacing in that order, and the way back to the file's axes."""
    own = io_orientation(image.affine)
    ras = axcodes2ornt("RAS")
    data = apply_orientation(np.asarray(image.dataobj, dtype=np.float32), ornt_transform(own, ras))
    spacing = np.abs(np.asarray(image.header.get_zooms()[:3]))[np.argsort(own[:, 0])]
    back = ornt_transform(ras, own)
    return data.transpose(2, 1, 0), spacing[::-1], lambda labels: apply_orientation(labels.transpose(2, 1, 0), back)


def normalised(x, rule):
    """CT: clipped and scaled by the data set's figures; everything else by its own voxels that are not zero."""
    if rule["kind"] == "ct":
        return (np.clip(x, rule["low"], rule["high"]) - rule["mean"]) / rule["std"]
    seen = x[x != 0] if (x != 0).any() else x.reshape(-1)
    return (x - seen.mean()) / (float(seen.std()) or 1.0)


def starts(length, window):
    if length <= window:
        return [0]
    count = int(np.ceil((length - window) / max(window // 2, 1))) + 1
    return [int(round(i * (length - window) / (count - 1))) for i in range(count)]


def weights(window):
    axes = [np.exp(-0.5 * ((np.arange(w) - (w - 1) / 2) / max(w / 8, 1e-6)) ** 2) for w in window]
    return np.maximum(axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :], 1e-6)


@torch.no_grad()
def sliding_window(net, x, window):
    """Logits [K, D, H, W] of x [D, H, W]; what a window lacks is filled with zeros."""
    pad = [max(w - s, 0) for w, s in zip(window, x.shape)]
    padded = np.pad(x, [(p // 2, p - p // 2) for p in pad])
    weight = torch.from_numpy(weights(window)).float()
    total, seen = None, torch.zeros(padded.shape)
    for d in starts(padded.shape[0], window[0]):
        for h in starts(padded.shape[1], window[1]):
            for w in starts(padded.shape[2], window[2]):
                box = (slice(d, d + window[0]), slice(h, h + window[1]), slice(w, w + window[2]))
                logits = net(torch.from_numpy(padded[box]).float()[None, None])[0]
                if total is None:
                    total = torch.zeros((logits.shape[0], *padded.shape))
                total[(slice(None), *box)] += logits * weight
                seen[box] += weight
    inner = tuple(slice(p // 2, p // 2 + s) for p, s in zip(pad, x.shape))
    return (total / seen)[(slice(None), *inner)].numpy()


def numbers(text):
    return [float(v) for v in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("output")
    parser.add_argument("--spacing", type=numbers, help="mm along D, H, W")
    parser.add_argument("--patch", type=numbers, help="window along D, H, W")
    a = parser.parse_args()
    net, metadata = load_unet(a.model)
    data = metadata.get("macl.config", {}).get("data", {})
    rule = metadata.get("macl.normalization", [{"kind": "case"}])[0]
    image = nib.load(a.image)
    x, spacing, back = to_ras(image)
    target = np.asarray(a.spacing or data.get("spacingMm") or spacing)
    patch = [int(v) for v in a.patch or data.get("patch") or [48, 64, 48]]
    scaled = normalised(x, rule)
    small = zoom(scaled, [max(1, round(s * f)) / s for s, f in zip(x.shape, spacing / target)], order=1)
    logits = sliding_window(net, small, patch)
    logits = np.stack([zoom(k, [o / s for o, s in zip(x.shape, k.shape)], order=1) for k in logits])
    values = [c["value"] for c in metadata.get("macl.classes", [])] or list(range(len(logits)))
    labels = np.asarray(values)[logits.argmax(0)]
    nib.save(nib.Nifti1Image(back(labels.astype(np.int16)), image.affine), a.output)


if __name__ == "__main__":
    main()
