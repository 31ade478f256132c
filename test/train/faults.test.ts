/**
 * What is not finite, collapse, weights that do not fit, too little memory, a device that is not there, and an abort in the
 * middle of a prediction: where training and prediction meet them.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { nativeBytesAllocated } from '../../src/backend/addon.js';
import { openBackend } from '../../src/backend/choose.js';
import type { Backend } from '../../src/backend/types.js';
import { readNifti, toRas } from '../../src/data/nifti/index.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../../src/data/files.js';
import { asFloat64 } from '../../src/data/safetensors.js';
import { MaclError } from '../../src/errors.js';
import type { CompiledProgram } from '../../src/graph/compile.js';
import { predict, Segmenter } from '../../src/index.js';
import { methodOf } from '../../src/methods/index.js';
import { declareNetwork } from '../../src/methods/network.js';
import { compileStep } from '../../src/methods/step.js';
import { Watch } from '../../src/train/watch.js';
import { resolveConfig } from '../../src/config/index.js';
import { Executor } from '../../src/model/executor.js';
import { finetune, type FinetuneOptions } from '../../src/train/finetune.js';
import { trainLoop, type Loop } from '../../src/train/loop.js';
import { initialState } from '../../src/model/network-state.js';
import { pretrain, type PretrainOptions } from '../../src/train/pretrain.js';
import { RunFolder } from '../../src/train/run-folder.js';
import { device, listen, logOf, runFiles, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const cacheDir = join(root, 'cache');
let data: string;
let backend: Backend;
beforeAll(async () => {
  data = await toyDataset(join(root, 'data'));
  await tune('tuned', {});
  await train('pretrained', {});
  backend = await openBackend(device, { threads: 2 });
  return () => backend.close();
});

function tune(out: string, more: Partial<FinetuneOptions>) {
  const base = { data, out: join(root, out), cacheDir, device, threads: 2, config: tinyFinetune() } as const;
  return finetune({ ...base, ...more });
}
function train(out: string, more: Partial<PretrainOptions>) {
  const base = { data, out: join(root, out), cacheDir, device, threads: 2, config: tinyPretrain() } as const;
  return pretrain({ ...base, ...more });
}
async function failure(promise: Promise<unknown>): Promise<MaclError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(MaclError);
  return error as MaclError;
}
const newest = async (out: string) => {
  const names = readdirSync(join(root, out, 'checkpoints')).filter((n) => n.startsWith('step-'));
  return readSafetensorsFile(join(root, out, 'checkpoints', names.sort().at(-1)!));
};

describe('what is not finite', () => {
  const optimizer = { name: 'adam', momentum: 0, weightDecay: 0, clip: 0 } as const;
  const model = {
    dims: 3,
    inChannels: 1,
    filters: 2,
    levels: 1,
    decoderBlocks: 1,
    strides: [[2, 2, 2]],
    kernels: [
      [3, 3, 3],
      [3, 3, 3],
    ],
    classes: 2,
  } as const;

  /** A loop over given samples, of which those of some steps are infinite. */
  async function loopOver(out: string, steps: number, infinite: (step: number) => boolean) {
    const config = resolveConfig({
      task: 'finetune',
      model,
      optimizer,
      loss: { name: 'ce' },
      data: { patch: [4, 4, 4] },
    });
    const net = declareNetwork(config, { real: 'f32', alignment: 64 }, 'training');
    const program = compileStep(net, backend, { source: 'given' });
    const executor = await Executor.open(backend, [program], initialState(net.state, 3, backend.info));
    // Before each step, and after the last.
    const states = [executor.readState()];
    const committed: boolean[] = [];
    const folder = await RunFolder.open(join(root, out), { resume: false });
    const x = Float32Array.from({ length: 128 }, (_, i) => Math.sin(i));
    const loop: Loop = {
      executor,
      programAt: () => program,
      state: net.state,
      schedule: { name: 'constant', lr: 0.01, lrFinal: 0.01, steps },
      batch: 2,
      startStep: 0,
      results: ['loss', 'gradnorm'],
      checkpointEvery: 1000,
      metadata: {},
      watch: new Watch([], () => undefined, {}),
      folder,
      prepareInput(at) {
        const bad = infinite(at);
        executor.set(program, 'x', bad ? x.map((v, i) => (i === 5 ? Infinity : v)) : x);
        executor.set(
          program,
          'y',
          Int32Array.from({ length: 128 }, (_, i) => i % 2),
        );
      },
      onStep(r) {
        committed.push(r.committed);
        states.push(executor.readState());
      },
    };
    try {
      return { result: await trainLoop(loop).catch((e: unknown) => e), states, committed };
    } finally {
      await executor.close();
      await folder.close();
    }
  }

  it('skips the step and counts it; weights, moments, running statistics and step count stay as they were', async () => {
    const { result, states, committed } = await loopOver('skips', 6, (step) => step === 2 || step === 4);
    expect(result).toEqual({ skipped: 2 });
    expect(committed).toEqual([true, true, false, true, false, true]);
    const same = states.slice(1).map((s, i) => Buffer.from(s).equals(Buffer.from(states[i]!)));
    expect(same).toEqual([false, false, true, false, true, false]);
    const log = logOf(join(root, 'skips'));
    expect(log.map((r) => r['skipped'] ?? false)).toEqual([false, false, true, false, true, false]);
    expect(log[2]).toMatchObject({ step: 3, gradnorm: null });
    const { tensors, metadata } = await newest('skips');
    expect(metadata).toMatchObject({ step: '6', skipped: '2' });
    const counters = [...tensors].filter(([, t]) => t.shape.length <= 1 && t.dtype === 'F64');
    expect(counters.map(([, t]) => asFloat64(t)[0])).toEqual([4]);
  });

  it('in every step of a run is an error, however few there are, and again on a resume', async () => {
    const { result } = await loopOver('every', 6, () => true);
    expect(result).toMatchObject({ code: 'nonfinite', message: expect.stringMatching(/any of 6 steps.*no model/) });
    expect((await newest('every')).metadata).toMatchObject({ step: '6', skipped: '6' });
  });

  it('again and again stops with weights of the last good step', async () => {
    const { result, states, committed } = await loopOver('again', 100, (step) => step >= 3);
    expect(result).toBeInstanceOf(MaclError);
    expect((result as MaclError).code).toBe('nonfinite');
    expect(committed.filter((c) => !c)).toHaveLength(20);
    expect(Buffer.from(states[3]!).equals(Buffer.from(states.at(-1)!))).toBe(true);
    const { tensors, metadata } = await newest('again');
    expect(metadata).toMatchObject({ step: '23', skipped: '20' });
    for (const t of tensors.values()) expect(asFloat64(t).every(Number.isFinite)).toBe(true);
  });

  it('from an absurd learning rate stops a training, and no file holds a NaN', async () => {
    for (const [out, go] of [
      ['absurd-pre', train],
      ['absurd-fine', tune],
    ] as const) {
      const optimizer = { name: 'sgd', lr: 1e6, lrFinal: 1e6, schedule: 'constant' } as const;
      const config = { ...tinyPretrain({ train: { steps: 200, checkpointEvery: 1 } }), optimizer };
      const error = await failure(go(out, { config }));
      expect([error.code, error.message]).toEqual(['nonfinite', expect.stringMatching(/not finite/)]);
      expect(readdirSync(join(root, out))).not.toContain('model.safetensors');
      for (const name of readdirSync(join(root, out, 'checkpoints'))) {
        const { tensors } = await readSafetensorsFile(join(root, out, 'checkpoints', name));
        for (const t of tensors.values()) expect(asFloat64(t).every(Number.isFinite)).toBe(true);
      }
    }
  });
});

describe('collapse', () => {
  async function warnings(results: (step: number) => Record<string, number>, steps: number): Promise<string[]> {
    const out = join(root, `collapse-${Math.random()}`);
    const folder = await RunFolder.open(out, { resume: false });
    const found: string[] = [];
    const config = resolveConfig({ task: 'pretrain' });
    const dogs = methodOf(config).watchdogs?.(config, {}) ?? [];
    let at = -1;
    const executor = {
      set: () => undefined,
      run: () => Promise.resolve(Object.values(results(++at)).every(Number.isFinite)),
      scalar: (_: unknown, name: string) => results(at)[name] ?? 0,
      readState: () => new Uint8Array(0),
    } as unknown as Executor;
    await trainLoop({
      executor,
      programAt: () => ({}) as CompiledProgram,
      state: { entries: [], bytes: 0 } as unknown as Loop['state'],
      schedule: { name: 'constant', lr: 1, lrFinal: 1, steps },
      batch: 1,
      startStep: 0,
      results: ['loss', 'cosine', 'bottleneck'],
      checkpointEvery: 1000,
      metadata: {},
      folder,
      watch: new Watch(dogs, (message) => found.push(message), {}),
      prepareInput: () => undefined,
    });
    await folder.close();
    return found;
  }

  it('is warned about once, where the cosine stays high or the bottleneck vanishes', async () => {
    const high = await warnings(() => ({ cosine: 0.999, bottleneck: 1 }), 120);
    expect(high).toEqual([expect.stringMatching(/^collapse: .*cosine.*\(step 50\)/)]);
    const small = await warnings((step) => ({ cosine: 0, bottleneck: step === 0 ? 1 : 10 ** -(step + 0.5) }), 20);
    expect(small).toEqual([expect.stringMatching(/^collapse: the bottleneck.*\(step 5\)/)]);
  });

  it('is measured from the first step that counted', async () => {
    const late = await warnings((step) => ({ cosine: 0, bottleneck: step === 0 ? NaN : 10 ** -step }), 20);
    expect(late).toEqual([expect.stringMatching(/^collapse: the bottleneck.*\(step 6\)/)]);
  });

  it('is not where the cosine comes down in between, whatever the loss says', async () => {
    expect(await warnings((step) => ({ loss: 0, cosine: step % 40 === 39 ? 0.5 : 1, bottleneck: 1 }), 200)).toEqual([]);
  });

  it('is warned about in a training on volumes that show nothing', async () => {
    const blank = await toyDataset(join(root, 'blank'), { gain: 0 });
    const { messages, onEvent } = listen();
    const augment = { intensity: { brightness: 0, contrast: 0, noise: 0 } };
    await train('blank-run', { data: blank, config: { ...tinyPretrain({ train: { steps: 3 } }), augment }, onEvent });
    expect(messages('warning').join()).toMatch(/collapse: the bottleneck.*\(step 1\)/);
  });
});

describe('weights that do not fit', () => {
  it('are listed, expected and found, by finetune and predict', async () => {
    for (const [from, first] of [
      ['pretrained', 'encoder.blocks.0.conv1.weight'],
      ['tuned', 'head.weight'],
    ] as const) {
      const { tensors, metadata } = await readSafetensorsFile(join(root, from, 'model.safetensors'));
      const second = 'encoder.blocks.0.conv1.bias';
      const changed = new Map(tensors);
      const { shape, bytes } = tensors.get(first)!;
      changed.set(first, { dtype: 'F32', shape: [...shape, 2], bytes: new Uint8Array(2 * bytes.length) });
      expect(changed.delete(second)).toBe(true);
      const out = join(root, `${from}-changed`);
      mkdirSync(out);
      const file = join(out, 'model.safetensors');
      await writeSafetensorsFile(file, changed, metadata);
      const error = await failure(
        from === 'tuned'
          ? predict({ model: out, input: join(data, 'imagesTr'), out: join(root, 'never'), device })
          : tune('unfit', { init: out, config: tinyFinetune({ init: {} }) }),
      );
      expect([error.code, error.details.file]).toEqual(['weights', file]);
      expect([...error.details.tensors!].sort()).toEqual([first, second].sort());
      expect(error.message).toContain(`${first}: expected [${shape.join(', ')}], found [${[...shape, 2].join(', ')}]`);
      expect(error.message).toMatch(new RegExp(`${second}: expected \\[.*\\], found nothing`));
      if (from === 'pretrained') expect(readdirSync(join(root, 'unfit'))).toEqual([]);
    }
  });

  it('include flags that contradict what --init brings', async () => {
    const error = await failure(
      tune('contradicts', { init: join(root, 'pretrained'), config: tinyFinetune({ model: { filters: 4 } }) }),
    );
    expect(error.code).toBe('weights');
    expect(error.message).toMatch(/filters/);
  });

  it('a pre-trained network is not a model that segments', async () => {
    const error = await failure(
      predict({ model: join(root, 'pretrained'), input: data, out: join(root, 'never'), device }),
    );
    expect([error.code, error.message]).toEqual(['weights', expect.stringMatching(/fine-tune it first/)]);
  });
});

describe('memory', () => {
  it('that a plan needs and nobody has is known before anything is taken', async () => {
    const before = nativeBytesAllocated();
    const config = tinyFinetune({ data: { patch: [512, 512, 512] }, train: { batch: 64 }, model: { filters: 32 } });
    const error = await failure(tune('big', { config }));
    expect(error.code).toBe('memory');
    expect(error.details.neededBytes).toBeGreaterThan(error.details.freeBytes!);
    expect(error.message).toContain(String(error.details.neededBytes));
    expect(nativeBytesAllocated()).toBe(before);
    expect(readdirSync(join(root, 'big'))).toEqual([]);
  });

  it('is refused by a session too, and the process goes on', async () => {
    const sizes = { state: 64, scratch: 64, io: 64, store: 2 ** 50 };
    const error = await failure(backend.createSession(sizes));
    expect(error.code).toBe('memory');
    expect(error.details.neededBytes).toBeGreaterThanOrEqual(2 ** 50);
    expect(error.details.freeBytes).toBeLessThan(2 ** 50);
    await tune('after', {});
    expect(runFiles(join(root, 'after'))).toEqual(runFiles(join(root, 'tuned')));
  });
});

describe('a device that is not there', () => {
  it('fails with the reason where it was asked for; auto takes another and says why', async () => {
    const error = await failure(train('cuda', { device: 'cuda:99' }));
    expect([error.code, error.message]).toEqual(['device', expect.stringMatching(/^cuda:99: \w+/)]);
    const auto = await openBackend('auto');
    expect(auto.info.why).toMatch(/^(cuda: (?!first).*; )?(cuda|cpu|wasm): first that works$/);
    await auto.close();
  });
});

describe('an abort in the middle of a prediction', () => {
  it('rejects within one tile, and the model is as good as before; closing returns the memory', async () => {
    const before = nativeBytesAllocated();
    const segmenter = await Segmenter.open(join(root, 'tuned'), { device, threads: 2 });
    const held = nativeBytesAllocated();
    const { volume } = await toRas(await readNifti(join(data, 'imagesTr/toy_1.nii.gz')));
    const whole = await segmenter.segment(volume);
    for (const at of [1, 3]) {
      const controller = new AbortController();
      let tiles = 0;
      const error = await failure(
        segmenter.segment(volume, {
          signal: controller.signal,
          onProgress: (done) => {
            tiles = done;
            if (done === at) controller.abort();
          },
        }),
      );
      expect(error.code).toBe('aborted');
      expect(tiles).toBe(at);
      expect(nativeBytesAllocated()).toBe(held);
      expect(await segmenter.segment(volume)).toEqual(whole);
    }
    await segmenter.close();
    expect(nativeBytesAllocated()).toBe(before);
  });

  it('leaves no half of a file, and keeps the cases that were done', async () => {
    const controller = new AbortController();
    const out = join(root, 'half');
    const error = await failure(
      predict({
        model: join(root, 'tuned'),
        input: join(data, 'imagesTr'),
        out,
        device,
        signal: controller.signal,
        onCase: ({ index, done }) => index === 1 && done === 2 && controller.abort(),
      }),
    );
    expect(error.code).toBe('aborted');
    expect(readdirSync(out)).toEqual(['toy_1.nii.gz']);
  });

  it('and of a training returns the memory as well', async () => {
    const before = nativeBytesAllocated();
    const controller = new AbortController();
    const { onEvent } = listen((e) => e.kind === 'step' && e.step === 3 && controller.abort());
    expect((await failure(tune('aborted', { signal: controller.signal, onEvent }))).code).toBe('aborted');
    expect(nativeBytesAllocated()).toBe(before);
    expect((await failure(tune('never-begun', { signal: AbortSignal.abort() }))).code).toBe('aborted');
    expect(readdirSync(join(root, 'never-begun'))).toEqual([]);
  });
});
