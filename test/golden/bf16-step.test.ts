/**
 * Whole steps with bf16 activations on each device that has them, against the reference with bf16, within the bounds of
 * docs/step.md: of losses and running statistics on every seed, of all gradients in the median of eight.
 */
import { afterAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/types.js';
import { openDevices, openReference } from './devices.js';
import { largest, norm2, relativeError, relativeL2 } from './fixtures.js';
import { randomData } from './random-step.js';
import { StepRun, type StepConfig } from './steprun.js';

const reference = await openReference();
const devices = (await openDevices()).filter(({ label }) => !/reference|plain|cuda/.test(label));
afterAll(async () => {
  await reference.close();
  for (const d of devices) await d.backend?.close();
});

const NEAR = 2e-2;
const GRADIENTS = 0.15;
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];

const STEPS: Readonly<Record<string, { config: StepConfig; patch: readonly [number, number, number] }>> = {
  'pretrain 3-D': {
    config: {
      task: 'pretrain',
      model: { dims: 3, inChannels: 1, filters: 8, levels: 2, decoderBlocks: 1 },
      loss: {},
      optimizer: { name: 'sgd', lr: 0.01 },
    },
    patch: [8, 8, 16],
  },
  'finetune 3-D': {
    config: {
      task: 'finetune',
      model: { dims: 3, inChannels: 1, filters: 16, levels: 2, decoderBlocks: 2, classes: 3 },
      loss: {},
      optimizer: { name: 'adam', lr: 0.002 },
    },
    patch: [8, 8, 16],
  },
  'finetune 2-D': {
    config: {
      task: 'finetune',
      model: { dims: 2, inChannels: 1, filters: 16, levels: 2, decoderBlocks: 2, classes: 3 },
      loss: {},
      optimizer: { name: 'adam', lr: 0.002 },
    },
    patch: [1, 32, 32],
  },
};

interface Outcome {
  readonly losses: ReadonlyMap<string, number>;
  readonly statistics: ReadonlyMap<string, Float64Array>;
  readonly gradients: Float64Array;
}

async function step(backend: Backend, title: string, seed: number): Promise<Outcome> {
  const { config, patch } = STEPS[title]!;
  const run = await StepRun.create(backend, randomData(config, 4, patch, seed), {
    precision: 'bf16',
    arithmetic: 'fast',
  });
  try {
    expect(await run.step()).toBe(true);
    return {
      losses: run.losses(),
      statistics: new Map([...run.after()].filter(([name]) => name.includes('running_'))),
      gradients: Float64Array.from([...run.gradients().values()].flatMap((v) => [...v])),
    };
  } finally {
    await run.close();
  }
}

const truths = new Map<string, Promise<Outcome>>();
function truthOf(title: string, seed: number): Promise<Outcome> {
  const key = `${title} ${seed}`;
  const truth = truths.get(key) ?? step(reference, title, seed);
  truths.set(key, truth);
  return truth;
}

describe.each(devices)('$label', ({ backend }) => {
  const on = backend?.info.precisions.includes('bf16') ? test : test.skip;
  on.each(Object.keys(STEPS))('%s', async (title) => {
    if (!backend) return;
    const apart: number[] = [];
    for (const seed of SEEDS) {
      const want = await truthOf(title, seed);
      const found = await step(backend, title, seed);
      for (const [name, value] of want.losses)
        expect(relativeError([found.losses.get(name)!], [value], Math.abs(value)), name).toBeLessThanOrEqual(NEAR);
      for (const [name, values] of want.statistics) {
        const error = relativeError(found.statistics.get(name)!, values, largest(values));
        expect(error, `${name}, seed ${seed}`).toBeLessThanOrEqual(NEAR);
      }
      apart.push(relativeL2(found.gradients, want.gradients, norm2(want.gradients)));
    }
    const median = apart.sort((a, b) => a - b)[SEEDS.length / 2]!;
    expect(median, apart.join(' ')).toBeLessThanOrEqual(GRADIENTS);
    // bf16 it is: fp32 sums would be a thousand times nearer.
    expect(median).toBeGreaterThan(1e-5);
  });
});
