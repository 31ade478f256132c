/**
 * Gradients against central differences, element by element, in float64 on the reference: every operation, and the whole
 * step of every method and of fine-tuning over every parameter of a small network. Needs no other framework's values.
 */
import { afterAll, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/types.js';
import { OPS } from '../cases/index.js';
import type { Case, OpCases } from '../cases/types.js';
import { openReference } from './devices.js';
import { largest } from './fixtures.js';
import { randomInputs } from './random.js';
import { Rig, type Ready } from './rig.js';
import { randomData } from './random-step.js';
import { StepRun, type StepConfig, type StepData } from './steprun.js';

const backend: Backend = await openReference();
afterAll(() => backend.close());

const OP_TOLERANCE = 1e-7;
const STEP_TOLERANCE = 1e-6;

/**
 * Central difference; where the first step size straddles a kink (a ReLU, a maximum, an absolute value), a smaller one
 * does not: the smallest disagreement counts.
 */
async function disagreement(at: (delta: number) => Promise<number>, analytic: number): Promise<number> {
  let best = Infinity;
  for (const h of [1e-5, 1e-6, 1e-7]) {
    const numeric = ((await at(h)) - (await at(-h))) / (2 * h);
    best = Math.min(best, Math.abs(numeric - analytic));
    if (best <= OP_TOLERANCE * 1e-2) break;
  }
  return best;
}

/** Σ y · dy, or the loss. */
function objective(list: OpCases, ready: Ready, dy: ArrayLike<number> | null): number {
  if (list.loss) return ready.read('loss')[0] as number;
  return ready.read('y').reduce((sum, v, i) => sum + v * ((dy as ArrayLike<number>)[i] as number), 0);
}

async function checkOp(list: OpCases, c: Case): Promise<number> {
  const source = randomInputs(5, list, c);
  const given = new Map<string, Float64Array>();
  const rig = new Rig(backend);
  const built = list.build(
    rig,
    c,
    (name, count) => {
      const values = Float64Array.from(source(name, count));
      given.set(name, values);
      return values;
    },
    { dloss: 1 },
  );
  const ready = await rig.ready();
  let checked = 0;
  try {
    await ready.run();
    const dy = given.get('dy') ?? null;
    const analytic = built.gradients.map((name) => ready.read(name));
    for (const [g, name] of built.wrt.entries()) {
      const values = given.get(name) as Float64Array;
      const gradient = analytic[g] as Float64Array;
      expect(gradient.length).toBe(values.length);
      const scale = Math.max(largest(gradient), 1e-3);
      for (let i = 0; i < values.length; i++) {
        const at = async (delta: number) => {
          const moved = values.slice();
          moved[i] = (moved[i] as number) + delta;
          ready.set(name, moved);
          await ready.run();
          return objective(list, ready, dy);
        };
        const off = await disagreement(at, gradient[i] as number);
        expect(off / scale, `${list.op} ${c.name} d${name}[${i}]`).toBeLessThanOrEqual(OP_TOLERANCE);
        checked++;
      }
      ready.set(name, values);
    }
  } finally {
    await ready.close();
  }
  return checked;
}

/** Every list whose operation has a gradient, known from what a case's program gives back. */
const withGradient = OPS.filter((list) =>
  list.cases.some(
    (c) => c.gradcheck && list.build(new Rig(backend), c, randomInputs(5, list, c), { dloss: 1 }).gradients.length > 0,
  ),
);

test.each(withGradient.map((list) => [list.op, list] as const))(
  '%s: gradients against finite differences',
  async (_, list) => {
    let checked = 0;
    for (const c of list.cases.filter((one) => one.gradcheck)) checked += await checkOp(list, c);
    expect(checked).toBeGreaterThan(0);
  },
);

/** Every parameter of a whole step. The learning rate is 0, so that steps leave the parameters as they are. */
async function checkStep(data: StepData): Promise<number> {
  const run = await StepRun.create(backend, data, { lr: 0 });
  let checked = 0;
  try {
    await run.step();
    const gradients = run.gradients();
    const scale = Math.max(...[...gradients.values()].map(largest));
    for (const [name, gradient] of gradients) {
      const entry = run.entry(name.slice('grad.'.length));
      const values = run.readEntry(entry);
      for (let i = 0; i < gradient.length; i++) {
        const at = async (delta: number) => {
          const moved = values.slice();
          moved[i] = (moved[i] as number) + delta;
          run.writeEntry(entry, moved);
          await run.step();
          return run.result('loss')[0] as number;
        };
        const off = await disagreement(at, gradient[i] as number);
        expect(off / scale, `${name}[${i}]`).toBeLessThanOrEqual(STEP_TOLERANCE);
        checked++;
      }
      run.writeEntry(entry, values);
    }
  } finally {
    await run.close();
  }
  return checked;
}

const SGD = { name: 'sgd', lr: 0, momentum: 0.9, weightDecay: 0 } as const;

const STEPS: readonly {
  title: string;
  config: StepConfig;
  samples: number;
  patch: readonly [number, number, number];
}[] = [
  {
    title: 'the MACL loss in 2-D, both levels in the decoder',
    config: {
      task: 'pretrain',
      model: { dims: 2, inChannels: 1, filters: 1, levels: 2, decoderBlocks: 2 },
      loss: { temperature: 0.1, threshold: 0.3, weights: { global: 1, dense: 0.5, er: 1 } },
      optimizer: SGD,
    },
    samples: 2,
    patch: [1, 16, 16],
  },
  {
    title: 'the MACL loss in 3-D, strides that differ',
    config: {
      task: 'pretrain',
      model: {
        dims: 3,
        inChannels: 1,
        filters: 1,
        levels: 2,
        decoderBlocks: 1,
        strides: [
          [1, 2, 1],
          [2, 2, 2],
        ],
        kernels: [
          [1, 3, 1],
          [3, 1, 3],
          [1, 3, 1],
        ],
      },
      loss: { temperature: 0.2, threshold: [0.5, 0.7, 0.6], weights: { global: 0.7, dense: 0.9, er: 0.3 } },
      optimizer: SGD,
    },
    samples: 3,
    patch: [4, 8, 4],
  },
  {
    title: 'cross-entropy and Dice of fine-tuning',
    config: {
      task: 'finetune',
      model: { dims: 3, inChannels: 2, filters: 1, levels: 2, decoderBlocks: 1, classes: 3 },
      loss: { name: 'ce+dice' },
      optimizer: SGD,
    },
    samples: 2,
    patch: [4, 4, 8],
  },
  {
    title: 'SimCLR',
    config: {
      task: 'pretrain',
      method: 'simclr',
      model: { dims: 3, inChannels: 1, filters: 1, levels: 1, decoderBlocks: 1 },
      loss: { temperature: 0.5 },
      optimizer: SGD,
    },
    samples: 3,
    patch: [4, 4, 6],
  },
  {
    title: 'PCL',
    config: {
      task: 'pretrain',
      method: 'pcl',
      model: { dims: 2, inChannels: 2, filters: 1, levels: 1, decoderBlocks: 1 },
      loss: { temperature: 0.2, threshold: 0.4 },
      optimizer: SGD,
    },
    samples: 4,
    patch: [1, 6, 8],
  },
  {
    title: 'VolumeFusion',
    config: {
      task: 'pretrain',
      method: 'volumefusion',
      model: { dims: 3, inChannels: 2, filters: 1, levels: 2, decoderBlocks: 1 },
      loss: { name: 'ce+dice' },
      optimizer: SGD,
    },
    samples: 2,
    patch: [4, 8, 8],
  },
  {
    title: 'MACL on the plain U-Net of nnU-Net, strides with kernel 1',
    config: {
      task: 'pretrain',
      method: 'macl',
      model: {
        backbone: 'nnunet-plain',
        dims: 3,
        inChannels: 1,
        filters: 2,
        levels: 1,
        decoderBlocks: 1,
        strides: [[2, 1, 2]],
        kernels: [
          [3, 3, 1],
          [1, 3, 3],
        ],
      },
      loss: { temperature: 0.2, threshold: 0.5, weights: { global: 0.7, dense: 0.9, er: 0.3 } },
      optimizer: SGD,
    },
    samples: 3,
    patch: [4, 4, 8],
  },
];

for (const { title, config, samples, patch } of STEPS) {
  test(`${title}: every parameter's gradient against finite differences`, async () => {
    expect(await checkStep(randomData(config, samples, patch))).toBeGreaterThan(100);
  });
}
