/**
 * The input of a step is made ready while the step before runs: in order and never twice at once, to the same bits as from
 * resident volumes, stopped and resumed or not; what goes wrong is that step's error, after the one before was saved.
 */
import { readdirSync, renameSync, truncateSync, copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MaclError } from '../../src/errors.js';
import type { CompiledProgram } from '../../src/graph/compile.js';
import type { Executor } from '../../src/model/executor.js';
import type { TrainEvent } from '../../src/train/events.js';
import { finetune } from '../../src/train/finetune.js';
import { InputAhead } from '../../src/train/input-ahead.js';
import { trainLoop, type Loop } from '../../src/train/loop.js';
import { pretrain } from '../../src/train/pretrain.js';
import { RunFolder } from '../../src/train/run-folder.js';
import { StepBoxes } from '../../src/train/volume-store.js';
import { Watch } from '../../src/train/watch.js';
import { device, listen, logOf, runFiles, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => unhandled.push(reason);
process.on('unhandledRejection', onUnhandled);
afterAll(() => {
  process.off('unhandledRejection', onUnhandled);
  expect(unhandled).toEqual([]);
});
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const turns = async (n: number) => {
  for (let i = 0; i < n; i++) await turn();
};

describe('the loop', () => {
  let runs = 0;
  /** A loop over a machine that takes some turns of the event loop a step; @returns what happened, in order. */
  async function looped(steps: number, more: Partial<Loop> & Pick<Loop, 'prepareInput'>, runTurns = 5) {
    const said: string[] = [];
    const out = join(root, `loop-${runs++}`);
    const folder = await RunFolder.open(out, { resume: false });
    let step = more.startStep ?? 0;
    const executor = {
      set: () => undefined,
      async run(_: unknown, { signal }: { signal?: AbortSignal } = {}) {
        said.push(`run ${step}`);
        for (let i = 0; i < runTurns; i++) {
          if (signal?.aborted) throw new MaclError('aborted', 'the run was aborted');
          await turn();
        }
        said.push(`ran ${step++}`);
        return true;
      },
      scalar: () => 1,
      readStateAt: (_: number, bytes: number) => new Uint8Array(bytes),
    } as unknown as Executor;
    try {
      const result: unknown = await trainLoop({
        executor,
        programAt: () => ({}) as CompiledProgram,
        state: { entries: [], bytes: 0 } as unknown as Loop['state'],
        schedule: { name: 'constant', lr: 1, lrFinal: 1, steps },
        batch: 1,
        startStep: 0,
        results: ['loss'],
        checkpointEvery: 1000,
        metadata: {},
        watch: new Watch([], () => undefined, {}),
        folder,
        ...more,
        async prepareInput(at) {
          said.push(`prepare ${at}`);
          try {
            await more.prepareInput(at);
            said.push(`prepared ${at}`);
          } catch (error) {
            said.push(`unprepared ${at}`);
            throw error;
          }
        },
      }).catch((error: unknown) => error);
      said.push('over');
      await turns(20);
      const saved = readdirSync(join(out, 'checkpoints')).map((n) => Number(/\d+/.exec(n)?.[0]));
      return { said, result, saved, log: logOf(out).map((r) => r['step']) };
    } finally {
      await folder.close();
    }
  }

  it.each([0, 1, 3, 12])('prepares each step once, while the one before runs: %i turns a step', async (n) => {
    const { said, saved } = await looped(4, { startStep: 1, prepareInput: () => turns(n) });
    const at = (what: string) => said.indexOf(what);
    for (const step of [1, 2, 3]) {
      expect(said.filter((s) => s === `prepare ${step}`)).toHaveLength(1);
      expect(at(`prepared ${step}`)).toBeLessThan(at(`run ${step}`));
      if (step === 1) continue;
      expect(at(`run ${step - 1}`)).toBeLessThan(at(`prepare ${step}`));
      expect(at(`prepare ${step}`)).toBeLessThan(at(`ran ${step - 1}`));
      expect(at(`prepared ${step - 1}`)).toBeLessThan(at(`prepare ${step}`));
    }
    expect(said.filter((s) => s.startsWith('prepare '))).toHaveLength(3);
    expect(saved).toEqual([4]);
  });

  it.each([
    ['at once', () => Promise.resolve()],
    ['before the run has ended', turn],
    ['long after it', () => turns(30)],
  ])('an input that fails is the error of its step, the step before is saved: %s', async (_, when) => {
    const bad = new MaclError('file', 'b.bin: ends at byte 7', { file: 'b.bin' });
    const { result, said, saved, log } = await looped(9, {
      async prepareInput(step) {
        await when();
        if (step === 3) throw bad;
      },
    });
    expect(result).toBe(bad);
    expect(said.filter((s) => s.startsWith('ran '))).toEqual(['ran 0', 'ran 1', 'ran 2']);
    expect([log, saved]).toEqual([[1, 2, 3], [3]]);
  });

  it('likewise where the volumes of a look at the features cannot be read', async () => {
    const bad = new MaclError('file', 'b.bin: ends at byte 7', { file: 'b.bin' });
    let looks = 0;
    const { result, saved, log } = await looped(4, {
      prepareInput: turn,
      represent: () => (looks++ === 0 ? Promise.resolve({ effectiveRank: {}, deadUnits: 0 }) : Promise.reject(bad)),
    });
    expect(result).toBe(bad);
    expect([log, saved]).toEqual([[1, 2, 3], [3]]);
  });

  it('an abort stops run and reading, and nothing is under way any more when it says so', async () => {
    for (const runTurns of [2, 40]) {
      const stop = new AbortController();
      const { result, said, saved } = await looped(
        9,
        {
          signal: stop.signal,
          async prepareInput(step) {
            if (step !== 3) return;
            // The abort comes into the middle of it, and it takes a while to notice.
            await turns(3);
            stop.abort();
            await new Promise((resolve) => setTimeout(resolve, 300));
            throw new MaclError('aborted', 'reading was aborted');
          },
        },
        runTurns,
      );
      expect(result).toMatchObject({
        code: 'aborted',
        message: expect.stringMatching(/^stopped after step \d, which/),
      });
      expect(saved).toEqual([said.filter((s) => s.startsWith('ran ')).length]);
      expect(said.slice(-2)).toEqual(['unprepared 3', 'over']);
    }
  });

  it('a run that fails waits for what is read ahead, whose own error is not a second one', async () => {
    const said: string[] = [];
    const ahead = new InputAhead(async (step) => {
      await turns(5);
      said.push(`read ${step}`);
      throw new Error('unread');
    });
    ahead.begin(4);
    expect(() => ahead.begin(5)).toThrow(/step 4 has not been taken/);
    await ahead.settle();
    expect(said).toEqual(['read 4']);
    await expect(ahead.ready(5)).rejects.toThrow('unread');
    await ahead.settle();
    expect(said).toEqual(['read 4', 'read 5']);
  });
});

describe('memory of a step’s boxes', () => {
  it('is taken at once or refused, and a box beyond its slot is too', () => {
    const error = (() => {
      try {
        return new StepBoxes(2 ** 20, 2 ** 30, 2 ** 29);
      } catch (e) {
        return e;
      }
    })();
    expect(error).toMatchObject({ code: 'memory', details: { neededBytes: 2 ** 30, freeBytes: 2 ** 29 } });
    const boxes = new StepBoxes(64, 128, 1000);
    boxes.take(1, 10).fill(7);
    expect(boxes.filled).toEqual([{ offset: 64, bytes: new Uint8Array(10).fill(7) }]);
    expect(() => boxes.take(0, 65)).toThrow(/slot 0: 65 bytes, it has 64/);
    expect(() => boxes.take(2, 1)).toThrow(/slot 2/);
  });
});

describe.each(['pretrain', 'finetune'] as const)('%s from disk', (task) => {
  const cacheDir = join(root, `cache-${task}`);
  let data: string;
  interface How {
    readonly resume?: boolean;
    readonly signal?: AbortSignal;
    readonly threads?: number;
    readonly storeBytes?: number;
    readonly onEvent?: (event: TrainEvent) => void;
  }
  const run = (name: string, how: How) => {
    const common = { data, out: join(root, `${task}-${name}`), cacheDir, device, ...how } as const;
    return task === 'pretrain'
      ? pretrain({ ...common, config: tinyPretrain() })
      : finetune({ ...common, val: 'none', config: tinyFinetune() });
  };
  const resultOf = (name: string) => {
    const files = runFiles(join(root, `${task}-${name}`));
    return [files['model.safetensors'], files['log.jsonl'], files['checkpoints/step-000000012.safetensors']];
  };
  const failure = async (name: string, how: How): Promise<MaclError> => {
    const error: unknown = await run(name, how).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(MaclError);
    return error as MaclError;
  };
  beforeAll(async () => {
    data = await toyDataset(join(root, `data-${task}`), { shape: [14, 22, 20] });
    await run('resident', { threads: 2 });
  });

  it('stopped at any step and resumed, from memory or from disk, gives the bits of a resident run', async () => {
    for (const step of [1, 3, 6, 11]) {
      const stop = new AbortController();
      const { onEvent } = listen((e) => e.kind === 'step' && e.step === step && stop.abort());
      const how = { onEvent, signal: stop.signal, threads: 1 };
      const error = await failure(`stop-${step}`, { ...how, ...(step === 6 ? {} : { storeBytes: 1 }) });
      expect(error.message).toMatch(new RegExp(`^stopped after step ${step},`));
      const { messages, onEvent: hear } = listen();
      await run(`stop-${step}`, { resume: true, threads: 3, storeBytes: 1, onEvent: hear });
      expect(messages('note').join()).toMatch(/each step reads its boxes from disk/);
      expect(resultOf(`stop-${step}`)).toEqual(resultOf('resident'));
    }
  });

  it.each([
    ['gone', (file: string) => renameSync(file, `${file}.away`), /no such file/],
    ['cut short', (file: string) => (copyFileSync(file, `${file}.away`), truncateSync(file, 900)), /ends at byte/],
  ])(
    'volumes that are %s all at once end it with the file’s error; the steps done are saved',
    async (name, harm, words) => {
      const images = readdirSync(cacheDir)
        .filter((n) => n.includes('.image.') && n.endsWith('.safetensors'))
        .map((n) => join(cacheDir, n));
      expect(images).toHaveLength(4);
      const { events, onEvent } = listen((e) => {
        if (e.kind === 'step' && e.step === 4) images.forEach(harm);
      });
      const error = await failure(name, { onEvent, storeBytes: 1, threads: 2 });
      expect([error.code, images.includes(error.details.file!)]).toEqual(['file', true]);
      expect(error.message).toMatch(words);
      const done = events.filter((e) => e.kind === 'step').length;
      // What had been read ahead by then is still trained on.
      expect([4, 5]).toContain(done);
      const saved = readdirSync(join(root, `${task}-${name}`, 'checkpoints')).sort();
      expect(saved.at(-1)).toBe(`step-${String(done).padStart(9, '0')}.safetensors`);
      for (const file of images) renameSync(`${file}.away`, file);
      await run(name, { resume: true, storeBytes: 1 });
      expect(resultOf(name)).toEqual(resultOf('resident'));
    },
  );
});
