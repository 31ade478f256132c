/**
 * How convolutions are computed, from the settings to the files: a run remembers it and goes on to the same bits or is refused; its
 * model predicts in any.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { predict } from '../../src/api/predict.js';
import { Segmenter } from '../../src/api/segmenter.js';
import { VARIANT_TABLE } from '../../src/ops/conv3d-variants.js';
import { inspectProgram } from '../../src/step/inspect.js';
import { finetune } from '../../src/train/finetune.js';
import type { Arithmetic } from '../../src/arithmetic.js';
import { device, logOf, scratchFolder, tinyFinetune, toyDataset } from './toy.js';

const root = scratchFolder();
const path = (name: string) => join(root, name);
const common = { cacheDir: path('cache'), device } as const;
const model = { filters: 16 };
let data: string;

const config = (arithmetic?: Arithmetic) =>
  tinyFinetune({ model, train: { steps: 3, checkpointEvery: 1, valEvery: 0, ...(arithmetic && { arithmetic }) } });
const fine = (out: string, arithmetic?: Arithmetic, more: object = {}) =>
  finetune({ ...common, data, out: path(out), val: 'none', config: config(arithmetic), ...more });
const weights = (out: string) => readFileSync(path(`${out}/model.safetensors`));
const recordOf = (out: string) =>
  JSON.parse(readFileSync(path(`${out}/config.json`), 'utf8')) as Record<string, unknown>;
const losses = (out: string) => logOf(path(out)).map((line) => (line as { loss: number }).loss);

const plan: string[] = [];
beforeAll(async () => {
  data = await toyDataset(path('data'), { cases: 2 });
  await fine('direct', 'direct');
  const onEvent = (event: { kind: string; lines?: readonly string[] }) => void plan.push(...(event.lines ?? []));
  await fine('fast', 'fast', { onEvent });
});

describe('fast', () => {
  it('is remembered, said, and is not direct', () => {
    expect(recordOf('fast')).toMatchObject({ config: { train: { arithmetic: 'fast' } }, variantTable: VARIANT_TABLE });
    expect(recordOf('direct')).toMatchObject({ config: { train: { arithmetic: 'direct' } } });
    expect(plan.join('\n')).toMatch(/, arithmetic fast: \d+ of \d+ convolutions by Winograd's algorithm/);
    const [fast, direct] = [losses('fast'), losses('direct')];
    expect(fast).not.toEqual(direct);
    expect(Math.abs(fast[0]! - direct[0]!)).toBeLessThan(1e-5 * direct[0]!);
  });

  it('goes on to the same bits', async () => {
    const stop = new AbortController();
    const onEvent = (event: { kind: string; step?: number }) => {
      if (event.kind === 'step' && event.step === 2) stop.abort();
    };
    await expect(fine('stopped', 'fast', { signal: stop.signal, onEvent })).rejects.toMatchObject({ code: 'aborted' });
    await fine('stopped', undefined, { resume: true });
    expect(weights('stopped').equals(weights('fast'))).toBe(true);
  });

  it('is refused as another arithmetic, and by another table of variants', async () => {
    await expect(fine('fast', 'direct', { resume: true })).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/train\.arithmetic: the run began with "fast", found "direct"/) as string,
    });
    const record = recordOf('fast');
    for (const variantTable of [0, undefined]) {
      writeFileSync(path('fast/config.json'), JSON.stringify({ ...record, variantTable }));
      await expect(fine('fast', 'fast', { resume: true })).rejects.toMatchObject({
        code: 'config',
        details: { field: 'variantTable', expected: VARIANT_TABLE, found: variantTable ?? null },
      });
    }
    writeFileSync(path('fast/config.json'), JSON.stringify(record));
    await expect(fine('fast', 'fast', { resume: true })).resolves.toMatchObject({ steps: 3 });
  });

  it('a run of before there was a choice goes on directly', async () => {
    const record = recordOf('direct') as { config: { train: object }; variantTable?: number };
    const { arithmetic: _, ...train } = record.config.train as { arithmetic: string };
    const { variantTable: __, ...before } = record;
    writeFileSync(path('direct/config.json'), JSON.stringify({ ...before, config: { ...record.config, train } }));
    await expect(fine('direct', undefined, { resume: true })).resolves.toMatchObject({ steps: 3 });
    await expect(fine('direct', 'fast', { resume: true })).rejects.toMatchObject({
      message: expect.stringMatching(/train\.arithmetic: the run began with "direct", found "fast"/) as string,
    });
  });

  it('predicts any model; a result is of its arithmetic', async () => {
    const input = join(data, 'imagesTr', 'toy_1.nii.gz');
    for (const run of ['direct', 'fast'])
      for (const arithmetic of ['direct', 'precise', 'fast'] as const)
        await predict({ device, model: path(run), input, out: path(`${run}-${arithmetic}.nii.gz`), arithmetic });
    const again = { device, model: path('fast'), input, out: path('one'), continue: true } as const;
    await predict({ ...again, continue: false });
    expect(await predict(again)).toMatchObject([{ kept: true }]);
    await expect(predict({ ...again, arithmetic: 'direct' })).rejects.toMatchObject({
      message: expect.stringMatching(/was written by another model or with other settings/) as string,
    });
    const segmenter = await Segmenter.open(path('direct'), { device, arithmetic: 'precise' });
    await segmenter.segmentFile(input, path('one/toy_1.nii.gz'), { overwrite: true });
    await segmenter.close();
    await expect(predict({ ...again, model: path('direct') })).rejects.toThrow(/other settings/);
    expect(await predict({ ...again, model: path('direct'), arithmetic: 'precise' })).toMatchObject([{ kept: true }]);
    const unknown = { device, arithmetic: 'quick' } as unknown as { arithmetic: 'fast' };
    await expect(Segmenter.open(path('direct'), unknown)).rejects.toMatchObject({ code: 'config' });
  });

  it('shows its variants in the program; a device that has one way alone takes it', async () => {
    const settings = { task: 'finetune', ...tinyFinetune({ model: { ...model, classes: 3 } }) };
    const count = async (on: typeof device | 'reference') => {
      const { text } = await inspectProgram({ device: on, config: settings, arithmetic: 'fast' });
      return text.split('\n').filter((line) => /conv3d_(fwd|bwd).*variant=\d/.test(line)).length;
    };
    expect(await count(device)).toBeGreaterThan(10);
    expect(await count('reference')).toBe(0);
  });
});
