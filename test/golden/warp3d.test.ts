/**
 * warp3d against NumPy in float64 (nearest, linear, cubic; int16, float16, float32, uint8 volumes; noise) on every device
 * present, the volume stored row by row and again with its axes in another order.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { DTYPE_BYTES, type Shape } from '../../src/graph/types.js';
import { WARP_WORDS, warp3d, writeDescriptor } from '../../src/ops/index.js';
import { cases, type Warp3dCase } from '../cases/warp3d.js';
import { openDevices, type Device } from './devices.js';
import { largest, readGolden, relativeError, type Golden } from './fixtures.js';
import { Rig } from './rig.js';

const TOLERANCE = { f64: 1e-12, f32: 1e-6 } as const;
const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

interface Stored {
  readonly bytes: Uint8Array;
  /** Byte offset of every channel. */
  readonly bases: readonly number[];
  /** Elements from one voxel to the next along D, H, W. */
  readonly strides: readonly [number, number, number];
}

/** The volume as it stands in the file, or with W slowest and D fastest, behind some unrelated bytes. */
function store(golden: Golden<unknown>, c: Warp3dCase, turned: boolean): Stored {
  const raw = golden.file.tensors.get(`${c.name}.volume`);
  if (!raw) throw new Error(`${c.name} has no volume`);
  const size = DTYPE_BYTES[c.dtype];
  const [d, h, w] = c.volume;
  const voxels = d * h * w;
  const lead = 64;
  const bytes = new Uint8Array(lead + raw.bytes.length).fill(0x7f);
  const strides: [number, number, number] = turned ? [1, d, d * h] : [h * w, w, 1];
  for (let ch = 0; ch < c.channels; ch++)
    for (let i = 0; i < d; i++)
      for (let j = 0; j < h; j++)
        for (let k = 0; k < w; k++) {
          const from = (ch * voxels + (i * h + j) * w + k) * size;
          const to = lead + (ch * voxels + i * strides[0] + j * strides[1] + k * strides[2]) * size;
          bytes.set(raw.bytes.subarray(from, from + size), to);
        }
  const bases = Array.from({ length: c.channels }, (_, ch) => lead + ch * voxels * size);
  return { bytes, bases, strides };
}

function descriptors(golden: Golden<unknown>, c: Warp3dCase, stored: Stored): Float64Array {
  const value = (name: string) => golden.values(`${c.name}.${name}`);
  const [matrix, gain, bias, seeds] = [value('matrix'), value('gain'), value('bias'), value('seeds')];
  const words = new Float64Array(c.samples * c.channels * WARP_WORDS);
  for (let n = 0; n < c.samples; n++)
    for (let ch = 0; ch < c.channels; ch++) {
      const i = n * c.channels + ch;
      const volume = {
        base: stored.bases[ch] as number,
        shape: c.volume,
        strides: stored.strides,
        dtype: c.dtype,
        scale: c.scale,
        offset: c.offset,
      };
      writeDescriptor(words, i, volume, {
        affine: [...matrix.subarray(n * 12, n * 12 + 12)],
        gain: gain[i] as number,
        bias: bias[i] as number,
        noiseSd: c.noise,
        noiseSeed: [seeds[2 * i] as number, seeds[2 * i + 1] as number],
        fill: c.fill,
      });
    }
  return words;
}

async function warp(device: Device, golden: Golden<unknown>, c: Warp3dCase, turned: boolean): Promise<Float64Array> {
  if (!device.backend) throw new Error(device.reason);
  const stored = store(golden, c, turned);
  const rig = new Rig(device.backend);
  const shape: Shape = [c.samples, ...c.out, c.channels];
  const labels = c.interp === 'nearest';
  rig.result('y', warp3d(rig.b, 'desc', shape, c.interp, labels ? 'i32' : rig.b.real));
  const ready = await rig.ready(undefined, stored.bytes);
  try {
    ready.set('desc', descriptors(golden, c, stored));
    await ready.run();
    return ready.read('y');
  } finally {
    await ready.close();
  }
}

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  const golden = readGolden<{ cases: readonly { name: string }[] }>('ops-warp3d');
  for (const c of cases) {
    run(`${c.name}: NumPy's values`, async () => {
      const want = golden.values(`${c.name}.y`);
      const tolerance = c.interp === 'nearest' ? 0 : TOLERANCE[device.backend?.info.real === 'f64' ? 'f64' : 'f32'];
      for (const turned of [false, true]) {
        const error = relativeError(await warp(device, golden, c, turned), want, largest(want));
        expect(error, `${device.label}${turned ? ', axes turned' : ''}: error ${error}`).toBeLessThanOrEqual(tolerance);
      }
    });
  }
  run('a descriptor that points outside the store is refused', async () => {
    if (!device.backend) return;
    const c = cases[0] as Warp3dCase;
    const stored = store(golden, c, false);
    const rig = new Rig(device.backend);
    rig.result('y', warp3d(rig.b, 'desc', [c.samples, ...c.out, c.channels], c.interp));
    const ready = await rig.ready(undefined, stored.bytes);
    try {
      const words = descriptors(golden, c, stored);
      for (const [word, value] of [
        [0, -64],
        [0, stored.bytes.length],
        [1, 1e6],
        [4, 1e9],
        [7, 99],
        [0, NaN],
      ] as const) {
        const broken = words.slice();
        broken[word] = value;
        ready.set('desc', broken);
        await expect(ready.run(), `word ${word} = ${value}`).rejects.toThrow();
      }
      ready.set('desc', words);
      await ready.run();
      expect(relativeError(ready.read('y'), golden.values(`${c.name}.y`))).toBeLessThan(1e-5);
    } finally {
      await ready.close();
    }
  });
});
