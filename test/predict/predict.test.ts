/** Prediction on files: every grid, value and layout that a user may come with, and nothing of one case in another. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import type { Backend } from '../../src/backend/types.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../../src/data/files.js';
import { readNifti, toRas, writeNifti } from '../../src/data/nifti/index.js';
import type { Triple, VoxelArray } from '../../src/volume.js';
import type { MaclError } from '../../src/errors.js';
import { predict, Segmenter } from '../../src/index.js';
import { finetune, type FinetuneOptions } from '../../src/train/finetune.js';
import { loadSegmentModel } from '../../src/model/model-file.js';
import { predictFiles, type PredictFilesOptions } from '../../src/predict/predict.js';
import { device, LEARNS, scratchFolder, tinyFinetune, toyDataset, toyVolume } from '../train/toy.js';

const root = scratchFolder();
const cacheDir = join(root, 'cache');
let data: string;
let backend: Backend;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'), { values: [0, 7, 300] });
  backend = await openBackend(device, { threads: 2 });
  await tune('model', { config: tinyFinetune({ ...LEARNS }) });
  return () => backend.close();
});

const tune = (out: string, more: Partial<FinetuneOptions>) =>
  finetune({ data, out: join(root, out), cacheDir, device, threads: 2, config: tinyFinetune(), ...more });

async function segment(model: string, input: string, out: string, more: Partial<PredictFilesOptions> = {}) {
  const base = { mirror: false, probabilities: false, nonFinite: 'refuse' } as const;
  const options = { ...base, input, out: join(root, out), ...more };
  return predictFiles(await loadSegmentModel(join(root, model)), backend, options);
}
const volumeFile = (name: string, shape: Triple, voxels: VoxelArray, spacingMm: Triple = [1, 1, 1]): Promise<void> =>
  writeNifti(name, {
    shape: [shape[2], shape[1], shape[0]],
    affine: Float64Array.from([spacingMm[2], 0, 0, 3, 0, spacingMm[1], 0, -4, 0, 0, spacingMm[0], 5, 0, 0, 0, 1]),
    voxels,
  });
async function failure(promise: Promise<unknown>): Promise<MaclError> {
  return (await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  )) as MaclError;
}

describe('a result', () => {
  it("has the dataset's own values, in a type that holds them, and its classes are about right", async () => {
    await segment('model', join(data, 'imagesTr/toy_1.nii.gz'), 'values');
    const { header, voxels } = await readNifti(join(root, 'values/toy_1.nii.gz'));
    expect(header.datatype).toBe('int16');
    expect([...new Set(voxels)].sort((a, b) => a - b)).toEqual([0, 7, 300]);
    const truth = await readNifti(join(data, 'labelsTr/toy_1.nii.gz'));
    const right = Array.from(voxels).filter((v, i) => v === truth.voxels[i]).length;
    expect(right / voxels.length).toBeGreaterThan(0.8);
  });

  it('keeps form codes and extensions of its input', async () => {
    const { makeNifti, extension } = await import('../data/make-nifti.js');
    const file = join(root, 'extended.nii');
    const sform = [-2, 0, 0, 9, 0, 0, 2, 8, 0, 1.5, 0, 7];
    const dims = [9, 10, 11];
    const bytes = Uint8Array.from({ length: 990 }, (_, i) => (i * 37) % 251);
    writeFileSync(
      file,
      makeNifti({ dims, sform, extensions: extension(32), data: bytes, pixdim: [1, 2, 1.5, 2, 1, 1, 1, 1] }),
    );
    await segment('model', file, 'extended');
    const [given, found] = [await readNifti(file), await readNifti(join(root, 'extended/extended.nii'))];
    expect([...found.header.affine]).toEqual([...given.header.affine]);
    expect(found.extensions).toEqual(given.extensions);
    const [a, b] = [readFileSync(file), readFileSync(join(root, 'extended/extended.nii'))];
    // qform and sform codes, quaternion, offsets, sform rows.
    expect(b.subarray(252, 328)).toEqual(a.subarray(252, 328));
  });

  it('of a volume smaller than the patch, and of one voxel, has its size', async () => {
    for (const shape of [
      [3, 5, 4],
      [1, 1, 1],
      [1, 20, 2],
    ] as const) {
      const name = `small-${shape.join('-')}.nii.gz`;
      const voxels = Float32Array.from({ length: shape[0] * shape[1] * shape[2] }, (_, i) => 100 + 31 * (i % 9));
      await volumeFile(join(root, name), shape, voxels);
      await segment('model', join(root, name), 'small');
      const { header, voxels: found } = await readNifti(join(root, 'small', name));
      expect([...header.shape]).toEqual([shape[2], shape[1], shape[0]]);
      expect([...found].every((v) => [0, 7, 300].includes(v))).toBe(true);
    }
  });

  it('with --probabilities has a volume a class that sums to 1 and agrees with the labels', async () => {
    const shape = [9, 11, 13] as const;
    const file = join(root, 'odd.nii.gz');
    await volumeFile(file, shape, toyVolume(3, shape).voxels, [1.5, 1, 2]);
    await segment('model', file, 'probable', { probabilities: true });
    expect(readdirSync(join(root, 'probable')).sort()).toEqual(['odd.nii.gz', 'odd_probabilities.nii.gz']);
    const labels = await readNifti(join(root, 'probable/odd.nii.gz'));
    const p = await readNifti(join(root, 'probable/odd_probabilities.nii.gz'));
    const n = labels.voxels.length;
    expect(p.voxels.length).toBe(3 * n);
    expect([...p.header.affine]).toEqual([...labels.header.affine]);
    for (let v = 0; v < n; v++) {
      const row = [0, 1, 2].map((k) => p.voxels[k * n + v]!);
      expect(Math.abs(row[0]! + row[1]! + row[2]! - 1)).toBeLessThan(1e-5);
      expect([0, 7, 300][row.indexOf(Math.max(...row))]).toBe(labels.voxels[v]);
    }
  });

  it('with --mirror is that of the mirrored volume, mirrored', async () => {
    const shape = [10, 12, 14] as const;
    const { voxels } = toyVolume(5, shape);
    await volumeFile(join(root, 'plain.nii'), shape, voxels);
    // Turned round in space, not only in storage.
    await volumeFile(join(root, 'turned.nii'), shape, voxels.slice().reverse());
    await tune('mirrored', { config: tinyFinetune({ ...LEARNS, augment: { mirror: true } }) });
    for (const [n, mirror] of [false, true].entries()) {
      await segment('mirrored', join(root, 'plain.nii'), `mirror-${n}`, { mirror });
      await segment('mirrored', join(root, 'turned.nii'), `mirror-${n}`, { mirror });
    }
    const of = async (n: number, name: string) => (await readNifti(join(root, `mirror-${n}`, name))).voxels;
    const [plain, mirrored] = [await of(0, 'plain.nii'), await of(1, 'plain.nii')];
    expect(Array.from(mirrored)).not.toEqual(Array.from(plain));
    const agree = (a: VoxelArray, b: VoxelArray) =>
      Array.from(a).filter((v, i) => v === b[b.length - 1 - i]).length / a.length;
    // Sums in another order: a voxel or two may be a tie.
    expect(agree(mirrored, await of(1, 'turned.nii'))).toBeGreaterThan(0.995);
    expect(agree(plain, await of(0, 'turned.nii'))).toBeLessThan(0.995);
  });

  it('with --mirror is refused of a model that was trained without, and mirrors no other axes than training', async () => {
    const input = join(data, 'imagesTr/toy_1.nii.gz');
    const error = await failure(segment('model', input, 'unmirrored', { mirror: true }));
    expect([error.code, error.details.field]).toEqual(['config', 'mirror']);
    expect(error.message).toMatch(/model\.safetensors: mirror: the model was trained without mirroring/);
    expect(existsSync(join(root, 'unmirrored'))).toBe(false);
    const segmenter = await Segmenter.open(join(root, 'model'), { device });
    const { volume } = await toRas(await readNifti(input));
    expect((await failure(segmenter.segment(volume, { mirror: true }))).details.field).toBe('mirror');
    await segmenter.close();

    const one = await tune('mirrored-w', { config: tinyFinetune({ augment: { mirror: [false, false, true] } }) });
    const count = async (mirror: boolean) => {
      const tiles: number[] = [];
      await segment('mirrored-w', input, `mirrored-w-${mirror}`, { mirror, onCase: (e) => tiles.push(e.tiles) });
      return tiles[0]!;
    };
    expect(await count(true)).toBe(2 * (await count(false)));
    // A model of before augmentation was kept in it, as far as that is known: refused too.
    const { tensors, metadata } = await readSafetensorsFile(one.model);
    const { augment: _, ...config } = JSON.parse(metadata['macl.config']!) as { augment: unknown };
    await writeSafetensorsFile(join(root, 'old.safetensors'), tensors, {
      ...metadata,
      'macl.config': JSON.stringify(config),
    });
    expect((await failure(segment('old.safetensors', input, 'old', { mirror: true }))).details.field).toBe('mirror');
    await segment('old.safetensors', input, 'old');
  });

  it('of voxels that are not finite is refused by name, or zeroed where the model says so', async () => {
    const shape = [9, 9, 9] as const;
    const { voxels } = toyVolume(2, shape);
    voxels[100] = NaN;
    const file = join(root, 'nan.nii');
    await volumeFile(file, shape, voxels);
    const error = await failure(segment('model', file, 'nan'));
    expect([error.code, error.details.file]).toEqual(['file', file]);
    expect(readdirSync(join(root, 'nan'))).toEqual([]);
    await segment('model', file, 'nan', { nonFinite: 'zero' });
    expect(readdirSync(join(root, 'nan'))).toEqual(['nan.nii']);
  });

  it('hardly depends on one hot voxel; a model that only scales says by how much it does', async () => {
    const shape = [12, 14, 16] as const;
    const { voxels } = toyVolume(0, shape);
    await volumeFile(join(root, 'clean.nii'), shape, voxels);
    voxels[100] = 3e5;
    await volumeFile(join(root, 'hot.nii'), shape, voxels);
    const config = tinyFinetune({ ...LEARNS, data: { normalize: 'case' } });
    await tune('scaled', { config });
    for (const [model, says] of [
      ['model', false],
      ['scaled', true],
    ] as const) {
      const notes: string[] = [];
      const onNote = (words: string): void => void notes.push(words);
      for (const name of ['clean', 'hot']) await segment(model, join(root, `${name}.nii`), `hot-${model}`, { onNote });
      const labels = async (name: string) => (await readNifti(join(root, `hot-${model}`, name))).voxels;
      const [clean, hot] = [await labels('clean.nii'), await labels('hot.nii')];
      const same = Array.from(clean).filter((v, i) => v === hot[i]).length / clean.length;
      if (says) {
        expect(notes).toHaveLength(1);
        expect(notes[0]).toMatch(/hot\.nii: the largest value 300000 lies \d+ deviations .*"robust"/);
        expect(same).toBeLessThan(0.9);
      } else {
        expect(notes).toEqual([]);
        expect(same).toBeGreaterThan(0.98);
      }
    }
  });
});

describe('memory', () => {
  it('that a volume needs at the model’s spacing is known before it is taken, and the next volume is segmented', async () => {
    const input = join(root, 'huge');
    mkdirSync(input);
    // Half a metre a voxel, for a model of 1 mm.
    await volumeFile(join(input, 'huge.nii'), [16, 16, 16], toyVolume(0, [16, 16, 16]).voxels, [500, 500, 500]);
    const error = await failure(segment('model', input, 'huge-out'));
    expect(error.code).toBe('memory');
    expect(error.details.file).toBe(join(input, 'huge.nii'));
    expect(error.details.neededBytes).toBeGreaterThan(4 * 8000 ** 3);
    expect(error.message).toMatch(/8000×8000×8000 .*needed.*free/);
    expect(readdirSync(join(root, 'huge-out'))).toEqual([]);
    await segment('model', join(data, 'imagesTr/toy_1.nii.gz'), 'huge-out');
    expect(readdirSync(join(root, 'huge-out'))).toEqual(['toy_1.nii.gz']);
  });
});

describe('a folder', () => {
  it('gives each volume what it gets alone, whatever lies beside it; other files are named and skipped', async () => {
    const input = join(root, 'many');
    mkdirSync(input);
    const shapes = [
      [9, 10, 11],
      [16, 8, 12],
      [5, 20, 7],
    ] as const;
    for (const [n, shape] of shapes.entries()) {
      const { voxels } = toyVolume(n, shape, undefined, n === 1 ? 1e6 : 1);
      await volumeFile(join(input, `c${n}.nii${n === 2 ? '' : '.gz'}`), shape, voxels);
    }
    writeFileSync(join(input, 'notes.txt'), 'x');
    writeFileSync(join(input, '._c0.nii.gz'), 'x');
    const notes: string[] = [];
    await segment('model', input, 'many-out', { onNote: (m) => notes.push(m) });
    expect(notes).toEqual([expect.stringContaining('notes.txt')]);
    const names = readdirSync(join(root, 'many-out')).sort();
    expect(names).toEqual(['c0.nii.gz', 'c1.nii.gz', 'c2.nii']);
    for (const name of names) {
      await segment('model', join(input, name), 'alone');
      expect(readFileSync(join(root, 'alone', name))).toEqual(readFileSync(join(root, 'many-out', name)));
    }
  });

  it('keeps numbers that are no channels in the names, in a folder and file by file', async () => {
    const input = join(root, 'numbered');
    mkdirSync(input);
    const from = join(data, 'imagesTr/toy_1.nii.gz');
    for (const name of ['c_0000', 'c_0001', 'd_0007', 'e_0000', 'f', 'f_0000'])
      copyFileSync(from, join(input, `${name}.nii.gz`));
    const notes: string[] = [];
    const written = await segment('model', input, 'numbered-out', { onNote: (m) => notes.push(m) });
    const expected = ['c_0000', 'c_0001', 'd_0007', 'e', 'f', 'f_0000'];
    expect(written.map((w) => w.id)).toEqual(expected);
    expect(readdirSync(join(root, 'numbered-out')).sort()).toEqual(expected.map((n) => `${n}.nii.gz`));
    expect(notes.join()).toMatch(/c_0000.nii.gz, c_0001.nii.gz: a case each/);
    for (const name of ['c_0001', 'd_0007', 'e_0000'])
      await segment('model', join(input, `${name}.nii.gz`), 'numbered-single');
    expect(readdirSync(join(root, 'numbered-single')).sort()).toEqual(['c_0001.nii.gz', 'd_0007.nii.gz', 'e.nii.gz']);
  });

  it('tells what was noticed while reading, and goes on past a link that leads nowhere', async () => {
    const input = join(root, 'noticed');
    mkdirSync(input);
    await volumeFile(join(input, 'a.nii'), [8, 9, 10], toyVolume(2, [8, 9, 10]).voxels);
    writeFileSync(join(input, 'a.nii'), Buffer.concat([readFileSync(join(input, 'a.nii')), Buffer.alloc(100)]));
    symlinkSync(join(root, 'nowhere.nii'), join(input, 'b.nii'));
    const notes: string[] = [];
    const error = await failure(segment('model', input, 'noticed-out', { onNote: (m) => notes.push(m) }));
    expect([error.code, error.details.found]).toEqual(['dataset', ['b']]);
    expect(notes.join('\n')).toMatch(/a\.nii: 100 bytes after the last voxel/);
    expect(readdirSync(join(root, 'noticed-out'))).toEqual(['a.nii']);
  });

  it('with damaged files gives the results of the others, and an error that names all of the damaged', async () => {
    const input = join(root, 'damaged');
    mkdirSync(input);
    for (const n of [1, 2]) copyFileSync(join(data, `imagesTr/toy_${n}.nii.gz`), join(input, `b_${n}.nii.gz`));
    writeFileSync(join(input, 'a.nii.gz'), 'no');
    writeFileSync(join(input, 'c.nii'), readFileSync(join(input, 'b_1.nii.gz')).subarray(0, 100));
    const notes: string[] = [];
    const error = await failure(segment('model', input, 'damaged-out', { onNote: (m) => notes.push(m) }));
    expect([error.code, error.details.found]).toEqual(['dataset', ['a', 'c']]);
    for (const name of ['a.nii.gz', 'c.nii']) {
      expect(error.message).toContain(join(input, name));
      expect(notes.join('\n')).toContain(join(input, name));
    }
    expect(readdirSync(join(root, 'damaged-out'))).toEqual(['b_1.nii.gz', 'b_2.nii.gz']);
  });

  it('is not overwritten by its own results', async () => {
    const input = join(root, 'own');
    mkdirSync(input);
    copyFileSync(join(data, 'imagesTr/toy_1.nii.gz'), join(input, 'toy_1.nii.gz'));
    const before = readFileSync(join(input, 'toy_1.nii.gz'));
    for (const from of [input, join(input, 'toy_1.nii.gz')]) {
      const error = await failure(segment('model', from, 'own'));
      expect([error.code, error.details.file]).toEqual(['config', join(input, 'toy_1.nii.gz')]);
    }
    expect(readFileSync(join(input, 'toy_1.nii.gz'))).toEqual(before);
  });

  it('that is empty or absent is an error with its name', async () => {
    mkdirSync(join(root, 'nothing'));
    expect((await failure(segment('model', join(root, 'nothing'), 'x'))).details.file).toBe(join(root, 'nothing'));
    expect((await failure(segment('model', join(root, 'absent'), 'x'))).details.file).toBe(join(root, 'absent'));
  });
});

describe('several channels', () => {
  beforeAll(async () => {
    const two = await toyDataset(join(root, 'two'), { channels: 2 });
    await tune('two-model', { data: two });
  });

  it('come as files of their own, in a folder or by the name of one, or as one file', async () => {
    const images = join(root, 'two/imagesTr');
    const written = await segment('two-model', images, 'two-out');
    expect(written.map((w) => w.id)).toEqual(['toy_1', 'toy_2', 'toy_3', 'toy_4']);
    expect(readdirSync(join(root, 'two-out')).sort()).toEqual([1, 2, 3, 4].map((n) => `toy_${n}.nii.gz`));
    const whole = readFileSync(join(root, 'two-out/toy_2.nii.gz'));
    for (const channel of ['0000', '0001']) {
      await segment('two-model', join(images, `toy_2_${channel}.nii.gz`), `two-one-${channel}`);
      expect(readFileSync(join(root, `two-one-${channel}`, 'toy_2.nii.gz'))).toEqual(whole);
    }
    const both = await Promise.all(['0000', '0001'].map((c) => readNifti(join(images, `toy_2_${c}.nii.gz`))));
    const voxels = new Float32Array(2 * both[0]!.voxels.length);
    both.forEach((b, c) => voxels.set(b.voxels, c * b.voxels.length));
    mkdirSync(join(root, 'joined'));
    await writeNifti(join(root, 'joined/toy_2.nii.gz'), { like: both[0]!, voxels, channels: 2 });
    await segment('two-model', join(root, 'joined'), 'joined-out');
    const joined = await readNifti(join(root, 'joined-out/toy_2.nii.gz'));
    expect(Array.from(joined.voxels)).toEqual(Array.from((await readNifti(join(root, 'two-out/toy_2.nii.gz'))).voxels));
  });

  it('keep the extensions and the grid of the first file', async () => {
    const { makeNifti, extension } = await import('../data/make-nifti.js');
    const input = join(root, 'two-extended');
    mkdirSync(input);
    const dims = [9, 10, 11];
    for (const channel of [0, 1]) {
      const bytes = Uint8Array.from({ length: 990 }, (_, i) => (i * (37 + channel)) % 251);
      const sform = [0, -1, 0, 9, 1, 0, 0, 8, 0, 0, 1, 7];
      const extensions = channel === 0 ? extension(32) : new Uint8Array(0);
      writeFileSync(join(input, `x_000${channel}.nii`), makeNifti({ dims, sform, extensions, data: bytes }));
    }
    await segment('two-model', input, 'two-extended-out');
    const [given, found] = [
      await readNifti(join(input, 'x_0000.nii')),
      await readNifti(join(root, 'two-extended-out/x.nii')),
    ];
    expect([...found.header.affine]).toEqual([...given.header.affine]);
    expect(found.extensions).toEqual(given.extensions);
    expect(found.extensions.length).toBeGreaterThan(16);
  });

  it('that are missing are named, and the other cases are written', async () => {
    const input = join(root, 'gap');
    mkdirSync(input);
    const from = (c: number) => join(root, `two/imagesTr/toy_1_000${c}.nii.gz`);
    for (const [name, c] of [
      ['p_0000', 0],
      ['p_0002', 1],
      ['q_0000', 0],
      ['q_0001', 1],
    ] as const)
      copyFileSync(from(c), join(input, `${name}.nii.gz`));
    const error = await failure(segment('two-model', input, 'gap-out'));
    expect(error.message).toMatch(/p_0001\.nii\.gz is missing, p_0002\.nii\.gz is one more/);
    expect(readdirSync(join(root, 'gap-out'))).toEqual(['q.nii.gz']);
  });

  it('are never made up: a volume with another number than the model takes is refused', async () => {
    const images = join(root, 'one-of-two');
    mkdirSync(images);
    copyFileSync(join(root, 'two/imagesTr/toy_1_0000.nii.gz'), join(images, 'toy_1_0000.nii.gz'));
    for (const [model, input] of [
      ['two-model', images],
      ['two-model', join(data, 'imagesTr/toy_1.nii.gz')],
      ['model', join(root, 'joined')],
    ] as const) {
      const error = await failure(segment(model, input, 'channels'));
      expect([error.code, error.message]).toEqual(['dataset', expect.stringMatching(/channel/)]);
      expect(error.details.expected).toBe(model === 'model' ? 1 : 2);
    }
  });
});

describe('other models', () => {
  it('2-D along each axis: labels and probabilities on the own grid', async () => {
    for (const sliceAxis of ['D', 'H', 'W'] as const) {
      const model = `flat-${sliceAxis}`;
      const config = tinyFinetune({
        model: { dims: 2, filters: 4 },
        data: { patch: [1, 8, 8], sliceAxis },
        train: LEARNS.train,
        optimizer: LEARNS.optimizer,
      });
      await tune(model, { config });
      const shape = [9, 10, 13] as const;
      const { voxels } = toyVolume(4, shape);
      await volumeFile(join(root, `${model}.nii`), shape, voxels);
      await segment(model, join(root, `${model}.nii`), 'flat', { probabilities: true });
      const found = await readNifti(join(root, 'flat', `${model}.nii`));
      expect([...found.header.shape]).toEqual([13, 10, 9]);
      const truth = toyVolume(4, shape, [0, 7, 300]).labels;
      const right = Array.from(found.voxels).filter((v, i) => v === truth[i]).length;
      expect(right / truth.length).toBeGreaterThan(0.7);
      const p = await readNifti(join(root, 'flat', `${model}_probabilities.nii`));
      const n = truth.length;
      for (let v = 0; v < n; v += 7) {
        const row = [0, 1, 2].map((k) => p.voxels[k * n + v]!);
        expect([0, 7, 300][row.indexOf(Math.max(...row))]).toBe(found.voxels[v]);
      }
    }
  });

  it('at another spacing: the result lies on the input’s grid', async () => {
    await tune('coarse', { config: tinyFinetune({ data: { spacingMm: [2, 1.5, 0.8] }, ...LEARNS }) });
    const shape = [12, 14, 16] as const;
    const { voxels } = toyVolume(1, shape);
    await volumeFile(join(root, 'coarse.nii'), shape, voxels);
    await segment('coarse', join(root, 'coarse.nii'), 'coarse-out');
    const found = await readNifti(join(root, 'coarse-out/coarse.nii'));
    expect([...found.header.shape]).toEqual([16, 14, 12]);
    const truth = toyVolume(1, shape, [0, 7, 300]).labels;
    expect(Array.from(found.voxels).filter((v, i) => v === truth[i]).length / truth.length).toBeGreaterThan(0.7);
  });

  it('the same on wasm, up to ties', async ({ skip }) => {
    const wasm = await openBackend('wasm', { threads: 1 }).catch(() => null);
    if (!wasm) return skip('the WebAssembly modules are not built');
    try {
      const options = {
        mirror: false,
        probabilities: false,
        nonFinite: 'refuse',
        input: join(data, 'imagesTr/toy_1.nii.gz'),
      } as const;
      const model = await loadSegmentModel(join(root, 'model'));
      await predictFiles(model, wasm, { ...options, out: join(root, 'on-wasm') });
      await predictFiles(model, backend, { ...options, out: join(root, 'on-cpu') });
      const [a, b] = await Promise.all(['on-wasm', 'on-cpu'].map((o) => readNifti(join(root, o, 'toy_1.nii.gz'))));
      const same = Array.from(a!.voxels).filter((v, i) => v === b!.voxels[i]).length;
      expect(same / a!.voxels.length).toBeGreaterThan(0.998);
    } finally {
      await wasm.close();
    }
  });
});

describe('from memory', () => {
  it('is what files give; calls at once do not mix', async () => {
    const segmenter = await Segmenter.open(join(root, 'model'), { device });
    expect(segmenter.classes.map((c) => c.value)).toEqual([0, 7, 300]);
    const volumes = await Promise.all(
      [1, 2, 3].map(async (n) => (await toRas(await readNifti(join(data, `imagesTr/toy_${n}.nii.gz`)))).volume),
    );
    const together = await Promise.all(volumes.map((v) => segmenter.segment(v)));
    await segmenter.close();
    await predict({ model: join(root, 'model'), input: join(data, 'imagesTr'), out: join(root, 'from-files'), device });
    for (const [n, labels] of together.entries()) {
      const file = await readNifti(join(root, `from-files/toy_${n + 1}.nii.gz`));
      expect(Array.from(labels)).toEqual(Array.from(file.voxels));
    }
    expect((await failure(segmenter.segment(volumes[0]!))).code).toBe('state');
  });

  it('rejects an aborted call that still waits for another', async () => {
    const segmenter = await Segmenter.open(join(root, 'model'), { device });
    const { volume } = await toRas(await readNifti(join(data, 'imagesTr/toy_1.nii.gz')));
    const order: string[] = [];
    const controller = new AbortController();
    const first = segmenter.segment(volume).then(() => order.push('first'));
    const waits = failure(segmenter.segment(volume, { signal: controller.signal })).then((e) => order.push(e.code));
    const third = segmenter.segment(volume).then(() => order.push('third'));
    controller.abort();
    await Promise.all([first, waits, third]);
    // The other two take turns: either may be through first.
    expect(order[0]).toBe('aborted');
    expect(order.sort()).toEqual(['aborted', 'first', 'third']);
    await segmenter.close();
  });

  it('refuses what cannot be: too few voxels, NaN, another number of channels', async () => {
    const segmenter = await Segmenter.open(join(root, 'model'), { device });
    const { volume } = await toRas(await readNifti(join(data, 'imagesTr/toy_1.nii.gz')));
    const voxels = Float32Array.from(volume.voxels);
    const whole = await segmenter.segment({ ...volume, voxels });
    const nan = voxels.slice();
    nan[17] = NaN;
    for (const [wrong, message] of [
      [{ ...volume, voxels: voxels.subarray(1) }, /values, found/],
      [{ ...volume, voxels: nan }, /voxels: 1 are NaN/],
      [{ ...volume, channels: 2, voxels: Float32Array.from([...voxels, ...voxels]) }, /channels/],
    ] as const)
      expect((await failure(segmenter.segment(wrong))).message).toMatch(message);
    expect(await segmenter.segment({ ...volume, voxels })).toEqual(whole);
    await segmenter.close();
    const zero = await loadSegmentModel(join(root, 'model'));
    await tune('zero-model', { config: tinyFinetune({ ...LEARNS, data: { nonFinite: 'zero' } }) });
    expect(zero.config.data.nonFinite).toBe('refuse');
    const other = await Segmenter.open(join(root, 'zero-model'), { device });
    const zeroed = voxels.slice();
    zeroed[17] = 0;
    expect(await other.segment({ ...volume, voxels: nan })).toEqual(await other.segment({ ...volume, voxels: zeroed }));
    expect(nan[17]).toBeNaN();
    await other.close();
  });
});
