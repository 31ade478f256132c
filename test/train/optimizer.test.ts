/** Accumulation, groups and a sawtooth in whole runs: exact resume across the switch, the same bits for any threads, plans. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSafetensorsFile } from '../../src/data/files.js';
import { MaclError } from '../../src/errors.js';
import { finetune, type FinetuneOptions } from '../../src/train/finetune.js';
import { pretrain, type PretrainOptions } from '../../src/train/pretrain.js';
import type { TrainEvent } from '../../src/train/events.js';
import { device, listen, logOf, runFiles, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const at = (name: string): string => join(root, name);
let data: string;
beforeAll(async () => {
  data = await toyDataset(at('data'));
  await pretrain({
    data,
    cacheDir: at('cache'),
    device,
    out: at('init'),
    config: tinyPretrain({ train: { steps: 2 } }),
  });
});

type How = Partial<Pick<PretrainOptions, 'resume' | 'signal' | 'threads' | 'onEvent'>>;
const SAWTOOTH = {
  schedule: 'sawtooth',
  sawtooth: 0.5,
  warmup: 0.1,
  weightDecay: 0.01,
  groups: [
    { parts: ['norms', 'biases'], weightDecay: false },
    { parts: ['loaded'], lr: 0.5 },
  ],
} as const;

function tune(out: string, how: How = {}, more: Partial<FinetuneOptions> = {}) {
  const config = tinyFinetune({ init: {}, optimizer: SAWTOOTH, train: { accumulate: 2, batch: 1, valEvery: 6 } });
  const given: FinetuneOptions = {
    data,
    cacheDir: at('cache'),
    device,
    out: at(out),
    init: at('init'),
    val: 'toy_4',
    ...how,
  };
  return finetune({ ...given, config, ...more });
}
const learn = (out: string, how: How = {}) =>
  pretrain({
    ...{ data, cacheDir: at('cache'), device, out: at(out), ...how },
    config: tinyPretrain({ train: { accumulate: 2, batch: 2 } }),
  });
const tasks = { pretrain: learn, finetune: tune };

async function stoppedAt(task: keyof typeof tasks, out: string, step: number, how: How): Promise<void> {
  const controller = new AbortController();
  const stop = (e: TrainEvent) => e.kind === 'step' && e.step === step && controller.abort();
  const { onEvent } = listen(stop);
  const error = await tasks[task](out, { ...how, signal: controller.signal, onEvent }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(MaclError);
  expect((error as MaclError).code).toBe('aborted');
}

function expectSame(out: string, whole: string): void {
  expect(logOf(at(out))).toEqual(logOf(at(whole)));
  const kept = (name: string) =>
    Object.entries(runFiles(at(name))).filter(([n]) => !n.startsWith('checkpoints/step-') || n.includes('12.'));
  expect(kept(out)).toEqual(kept(whole));
}

describe.each(['pretrain', 'finetune'] as const)('%s', (task) => {
  beforeAll(() => tasks[task](`${task}-whole`, { threads: 2 }));

  it('has the same bits with one thread and with three', async () => {
    for (const threads of [1, 3]) {
      await tasks[task](`${task}-${threads}`, { threads });
      expectSame(`${task}-${threads}`, `${task}-whole`);
    }
  });

  // Step 6 is the last of the sawtooth's first part.
  it.each([3, 6, 7])('stopped after step %i and resumed is never having stopped', async (step) => {
    const out = `${task}-stop-${step}`;
    await stoppedAt(task, out, step, { threads: 1 });
    await tasks[task](out, { resume: true, threads: 3 });
    expectSame(out, `${task}-whole`);
  });
});

describe('a sawtooth', () => {
  it('holds what --init loaded in its first part, norms included, and trains it in the second', async () => {
    await tune(
      'halves',
      {},
      {
        config: tinyFinetune({ init: {}, optimizer: SAWTOOTH, train: { accumulate: 2, batch: 1, checkpointEvery: 6 } }),
      },
    );
    const init = await readSafetensorsFile(at('init/model.safetensors'));
    const half = await readSafetensorsFile(at('halves/checkpoints/step-000000006.safetensors'));
    const model = await readSafetensorsFile(at('halves/model.safetensors'));
    const { loaded } = JSON.parse(readFileSync(at('halves/config.json'), 'utf8')) as { loaded: string[] };
    expect(loaded.some((n) => n.endsWith('running_var'))).toBe(true);
    for (const name of loaded) {
      expect(half.tensors.get(name), name).toEqual(init.tensors.get(name));
      if (name.endsWith('weight') || name.includes('running'))
        expect(model.tensors.get(name), name).not.toEqual(half.tensors.get(name));
    }
    const count = (tensors: typeof half.tensors, name: string) =>
      new Float64Array(tensors.get(name)!.bytes.slice().buffer)[0];
    expect(
      ['optimizer.step.1', 'optimizer.step', 'optimizer.step.1.loaded', 'optimizer.step.2.loaded'].map((n) =>
        count(half.tensors, n),
      ),
    ).toEqual([6, 6, 0, 0]);
    const log = logOf(at('halves')).filter((r) => 'loss' in r);
    expect(log.map((r) => r['lr'] as number).slice(5, 8)).toEqual(
      [0.002 * 0.2 ** 0.9, 0.002, 0.002].map((v) => expect.closeTo(v, 12) as number),
    );
  });

  it('is refused without --init', async () => {
    const refused = await tune('none', {}, { init: undefined }).catch((e: unknown) => e);
    expect(refused).toBeInstanceOf(MaclError);
    expect((refused as MaclError).message).toMatch(/sawtooth trains first what --init did not load; expected --init/);
  });
});

describe('a resume', () => {
  it('may compute again what it kept, and keeps the bits', async () => {
    await stoppedAt('finetune', 'again', 4, {});
    const config = tinyFinetune({
      init: {},
      model: { recompute: 'blocks' },
      optimizer: SAWTOOTH,
      train: { accumulate: 2, batch: 1, valEvery: 6 },
    });
    await tune('again', { resume: true }, { config });
    expectSame('again', 'finetune-whole');
  });

  it('with other groups is refused by name', async () => {
    await stoppedAt('finetune', 'others', 2, {});
    const config = tinyFinetune({ init: {}, optimizer: { groups: [{ parts: ['loaded'], lr: 0.1 }] } });
    const error = await tune('others', { resume: true }, { config }).catch((e: unknown) => e);
    expect((error as MaclError).message).toMatch(/--resume: optimizer\.groups: the run began with/);
  });
});

it('the plan says accumulation, groups and sawtooth', async () => {
  const { events, onEvent } = listen();
  await tune(
    'plan',
    { onEvent },
    { config: tinyFinetune({ init: {}, optimizer: SAWTOOTH, train: { steps: 0, accumulate: 4, batch: 1 } }) },
  );
  const text = events.flatMap((e) => (e.kind === 'plan' ? e.lines : [])).join('\n');
  expect(text).toMatch(/sawtooth of power 0\.9 to 0 after a warm-up of 10% of the steps/);
  expect(text).toMatch(/the first 50% of the steps train only what was not loaded, then everything/);
  expect(text).toMatch(
    /norms, biases \(loaded\): \d+ parameters, the learning rate, no weight decay, frozen in the first part/,
  );
  expect(text).toMatch(
    /accumulation: a step is 4 batches of 1 in the memory of one; .*; the norms' batch statistics, Dice see one batch at a time/,
  );
});
