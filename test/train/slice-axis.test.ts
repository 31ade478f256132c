/** 2-D slices are taken along the thin axis of the volumes, whichever it is, unless somebody says otherwise. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Triple } from '../../src/volume.js';
import { finetune } from '../../src/train/finetune.js';
import { loadModel } from '../../src/model/model-file.js';
import { thinAxis } from '../../src/train/slice-axis.js';
import { device, listen, scratchFolder, tinyFinetune, toyDataset } from './toy.js';

const root = scratchFolder();

it.each([
  [[20, 20, 20], [1, 1, 1], undefined],
  [[20, 20, 20], [5, 1, 1], 'D'],
  [[20, 20, 20], [0.7, 5, 0.7], 'H'],
  [[20, 20, 20], [1, 1, 1.6], 'W'],
  [[20, 20, 20], [1, 1, 1.2], undefined],
  [[20, 20, 20], [5, 1, 5], undefined],
  [[20, 20, 1], [1, 1, 1], 'W'],
  [[20, 1, 20], [5, 1, 1], 'H'],
  [[1, 1, 20], [1, 1, 1], undefined],
] as [Triple, Triple, string | undefined][])('of %j at %j mm it is %s', (shape, spacingMm, axis) =>
  expect(thinAxis({ shape, spacingMm })).toBe(axis),
);

it.each([
  ['D', [5, 1, 1], [8, 26, 30]],
  ['H', [1, 5, 1], [26, 8, 30]],
  ['W', [1, 1, 5], [26, 30, 8]],
] as const)('along %s in a training of slices, and said', async (axis, spacingMm, shape) => {
  const data = await toyDataset(join(root, axis), { cases: 2, shape, spacingMm });
  const common = { data, cacheDir: join(root, 'cache'), device, threads: 1 } as const;
  const flat = { model: { dims: 2 }, train: { steps: 0 } } as const;
  const axisOf = async (out: string, patchAndAxis: { patch: Triple; sliceAxis?: 'D' }) => {
    const { messages, onEvent } = listen();
    const config = tinyFinetune({ ...flat, data: patchAndAxis });
    const { model } = await finetune({ ...common, out: join(root, out), config, onEvent });
    return { axis: (await loadModel(model)).config.data.sliceAxis, notes: messages('note').join('\n') };
  };
  const found = await axisOf(`${axis}-auto`, { patch: [1, 16, 16] });
  expect(found.axis).toBe(axis);
  if (axis === 'D') expect(found.notes).not.toContain('slices');
  else expect(found.notes).toContain(`2-D slices are taken along ${axis}, the thin axis of 2 of 2 cases`);
  expect((await axisOf(`${axis}-given`, { patch: [1, 8, 8], sliceAxis: 'D' })).axis).toBe('D');
});
