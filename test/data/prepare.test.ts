import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { memoryError, type MaclError } from '../../src/errors.js';
import { asCaseError, Cache, listCache, trimCache } from '../../src/data/cache.js';
import { planData } from '../../src/config/index.js';
import { openDataset } from '../../src/data/dataset.js';
import { fingerprint, plannerFingerprint } from '../../src/data/fingerprint.js';
import { fromHalf } from '../../src/half.js';
import {
  badCasesError,
  badFiles,
  prepareDataset,
  type PrepareOptions,
  type PrepareSettings,
} from '../../src/data/prepare/dataset.js';
import { Breather } from '../../src/breathe.js';
import { imageValues, type LoadedCase } from '../../src/data/prepare/prepared-case.js';
import { IDENTITY, makeNifti, type MakeNifti, put, ramp, testFolder } from './make-nifti.js';

const base = testFolder();
let counter = 0;

interface Toy {
  image: MakeNifti;
  label?: MakeNifti;
}

function toy(cases: Record<string, Toy>, json: object = {}): string {
  const root = join(base, `set${counter++}`);
  mkdirSync(join(root, 'imagesTr'), { recursive: true });
  mkdirSync(join(root, 'labelsTr'));
  for (const [id, { image, label }] of Object.entries(cases)) {
    put(join(root, 'imagesTr'), `${id}.nii.gz`, makeNifti(image));
    if (label) put(join(root, 'labelsTr'), `${id}.nii.gz`, makeNifti(label));
  }
  const all = { modality: { 0: 'MRI' }, labels: { 0: 'background', 3: 'three', 7: 'seven' }, ...json };
  writeFileSync(join(root, 'dataset.json'), JSON.stringify(all));
  return root;
}

const PLAIN: PrepareSettings = { spacingMm: null, normalize: [{ kind: 'case' }], storage: 'fp32' };

async function prepare(root: string, options: Partial<PrepareOptions> = {}): ReturnType<typeof prepareDataset> {
  const dataset = await openDataset(root);
  const caseIds = dataset.cases.map(({ id }) => id);
  return prepareDataset({
    dataset,
    caseIds,
    settings: PLAIN,
    cacheDir: join(base, 'cache', root.slice(-5)),
    ...options,
  });
}

async function failure(promise: Promise<unknown>): Promise<MaclError> {
  return promise.then(
    () => expect.fail('did not fail'),
    (error: unknown) => error as MaclError,
  );
}

const labelled = (values: number[]): MakeNifti => ({
  data: Uint8Array.from({ length: 24 }, (_, i) => values[i % values.length]!),
});

describe('prepareDataset', () => {
  it('normalises over voxels that are not zero, maps label values, keeps the grid', async () => {
    const data = Uint8Array.from({ length: 24 }, (_, i) => (i % 4 === 0 ? 0 : i));
    const sform = [-2, 0, 0, 5, 0, 3, 0, 0, 0, 0, 4, 0];
    const root = toy({ a: { image: { data, sform }, label: { ...labelled([0, 3, 7]), sform } } });
    const { cases, classes } = await prepare(root, { labels: 'required' });
    expect(classes.map(({ value }) => value)).toEqual([0, 3, 7]);
    const [item] = cases;
    expect(item!.source).toEqual({
      shape: [4, 3, 2],
      spacingMm: [4, 3, 2],
      affine: [2, 0, 0, 3, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1],
    });
    const loaded = await item!.load();
    const counted = [...data].filter((v) => v !== 0);
    const mean = counted.reduce((s, v) => s + v, 0) / counted.length;
    const std = Math.sqrt(counted.reduce((s, v) => s + (v - mean) ** 2, 0) / counted.length);
    // The first axis of the file runs right to left: turned.
    const turned = Array.from({ length: 24 }, (_, i) => data[i - (i % 2) + (1 - (i % 2))]!);
    turned.forEach((value, i) => expect(loaded.image[i]).toBeCloseTo((value - mean) / std, 5));
    const raw = Array.from({ length: 24 }, (_, i) => i % 3);
    expect([...loaded.labels!]).toEqual(Array.from({ length: 24 }, (_, i) => raw[i - (i % 2) + (1 - (i % 2))]!));
    expect(item!.classVoxels).toEqual([8, 8, 8]);
    const places = await item!.readForeground();
    expect(places[0]).toHaveLength(0);
    expect([...places[2]!]).toEqual([...loaded.labels!].flatMap((label, i) => (label === 2 ? [i] : [])));
  });

  it('clips and scales CT by the numbers of the data set, over its foreground', async () => {
    const image = (offset: number): MakeNifti => ({
      code: 4,
      bitpix: 16,
      data: new Uint8Array(Int16Array.from({ length: 24 }, (_, i) => (i < 12 ? -1000 : offset + i)).buffer),
    });
    const label = { data: Uint8Array.from({ length: 24 }, (_, i) => (i < 12 ? 0 : 3)) };
    const root = toy({ a: { image: image(0), label }, b: { image: image(100), label } }, { modality: { 0: 'CT' } });
    const dataset = await openDataset(root);
    const found = await fingerprint(dataset, { caseIds: ['a', 'b'], labels: true, cacheDir: join(base, 'fp') });
    expect(found.cases.map(({ shape }) => shape)).toEqual([
      [4, 3, 2],
      [4, 3, 2],
    ]);
    expect(found.labelVoxels).toEqual({ 0: 24, 3: 24 });
    const pool = [12, 112].flatMap((start) => Array.from({ length: 12 }, (_, i) => start + i)).sort((a, b) => a - b);
    const mean = pool.reduce((s, v) => s + v, 0) / 24;
    expect(found.channels[0]).toMatchObject({ from: 'foreground', median: 67.5, mean });
    expect(found.channels[0]!.p005).toBeCloseTo(12 + 0.005 * 23, 4);
    expect(found.channels[0]!.p995).toBeCloseTo(123 - 0.005 * 23, 4);
    expect(await fingerprint(dataset, { caseIds: ['b', 'a'], labels: true, cacheDir: join(base, 'fp') })).toEqual(
      found,
    );
    const plan = plannerFingerprint(found, dataset);
    expect(plan.cases[0]).toEqual({ id: 'a', shape: [4, 3, 2], spacingMm: [1, 1, 1], channels: 1, labelled: true });
    expect(plan.intensity[0]).toMatchObject({ min: 12, max: 123 });
    const normalize = planData(plan, { task: 'pretrain' }).normalization;
    const { cases } = await prepare(root, { settings: { ...PLAIN, normalize } });
    const loaded = await cases[0]!.load();
    const { p005: low, std } = found.channels[0]!;
    expect(loaded.image[0]).toBeCloseTo((low - mean) / std, 5);
    expect(loaded.image[13]).toBeCloseTo((13 - mean) / std, 5);
  });

  it('resamples a linear ramp to a linear ramp, labels to the nearest, edges in place', async () => {
    const data = Uint8Array.from({ length: 8 * 2 * 2 }, (_, i) => 10 * (i % 8) + 1);
    const label = { dims: [8, 2, 2], data: Uint8Array.from({ length: 32 }, (_, i) => (i % 8 < 5 ? 0 : 3)) };
    const sizes = { dims: [8, 2, 2], pixdim: [1, 1, 2, 2, 1, 1, 1, 1], sform: [1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0] };
    const root = toy({ a: { image: { ...sizes, data }, label: { ...sizes, ...label } } });
    const ct = { kind: 'ct', low: -1e9, high: 1e9, mean: 0, std: 1 } as const;
    const settings: PrepareSettings = { spacingMm: [2, 2, 2], normalize: [ct], storage: 'fp32' };
    const { cases } = await prepare(root, { settings, labels: 'required' });
    expect(cases[0]!.shape).toEqual([2, 2, 4]);
    expect(cases[0]!.spacingMm).toEqual([2, 2, 2]);
    const loaded = await cases[0]!.load();
    // Voxel o of 2 mm is the mean of voxels 2o and 2o+1 of 1 mm.
    expect([...loaded.image.subarray(0, 4)]).toEqual([6, 26, 46, 66]);
    expect([...loaded.labels!.subarray(0, 4)]).toEqual([0, 0, 1, 1]);
    const finer = await prepare(root, { settings: { ...settings, spacingMm: [1, 1, 0.5] } });
    expect(finer.cases[0]!.shape).toEqual([4, 4, 16]);
    const fine = (await finer.cases[0]!.load()).image;
    expect([fine[0], fine[1], fine[2], fine[15]]).toEqual([1, 3.5, 8.5, 71]);
  });

  it('brings the slice axis to D', async () => {
    const root = toy({ a: { image: { data: ramp(24) }, label: labelled([0, 3]) } });
    const ct = { kind: 'ct', low: -1e9, high: 1e9, mean: 0, std: 1 } as const;
    const at = (k: number, j: number, i: number): number => (k * 3 + j) * 2 + i;
    for (const [sliceAxis, shape, voxel] of [
      ['H', [3, 4, 2], (d: number, h: number, w: number) => at(h, d, w)],
      ['W', [2, 4, 3], (d: number, h: number, w: number) => at(h, w, d)],
    ] as const) {
      const settings: PrepareSettings = { ...PLAIN, normalize: [ct], sliceAxis };
      const { cases } = await prepare(root, { settings, labels: 'required' });
      expect(cases[0]!.shape).toEqual(shape);
      const { image, labels } = await cases[0]!.load();
      const expected: number[] = [];
      for (let d = 0; d < shape[0]; d++) {
        for (let h = 0; h < shape[1]; h++) for (let w = 0; w < shape[2]; w++) expected.push(voxel(d, h, w));
      }
      expect([...image]).toEqual(expected);
      expect([...labels!]).toEqual(expected.map((i) => i % 2));
    }
  });

  it('stores fp16, fp32 and int16 within their precision, and reads any box of them', async () => {
    const dims = [5, 4, 6, 2];
    const data = new Uint8Array(Float32Array.from({ length: 240 }, (_, i) => Math.sin(i) * 40).buffer);
    const root = toy(
      {
        a: {
          image: { dims, code: 16, bitpix: 32, data },
          label: { dims: [5, 4, 6], data: new Uint8Array(120).fill(3) },
        },
      },
      { modality: { 0: 'T1', 1: 'T2' } },
    );
    const normalize = [{ kind: 'case' } as const, { kind: 'case' } as const];
    const values = async (loaded: LoadedCase): Promise<number[]> => {
      const { image, dtype, scale } = loaded;
      const expected = [...(dtype === 'fp16' ? fromHalf(image as Uint16Array) : image)].map((v) => v * scale);
      expect(await imageValues(loaded, new Breather())).toEqual(Float32Array.from(expected));
      return expected;
    };
    const load = async (
      storage: NonNullable<PrepareSettings['storage']>,
    ): Promise<Awaited<ReturnType<typeof prepare>>> =>
      prepare(root, { settings: { spacingMm: null, normalize, storage }, labels: 'optional' });
    const exact = await values(await (await load('fp32')).cases[0]!.load());
    for (const storage of ['auto', 'int16', 'fp32'] as const) {
      const item = (await load(storage)).cases[0]!;
      expect(item.dtype).toBe(storage === 'auto' ? 'fp16' : storage);
      const whole = await item.load();
      (await values(whole)).forEach((value, i) => expect(Math.abs(value - exact[i]!)).toBeLessThan(1e-3));
      expect(item.bytes).toBe(whole.image.byteLength + whole.labels!.byteLength);
      for (const [start, size] of [
        [
          [0, 0, 0],
          [6, 4, 5],
        ],
        [
          [1, 2, 3],
          [2, 2, 2],
        ],
        [
          [5, 3, 4],
          [1, 1, 1],
        ],
        [
          [2, 1, 0],
          [3, 2, 5],
        ],
      ] as const) {
        const box = await item.readBox(start, size);
        const expected: number[] = [];
        for (let c = 0; c < 2; c++) {
          for (let d = 0; d < size[0]; d++) {
            for (let h = 0; h < size[1]; h++) {
              const row = ((c * 6 + start[0] + d) * 4 + start[1] + h) * 5 + start[2];
              expected.push(...whole.image.subarray(row, row + size[2]));
            }
          }
        }
        expect([...box.image]).toEqual(expected);
        const labels = Array.from({ length: size[0] * size[1] }, (_, row) => {
          const [d, h] = [Math.floor(row / size[1]), row % size[1]];
          const at = ((start[0] + d) * 4 + start[1] + h) * 5 + start[2];
          return [...whole.labels!.subarray(at, at + size[2])];
        }).flat();
        expect([...box.labels!]).toEqual(labels);
      }
      await expect(item.readBox([4, 0, 0], [3, 1, 1])).rejects.toThrow(/leaves the volume/);
    }
  });

  it('reads boxes of planes of any size, one by one or several at once, into memory of the caller too', async () => {
    const [w, h, d] = [400, 300, 6];
    const noise = Uint8Array.from({ length: w * h * d }, (_, i) => (i * 2654435761) >>> 24);
    const root = toy({
      a: {
        image: { dims: [w, h, d], data: noise },
        label: { dims: [w, h, d], data: noise.map((v) => [0, 3, 7][v % 3]!) },
      },
    });
    const settings = { spacingMm: null, normalize: [{ kind: 'case' } as const], storage: 'fp32' as const };
    const item = (await prepare(root, { settings, labels: 'optional' })).cases[0]!;
    const whole = await item.load();
    for (const [start, size] of [
      [
        [0, 0, 0],
        [6, 300, 399],
      ],
      [
        [1, 0, 0],
        [4, 300, 400],
      ],
      [
        [0, 10, 0],
        [6, 20, 400],
      ],
      [
        [1, 280, 390],
        [5, 20, 10],
      ],
    ] as const) {
      const voxels = size[0] * size[1] * size[2];
      const memory = new Uint8Array(64 + 5 * voxels + 64).fill(0xa5);
      const into = { image: memory.subarray(64, 64 + 4 * voxels), labels: memory.subarray(64 + 4 * voxels, -64) };
      const given = await item.readBox(start, size, undefined, into);
      const own = await item.readBox(start, size);
      for (const [z, y] of [
        [0, 0],
        [1, size[1] - 1],
        [size[0] - 1, 7],
      ] as const) {
        const row = ((start[0] + z) * h + start[1] + y) * w + start[2];
        const at = (z * size[1] + y) * size[2];
        for (const box of [given, own]) {
          expect(box.image.subarray(at, at + size[2])).toEqual(whole.image.subarray(row, row + size[2]));
          expect(box.labels!.subarray(at, at + size[2])).toEqual(whole.labels!.subarray(row, row + size[2]));
        }
      }
      expect(Buffer.from(given.image.buffer, given.image.byteOffset, 4 * voxels).equals(into.image)).toBe(true);
      expect([...memory.subarray(0, 64), ...memory.subarray(-64)].every((b) => b === 0xa5)).toBe(true);
      await expect(item.readBox(start, size, undefined, { image: into.image.subarray(4) })).rejects.toThrow(
        /a box of \d+ bytes does not go into/,
      );
    }
  });

  it('falls back to fp32 where fp16 does not reach', async () => {
    const root = toy({
      a: {
        image: { code: 4, bitpix: 16, data: new Uint8Array(Int16Array.from({ length: 24 }, (_, i) => i * 100).buffer) },
      },
    });
    const ct = { kind: 'ct', low: -1e9, high: 1e9, mean: 0, std: 0.01 } as const;
    const { cases } = await prepare(root, { settings: { spacingMm: null, normalize: [ct] } });
    expect(cases[0]!.dtype).toBe('fp32');
  });

  it('reads labels without dataset.json classes: every value is one', async () => {
    const root = toy(
      { a: { image: {}, label: labelled([0, 9]) }, b: { image: {}, label: labelled([0, 4]) } },
      { labels: undefined },
    );
    const { classes, cases } = await prepare(root, { labels: 'optional' });
    expect(classes).toEqual([
      { value: 0, name: 'background' },
      { value: 4, name: '4' },
      { value: 9, name: '9' },
    ]);
    expect(cases.map(({ classVoxels }) => classVoxels)).toEqual([
      [12, 0, 12],
      [12, 12, 0],
    ]);
  });

  it('collects every bad file, or leaves bad cases out and counts them', async () => {
    const nan = new Uint8Array(new Float32Array(24).fill(NaN).buffer);
    const root = toy({
      a: { image: {}, label: labelled([0, 3]) },
      badlabel: { image: {}, label: labelled([0, 5]) },
      dims: { image: {}, label: { dims: [2, 3, 5] } },
      moved: { image: { sform: IDENTITY }, label: { ...labelled([0]), sform: [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0] } },
      spaced: { image: {}, label: { ...labelled([0]), sform: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1.5, 0] } },
      channels: { image: { dims: [2, 3, 4, 2] }, label: labelled([0]) },
      nan: { image: { code: 16, bitpix: 32, data: nan }, label: labelled([0]) },
      nolabel: { image: {} },
    });
    const cut = join(root, 'imagesTr/cut.nii.gz');
    writeFileSync(cut, readFileSync(join(root, 'imagesTr/a.nii.gz')).subarray(0, -4));
    copyFileSync(join(root, 'labelsTr/a.nii.gz'), join(root, 'labelsTr/cut.nii.gz'));
    const named: string[] = [];
    const options = { labels: 'required', onBad: (id: string) => void named.push(id) } as const;
    const error = await failure(prepare(root, options));
    expect(named).toEqual(['badlabel', 'channels', 'cut', 'dims', 'moved', 'nan', 'nolabel', 'spaced']);
    const bad = badFiles(error);
    const messages = bad.map(({ message }) => message.slice(message.indexOf(root) + root.length));
    expect(messages[0]).toMatch(/labelsTr\/badlabel\.nii\.gz: voxels: .*classes 0, 3, 7: 5 \(12 voxels\)/);
    expect(messages[1]).toMatch(/imagesTr\/channels\.nii\.gz: channels: expected 1 \(MRI\), found 2/);
    expect(messages[2]).toMatch(/imagesTr\/cut\.nii\.gz: gzip: is cut short/);
    expect(messages[3]).toMatch(/labelsTr\/dims\.nii\.gz: grid: .*shape \(D, H, W\) \[5, 3, 2\], expected \[4, 3, 2\]/);
    expect(messages[4]).toMatch(/labelsTr\/moved\.nii\.gz: grid: .*1 mm \(1 voxels\) elsewhere/);
    expect(messages[5]).toMatch(/imagesTr\/nan\.nii\.gz: voxels: 24 are NaN/);
    expect(messages[6]).toMatch(/nolabel/);
    expect(messages[7]).toMatch(/labelsTr\/spaced\.nii\.gz: grid/);
    for (const { message } of bad) expect(error.message).toContain(message);
    const { cases, skipped } = await prepare(root, { ...options, skipBad: true });
    expect(cases.map(({ id }) => id)).toEqual(['a']);
    expect(skipped).toHaveLength(8);
    // Labels do not matter where they are not asked for.
    const images = await prepare(root, { skipBad: true });
    expect(images.cases.map(({ id }) => id)).toEqual(['a', 'badlabel', 'dims', 'moved', 'nolabel', 'spaced']);
    const zero = await prepare(root, { skipBad: true, settings: { ...PLAIN, nonFinite: 'zero' } });
    expect(zero.cases.find(({ id }) => id === 'nan')!.nonFinite).toBe(24);
    const dataset = await openDataset(root);
    const found = await fingerprint(dataset, { caseIds: dataset.cases.map(({ id }) => id), labels: false });
    expect(found.bad.map(({ id }) => id)).toEqual(['channels', 'cut', 'nan']);
  });
});

describe('fingerprint', () => {
  it('names every bad file of a case, and a label that is not there', async () => {
    const root = toy(
      {
        both: { image: {}, label: labelled([0, 5]) },
        fine: { image: {}, label: labelled([0, 3]) },
        gone: { image: {} },
      },
      {
        modality: undefined,
        channel_names: { 0: 'T1', 1: 'T2' },
        labels: { background: 0, three: 3 },
        training: ['both', 'fine', 'gone'].map((id) => ({
          image: `imagesTr/${id}.nii.gz`,
          label: `labelsTr/${id}.nii.gz`,
        })),
      },
    );
    const image = (id: string, channel: number) => join(root, `imagesTr/${id}_000${channel}.nii.gz`);
    for (const id of ['both', 'fine', 'gone']) {
      const from = join(root, `imagesTr/${id}.nii.gz`);
      for (const channel of [0, 1]) copyFileSync(from, image(id, channel));
      rmSync(from);
    }
    for (const channel of [0, 1]) writeFileSync(image('both', channel), '');
    const dataset = await openDataset(root);
    const caseIds = dataset.cases.map(({ id }) => id);
    const look = async (labels: boolean | 'present') => {
      const found = await fingerprint(dataset, { caseIds, labels });
      return [found.bad.map(({ id, error }) => [id, error.details.file]), found.cases.map(({ id }) => id)];
    };
    const images = [0, 1].map((channel) => ['both', image('both', channel)]);
    const labels = ['both', 'gone'].map((id) => [id, join(root, `labelsTr/${id}.nii.gz`)]);
    expect(await look(true)).toEqual([[...images, ...labels], ['fine']]);
    expect(await look('present')).toEqual([
      [...images, labels[0]],
      ['fine', 'gone'],
    ]);
    expect(await look(false)).toEqual([images, ['fine', 'gone']]);
    const found = await fingerprint(dataset, { caseIds, labels: true });
    const { message, details } = badCasesError(root, found.bad, 3);
    expect(message).toMatch(/: 2 of 3 cases cannot be used/);
    expect(message.split('\n')).toHaveLength(5);
    expect(details.found).toEqual(['both', 'gone']);
  });

  it('finds the same whatever the cache holds: with labels an entry has what one without would have', async () => {
    const root = toy({
      a: { image: { data: ramp(24) }, label: labelled([0, 0, 3]) },
      b: { image: { data: ramp(24) } },
    });
    const dataset = await openDataset(root);
    const look = (labels: boolean, cacheDir?: string) =>
      fingerprint(dataset, { caseIds: ['a', 'b'], labels, ...(cacheDir !== undefined && { cacheDir }) });
    const fresh = { with: await look(true), without: await look(false) };
    expect(fresh.with.channels[0]).toMatchObject({ from: 'foreground', min: 2, max: 23 });
    expect(fresh.without.channels[0]).toMatchObject({ from: 'all', min: 0, max: 23 });
    for (const [n, first] of [true, false].entries()) {
      const cacheDir = join(base, `either${n}`);
      await look(first, cacheDir);
      const before = readdirSync(cacheDir);
      expect(await look(!first, cacheDir)).toEqual(first ? fresh.without : fresh.with);
      expect(readdirSync(cacheDir)).toHaveLength(first ? before.length : before.length + 1);
    }
  });
});

describe('the cache', () => {
  it('that cannot be written is no bad case: stops at once with its own error', async () => {
    const root = toy({ a: { image: {} }, b: { image: {} }, c: { image: {} } });
    const dataset = await openDataset(root);
    const caseIds = dataset.cases.map(({ id }) => id);
    for (const [name, run] of [
      [
        'fingerprint',
        (cacheDir: string, onProgress: () => void) =>
          fingerprint(dataset, { caseIds, labels: false, cacheDir, onProgress }),
      ],
      ['image', (cacheDir: string, onProgress: () => void) => prepare(root, { cacheDir, onProgress, skipBad: true })],
    ] as const) {
      const cacheDir = join(base, `lost-${name}`);
      const error = await failure(run(cacheDir, () => rmSync(cacheDir, { recursive: true, force: true })));
      expect([error.code, error.details.field]).toEqual(['file', 'write']);
      expect(error.message).toContain(join(cacheDir, `b.${name}.`));
    }
  });

  it('is told from a dataset beside it whose name begins alike', async () => {
    const root = toy({ a: { image: {} }, b: { image: {} } });
    writeFileSync(join(root, 'imagesTr/b.nii.gz'), '');
    const error = await failure(prepare(root, { cacheDir: join(base, 'set') }));
    expect([error.code, error.details.found]).toEqual(['dataset', ['b']]);
    const cache = await Cache.open(join(base, 'set'), root);
    const memory = memoryError('a volume', 2, 1, { file: join(root, 'imagesTr/b.nii.gz') });
    expect(() => asCaseError(memory, cache)).toThrow(memory);
  });

  const files = (folder: string): Record<string, number> =>
    Object.fromEntries(readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mtimeMs]));

  it('keeps entries, notices changed files and settings, replaces damaged ones', async () => {
    const root = toy({ a: { image: { data: ramp(24) }, label: labelled([0, 3]) } });
    const cacheDir = join(base, 'keyed');
    const options = { cacheDir, labels: 'required' } as const;
    const first = await prepare(root, options);
    const before = files(cacheDir);
    expect(Object.keys(before)).toHaveLength(2);
    await prepare(root, options);
    expect(files(cacheDir)).toEqual(before);
    await prepare(root, { ...options, settings: { ...PLAIN, spacingMm: [2, 2, 2] } });
    expect(Object.keys(files(cacheDir))).toHaveLength(4);
    utimesSync(join(root, 'labelsTr/a.nii.gz'), 1, 1);
    await prepare(root, options);
    expect(Object.keys(files(cacheDir))).toHaveLength(5);
    put(join(root, 'imagesTr'), 'a.nii.gz', makeNifti({ data: new Uint8Array(24).fill(1) }));
    const changed = await prepare(root, options);
    expect(await changed.cases[0]!.load()).not.toEqual(await first.cases[0]!.load());
    const entry = readdirSync(cacheDir).map((name) => join(cacheDir, name));
    for (const path of entry) truncateSync(path, 100);
    await expect(changed.cases[0]!.load()).rejects.toThrow(/size: ends at byte/);
    const again = await prepare(root, options);
    expect((await again.cases[0]!.load()).image).toEqual(new Float32Array(24));
    expect((await changed.cases[0]!.load()).image).toEqual(new Float32Array(24));
  });

  it('serves two runs at once and leaves no temporary file; clears what dead runs left', async () => {
    const root = toy({ a: { image: { data: ramp(24) } }, b: { image: { data: ramp(24) } } });
    const cacheDir = join(base, 'shared');
    mkdirSync(cacheDir);
    const key = 'b.image.0123456789abcdef0123456789abcdef.safetensors';
    const foreign = ['.old.1.aa.tmp', `.${key}.tmp`, '.download.1.0123456789ab.tmp', `${key}.1.0123456789ab.tmp`];
    for (const name of [`.${key}.1.0123456789ab.tmp`, ...foreign]) {
      writeFileSync(join(cacheDir, name), 'x');
      utimesSync(join(cacheDir, name), 1, 1);
    }
    const runs = await Promise.all([
      prepare(root, { cacheDir }),
      prepare(root, { cacheDir }),
      prepare(root, { cacheDir }),
    ]);
    const loaded = await Promise.all(runs.map(({ cases }) => cases[1]!.load()));
    expect(loaded[1]).toEqual(loaded[0]);
    // What macl writes is cleared, what it does not write is somebody's.
    const left = readdirSync(cacheDir).filter((name) => name.endsWith('.tmp'));
    expect(left.sort()).toEqual(foreign.sort());
    expect(readdirSync(cacheDir)).toHaveLength(2 + foreign.length);
  });

  it('with any byte or word of an entry changed is noticed, named, and made again to the same bytes', async () => {
    const root = toy({ a: { image: { data: ramp(24) }, label: labelled([0, 3]) } });
    const cacheDir = join(base, 'damaged');
    const dataset = await openDataset(root);
    const run = async () => {
      const found = await fingerprint(dataset, { caseIds: ['a'], labels: true, cacheDir });
      const prepared = await prepare(root, { cacheDir, labels: 'required' });
      const [item] = prepared.cases;
      return {
        warnings: [...found.warnings, ...prepared.warnings],
        loaded: await item!.load(),
        places: await item!.readForeground(),
      };
    };
    const first = await run();
    expect(first.warnings).toEqual([]);
    const names = readdirSync(cacheDir);
    expect(names).toHaveLength(3);
    for (const name of names) {
      const path = join(cacheDir, name);
      const whole = readFileSync(path);
      const header = 8 + Number(whole.readBigUInt64LE(0));
      const words = (from: RegExp, to: string) => Buffer.from(whole.toString('latin1').replace(from, to), 'latin1');
      const flip = (at: number): Buffer => {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= 0x10;
        return bytes;
      };
      const damages = [
        flip(0),
        flip(12),
        flip(header),
        flip(whole.length - 1),
        whole.subarray(0, -1),
        words(/\\"shape\\":\[/, '\\"shapf\\":['),
        words(/sha256":"./, 'sha256":"g'),
        Buffer.alloc(whole.length),
        Buffer.alloc(0),
      ];
      for (const damage of damages) {
        if (damage.equals(whole)) continue;
        writeFileSync(path, damage);
        const again = await run();
        expect(again.warnings).toEqual([expect.stringContaining(path)]);
        expect(again).toEqual({ ...first, warnings: again.warnings });
        expect(readFileSync(path).equals(whole)).toBe(true);
      }
    }
    expect((await run()).warnings).toEqual([]);
  });

  it('is listed and trimmed, entries alone, the longest unused first', async () => {
    const folder = join(base, 'trimmed');
    expect(await listCache(folder)).toEqual([]);
    mkdirSync(folder);
    const entry = (n: number): string => `c${n}.image.${String(n).padStart(32, '0')}.safetensors`;
    for (const [n, day] of [3, 1, 2].entries()) {
      writeFileSync(join(folder, entry(n)), Buffer.alloc(100));
      utimesSync(join(folder, entry(n)), day * 86400, day * 86400);
    }
    writeFileSync(join(folder, 'notes.safetensors'), 'mine');
    const names = async () => (await listCache(folder)).map(({ path }) => basename(path));
    expect(await names()).toEqual([entry(1), entry(2), entry(0)]);
    expect(await trimCache(folder, 300)).toEqual([]);
    expect((await trimCache(folder, 150)).map(({ path }) => basename(path))).toEqual([entry(1), entry(2)]);
    expect((await listCache(folder))[0]).toMatchObject({ kind: 'image', bytes: 100 });
    await trimCache(folder, 0);
    expect(readdirSync(folder)).toEqual(['notes.safetensors']);
  });

  it('that cannot be made names the flag and the variable where nobody chose it', async () => {
    const root = toy({ a: { image: {} } });
    writeFileSync(join(base, 'a-file'), '');
    vi.stubEnv('XDG_CACHE_HOME', join(base, 'a-file'));
    const error = await failure(Cache.open(undefined, root));
    expect(error.message).toMatch(/a-file.*--cache DIR.*XDG_CACHE_HOME/);
    vi.unstubAllEnvs();
    const chosen = await failure(Cache.open(join(base, 'a-file', 'macl'), root));
    expect(chosen.message).not.toMatch(/--cache/);
  });

  it('is never inside the dataset, not by a link either', async () => {
    const root = toy({ a: { image: {} } });
    expect((await failure(prepare(root, { cacheDir: join(root, 'cache') }))).code).toBe('config');
    symlinkSync(root, join(base, 'link-to-set'));
    expect((await failure(prepare(root, { cacheDir: join(base, 'link-to-set', 'cache') }))).code).toBe('config');
    expect(readdirSync(root).sort()).toEqual(['dataset.json', 'imagesTr', 'labelsTr']);
  });

  it('takes ids of any length in any script', async () => {
    const ids = ['€'.repeat(82), `a${'\u{1f9e0}'.repeat(60)}`];
    const root = toy({});
    const files = ids.map((_, n) => `${n}.nii`);
    for (const file of files) put(join(root, 'imagesTr'), file, makeNifti());
    const dataset = Object.fromEntries(ids.map((id, n) => [id, { images: [`imagesTr/${files[n]}`] }]));
    writeFileSync(join(root, 'dataset.json'), JSON.stringify({ modality: ['MRI'], dataset }));
    const { cases } = await prepare(root, { cacheDir: join(base, 'long'), caseIds: ids });
    expect(cases).toHaveLength(2);
    for (const name of readdirSync(join(base, 'long'))) expect(name).not.toContain('\ufffd');
  });

  it('stops at a signal', async () => {
    const root = toy({ a: { image: {} } });
    expect((await failure(prepare(root, { signal: AbortSignal.abort() }))).code).toBe('aborted');
  });
});

const hippocampus = resolve(import.meta.dirname, '../../../shared/data/Task04_Hippocampus');
const there = await openDataset(hippocampus).catch(() => undefined);

describe.skipIf(!there)(`hippocampus (${there ? 'found' : 'skipped: shared data is not there'})`, () => {
  it('prepares real cases with labels', async () => {
    const caseIds = there!.cases.slice(0, 3).map(({ id }) => id);
    const dataset = there!;
    const found = await fingerprint(dataset, { caseIds, labels: true });
    expect(found.bad).toEqual([]);
    expect(Object.keys(found.labelVoxels)).toEqual(['0', '1', '2']);
    const settings = {
      spacingMm: [1, 1, 1],
      normalize: planData(plannerFingerprint(found, dataset), { task: 'pretrain' }).normalization,
    } as const;
    const prepared = await prepareDataset({
      dataset,
      caseIds,
      settings: { ...settings, spacingMm: [1, 1, 1] },
      labels: 'required',
      cacheDir: join(base, 'hippo'),
    });
    for (const [n, item] of prepared.cases.entries()) {
      expect(item.shape).toEqual(found.cases[n]!.shape);
      const loaded = await item.load();
      const image = fromHalf(loaded.image as Uint16Array);
      const mean = image.reduce((sum, value) => sum + value, 0) / image.length;
      expect(Math.abs(mean)).toBeLessThan(0.1);
      const counts = [0, 1, 2].map((label) =>
        loaded.labels!.reduce((sum, value) => sum + (value === label ? 1 : 0), 0),
      );
      expect(counts).toEqual(Object.values(found.cases[n]!.labelVoxels!));
    }
  });
});
