import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeNifti } from '../../src/data/nifti/index.js';
import { type Triple } from '../../src/volume.js';
import { evaluateFolders } from '../../src/predict/evaluate-files.js';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'macl-evaluate-'));
  for (const folder of ['pred', 'other', 'labelsTr']) await mkdir(join(root, folder));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const SHAPE: Triple = [6, 5, 4];
/** 1×1×3 mm, the file's own axes. */
const AFFINE = Float64Array.of(1, 0, 0, -3, 0, 1, 0, 7, 0, 0, 3, 2, 0, 0, 0, 1);

/** i fastest. */
function volume(label: (i: number, j: number, k: number) => number, [ni, nj, nk] = SHAPE): Uint8Array {
  return Uint8Array.from({ length: ni * nj * nk }, (_, n) =>
    label(n % ni, Math.floor(n / ni) % nj, Math.floor(n / (ni * nj))),
  );
}

async function write(
  name: string,
  voxels: Uint8Array | Float32Array,
  shape: Triple = SHAPE,
  affine = AFFINE,
): Promise<void> {
  await writeNifti(join(root, name), { shape, affine, voxels });
}

const options = () => ({ pred: join(root, 'pred'), labels: join(root, 'labelsTr') });
const LEFT = volume((i) => (i < 3 ? 1 : 0));
const TWO = volume((i, _j, k) => (i < 2 ? 1 : k === 3 ? 5 : 0));

describe('evaluateFolders', () => {
  it('reads both folders, in mm, with the names of dataset.json', async () => {
    await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels: { 0: 'background', 1: 'a', 5: 'b' } }));
    await write('labelsTr/one.nii.gz', TWO);
    await write(
      'pred/one.nii.gz',
      volume((i, _j, k) => (i < 2 ? 1 : k === 2 ? 5 : 0)),
    );
    await write('labelsTr/two.nii', LEFT);
    await write('pred/two.nii', LEFT);
    await write('labelsTr/three.nii', LEFT);
    await writeFile(join(root, 'pred', '._one.nii.gz'), 'not a volume');
    const seen: string[] = [];
    const { document, notes } = await evaluateFolders({
      ...options(),
      onProgress: (done, total, name) => seen.push(`${done}/${total} ${name}`),
    });
    expect(seen).toEqual(['1/2 one', '2/2 two']);
    expect(Object.keys(document.cases)).toEqual(['one', 'two']);
    expect(document.classes).toEqual({ '1': 'a', '5': 'b' });
    expect(document.cases['one']!['1']!.dice).toBe(1);
    // A slab one slice away along k, where a voxel is 3 mm.
    expect(document.cases['one']!['5']).toMatchObject({ dice: 0, hd95_monai: 3, asd: 3, assd: 3 });
    expect(document.cases['two']!['5']!.empty).toBe('both');
    expect(notes).toEqual(['1 of 3 labels have no prediction, left out: three']);
    expect(document.missing).toEqual(['three']);
  });

  it('compares on one grid, however the files are turned', async () => {
    await write('labelsTr/one.nii.gz', TWO);
    // The same voxels with i running the other way.
    const flipped = AFFINE.slice();
    flipped[0] = -1;
    flipped[3] = -3 + (SHAPE[0] - 1);
    await write(
      'pred/one.nii.gz',
      volume((i, _j, k) => (SHAPE[0] - 1 - i < 2 ? 1 : k === 3 ? 5 : 0)),
      SHAPE,
      flipped,
    );
    const { document } = await evaluateFolders(options());
    expect(document.mean['all']).toMatchObject({ dice: 1, assd: 0 });
    expect(Object.keys(document.mean)).toEqual(['1', '5', 'all']);
  });

  it('takes one file, beside a folder of labels or a file of any name', async () => {
    await write('labelsTr/one.nii.gz', TWO);
    await write('labelsTr/two.nii', LEFT);
    await write('pred/one.nii.gz', TWO);
    await write('other/else.nii', LEFT);
    const pred = join(root, 'pred/one.nii.gz');
    for (const labels of [join(root, 'labelsTr'), join(root, 'labelsTr/one.nii.gz')]) {
      const { document, notes } = await evaluateFolders({ pred, labels, against: join(root, 'other/else.nii') });
      expect(Object.keys(document.cases)).toEqual(['one']);
      expect(document).toMatchObject({ mean: { all: { dice: 1 } }, missing: [], against: { cases: 1 } });
      expect(notes).toEqual([]);
    }
    const pair = { pred: join(root, 'other/else.nii'), labels: join(root, 'labelsTr/two.nii') };
    expect((await evaluateFolders(pair)).document.cases['else']!['1']!.dice).toBe(1);
    const folder = { pred: join(root, 'pred'), labels: join(root, 'labelsTr/one.nii.gz') };
    expect(Object.keys((await evaluateFolders(folder)).document.cases)).toEqual(['one']);
    const wrong = { ...pair, labels: join(root, 'labelsTr') };
    await expect(evaluateFolders(wrong)).rejects.toMatchObject({ code: 'dataset', details: { found: ['else'] } });
    await expect(evaluateFolders({ ...pair, pred: join(root, 'none.nii') })).rejects.toMatchObject({ code: 'file' });
  });

  it('counts a label that only predictions hold as found where there is none', async () => {
    await write('labelsTr/one.nii.gz', LEFT);
    await write(
      'pred/one.nii.gz',
      volume((i) => (i < 3 ? 1 : i > 4 ? 2 : 0)),
    );
    const { document, notes } = await evaluateFolders(options());
    expect(document.cases['one']!['1']!.dice).toBe(1);
    expect(document.cases['one']!['2']).toMatchObject({ dice: 0, empty: 'ref' });
    expect(document.mean['all']!.dice).toBe(0.5);
    expect(notes).toEqual([expect.stringMatching(/label 2: in the predictions only/)]);
    // Regions cannot be evaluated; the values that they are made of can.
    const labels = { background: 0, whole: [1, 2], core: [2] };
    await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels }));
    const plain = await evaluateFolders(options());
    expect(Object.keys(plain.document.mean)).toEqual(['1', '2', 'all']);
    expect(plain.notes.join()).toMatch(/labels\["whole"\]: regions .*every value .* by itself/);
    await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels: { background: 0, a: 1 } }));
    await expect(evaluateFolders(options())).rejects.toMatchObject({ code: 'label', details: { found: [2] } });
  });

  it('finds out an image before anything is measured', async () => {
    const shape: Triple = [128, 128, 64];
    const image = Float32Array.from({ length: 128 * 128 * 64 }, (_, n) => n % 3000);
    await write('labelsTr/one.nii.gz', image, shape);
    await write('pred/one.nii.gz', image, shape);
    const start = performance.now();
    await expect(evaluateFolders(options())).rejects.toMatchObject({
      code: 'label',
      message: expect.stringMatching(
        /one\.nii\.gz: voxels: more than 256 distinct values: not a label volume/,
      ) as string,
    });
    expect(performance.now() - start).toBeLessThan(20_000);
  });

  it('reads labels that were saved through a scaling, and says what it overlooks of their places', async () => {
    await write('labelsTr/one.nii.gz', LEFT);
    const near = AFFINE.slice();
    near[3] += 0.3;
    await write(
      'pred/one.nii.gz',
      Float32Array.from(LEFT, (v) => v * 1.0000152587890625),
      SHAPE,
      near,
    );
    const { document, notes } = await evaluateFolders(options());
    expect(document.mean['all']!.dice).toBe(1);
    expect(notes).toEqual([expect.stringMatching(/corners lie up to 0\.3 mm/)]);
  });

  it('gives the paired difference, and names cases that one side has', async () => {
    for (const name of ['one', 'two']) {
      await write(`labelsTr/${name}.nii.gz`, LEFT);
      await write(`pred/${name}.nii.gz`, LEFT);
    }
    await write(
      'other/one.nii.gz',
      volume((i) => (i < 1 ? 1 : 0)),
    );
    const { document, notes } = await evaluateFolders({ ...options(), against: join(root, 'other') });
    expect(document.against!.cases).toBe(1);
    expect(document.against!.mean['1']!.dice).toBeCloseTo(0.5, 12);
    expect(notes.join()).toMatch(/left out of the difference: two/);
  });

  it.each<[string, () => Promise<void>, object]>([
    [
      'another shape',
      () => write('pred/one.nii.gz', new Uint8Array(6 * 5 * 3), [6, 5, 3]),
      { code: 'geometry', details: { field: 'grid' } },
    ],
    [
      'another affine',
      () => write('pred/one.nii.gz', LEFT, SHAPE, Float64Array.of(1, 0, 0, -1, 0, 1, 0, 7, 0, 0, 3, 3, 0, 0, 0, 1)),
      { code: 'geometry', details: { field: 'grid' } },
    ],
    [
      'a label outside the classes',
      async () => {
        await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels: { background: 0, a: 1 } }));
        await write(
          'pred/one.nii.gz',
          volume(() => 9),
        );
      },
      { code: 'label', details: { found: [9] } },
    ],
    [
      'labels that are not whole',
      () => write('pred/one.nii.gz', new Float32Array(120).fill(0.5)),
      { code: 'label', details: { found: 0.5 } },
    ],
    [
      'a prediction without label',
      () => write('pred/two.nii.gz', LEFT),
      { code: 'dataset', details: { found: ['two'] } },
    ],
    ['no prediction', () => Promise.resolve(), { code: 'dataset' }],
  ])('refuses %s and names the file', async (_, make, error) => {
    await write('labelsTr/one.nii.gz', LEFT);
    await make();
    const failure = expect(evaluateFolders(options())).rejects;
    await failure.toMatchObject(error);
    await expect(evaluateFolders(options())).rejects.toThrow(root);
  });

  it('judges nothing where the reference says ignore', async () => {
    await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels: { background: 0, a: 1, ignore: 2 } }));
    await write(
      'labelsTr/one.nii.gz',
      volume((i) => (i < 3 ? 1 : i < 5 ? 2 : 0)),
    );
    await write(
      'pred/one.nii.gz',
      volume((i) => (i < 5 ? 1 : 0)),
    );
    const { document } = await evaluateFolders(options());
    expect(document.cases['one']!['1']).toMatchObject({ dice: 1, hd95_monai: 0 });
  });

  it('takes the background that dataset.json names, and 0 is then no class', async () => {
    await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels: { background: 5, organ: 7 } }));
    const organ = volume((i) => (i < 3 ? 7 : 5));
    await write('labelsTr/one.nii.gz', organ);
    await write('pred/one.nii.gz', organ);
    const { document } = await evaluateFolders(options());
    expect(document.cases['one']).toEqual({ '7': expect.objectContaining({ dice: 1, assd: 0 }) as object });
    await write(
      'pred/one.nii.gz',
      volume((i) => (i < 3 ? 7 : 0)),
    );
    await expect(evaluateFolders(options())).rejects.toMatchObject({
      code: 'label',
      details: { expected: [5, 7], found: [0], file: join(root, 'pred/one.nii.gz') },
    });
  });

  it('judges nothing under ignore with another background, whatever the type of the prediction', async () => {
    // 263 in a uint8 would be 7, and 0 is a class of its own.
    for (const background of [5, 263]) {
      const labels = { background, zero: 0, organ: 7, ignore: 9 };
      await writeFile(join(root, 'dataset.json'), JSON.stringify({ labels }));
      await writeNifti(join(root, 'labelsTr/one.nii.gz'), {
        shape: SHAPE,
        affine: AFFINE,
        voxels: Int16Array.from(volume((i) => (i < 2 ? 7 : i < 4 ? 9 : 0))),
      });
      await write(
        'pred/one.nii.gz',
        volume((i) => (i < 4 ? 7 : 0)),
      );
      const { document } = await evaluateFolders(options());
      for (const label of ['0', '7']) expect(document.cases['one']![label]).toMatchObject({ dice: 1, hd95_monai: 0 });
    }
  });

  it('names ten of many cases without a prediction, and all of them in the document', async () => {
    await write('pred/c00.nii', LEFT);
    const names = Array.from({ length: 13 }, (_, n) => `c${String(n).padStart(2, '0')}`);
    for (const name of names) await write(`labelsTr/${name}.nii`, LEFT);
    const { document, notes } = await evaluateFolders(options());
    expect(document.missing).toEqual(names.slice(1));
    const shown = names.slice(1, 11).join(', ');
    expect(notes).toEqual([`12 of 13 labels have no prediction, left out: ${shown} and 2 more`]);
  });

  it('takes only the cases that are named', async () => {
    for (const name of ['a', 'b', 'c']) await write(`labelsTr/${name}.nii`, LEFT);
    for (const name of ['a', 'b', 'other']) await write(`pred/${name}.nii`, LEFT);
    await writeFile(join(root, 'splits.json'), JSON.stringify([{ train: ['a'], val: ['b', 'c'] }]));
    const { document, notes } = await evaluateFolders({ ...options(), cases: `${join(root, 'splits.json')}#0.val` });
    expect([Object.keys(document.cases), document.missing]).toEqual([['b'], ['c']]);
    expect(notes[0]).toBe('1 of 2 labels have no prediction, left out: c');
    await expect(evaluateFolders({ ...options(), cases: 'c' })).rejects.toThrow(/has none of the cases of --cases c/);
    await expect(evaluateFolders({ ...options(), cases: 'z' })).rejects.toThrow(/--cases z: not among the 3 cases/);
  });

  it('leaves the probabilities of a case out, not a case that is called so', async () => {
    await write('labelsTr/a0.nii.gz', LEFT);
    for (const folder of ['pred', 'other']) {
      await write(`${folder}/a0.nii.gz`, LEFT);
      const voxels = new Float32Array(240).fill(0.5);
      const file = join(root, folder, 'a0_probabilities.nii.gz');
      await writeNifti(file, { shape: SHAPE, affine: AFFINE, channels: 2, voxels });
      await writeNifti(file.replace('.gz', ''), { shape: SHAPE, affine: AFFINE, channels: 2, voxels });
    }
    const { document, notes } = await evaluateFolders({ ...options(), against: join(root, 'other') });
    expect([Object.keys(document.cases), notes, document.missing]).toEqual([['a0'], [], []]);
    for (const folder of ['pred', 'other']) await rm(join(root, folder, 'a0_probabilities.nii'));
    await write('labelsTr/a0_probabilities.nii.gz', LEFT);
    await write('pred/a0_probabilities.nii.gz', LEFT);
    const both = await evaluateFolders(options());
    expect(Object.keys(both.document.cases)).toEqual(['a0', 'a0_probabilities']);
    // Without the case that they belong to, nothing says what they are.
    for (const folder of ['pred', 'labelsTr']) await rm(join(root, folder, 'a0.nii.gz'));
    await rm(join(root, 'labelsTr/a0_probabilities.nii.gz'));
    await write('labelsTr/b.nii.gz', LEFT);
    await expect(evaluateFolders(options())).rejects.toMatchObject({ details: { found: ['a0_probabilities'] } });
  });
});
