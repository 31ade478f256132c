/** What predict writes, and what it never writes over: known before anything is computed. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Breather } from '../../src/breathe.js';
import { readNifti, writeNifti } from '../../src/data/nifti/index.js';
import type { MaclError } from '../../src/errors.js';
import { predict, type PredictOptions } from '../../src/index.js';
import { keepLargestComponents } from '../../src/segment/components.js';
import { finetune } from '../../src/train/finetune.js';
import { device, LEARNS, scratchFolder, tinyFinetune, toyDataset } from '../train/toy.js';

const root = scratchFolder();
let data: string;
let image: (n: number) => string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
  image = (n) => join(data, `imagesTr/toy_${n}.nii.gz`);
  const options = { data, cacheDir: join(root, 'cache'), device, threads: 2 } as const;
  await finetune({ ...options, out: join(root, 'a'), config: tinyFinetune({ ...LEARNS }) });
  await finetune({
    ...options,
    out: join(root, 'b'),
    config: tinyFinetune({ ...LEARNS, train: { ...LEARNS.train, seed: 9 } }),
  });
});

const run = (input: string, out: string, more: Partial<PredictOptions> = {}) =>
  predict({ model: join(root, 'a'), input, out: join(root, out), device, threads: 2, ...more });
async function failure(promise: Promise<unknown>): Promise<MaclError> {
  return (await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  )) as MaclError;
}
function folderOf(name: string, files: Record<string, number>): string {
  mkdirSync(join(root, name));
  for (const [file, n] of Object.entries(files)) copyFileSync(image(n), join(root, name, `${file}.nii.gz`));
  return join(root, name);
}

describe('a file that predict did not write', () => {
  it('is never replaced: reference labels stay, and nothing is computed', async () => {
    const labels = join(data, 'labelsTr');
    const before = readFileSync(join(labels, 'toy_1.nii.gz'));
    let tiles = 0;
    const error = await failure(
      predict({ model: join(root, 'a'), input: join(data, 'imagesTr'), out: labels, device, onCase: () => tiles++ }),
    );
    expect([error.code, error.details.field, tiles]).toEqual(['config', 'out', 0]);
    expect(error.message).toMatch(/toy_1\.nii\.gz, .*was not written by predict.*--overwrite/);
    expect(readFileSync(join(labels, 'toy_1.nii.gz'))).toEqual(before);
  });

  it('is replaced with --overwrite, and what predict wrote without', async () => {
    const out = folderOf('replaced', { toy_1: 2 });
    expect((await failure(run(image(1), 'replaced'))).code).toBe('config');
    await run(image(1), 'replaced', { overwrite: true });
    const first = readFileSync(join(out, 'toy_1.nii.gz'));
    await run(image(1), 'replaced');
    expect(readFileSync(join(out, 'toy_1.nii.gz'))).toEqual(first);
    // Another model's result is a result too.
    await run(image(1), 'replaced', { model: join(root, 'b') });
    expect(readFileSync(join(out, 'toy_1.nii.gz'))).not.toEqual(first);
  });

  it('is also one that was changed since, by hand say', async () => {
    await run(image(1), 'edited');
    const file = join(root, 'edited/toy_1.nii.gz');
    const found = await readNifti(file);
    await writeNifti(file, { like: found, voxels: found.voxels });
    await run(image(1), 'edited');
    const again = await readNifti(file);
    again.voxels[5] = again.voxels[5] === 0 ? 1 : 0;
    await writeNifti(file, { like: again, voxels: again.voxels });
    const edited = readFileSync(file);
    expect((await failure(run(image(1), 'edited'))).message).toMatch(/changed since/);
    expect(readFileSync(file)).toEqual(edited);
  });

  it.each(['text', 'a folder'])('may be anything: %s', async (kind) => {
    const out = join(root, `odd-${kind}`);
    mkdirSync(kind === 'text' ? out : join(out, 'toy_1.nii.gz'), { recursive: true });
    if (kind === 'text') writeFileSync(join(out, 'toy_1.nii.gz'), 'notes');
    const error = await failure(run(image(1), `odd-${kind}`));
    expect(error.details.file).toBe(join(out, 'toy_1.nii.gz'));
  });
});

describe('names', () => {
  it('that two results would have are refused before anything is computed', async () => {
    const input = folderOf('colliding', { a: 1, a_probabilities: 2 });
    const error = await failure(run(input, 'colliding-out', { probabilities: true }));
    expect([error.code, error.details.field]).toEqual(['config', 'out']);
    expect(error.message).toMatch(/a_probabilities\.nii\.gz: would be both the .* of a and the .* of a_probabilities/);
    expect(existsSync(join(root, 'colliding-out'))).toBe(false);
    expect((await run(input, 'colliding-out')).map((w) => w.id)).toEqual(['a', 'a_probabilities']);
  });

  it('that are too long are found out first; the longest that can be are written', async () => {
    const most = 'x'.repeat(255 - '.nii.gz'.length);
    const input = folderOf('long', { a: 1, [most]: 2 });
    const error = await failure(run(input, 'long-out', { probabilities: true }));
    expect([error.code, error.details.expected]).toEqual(['config', 255]);
    expect(existsSync(join(root, 'long-out'))).toBe(false);
    expect(await run(input, 'long-out')).toHaveLength(2);
    expect(readdirSync(join(root, 'long-out')).sort()).toEqual(['a.nii.gz', `${most}.nii.gz`]);
  });

  it('of one file are taken as they are given', async () => {
    await run(image(1), 'elsewhere');
    const written = await run(image(1), 'new/one.nii.gz', { probabilities: true });
    expect(written).toEqual([{ id: 'toy_1', file: join(root, 'new/one.nii.gz') }]);
    expect(readdirSync(join(root, 'new')).sort()).toEqual(['one.nii.gz', 'one_probabilities.nii.gz']);
    expect(readFileSync(join(root, 'new/one.nii.gz'))).toEqual(readFileSync(join(root, 'elsewhere/toy_1.nii.gz')));
    await run(image(1), 'new/plain.nii');
    expect(Array.from((await readNifti(join(root, 'new/plain.nii'))).voxels)).toEqual(
      Array.from((await readNifti(join(root, 'new/one.nii.gz'))).voxels),
    );
    const error = await failure(run(join(data, 'imagesTr'), 'new/many.nii.gz'));
    expect(error.message).toMatch(/names one file, and there are 4 cases/);
    await run(join(data, 'imagesTr'), 'new/of-many.nii.gz', { cases: 'toy_3' });
  });
});

describe('cases', () => {
  it('are those that the list names', async () => {
    const input = join(data, 'imagesTr');
    expect((await run(input, 'some', { cases: 'toy_2,toy_4' })).map((w) => w.id)).toEqual(['toy_2', 'toy_4']);
    writeFileSync(join(root, 'list.txt'), '# these\ntoy_3.nii.gz\n');
    expect((await run(input, 'some', { cases: join(root, 'list.txt') })).map((w) => w.id)).toEqual(['toy_3']);
    expect((await failure(run(input, 'some', { cases: 'toy_9' }))).message).toMatch(/--cases.*toy_9/);
  });

  it('whose results are there are left out with --continue, of the same model and settings alone', async () => {
    const input = join(data, 'imagesTr');
    await run(input, 'continued', { cases: 'toy_1,toy_2' });
    const file = (n: number) => join(root, `continued/toy_${n}.nii.gz`);
    const before = [1, 2].map((n) => statSync(file(n)).ino);
    const ran = new Set<string>();
    const written = await run(input, 'continued', { continue: true, onCase: ({ id }) => ran.add(id) });
    expect([...ran]).toEqual(['toy_3', 'toy_4']);
    expect(written.map(({ id, kept }) => [id, kept])).toEqual([
      ['toy_1', true],
      ['toy_2', true],
      ['toy_3', undefined],
      ['toy_4', undefined],
    ]);
    expect([1, 2].map((n) => statSync(file(n)).ino)).toEqual(before);
    for (const more of [{ model: join(root, 'b') }, { largestComponent: true }]) {
      const error = await failure(run(input, 'continued', { continue: true, ...more }));
      expect(error.message).toMatch(/another model or with other settings/);
    }
    // Labels alone are not all that is asked for now.
    expect((await run(input, 'continued', { continue: true, probabilities: true })).every((w) => !w.kept)).toBe(true);
    expect((await run(input, 'continued', { continue: true, probabilities: true })).every((w) => w.kept)).toBe(true);
  });
});

describe('several models', () => {
  it('give the mean of their probabilities; one of them twice gives its own', async () => {
    const [a, b] = [join(root, 'a'), join(root, 'b')];
    const results = async (model: string | string[], out: string) => {
      await run(image(1), out, { model, probabilities: true });
      const read = async (name: string) => (await readNifti(join(root, out, name))).voxels;
      return { labels: await read('toy_1.nii.gz'), p: await read('toy_1_probabilities.nii.gz') };
    };
    const [one, other, both, twice] = [
      await results(a, 'one'),
      await results(b, 'other'),
      await results([a, b], 'both'),
      await results([a, a], 'twice'),
    ];
    expect(Array.from(twice.labels)).toEqual(Array.from(one.labels));
    let off = 0;
    for (let i = 0; i < both.p.length; i++) off = Math.max(off, Math.abs(both.p[i]! - (one.p[i]! + other.p[i]!) / 2));
    expect(off).toBeLessThan(1e-6);
    const n = both.labels.length;
    const classes = both.p.length / n;
    for (let v = 0; v < n; v++) {
      const row = Array.from({ length: classes }, (_, k) => both.p[k * n + v]!);
      expect(both.labels[v]).toBe(row.indexOf(Math.max(...row)));
    }
    expect(Array.from(both.labels)).not.toEqual(Array.from(one.labels));
    // The order of the models decides on nothing but rounding, and the same order gives the same bits.
    expect(Array.from((await results([a, b], 'again')).p)).toEqual(Array.from(both.p));
  });

  it('of other classes are refused', async () => {
    const other = await toyDataset(join(root, 'other-data'), { values: [0, 1, 3] });
    await finetune({
      data: other,
      out: join(root, 'c'),
      cacheDir: join(root, 'cache'),
      device,
      config: tinyFinetune({ train: { steps: 1 } }),
    });
    const error = await failure(run(image(1), 'mixed', { model: [join(root, 'a'), join(root, 'c')] }));
    expect([error.code, error.details.field]).toEqual(['config', 'classes']);
    expect(error.message).toMatch(/expected 0, 1, 2 as in .*, found 0, 1, 3/);
  });
});

it('--largest-component leaves one part of each class', async () => {
  // Two of the volumes that the model knows, one behind the other: two balls, two boxes.
  const { header, voxels } = await readNifti(image(1));
  const more = (await readNifti(image(2))).voxels;
  const [w, h, d] = header.shape;
  const twice = Float32Array.of(...(voxels as Iterable<number>), ...(more as Iterable<number>));
  const file = join(root, 'twice.nii.gz');
  await writeNifti(file, { shape: [w, h, 2 * d], affine: header.affine, voxels: twice });
  await run(file, 'parts');
  await run(file, 'part', { largestComponent: true });
  const [all, one] = await Promise.all(['parts', 'part'].map((o) => readNifti(join(root, o, 'twice.nii.gz'))));
  const values = [...new Set(all!.voxels as Iterable<number>)].sort((a, b) => a - b);
  const indices = Uint8Array.from(all!.voxels as Iterable<number>, (value) => values.indexOf(value));
  const [width, height, depth] = all!.header.shape;
  // Several parts were there to be left out.
  const left = await keepLargestComponents(indices, [depth, height, width], values.length, new Breather());
  expect([values[0], values.length, left > 0]).toEqual([0, 3, true]);
  expect(Array.from(one!.voxels)).toEqual(Array.from(indices, (index) => values[index]));
});

it('an unfinished run gives its newest checkpoint, and says so', async () => {
  const controller = new AbortController();
  const options = { data, cacheDir: join(root, 'cache'), device, threads: 2 } as const;
  const config = tinyFinetune({ train: { steps: 40, checkpointEvery: 3 } });
  const out = join(root, 'unfinished');
  const onEvent = (e: { kind: string; step?: number }) =>
    void (e.kind === 'step' && e.step === 8 && controller.abort());
  await failure(finetune({ ...options, out, config, signal: controller.signal, onEvent }));
  const notes: string[] = [];
  await run(image(1), 'unfinished-out', { model: out, onNote: (m) => notes.push(m) });
  expect(notes.join()).toMatch(/the run is not finished: its weights after step 8 of 40 are taken/);
  const checkpoints = readdirSync(join(out, 'checkpoints')).sort();
  writeFileSync(join(out, 'checkpoints', checkpoints.at(-1)!), 'damaged');
  await run(image(1), 'unfinished-out', { model: out, onNote: (m) => notes.push(m) });
  expect(notes.join()).toMatch(/passed over a damaged checkpoint.*after step [367] of 40/s);
  // From there another run begins.
  const second = await finetune({
    ...options,
    out: join(root, 'second'),
    init: out,
    config: tinyFinetune({ train: { steps: 1 } }),
  });
  expect(existsSync(second.model)).toBe(true);
  mkdirSync(join(root, 'no-run'));
  expect((await failure(run(image(1), 'x', { model: join(root, 'no-run') }))).message).toMatch(
    /neither model\.safetensors nor a whole checkpoint/,
  );
});
