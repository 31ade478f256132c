"""warp3d in NumPy float64: affine sampling (nearest, linear, cubic Keys a = −0.5) and Philox noise. No PyTorch here.

y[n, d, h, w, c] = gain · sample(volume_c, A_n · (d, h, w, 1)) + bias + noise; every tap outside the volume contributes
`fill`, so an output voxel far outside is gain · fill + bias.
"""

import numpy as np


def keys(t):
    """Keys' cubic kernel, a = −0.5."""
    t = np.abs(t)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def taps(interp, x):
    """[(index, weight)] along one axis."""
    if interp == "nearest":
        return [(np.floor(x + 0.5).astype(int), np.ones_like(x))]
    base = np.floor(x)
    if interp == "linear":
        return [(base.astype(int), 1 - (x - base)), (base.astype(int) + 1, x - base)]
    return [((base + k).astype(int), keys(x - base - k)) for k in (-1, 0, 1, 2)]


def sample(volume, coords, interp, fill):
    """volume [D, H, W] float64; coords three arrays of voxel coordinates."""
    axes = [taps(interp, x) for x in coords]
    total = np.zeros(coords[0].shape)
    for i, wi in axes[0]:
        for j, wj in axes[1]:
            for k, wk in axes[2]:
                inside = np.ones(total.shape, bool)
                index = []
                for v, size in zip((i, j, k), volume.shape):
                    inside &= (v >= 0) & (v < size)
                    index.append(np.clip(v, 0, size - 1))
                total += wi * wj * wk * np.where(inside, volume[tuple(index)], fill)
    return total


def philox4x32(counter, key):
    """Philox 4×32-10 of counters [..., 4] and one key (two words), as in Salmon et al., SC 2011."""
    c = [np.asarray(v, np.uint64) for v in np.moveaxis(np.asarray(counter, np.uint64), -1, 0)]
    k0, k1 = int(key[0]), int(key[1])
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c[0]
        p1 = np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & mask, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, -1)


# Known answers of the authors' Random123 library.
assert philox4x32([0, 0, 0, 0], (0, 0)).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert philox4x32([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0)).tolist() == [
    0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]  # fmt: skip


def noise(samples, out, channels, deviation, seeds):
    """deviation · (u0 + u1 + u2 + u3 − 2) · √3 with u = (word + ½) / 2³²; counter (voxel index, channel, 0, 0)."""
    voxels = np.arange(samples * np.prod(out), dtype=np.uint64).reshape(samples, *out)
    result = np.empty((samples, *out, channels))
    for n in range(samples):
        for c in range(channels):
            zero = np.zeros_like(voxels[n])
            words = philox4x32(np.stack([voxels[n], zero + np.uint64(c), zero, zero], -1), seeds[n, c])
            u = (words.astype(np.float64) + 0.5) / 2**32
            result[n, ..., c] = deviation * (u.sum(-1) - 2) * np.sqrt(3)
    return result


def affine(kind, rng, volume, out):
    """3×4: output voxel (d, h, w, 1) → volume voxel."""
    a = np.eye(3, 4)
    if kind == "mirror":
        a[2] = [0, 0, -1, volume[2] - 1]
    elif kind == "shift":
        a[:, 3] = rng.uniform(-1.3, 1.3, 3)
        if volume[0] == 1:
            a[0, 3] = 0
    elif kind == "oblique":
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn = turn * rng.uniform(0.7, 1.3, 3)
        centre = (np.array(volume) - 1) / 2 + rng.uniform(-0.5, 0.5, 3)
        a[:, :3] = turn
        a[:, 3] = centre - turn @ ((np.array(out) - 1) / 2)
    return a


def stored_volume(dtype, rng, shape):
    if dtype == "u8":
        return rng.integers(0, 5, shape).astype(np.uint8)
    if dtype == "i16":
        return rng.integers(-1000, 1500, shape).astype(np.int16)
    return rng.normal(size=shape).astype(np.float16 if dtype == "f16" else np.float32)


def warp_case(c, rng):
    volume = stored_volume(c["dtype"], rng, (c["channels"], *c["volume"]))
    labels = c["interp"] == "nearest"
    a = np.stack([affine(c["kind"], rng, c["volume"], c["out"]) for _ in range(c["samples"])])
    if labels:
        gain, bias = np.ones((c["samples"], c["channels"])), np.zeros((c["samples"], c["channels"]))
    else:
        gain = rng.uniform(0.8, 1.2, (c["samples"], c["channels"]))
        bias = rng.uniform(-0.5, 0.5, (c["samples"], c["channels"]))
    seeds = rng.integers(0, 2**32, (c["samples"], c["channels"], 2))
    grid = np.stack(np.meshgrid(*(np.arange(s, dtype=np.float64) for s in c["out"]), indexing="ij"), -1)
    y = np.empty((c["samples"], *c["out"], c["channels"]))
    for n in range(c["samples"]):
        coords = np.moveaxis(grid @ a[n, :, :3].T + a[n, :, 3], -1, 0)
        for ch in range(c["channels"]):
            values = volume[ch].astype(np.float64) * c["scale"] + c["offset"]
            y[n, ..., ch] = gain[n, ch] * sample(values, coords, c["interp"], c["fill"]) + bias[n, ch]
    if c["noise"]:
        y += noise(c["samples"], tuple(c["out"]), c["channels"], c["noise"], seeds)
    result = {"volume": volume, "matrix": a, "gain": gain, "bias": bias, "seeds": seeds.astype(np.float64)}
    return result | {"y": y.astype(np.int32) if labels else y}
