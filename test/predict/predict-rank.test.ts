/** Prediction of inputs that are not three-dimensional: the result has the input's rank, and is read and evaluated. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readNifti } from '../../src/data/nifti/index.js';
import { evaluate, predict } from '../../src/index.js';
import { finetune } from '../../src/train/finetune.js';
import { makeNifti } from '../data/make-nifti.js';
import { device, scratchFolder, tinyFinetune, toyDataset } from '../train/toy.js';

const root = scratchFolder();
const model = join(root, 'model');
beforeAll(async () => {
  // A background that is not 0 goes through training, prediction and evaluation too.
  const data = await toyDataset(join(root, 'data'), { values: [5, 7, 300] });
  const config = tinyFinetune({ train: { steps: 2 } });
  await finetune({ data, out: model, cacheDir: join(root, 'cache'), device, threads: 2, config });
});

describe('a result has the dimensions of its input', () => {
  it.each<[name: string, dims: number[], spacing: number[]]>([
    ['slice', [12, 12], [1, 1, 0]],
    ['volume', [9, 10, 11, 1], [1, 1, 2]],
  ])('of a %s of %j', async (name, dims, spacing) => {
    const input = join(root, `${name}.nii`);
    const data = Uint8Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => (i * 37) % 251);
    writeFileSync(input, makeNifti({ dims: dims, data, pixdim: [1, ...spacing, 0, 0, 0, 0] }));
    const out = join(root, `${name}-out`);
    await predict({ model, input, out, device, threads: 2, probabilities: true });
    const file = join(out, `${name}.nii`);
    const header = readFileSync(file);
    const found = Array.from({ length: header.readInt16LE(40) }, (_, n) => header.readInt16LE(42 + 2 * n));
    expect(found).toEqual(dims);
    expect((await readNifti(file)).header.affine).toEqual((await readNifti(input)).header.affine);
    const labels = join(root, `${name}-labels`);
    mkdirSync(labels);
    writeFileSync(join(labels, `${name}.nii`), header);
    writeFileSync(join(labels, 'dataset.json'), JSON.stringify({ labels: { background: 5, ball: 7, box: 300 } }));
    const { document } = await evaluate({ pred: out, labels });
    expect(Object.keys(document.cases)).toEqual([name]);
    // The probabilities beside it lie on the same grid.
    const beside = readdirSync(out).filter((one) => one.includes('_probabilities'));
    expect(beside).toHaveLength(1);
    const probabilities = await readNifti(join(out, beside[0]!));
    expect(probabilities.header.channels).toBe(3);
    expect(probabilities.header.affine).toEqual((await readNifti(input)).header.affine);
  });
});
