/** The planner on the shapes of the real hippocampi; a counted skip where they are not there. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describePlan, planFinetune, planPretrain, positiveShare, type Triple } from '../../src/config/index.js';
import { orientationOf, rasGrid, readNiftiHeader } from '../../src/data/nifti/index.js';
import { fingerprintOf } from './fingerprints.js';

const images = path.resolve(import.meta.dirname, '..', '..', '..', 'shared', 'data', 'Task04_Hippocampus', 'imagesTr');
const there = existsSync(images);

(there ? it : it.skip)('plans the published few-label task', async () => {
  const files = readdirSync(images).filter((name) => name.endsWith('.nii.gz') && !name.startsWith('.'));
  const shapes: Triple[] = [];
  for (const name of files) {
    const header = await readNiftiHeader(path.join(images, name));
    shapes.push(rasGrid(orientationOf(header.shape, header.affine)).shape);
  }
  const fingerprint = fingerprintOf(shapes);
  const share = (patch: Triple) => positiveShare(shapes, { dims: 3, patch, position: 'centre', threshold: 0.1 });
  // The figures of the method's notes: all, about 38%, 13%.
  expect(share([48, 64, 48])).toBe(1);
  expect(share([32, 32, 32])).toBeCloseTo(0.38, 1);
  const fine = planFinetune(fingerprint, { task: 'finetune' });
  expect(fine.config.data.patch).toEqual([48, 64, 48]);
  expect(fine.config.train).toMatchObject({ batch: 2, steps: 3000 });
  const pre = planPretrain(fingerprint, { task: 'pretrain' });
  expect(pre.positiveShare).toBeLessThanOrEqual(0.25);
  expect(pre.config.model.strides).toEqual(fine.config.model.strides);
  if (process.env.MACL_TEST_SHOW)
    console.log([...describePlan(fine), '', ...describePlan(pre), share([32, 32, 32]), share([32, 32, 16])].join('\n'));
});
