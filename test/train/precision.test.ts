/**
 * bf16 from the settings to the files, on the reference and on a device with kernels of it: it trains, its loss is not fp32's, the
 * run remembers it, a resume repeats it or is refused; its model predicts in either; kernels without it refuse before anything is
 * read.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { predict } from '../../src/api/predict.js';
import { Segmenter } from '../../src/api/segmenter.js';
import { inspectProgram } from '../../src/step/inspect.js';
import { finetune } from '../../src/train/finetune.js';
import { pretrain } from '../../src/train/pretrain.js';
import { device, logOf, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const common = { cacheDir: join(root, 'cache') };
const path = (name: string) => join(root, name);
let data: string;

const config = (precision: 'fp32' | 'bf16') => tinyFinetune({ train: { steps: 2, precision, valEvery: 0 } });
const fineOn =
  (on: 'reference' | typeof device) =>
  (out: string, precision: 'fp32' | 'bf16', more: object = {}) =>
    finetune({ ...common, device: on, data, out: path(out), val: 'toy_2', config: config(precision), ...more });

beforeAll(async () => {
  data = await toyDataset(path('data'), { cases: 2 });
});

describe.each(['reference', device] as const)('bf16 on %s', (on) => {
  const fine = fineOn(on);
  const path = (name: string) => join(root, `${on}-${name}`);

  beforeAll(async () => {
    await fine(`${on}-bf16`, 'bf16');
    await fine(`${on}-fp32`, 'fp32');
  });

  it('is remembered, and is not fp32', () => {
    const record = JSON.parse(readFileSync(path('bf16/config.json'), 'utf8')) as { config: { train: object } };
    expect(record.config.train).toMatchObject({ precision: 'bf16' });
    const [narrow, wide] = ['bf16', 'fp32'].map((out) => logOf(path(out))[0] as { loss: number });
    expect(narrow!.loss).not.toBe(wide!.loss);
    expect(Math.abs(narrow!.loss - wide!.loss)).toBeLessThan(0.02 * wide!.loss);
  });

  it('pre-trains, its look at the features included', async () => {
    const settings = tinyPretrain({ train: { steps: 1, precision: 'bf16' } });
    const { last } = await pretrain({ ...common, device: on, data, out: path('pre'), config: settings });
    expect(Number.isFinite(last['loss'])).toBe(true);
  });

  it('goes on as it began, and refuses another precision', async () => {
    await expect(fine(`${on}-bf16`, 'fp32', { resume: true })).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/train\.precision: the run began with "bf16", found "fp32"/) as string,
    });
    await expect(fine(`${on}-bf16`, 'bf16', { resume: true })).resolves.toMatchObject({ steps: 2 });
  });

  it('auto is chosen once and stored as what it became', async () => {
    const chosen = on === 'reference' ? 'fp32' : 'bf16';
    const precision = 'auto' as const;
    const settings = tinyFinetune({ train: { steps: 2, precision, valEvery: 0 } });
    const auto = (more: object = {}) =>
      finetune({ ...common, device: on, data, out: path('auto'), val: 'toy_2', config: settings, ...more });
    await auto();
    const record = JSON.parse(readFileSync(path('auto/config.json'), 'utf8')) as { config: { train: object } };
    expect(record.config.train).toMatchObject({ precision: chosen });
    const weights = (run: string) => readFileSync(path(`${run}/model.safetensors`));
    expect(weights('auto').equals(weights(chosen))).toBe(true);
    await expect(auto({ resume: true })).resolves.toMatchObject({ steps: 2 });
    const input = join(data, 'imagesTr', 'toy_1.nii.gz');
    const result = async (name: string, asked: 'auto' | 'fp32' | 'bf16') => {
      const out = path(`auto-${name}.nii.gz`);
      await predict({ device: on, model: path('auto'), input, out, precision: asked });
      return readFileSync(out);
    };
    expect((await result('one', 'auto')).equals(await result('two', chosen))).toBe(true);
  });

  it('predicts a model of either precision in either', async () => {
    const input = join(data, 'imagesTr', 'toy_1.nii.gz');
    for (const model of ['bf16', 'fp32'])
      for (const precision of ['fp32', 'bf16'] as const) {
        const out = path(`${model}-${precision}.nii.gz`);
        const files = await predict({ device: on, model: path(model), input, out, precision });
        expect(files).toHaveLength(1);
      }
    // Written in one precision, it is not taken for a result of the other.
    const out = path('one');
    await predict({ device: on, model: path('bf16'), input, out });
    const again = { device: on, model: path('bf16'), input, out, continue: true } as const;
    expect(await predict(again)).toMatchObject([{ kept: true }]);
    await expect(predict({ ...again, precision: 'bf16' })).rejects.toMatchObject({
      message: expect.stringMatching(/was written by another model or with other settings/) as string,
    });
  });

  it('shows in the program', async () => {
    const options = {
      device: on,
      config: { task: 'finetune', ...tinyFinetune({ model: { classes: 3 } }) },
    } as const;
    // In float64 with roundings, or as tensors of their own.
    const sign = on === 'reference' ? 'round_fwd' : ':bf16@';
    const count = (text: string) => text.split('\n').filter((line) => line.includes(sign)).length;
    expect(count((await inspectProgram({ ...options, precision: 'bf16' })).text)).toBeGreaterThan(20);
    expect(count((await inspectProgram(options)).text)).toBe(0);
  });
});

it('auto is nothing for a step that knows no device', async () => {
  const config = {
    task: 'finetune',
    ...tinyFinetune({ model: { classes: 3 }, train: { precision: 'auto' } }),
  } as const;
  await expect(inspectProgram({ config, device: 'reference' })).rejects.toMatchObject({
    code: 'config',
    message: expect.stringMatching(
      /train\.precision: auto is chosen by a training.*expected fp32 or bf16 here/,
    ) as string,
  });
});

describe('kernels without it', () => {
  it('refuse, and leave no run behind', async () => {
    const refused = {
      code: 'device',
      message: expect.stringMatching(/expected fp32 on \w+ with the instruction set plain, found bf16/) as string,
    };
    const model = path(`${device}-fp32`);
    vi.stubEnv('MACL_ISA', 'plain');
    await expect(fineOn(device)('none', 'bf16')).rejects.toMatchObject(refused);
    expect(existsSync(path('none/config.json'))).toBe(false);
    await expect(Segmenter.open(model, { device, precision: 'bf16' })).rejects.toMatchObject(refused);
    const input = join(data, 'imagesTr', 'toy_1.nii.gz');
    await expect(predict({ device, model, input, out: path('p'), precision: 'bf16' })).rejects.toMatchObject(refused);
    vi.unstubAllEnvs();
  });
});
