/** What the losses, pooling and contrastive kernels do at the edges of their domain, on every device present. */
import { afterAll, describe, expect, test } from 'vitest';
import type { Shape } from '../../src/graph/types.js';
import { boxmix, dice, maxpool3d, softmaxce, supcon } from '../../src/ops/index.js';
import { openDevices, type Device } from './devices.js';
import { Rig } from './rig.js';

const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

function rigOf(device: Device): Rig {
  if (!device.backend) throw new Error(device.reason);
  return new Rig(device.backend);
}

const SHAPE: Shape = [2, 1, 3, 4, 3];
const VOXELS = 24;
const logits = Float32Array.from({ length: VOXELS * 3 }, (_, i) => Math.sin(i));

async function segmentation(device: Device, loss: 'ce' | 'dice', perSample: boolean, labels: ArrayLike<number>) {
  const rig = rigOf(device);
  const x = rig.input('x', SHAPE, logits);
  const y = rig.input('y', [2, 1, 3, 4, 1], labels, 'i32');
  const value = loss === 'ce' ? softmaxce(rig.b, x, y) : dice(rig.b, x, y, { perSample });
  rig.gradients(value, rig.constant(1), { x });
  rig.result('loss', value);
  const ready = await rig.ready();
  try {
    await ready.run();
    return { loss: ready.read('loss')[0] as number, dx: ready.read('dx') };
  } finally {
    await ready.close();
  }
}

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;

  run('cross-entropy with every voxel ignored is 0, and so is its gradient', async () => {
    const { loss, dx } = await segmentation(device, 'ce', false, new Array<number>(VOXELS).fill(255));
    expect(loss).toBe(0);
    expect(dx.every((v) => v === 0)).toBe(true);
  });

  run('Dice with every voxel ignored: each class is empty on both sides', async () => {
    const { loss, dx } = await segmentation(device, 'dice', true, new Array<number>(VOXELS).fill(255));
    expect(Math.abs(loss)).toBeLessThan(1e-12);
    expect(dx.every((v) => v === 0)).toBe(true);
  });

  for (const label of [3, -1, 254, 1_000_000])
    run(`the label ${label} of three classes is an error`, async () => {
      const labels = new Array<number>(VOXELS).fill(1);
      labels[VOXELS - 1] = label;
      await expect(segmentation(device, 'ce', false, labels)).rejects.toMatchObject({
        name: 'MaclError',
        code: 'label',
      });
    });

  for (const level of [-1, 5, 1_000_000])
    run(`a box of level ${level} of four is an error, also where it holds no voxel`, async () => {
      const rig = rigOf(device);
      const [f, b] = [rig.input('f', SHAPE, logits), rig.input('b', SHAPE, logits)];
      const rows = [0, 0, 0, 1, 3, 4, 2, 0, 0, 0, 0, 0, 0, level];
      const { x } = boxmix(rig.b, f, b, rig.input('boxes', [2, 2, 7, 1, 1], [...rows, ...rows], 'i32'), 4);
      rig.result('x', x);
      const ready = await rig.ready();
      await expect(ready.run()).rejects.toMatchObject({ name: 'MaclError', code: 'label' });
      await ready.close();
    });

  run('logits of a thousand neither overflow nor lose the loss', async () => {
    const rig = rigOf(device);
    const x = rig.input('x', [1, 1, 1, 2, 2], [1000, -1000, -1000, 1000]);
    const y = rig.input('y', [1, 1, 1, 2, 1], [0, 0], 'i32');
    const loss = softmaxce(rig.b, x, y);
    rig.gradients(loss, rig.constant(1), { x });
    rig.result('loss', loss);
    const ready = await rig.ready();
    await ready.run();
    expect(ready.read('loss')[0]).toBe(1000);
    const want = [0, 0, -0.5, 0.5];
    expect(ready.read('dx').every((v, i) => Math.abs(v - (want[i] as number)) < 1e-12)).toBe(true);
    await ready.close();
  });

  run(
    'max-pooling: NaN propagates, the first of equal maxima takes the gradient, uncovered voxels get none',
    async () => {
      const rig = rigOf(device);
      const x = rig.input('x', [1, 1, 1, 7, 1], [2, 2, NaN, 1, -1, -3, 9]);
      const y = maxpool3d(rig.b, x, [1, 1, 2]);
      rig.result('y', y);
      rig.gradients(y, rig.input('dy', [1, 1, 1, 3, 1], [1, 2, 4]), { x });
      const ready = await rig.ready();
      await ready.run();
      expect([...ready.read('y')]).toEqual([2, NaN, -1]);
      expect([...ready.read('dx')]).toEqual([1, 0, 2, 0, 4, 0, 0]);
      await ready.close();
    },
  );

  run('SupCon of vectors that are all alike is ln(2B − 1) with cosine 1', async () => {
    const rig = rigOf(device);
    const z = new Float64Array(3 * 5).fill(0.7);
    const [z1, z2] = [rig.input('z1', [3, 1, 1, 1, 5], z), rig.input('z2', [3, 1, 1, 1, 5], z)];
    const pos = rig.input('pos', [3, 1, 1, 1, 1], [0, 0.4, 0.8], 'f64');
    const { loss, cosine } = supcon(rig.b, z1, z2, pos, { temperature: 0.1, threshold: 0.1 });
    rig.gradients(loss, rig.constant(1), { z1, z2 });
    rig.result('loss', loss);
    rig.result('cosine', cosine);
    const ready = await rig.ready();
    await ready.run();
    expect(ready.read('loss')[0]).toBeCloseTo(Math.log(5), 5);
    expect(ready.read('cosine')[0]).toBeCloseTo(1, 6);
    expect(Math.max(...ready.read('dz1').map(Math.abs))).toBeLessThan(1e-5);
    await ready.close();
  });

  run('SupCon of a vector of zeros is finite', async () => {
    const rig = rigOf(device);
    const z = [0, 0, 0, 1, 2, 3];
    const [z1, z2] = [rig.input('z1', [2, 1, 1, 1, 3], z), rig.input('z2', [2, 1, 1, 1, 3], z)];
    const pos = rig.input('pos', [2, 1, 1, 1, 1], [0, 0.5], 'f64');
    const { loss } = supcon(rig.b, z1, z2, pos, { temperature: 0.1, threshold: 0.1 });
    rig.result('loss', loss);
    const ready = await rig.ready();
    await ready.run();
    // Anchors of zeros see similarities of 0 alone; the others have one of 1/τ and two of 0.
    const other = Math.log(1 + 2 * Math.exp(-10));
    expect(ready.read('loss')[0]).toBeCloseTo((Math.log(3) + other) / 2, 5);
    await ready.close();
  });
});
