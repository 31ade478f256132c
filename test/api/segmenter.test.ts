/** A Segmenter as a service uses it: many calls, of which any may be wrong, aborted, or in no hurry to end. */
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import vm from 'node:vm';
import { gunzipSync, gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { readNifti, toRas } from '../../src/data/nifti/index.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../../src/data/files.js';
import { rawTensor, type RawTensor } from '../../src/data/safetensors.js';
import type { Volume } from '../../src/volume.js';
import type { MaclError } from '../../src/errors.js';
import { Segmenter } from '../../src/index.js';
import { finetune } from '../../src/train/finetune.js';
import { device, LEARNS, scratchFolder, tinyFinetune, toyDataset, toyVolume } from '../train/toy.js';

const root = scratchFolder();
const image = join(root, 'data/imagesTr/toy_1.nii.gz');
let model: string;
let small: Volume;
let large: Volume;
let expected: number[];
beforeAll(async () => {
  const data = await toyDataset(join(root, 'data'));
  const config = tinyFinetune({ ...LEARNS });
  model = (await finetune({ data, out: join(root, 'run'), cacheDir: join(root, 'cache'), device, threads: 2, config }))
    .model;
  small = (await toRas(await readNifti(image))).volume;
  const shape = [32, 40, 40] as const;
  const affine = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);
  large = { grid: { shape, spacingMm: [1, 1, 1], affine }, channels: 1, voxels: toyVolume(1, shape).voxels };
  expected = await using(async (segmenter) => Array.from(await segmenter.segment(small)));
});

async function using<T>(work: (segmenter: Segmenter) => Promise<T>, options = {}): Promise<T> {
  const segmenter = await Segmenter.open(model, { device, threads: 2, ...options });
  try {
    return await work(segmenter);
  } finally {
    await segmenter.close();
  }
}
async function failure(promise: Promise<unknown>): Promise<MaclError> {
  return (await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  )) as MaclError;
}
const labels = async (promise: Promise<ArrayLike<number>>) => Array.from(await promise);

describe('calls side by side', () => {
  it('take turns: a small volume does not wait behind a large one', () =>
    using(async (segmenter) => {
      let [done, total, doneThen] = [0, 0, -1];
      const first = segmenter.segment(large, { onProgress: (d, t) => ([done, total] = [d, t]) });
      const second = segmenter.segment(small).then((found) => {
        doneThen = done;
        return Array.from(found);
      });
      expect(segmenter.pending).toBe(2);
      expect(await second).toEqual(expected);
      expect(doneThen).toBeGreaterThan(0);
      expect(doneThen).toBeLessThan(total / 2);
      const together = await labels(first);
      expect(segmenter.pending).toBe(0);
      expect(await labels(segmenter.segment(large))).toEqual(together);
    }));

  it('are no more than maxQueue', () =>
    using(
      async (segmenter) => {
        expect([segmenter.maxQueue, segmenter.pending]).toEqual([2, 0]);
        const running = [segmenter.segment(small), segmenter.segment(small)];
        const error = await failure(segmenter.segment(small));
        expect([error.code, error.details.field]).toEqual(['busy', 'maxQueue']);
        for (const call of running) expect(await labels(call)).toEqual(expected);
        expect(await labels(segmenter.segment(small))).toEqual(expected);
      },
      { maxQueue: 2 },
    ));

  it('own their voxels from the beginning: a buffer may be refilled, shrunk or given away at once', () =>
    using(async (segmenter) => {
      const bytes = small.voxels.byteLength;
      // Node 20 has it, this project's TypeScript library not yet.
      const buffer: any = new (ArrayBuffer as any)(bytes, { maxByteLength: bytes });
      const voxels: Float32Array = new Float32Array(buffer);
      voxels.set(small.voxels);
      const shape = [...small.grid.shape] as [number, number, number];
      const affine = small.grid.affine.slice();
      const call = segmenter.segment({ channels: 1, voxels, grid: { ...small.grid, shape, affine } });
      voxels.fill(7);
      buffer.resize(8);
      shape[0] = 1;
      affine.fill(0);
      expect(await labels(call)).toEqual(expected);
      const given = Float32Array.from(small.voxels);
      expect(await labels(segmenter.segment({ ...small, voxels: given }, { transfer: true }))).toEqual(expected);
      expect(given.length).toBe(0);
      const shared = new Float32Array(new SharedArrayBuffer(small.voxels.byteLength));
      shared.set(small.voxels);
      expect(await labels(segmenter.segment({ ...small, voxels: shared }))).toEqual(expected);
      expect((await failure(segmenter.segment({ ...small, voxels: shared }, { transfer: true }))).code).toBe(
        'geometry',
      );
    }));
});

describe('an abort', () => {
  it('is an AbortError, at once while the call waits, and leaves the others alone', () =>
    using(async (segmenter) => {
      const reason = new Error('the client went away');
      const controllers = [new AbortController(), new AbortController()] as const;
      const first = failure(
        segmenter.segment(large, {
          signal: controllers[0].signal,
          onProgress: () => controllers[0].abort(reason),
        }),
      );
      const second = failure(segmenter.segment(large, { signal: controllers[1].signal }));
      const third = segmenter.segment(small);
      controllers[1].abort();
      for (const [call, cause] of [
        [first, reason],
        [second, controllers[1].signal.reason],
      ] as const)
        expect(await call).toMatchObject({ name: 'AbortError', code: 'aborted', cause });
      expect(await labels(third)).toEqual(expected);
      expect((await failure(segmenter.segment(small, { signal: AbortSignal.abort() }))).name).toBe('AbortError');
      expect(segmenter.pending).toBe(0);
    }));

  it('ends a call that waits for onProbabilities, and so does close', async () => {
    const segmenter = await Segmenter.open(model, { device, threads: 2 });
    const never = () => new Promise<void>(() => undefined);
    const controller = new AbortController();
    const one = failure(segmenter.segment(small, { signal: controller.signal, onProbabilities: never }));
    setTimeout(() => controller.abort(), 50);
    expect((await one).name).toBe('AbortError');
    const two = failure(segmenter.segment(small, { onProbabilities: never }));
    const three = segmenter.segment(small);
    await segmenter.close();
    expect((await two).message).toMatch(/closed while onProbabilities had not settled/);
    expect(await labels(three)).toEqual(expected);
    expect((await failure(segmenter.segment(small))).code).toBe('state');
  });
});

describe('what is wrong with one call', () => {
  const wrong: [what: string, volume: () => unknown, options: object, code: string, message: RegExp][] = [
    ['a controller for a signal', () => small, { signal: new AbortController() }, 'config', /give its signal/],
    ['an unknown option', () => small, { signla: 1 }, 'config', /signla: unknown option; did you mean signal\?/],
    ['no volume', () => undefined, {}, 'geometry', /found nothing/],
    ['bytes of a file', () => readFileSync(image), {}, 'geometry', /segmentBuffer/],
    ['bigints', () => ({ ...small, voxels: new BigInt64Array(small.voxels.length) }), {}, 'geometry', /BigInt64Array/],
    ['a bigint shape', () => ({ ...small, grid: { ...small.grid, shape: [12n, 14n, 16n] } }), {}, 'geometry', /12n/],
    ['a negative shape', () => ({ ...small, grid: { ...small.grid, shape: [-12, -14, 16] } }), {}, 'geometry', /-12/],
    ['a bigint of channels', () => ({ ...small, channels: 1n }), {}, 'geometry', /1n/],
    [
      'a callback that throws',
      () => small,
      {
        onProgress: () => {
          throw new RangeError('mine');
        },
      },
      '',
      /mine/,
    ],
    [
      'a callback that rejects',
      () => small,
      { onProbabilities: () => Promise.reject(new RangeError('mine')) },
      '',
      /mine/,
    ],
  ];
  it('does not end the others', () =>
    using(async (segmenter) => {
      for (const [what, volume, options, code, message] of wrong) {
        const beside = segmenter.segment(small);
        const error = await failure(segmenter.segment(volume() as Volume, options));
        expect([what, error.code ?? ''], error.stack).toEqual([what, code]);
        expect(error.message).toMatch(message);
        expect(await labels(beside)).toEqual(expected);
      }
      expect(segmenter.pending).toBe(0);
    }));

  it('is nothing where arrays and signals are of another realm', () =>
    using(async (segmenter) => {
      const context = vm.createContext({
        from: Array.from(small.voxels),
        affine: Array.from(small.grid.affine),
        AbortController,
      });
      const foreign = vm.runInContext(
        `({ volume: { channels: 1, voxels: Float32Array.from(from), grid: { shape: ${JSON.stringify(small.grid.shape)},
           spacingMm: [1, 1, 1], affine: Float64Array.from(affine) } }, options: { signal: new AbortController().signal } })`,
        context,
      ) as { volume: Volume; options: { signal: AbortSignal } };
      expect(foreign.volume.voxels instanceof Float32Array).toBe(false);
      expect(await labels(segmenter.segment(foreign.volume, foreign.options))).toEqual(expected);
    }));
});

describe('files and bytes', () => {
  it('give what volumes in memory give', () =>
    using(async (segmenter) => {
      const output = join(root, 'one/result.nii.gz');
      expect(await segmenter.segmentFile(image, output)).toEqual({ file: output });
      const file = await readNifti(output);
      expect(Array.from(file.voxels)).toEqual(expected);
      const bytes = readFileSync(image);
      const call = segmenter.segmentBuffer(bytes);
      bytes.fill(0);
      const packed = await call;
      expect(Buffer.isBuffer(packed)).toBe(true);
      const plain = await segmenter.segmentBuffer(gunzipSync(readFileSync(image)));
      expect(gunzipSync(packed)).toEqual(plain);
      writeFileSync(join(root, 'plain.nii'), plain);
      const again = await readNifti(join(root, 'plain.nii'));
      expect(Array.from(again.voxels)).toEqual(expected);
      expect([...again.header.affine]).toEqual([...file.header.affine]);
      await segmenter.segmentFile(gzipSync(gunzipSync(readFileSync(image))), output);
      expect(Array.from((await readNifti(output)).voxels)).toEqual(expected);
    }));

  it('are refused by name, and nothing foreign is replaced', () =>
    using(async (segmenter) => {
      const foreign = join(root, 'foreign.nii.gz');
      copyFileSync(image, foreign);
      for (const [input, output, options, message] of [
        [image, foreign, {}, /was not written by predict/],
        [foreign, foreign, { overwrite: true }, /would replace it/],
        [join(root, 'absent.nii'), join(root, 'x.nii'), {}, /absent\.nii/],
        [image, join(root, 'x.txt'), {}, /expected the name of a \.nii or \.nii\.gz/],
        [Buffer.from('no'), join(root, 'x.nii'), {}, /input/],
        [[], join(root, 'x.nii'), {}, /found none/],
        [image, join(root, 'x.nii'), { overwrit: true }, /did you mean overwrite/],
        [image, join(root, 'x.nii'), { mirror: true }, /trained without mirroring/],
      ] as const)
        expect((await failure(segmenter.segmentFile(input as string, output, options as object))).message).toMatch(
          message,
        );
      expect(readFileSync(foreign)).toEqual(readFileSync(image));
      expect(existsSync(join(root, 'x.nii'))).toBe(false);
      expect((await failure(segmenter.segmentBuffer('x' as never))).message).toMatch(/segmentFile takes paths/);
      await segmenter.segmentFile(image, foreign, { overwrite: true });
      expect(readdirSync(root).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    }));
});

describe('what is not finite', () => {
  const changed = async (name: string, tensor: string, change: (values: Float32Array) => void) => {
    const { tensors, metadata } = await readSafetensorsFile(model);
    const found = tensors.get(tensor) as RawTensor;
    const values = new Float32Array(found.bytes.slice().buffer);
    change(values);
    const file = join(root, `${name}.safetensors`);
    await writeSafetensorsFile(file, new Map([...tensors, [tensor, rawTensor(values, found.shape)]]), metadata);
    return file;
  };

  it('is refused in a model when it is loaded, by file and tensor', async () => {
    for (const [name, tensor, value] of [
      ['nan', 'encoder.blocks.0.conv1.weight', NaN],
      ['infinite', 'head.bias', -Infinity],
      ['negative', 'encoder.blocks.0.norm1.running_var', -1],
    ] as const) {
      const file = await changed(name, tensor, (v) => (v[0] = value));
      const error = await failure(Segmenter.open(file, { device }));
      expect([error.code, error.details.file, error.details.tensors]).toEqual(['weights', file, [tensor]]);
    }
  });

  it('is refused in voxels and in what the network makes of them, by name', async () => {
    const file = await changed('huge', 'head.weight', (v) => v.fill(3e38));
    const segmenter = await Segmenter.open(file, { device, threads: 2 });
    const error = await failure(segmenter.segment(small, { name: 'case 7' }));
    expect([error.code, error.details.file]).toEqual(['nonfinite', 'case 7']);
    expect(error.message).toMatch(/^case 7: the network's output is not finite.*huge\.safetensors/);
    await segmenter.close();
    await using(async (s) => {
      for (const size of [1e306, 1e200]) {
        const voxels = Float64Array.from(small.voxels, (v) => v * size);
        expect((await failure(s.segment({ ...small, voxels }, { name: 'x' }))).message).toMatch(/^x: voxels: /);
      }
    });
  });
});

it('is closed at the end of its scope', async () => {
  const segmenter = await Segmenter.open([model, model], { device, threads: 2 });
  expect(await labels(segmenter.segment(small))).toEqual(expected);
  await segmenter[Symbol.asyncDispose]();
  expect((await failure(segmenter.segment(small))).code).toBe('state');
  for (const wrong of [null, 'cpu'])
    expect((await failure(Segmenter.open(model, wrong as never))).message).toMatch(/expected an object with options/);
  for (const wrong of [7, [], [7]]) expect((await failure(Segmenter.open(wrong as never))).code).toBe('config');
  expect((await failure(Segmenter.open(model, { devcie: 'cpu' } as never))).message).toMatch(/did you mean device/);
});
