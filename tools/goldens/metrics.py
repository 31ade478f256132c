"""Golden values of the segmentation metrics and of the distance transform, from SciPy.

    python tools/goldens/metrics.py            writes test/fixtures/metrics.json

The definitions are written out here with binary_erosion and distance_transform_edt, as MONAI and medpy have them:

- surface: the mask less its erosion by the face neighbours, outside the array counting as background
- hd95_monai: the larger of the two directed 95th percentiles; hd95_medpy: the 95th percentile of both sets together
- asd: mean of the distances prediction -> reference; assd_pooled: the mean of both directions' distances together (medpy
  since 0.5, MONAI); assd_mean: the mean of the two directed means; assd: the same, deprecated

Not used when tests run: they read the file alone. NaN and infinities are written as strings.
"""

import base64
import json
import math
from pathlib import Path

import numpy as np
import scipy
from scipy import ndimage

SEED = 20240917
OUT = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "metrics.json"


def surface(mask):
    """2-D where one axis has a single voxel: that axis is no axis."""
    flat = np.squeeze(mask)
    structure = ndimage.generate_binary_structure(flat.ndim, 1)
    return (flat & ~ndimage.binary_erosion(flat, structure, border_value=0)).reshape(mask.shape)


def directed(a, b, spacing):
    return ndimage.distance_transform_edt(~surface(b), sampling=spacing)[surface(a)]


def metrics(pred, ref, spacing):
    p, r, both = int(pred.sum()), int(ref.sum()), int((pred & ref).sum())
    names = ["dice", "jaccard", "hd95_monai", "hd95_medpy", "asd", "assd_pooled", "assd_mean", "assd"]
    if p == 0 and r == 0:
        return {**{n: math.nan for n in names}, "empty": "both"}
    if p == 0 or r == 0:
        values = [0.0, 0.0] + [math.inf] * 6
        return {**dict(zip(names, values)), "empty": "pred" if p == 0 else "ref"}
    to_ref, to_pred = directed(pred, ref, spacing), directed(ref, pred, spacing)
    return {
        "dice": 2 * both / (p + r),
        "jaccard": both / (p + r - both),
        "hd95_monai": max(np.percentile(to_ref, 95), np.percentile(to_pred, 95)),
        "hd95_medpy": np.percentile(np.hstack([to_ref, to_pred]), 95),
        "asd": to_ref.mean(),
        "assd_pooled": np.concatenate([to_ref, to_pred]).mean(),
        "assd_mean": (to_ref.mean() + to_pred.mean()) / 2,
        "assd": (to_ref.mean() + to_pred.mean()) / 2,
    }


def blobs(rng, shape, classes, smooth=2.0, shift=0.0):
    """A label volume of smooth random regions; `shift` moves the underlying fields, so that two volumes resemble."""
    size = tuple(n if n == 1 else n + 4 for n in shape)
    fields = ndimage.gaussian_filter(rng.standard_normal((classes + 1, *size)), (0, smooth, smooth, smooth))
    fields[0] += 0.02
    other = fields + shift * ndimage.gaussian_filter(rng.standard_normal(fields.shape), (0, smooth, smooth, smooth))
    crop = tuple(slice(0, n) for n in shape)
    return tuple(f.argmax(0).astype(np.uint8)[crop] for f in (fields, other))


def box(shape, *ranges, value=1):
    out = np.zeros(shape, np.uint8)
    out[tuple(slice(a, b) for a, b in ranges)] = value
    return out


def cases(rng):
    aniso = [3.0, 1.0, 1.0]
    ref, pred = blobs(rng, (9, 14, 11), 3, shift=0.6)
    yield "blobs, 1x1x3 mm voxels", pred, ref, aniso, [1, 2, 3]
    ref, pred = blobs(rng, (12, 10, 13), 2, shift=0.8)
    yield "blobs, three spacings", pred, ref, [0.7, 1.3, 2.1], [1, 2]
    ref, pred = blobs(rng, (1, 23, 19), 2, shift=0.6)
    yield "2-D", pred, ref, [5.0, 0.8, 1.2], [1, 2]
    yield "2-D along another axis", pred.reshape(23, 19, 1), ref.reshape(23, 19, 1), [0.8, 1.2, 5.0], [1, 2]
    shape = (7, 8, 9)
    touching = box(shape, (0, 4), (0, 8), (0, 9))
    inner = box(shape, (0, 3), (2, 8), (3, 9))
    yield "touching the edges", inner, touching, aniso, [1]
    yield "the whole volume", np.ones(shape, np.uint8), touching, aniso, [1]
    nothing = np.zeros(shape, np.uint8)
    yield "empty prediction", nothing, touching, aniso, [1]
    yield "empty reference", touching, nothing, aniso, [1]
    yield "both empty", nothing, nothing, aniso, [1]
    yield "one voxel each", box(shape, (0, 1), (1, 2), (2, 3)), box(shape, (5, 6), (6, 7), (8, 9)), aniso, [1]
    yield "equal", touching, touching, aniso, [1]
    slab = box(shape, (3, 4), (1, 7), (1, 8))
    yield "one slice of a 3-D volume", slab, box(shape, (3, 4), (2, 7), (1, 9)), aniso, [1]
    other = box(shape, (0, 4), (1, 6), (2, 9), value=7)
    other[6, 2:5] = 200
    moved = np.roll(other, 1, axis=1)
    yield "label values 7 and 200, one absent", moved, other, aniso, [7, 200, 9]


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else str(float(value))
    return value


def packed(array):
    return base64.b64encode(np.ascontiguousarray(array, np.uint8).tobytes()).decode()


def distances(rng):
    for shape, spacing, share in [
        ((6, 7, 9), [3.0, 1.0, 1.0], 0.02),
        ((8, 5, 6), [0.7, 1.3, 2.1], 0.05),
        ((1, 12, 10), [1.0, 0.5, 2.0], 0.04),
        ((5, 1, 7), [1.5, 1.0, 1.0], 0.1),
    ]:
        seeds = rng.random(shape) < share
        seeds.flat[rng.integers(seeds.size)] = True
        edt = ndimage.distance_transform_edt(~seeds, sampling=spacing)
        yield {"shape": shape, "spacingMm": spacing, "seeds": packed(seeds), "distanceMm": edt.ravel().tolist()}


def main():
    rng = np.random.default_rng(SEED)
    written = []
    for name, pred, ref, spacing, classes in cases(rng):
        values = {str(c): metrics(pred == c, ref == c, spacing) for c in classes}
        written.append(
            {
                "name": name,
                "shape": pred.shape,
                "spacingMm": spacing,
                "classes": classes,
                "pred": packed(pred),
                "ref": packed(ref),
                "metrics": plain(values),
            }
        )
    percentiles = []
    for n in (1, 2, 3, 10, 41):
        values = np.round(rng.random(n) * 4) / 2
        percentiles.append({"values": values.tolist(), "q": {str(q): np.percentile(values, q) for q in (0, 2.5, 50, 95, 97.5, 100)}})
    document = {
        "generator": "tools/goldens/metrics.py",
        "seed": SEED,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "cases": written,
        "distances": list(distances(rng)),
        "percentiles": plain(percentiles),
    }
    OUT.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    print(f"{OUT.name}: {OUT.stat().st_size} bytes, {len(written)} cases")


if __name__ == "__main__":
    main()
