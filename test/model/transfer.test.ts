/** From a pre-trained run into fine-tuning: which tensors are taken, what happens to other channels, what is written. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readNifti, writeNifti } from '../../src/data/nifti/index.js';
import { readSafetensorsFile } from '../../src/data/files.js';
import type { RawTensor } from '../../src/data/safetensors.js';
import type { MaclError } from '../../src/errors.js';
import { predict } from '../../src/index.js';
import { finetune, type FinetuneOptions } from '../../src/train/finetune.js';
import { describeModel } from '../../src/model/description.js';
import { pretrain } from '../../src/train/pretrain.js';
import {
  device,
  listen,
  logOf,
  runFiles,
  scratchFolder,
  tinyFinetune,
  tinyPretrain,
  toyDataset,
  toyVolume,
} from '../train/toy.js';

const root = scratchFolder();
const common = { cacheDir: join(root, 'cache'), device, threads: 2 } as const;
let data: string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
  await pretrain({ ...common, data, out: join(root, 'pre'), config: tinyPretrain() });
});

async function tune(out: string, more: Partial<FinetuneOptions>) {
  const { messages, onEvent } = listen();
  await finetune({ ...common, data, out: join(root, out), onEvent, ...more });
  return messages('note');
}
const modelOf = (out: string) => readSafetensorsFile(join(root, out, 'model.safetensors'));
const floats = (t: RawTensor): Float32Array => new Float32Array(t.bytes.slice().buffer);
const steps0 = (more: Parameters<typeof tinyFinetune>[0] = {}) => tinyFinetune({ ...more, train: { steps: 0 } });

describe('--init', () => {
  it('takes encoder and pre-trained decoder blocks, names what is fresh and not used; --steps 0 writes just that', async () => {
    const notes = await tune('init', { init: join(root, 'pre'), config: steps0() });
    const [pre, found] = [await modelOf('pre'), await modelOf('init')];
    const taken = [...found.tensors].filter(([name]) => pre.tensors.has(name));
    const fresh = [...found.tensors.keys()].filter((name) => !pre.tensors.has(name));
    expect(taken.map(([n]) => n.split('.').slice(0, 3).join('.'))).toEqual(
      expect.arrayContaining(['encoder.blocks.0', 'encoder.blocks.1', 'encoder.centre.conv1']),
    );
    for (const [name, tensor] of taken) expect(tensor).toEqual(pre.tensors.get(name));
    // One decoder block was pre-trained, the deepest; the other and the head are new.
    const blocks = (names: readonly string[]) =>
      new Set(names.filter((n) => n.startsWith('decoder')).map((n) => n.split('.')[2]));
    expect([...blocks(taken.map(([n]) => n)), ...blocks(fresh)]).toHaveLength(2);
    expect(fresh.some((n) => n.startsWith('head.'))).toBe(true);
    const text = notes.join('\n');
    expect(text).toMatch(/taken from .*pre.model\.safetensors: .*encoder\.blocks\.0 \(\d+\).*decoder\.blocks\.\d/);
    expect(text).toMatch(/fresh: decoder\.blocks\.\d \(\d+\), head \(2\)/);
    expect(text).toMatch(/not used: projector\.image \(\d+\), projector\.pixel \(\d+\)/);
    // Fresh is what the seed says, with or without --init.
    await tune('scratch', { config: steps0() });
    const scratch = await modelOf('scratch');
    for (const name of fresh) expect(found.tensors.get(name)).toEqual(scratch.tensors.get(name));
    expect([...scratch.tensors.keys()].sort()).toEqual([...found.tensors.keys()].sort());
    expect(floats(scratch.tensors.get('encoder.blocks.0.conv1.weight')!)).not.toEqual(
      floats(found.tensors.get('encoder.blocks.0.conv1.weight')!),
    );
  });

  it('brings levels, strides, kernels, filters and spacing; patch and batch are planned anew', async () => {
    await tune('brings', { init: join(root, 'pre'), config: { train: { steps: 0 } } });
    const [pre, found] = await Promise.all(
      ['pre', 'brings'].map(async (o) => describeModel((await modelOf(o)).metadata, o).config),
    );
    for (const key of ['dims', 'filters', 'levels', 'strides', 'kernels', 'decoderBlocks'] as const)
      expect(found!.model[key]).toEqual(pre!.model[key]);
    expect(found!.data.spacingMm).toEqual(pre!.data.spacingMm);
    expect(found!.data.patch).not.toEqual(pre!.data.patch);
  });

  it('starts training from there, and the weights move', async () => {
    await tune('moved', { init: join(root, 'pre'), config: tinyFinetune() });
    const [pre, found] = [await modelOf('pre'), await modelOf('moved')];
    const name = 'encoder.blocks.0.conv1.weight';
    const [a, b] = [floats(pre.tensors.get(name)!), floats(found.tensors.get(name)!)];
    const distance = Math.hypot(...a.map((v, i) => v - b[i]!)) / Math.hypot(...a);
    expect(distance).toBeGreaterThan(0);
    expect(distance).toBeLessThan(0.5);
    expect(logOf(join(root, 'moved'))).toHaveLength(12);
  });

  it('may be a model file, a fine-tuned run, or be gone once the run has begun', async () => {
    await tune('file', { init: join(root, 'pre/model.safetensors'), config: steps0() });
    expect(runFiles(join(root, 'file'))['model.safetensors']).toBe(runFiles(join(root, 'init'))['model.safetensors']);
    const notes = await tune('tuned-again', { init: join(root, 'moved'), config: steps0() });
    expect(notes.join('\n')).toMatch(/fresh: none/);
    const error = (await tune('never', { init: join(root, 'nowhere') }).catch((e: unknown) => e)) as MaclError;
    expect([error.code, error.details.file]).toEqual(['file', join(root, 'nowhere')]);
  });
});

describe('one channel for a network that was pre-trained on four', () => {
  const four = tinyPretrain({ train: { steps: 4 } });
  beforeAll(async () => {
    const wide = await toyDataset(join(root, 'wide'), { channels: 4 });
    await pretrain({ ...common, data: wide, out: join(root, 'pre-4'), config: four });
  });

  it('sums the first convolution over its inputs, and says so', async () => {
    const notes = await tune('sum', { init: join(root, 'pre-4'), config: steps0() });
    expect(notes.join('\n')).toMatch(/first convolution was summed over its inputs/);
    const name = 'encoder.blocks.0.conv1.weight';
    const [many, one] = [(await modelOf('pre-4')).tensors.get(name)!, (await modelOf('sum')).tensors.get(name)!];
    expect(one.shape).toEqual([many.shape[0], 1, ...many.shape.slice(2)]);
    const taps = many.shape.slice(2).reduce((a, b) => a * b, 1);
    const [m, o] = [floats(many), floats(one)];
    for (let i = 0; i < o.length; i++) {
      const [filter, tap] = [Math.floor(i / taps), i % taps];
      let sum = 0;
      for (let c = 0; c < 4; c++) sum += m[(filter * 4 + c) * taps + tap]!;
      expect(o[i]).toBe(Math.fround(sum));
    }
  });

  it('or repeats the channel, which predicts the same', async () => {
    await tune('repeat', { init: join(root, 'pre-4'), config: steps0({ init: { channels: 'repeat' }, model: {} }) });
    expect(describeModel((await modelOf('repeat')).metadata, '').config.model.inChannels).toBe(4);
    const shape = [9, 10, 11] as const;
    const affine = Float64Array.from([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    await writeNifti(join(root, 'v.nii'), { shape: [11, 10, 9], affine, voxels: toyVolume(6, shape).voxels });
    const [sum, repeat] = await Promise.all(
      ['sum', 'repeat'].map(async (model) => {
        const out = join(root, `${model}-out`);
        await predict({ model: join(root, model), input: join(root, 'v.nii'), out, device, probabilities: true });
        return (await readNifti(join(out, 'v_probabilities.nii'))).voxels;
      }),
    );
    expect(sum!.length).toBe(3 * 990);
    const worst = Math.max(...Array.from(sum!, (v, i) => Math.abs(v - repeat![i]!)));
    expect(worst).toBeLessThan(1e-4);
    expect(new Set(Array.from(sum!, (v) => v.toFixed(3))).size).toBeGreaterThan(20);
  });

  it('trains and resumes with the repeated channel', async () => {
    const options = { init: join(root, 'pre-4'), config: tinyFinetune({ init: { channels: 'repeat' }, model: {} }) };
    await tune('repeat-trained', options);
    const controller = new AbortController();
    const { onEvent } = listen((e) => e.kind === 'step' && e.step === 7 && controller.abort());
    const base = { ...common, data, out: join(root, 'repeat-stopped'), ...options };
    await expect(finetune({ ...base, onEvent, signal: controller.signal })).rejects.toMatchObject({ code: 'aborted' });
    const other = { ...base, init: join(root, 'another'), resume: true };
    await expect(finetune(other)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/--init: the run began from .*pre-4/) as string,
    });
    await finetune({ ...base, resume: true });
    expect(runFiles(join(root, 'repeat-stopped'))['model.safetensors']).toBe(
      runFiles(join(root, 'repeat-trained'))['model.safetensors'],
    );
  });

  it('is the only difference that is bridged: two against four are refused', async () => {
    const two = await toyDataset(join(root, 'two'), { channels: 2 });
    const error = (await tune('two-of-four', { data: two, init: join(root, 'pre-4') }).catch(
      (e: unknown) => e,
    )) as MaclError;
    expect(error.code).toBe('weights');
    expect(error.message).toMatch(/channel/i);
  });
});
