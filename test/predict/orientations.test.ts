/** One asymmetric volume stored in all 48 ways: the same segmentation on each one's own grid. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import type { Backend } from '../../src/backend/types.js';
import { readNifti, writeNifti } from '../../src/data/nifti/index.js';
import type { Triple } from '../../src/volume.js';
import { finetune } from '../../src/train/finetune.js';
import { loadSegmentModel } from '../../src/model/model-file.js';
import { predictFiles } from '../../src/predict/predict.js';
import { device, LEARNS, scratchFolder, tinyFinetune, toyDataset, toyVolume } from '../train/toy.js';

const root = scratchFolder();
let data: string;
let backend: Backend;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'), { values: [0, 7, 300] });
  backend = await openBackend(device, { threads: 2 });
  return () => backend.close();
});
const count = (voxels: ArrayLike<number>, value: number): number =>
  Array.from(voxels).filter((v) => v === value).length;

/** All ways to lay three axes: permutation and flips. */
const ORDERS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;
const LAYOUTS = ORDERS.flatMap((order) => Array.from({ length: 8 }, (_, flips) => ({ order, flips })));

describe('48 axis orders and flips', () => {
  // Along x, y, z; unequal sizes and spacings, nothing symmetric.
  const size = [13, 10, 9] as const;
  const spacing = [1, 1.25, 1.5] as const;

  /** The same anatomy stored another way: file axis n runs along world axis order[n], backwards where flipped. */
  function laid(voxels: Float32Array, order: readonly number[], flips: number) {
    const shape = order.map((axis) => size[axis as 0]) as unknown as Triple;
    const affine = new Float64Array(16);
    affine[15] = 1;
    const origin = [-20, 14, 6];
    order.forEach((axis, n) => {
      const backwards = (flips >> n) & 1;
      affine[4 * axis + n] = (backwards ? -1 : 1) * spacing[axis as 0];
      if (backwards) origin[axis]! += spacing[axis as 0] * (size[axis as 0] - 1);
    });
    origin.forEach((o, axis) => (affine[4 * axis + 3] = o));
    const out = new Float32Array(voxels.length);
    eachVoxel(order, flips, (file, world) => (out[file] = voxels[world]!));
    return { shape, affine, voxels: out };
  }

  function eachVoxel(order: readonly number[], flips: number, at: (file: number, world: number) => void): void {
    const shape = order.map((axis) => size[axis as 0]);
    let file = 0;
    for (let k = 0; k < shape[2]!; k++)
      for (let j = 0; j < shape[1]!; j++)
        for (let i = 0; i < shape[0]!; i++, file++) {
          const world = [0, 0, 0];
          [i, j, k].forEach((v, n) => (world[order[n]!] = (flips >> n) & 1 ? shape[n]! - 1 - v : v));
          at(file, (world[2]! * size[1] + world[1]!) * size[0] + world[0]!);
        }
  }

  it.each([['as trained'], ['resampled']])('predict the same segmentation on their own grids, %s', async (how) => {
    const model = how.replace(' ', '-');
    const spacingMm = how === 'resampled' ? ([1.2, 1.1, 1.3] as const) : ([1, 1, 1] as const);
    const config = tinyFinetune({ ...LEARNS, data: { spacingMm } });
    await finetune({ data, out: join(root, model), cacheDir: join(root, 'cache'), device, threads: 2, config });
    const input = join(root, `${model}-in`);
    mkdirSync(input);
    const { voxels } = toyVolume(9, [size[2], size[1], size[0]]);
    for (const [n, { order, flips }] of LAYOUTS.entries())
      await writeNifti(join(input, `v${n}.nii`), laid(voxels, order, flips));
    const options = {
      input,
      out: join(root, `${model}-out`),
      mirror: false,
      probabilities: false,
      nonFinite: 'refuse',
    } as const;
    const written = await predictFiles(await loadSegmentModel(join(root, model)), backend, options);
    expect(written).toHaveLength(48);
    const first = (await readNifti(join(root, `${model}-out`, 'v0.nii'))).voxels;
    expect(count(first, 7)).toBeGreaterThan(20);
    expect(count(first, 0)).toBeGreaterThan(20);
    const shapes = new Set<string>();
    for (const [n, { order, flips }] of LAYOUTS.entries()) {
      const given = await readNifti(join(input, `v${n}.nii`));
      const found = await readNifti(join(root, `${model}-out`, `v${n}.nii`));
      expect([...found.header.shape]).toEqual([...given.header.shape]);
      expect([...found.header.affine]).toEqual([...given.header.affine]);
      const back = new Int32Array(found.voxels.length);
      eachVoxel(order, flips, (file, world) => (back[world] = found.voxels[file]!));
      expect(back).toEqual(Int32Array.from(first));
      shapes.add([...found.header.shape].join());
    }
    expect(shapes.size).toBe(6);
  });
});
