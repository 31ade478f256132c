/** Runs are equal: stopped anywhere and resumed is the same bits as never stopped; threads do not matter. */
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Draws } from '../../src/philox.js';
import { MaclError } from '../../src/errors.js';
import { finetune } from '../../src/train/finetune.js';
import { pretrain } from '../../src/train/pretrain.js';
import type { TrainEvent } from '../../src/train/events.js';
import { device, listen, logOf, runFiles, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const cacheDir = join(root, 'cache');
let data: string;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
});

interface How {
  readonly resume?: boolean;
  readonly signal?: AbortSignal;
  readonly threads?: number;
  readonly onEvent?: (event: TrainEvent) => void;
}
const tasks = {
  pretrain: (out: string, how: How) =>
    pretrain({ data, out: join(root, out), cacheDir, device, config: tinyPretrain(), ...how }),
  finetune: (out: string, how: How) =>
    finetune({
      data,
      out: join(root, out),
      cacheDir,
      device,
      val: 'toy_2,toy_3',
      labels: 'toy_1,toy_2,toy_3,toy_4',
      config: tinyFinetune({ train: { valEvery: 4 } }),
      ...how,
    }),
};
type Task = keyof typeof tasks;

/** Runs until `stopAt` says so, then aborts. */
async function stopped(task: Task, out: string, resume: boolean, stopAt: (e: TrainEvent) => boolean): Promise<void> {
  const controller = new AbortController();
  const { onEvent } = listen((e) => stopAt(e) && controller.abort());
  const error = await tasks[task](out, { resume, signal: controller.signal, onEvent, threads: 1 }).catch(
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(MaclError);
  expect((error as MaclError).code).toBe('aborted');
}
const atStep = (step: number) => (e: TrainEvent) => e.kind === 'step' && e.step === step;

describe.each(['pretrain', 'finetune'] as const)('%s', (task) => {
  beforeAll(async () => {
    await tasks[task](`${task}-whole`, { threads: 2 });
  });

  it('writes the same files again, with 1, 2 and 3 threads', async () => {
    const whole = runFiles(join(root, `${task}-whole`));
    expect(Object.keys(whole)).toContain('model.safetensors');
    expect(Object.keys(whole).filter((n) => n.startsWith('checkpoints/step-'))).toHaveLength(2);
    for (const threads of [1, 2, 3]) {
      await tasks[task](`${task}-${threads}`, { threads });
      expect(runFiles(join(root, `${task}-${threads}`))).toEqual(whole);
    }
  });

  it('stopped at random steps and resumed is never having stopped', async () => {
    const draws = new Draws(5, 0, task === 'pretrain' ? 1 : 2, 0);
    for (let trial = 0; trial < 4; trial++) {
      const out = `${task}-stop-${trial}`;
      let step = 1 + draws.int(6);
      await stopped(task, out, false, atStep(step));
      // The last finished step is what is saved.
      expect(logOf(join(root, out)).at(-1)!['step']).toBe(step);
      if (trial % 2 === 1) {
        step += 1 + draws.int(5);
        await stopped(task, out, true, atStep(step));
      }
      const { events, onEvent } = listen();
      await tasks[task](out, { resume: true, threads: 3, onEvent });
      expect(events.find((e) => e.kind === 'step')).toMatchObject({ step: step + 1 });
      expectSame(out, `${task}-whole`);
    }
  });

  it('goes on from an older state of the folder, whose log had gone further', async () => {
    const out = `${task}-older`;
    await stopped(task, out, false, atStep(6));
    cpSync(join(root, out, 'checkpoints'), join(root, `${task}-kept`), { recursive: true });
    await stopped(task, out, true, atStep(10));
    cpSync(
      join(root, `${task}-kept`, 'step-000000006.safetensors'),
      join(root, out, 'checkpoints/step-000000006.safetensors'),
    );
    const { unlinkSync } = await import('node:fs');
    unlinkSync(join(root, out, 'checkpoints/step-000000010.safetensors'));
    await tasks[task](out, { resume: true });
    expectSame(out, `${task}-whole`);
  });

  it('a resume of a finished run changes nothing', async () => {
    const out = `${task}-whole`;
    const before = runFiles(join(root, out));
    const { messages, onEvent } = listen();
    await tasks[task](out, { resume: true, onEvent });
    expect(messages('note').join()).toMatch(/finished/);
    expect(runFiles(join(root, out))).toEqual(before);
  });
});

describe('validation', () => {
  it('that is interrupted is done again, and is in the log once', async () => {
    for (const [n, at] of [4, 12].entries()) {
      const out = `inside-${n}`;
      const controller = new AbortController();
      // The abort comes with the step's event: the loop goes on into the validation of that step and stops there.
      const { onEvent } = listen((e) => e.kind === 'step' && e.step === at && setImmediate(() => controller.abort()));
      const error = await tasks.finetune(out, { signal: controller.signal, onEvent }).catch((e: unknown) => e);
      expect((error as MaclError).code).toBe('aborted');
      expect(logOf(join(root, out)).at(-1)).toMatchObject({ step: at, loss: expect.any(Number) as number });
      await tasks.finetune(out, { resume: true });
      expectSame(out, 'finetune-whole');
    }
    const validations = logOf(join(root, 'finetune-whole')).filter((r) => 'validationDice' in r);
    expect(validations.map((r) => r['step'])).toEqual([4, 8, 12]);
  });

  it('keeps the best weights, not the last', () => {
    const records = logOf(join(root, 'finetune-whole')).filter((r) => 'validationDice' in r);
    const dice = records.map((r) => r['validationDice'] as number);
    expect(dice.every((d) => d >= 0 && d <= 1)).toBe(true);
    for (const record of records) {
      const each = record['validationDicePerClass'] as number[];
      expect(each).toHaveLength(2);
      // Both classes are in each of the cases that are held out.
      expect((each[0]! + each[1]!) / 2).toBeCloseTo(record['validationDice'] as number, 12);
    }
    const best = readFileSync(join(root, 'finetune-whole/checkpoints/best.safetensors')).toString('latin1');
    expect(best).toContain(`"step":"${records[dice.indexOf(Math.max(...dice))]!['step'] as number}"`);
  });
});

/** The same model, the same log, the same best; checkpoints lie at other steps where a run was stopped. */
function expectSame(out: string, whole: string): void {
  const [found, expected] = [runFiles(join(root, out)), runFiles(join(root, whole))];
  const kept = (files: Record<string, string>) =>
    Object.fromEntries(Object.entries(files).filter(([n]) => !n.startsWith('checkpoints/step-') || n.includes('12.')));
  expect(logOf(join(root, out))).toEqual(logOf(join(root, whole)));
  expect(kept(found)).toEqual(kept(expected));
}
