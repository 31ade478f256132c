/**
 * A whole step of every method, and 20 of them, against PyTorch in float64: 2-D, 3-D, anisotropic. On the
 * float64 reference everything agrees to 1e-8 of each tensor's largest entry; on fp32 devices the bounds
 * below hold (as in tools/goldens/compare_step.py). A device that is not there is a skip that is counted.
 */
import { afterAll, describe, expect, test } from 'vitest';
import type { Fusion } from '../../src/backend/types.js';
import { openDevices } from './devices.js';
import { largest, norm2, readGolden, relativeError, relativeL2, type Golden } from './fixtures.js';
import { stepData, StepRun, type StepConfig, type StepMeta } from './steprun.js';

const FIXTURES = [
  'pretrain-2d',
  'pretrain-3d',
  'pretrain-anisotropic',
  'finetune-ce-2d',
  'finetune-3d',
  'simclr-3d',
  'pcl-2d',
  'volumefusion-3d',
  'plain-macl-3d',
  'plain-finetune-2d',
];
const REFERENCE = 1e-8;
/** Losses and running statistics in fp32, relative to the largest entry, at least 1e-3. */
const LOSSES = 1e-5;
/** A gradient in fp32: relative L2 on every seed. One ReLU or maximum that flips moves an entry by 1e-2. */
const GRADIENT_L2 = 5e-2;
/** new.* in fp32, relative to its largest entry: the optimiser in float64 on our own gradients. */
const UPDATE = 1e-6;
/**
 * Losses of 20 steps in fp32: rounding grows with the steps, by how much is the network's affair. The bound is this many
 * times what PyTorch's own fp32 runs differ from float64 by up to the same step (8 runs, in the fixture).
 */
const SPREADS = 4;

const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

/** A bias is measured on its weight's scale: that of a convolution before a norm has a true gradient of zero. */
function scaleName(name: string): string {
  return name.startsWith('grad.') ? name.replace(/\.bias$/, '.weight') : name;
}

/** One step of the configuration's optimiser from zero moments, in float64. */
function updated(config: StepConfig, w: Float64Array, g: Float64Array): Float64Array {
  const { name, lr } = config.optimizer;
  const decay = config.optimizer.weightDecay ?? (config.task === 'pretrain' ? 1e-5 : 0);
  return w.map((value, i) => {
    const d = (g[i] as number) + decay * value;
    if (name === 'sgd') return value - lr * d;
    // Bias corrections cancel in the first step: m̂ = d, v̂ = d².
    return value - (lr * d) / (Math.abs(d) + 1e-8);
  });
}

function checkReference(golden: Golden<StepMeta>, outputs: ReadonlyMap<string, Float64Array>): void {
  for (const name of golden.names('out.')) {
    const want = golden.values(`out.${name}`);
    const error = relativeError(outputs.get(name) ?? [], want, largest(golden.values(`out.${scaleName(name)}`)));
    expect(error, `${name}: error ${error}`).toBeLessThanOrEqual(REFERENCE);
  }
}

function checkSingle(golden: Golden<StepMeta>, outputs: ReadonlyMap<string, Float64Array>): void {
  const { config } = golden.meta;
  for (const name of golden.names('out.')) {
    const want = golden.values(`out.${name}`);
    const found = outputs.get(name) as Float64Array;
    if (name.startsWith('grad.')) {
      const error = relativeL2(found, want, norm2(golden.values(`out.${scaleName(name)}`)));
      expect(error, `${name}: L2 error ${error}`).toBeLessThanOrEqual(GRADIENT_L2);
    } else if (name.startsWith('loss') || name.includes('running_')) {
      const error = relativeError(found, want, Math.max(largest(want), 1e-3));
      expect(error, `${name}: error ${error}`).toBeLessThanOrEqual(LOSSES);
    } else {
      const parameter = name.slice('new.'.length);
      const g = outputs.get(`grad.${parameter}`) as Float64Array;
      const own = updated(config, golden.values(`weights.${parameter}`), g);
      const error = relativeError(found, own);
      expect(error, `${name}: error ${error}`).toBeLessThanOrEqual(UPDATE);
    }
  }
}

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  for (const stem of FIXTURES) {
    run(`${stem}: one step`, async () => {
      const backend = device.backend;
      if (!backend) return;
      const golden = readGolden<StepMeta>(`step-${stem}`);
      const step = await StepRun.create(backend, stepData(golden));
      try {
        expect(await step.step()).toBe(true);
        const outputs = step.outputs();
        expect([...outputs.keys()].sort()).toEqual(golden.names('out.').sort());
        if (backend.info.real === 'f64') checkReference(golden, outputs);
        else checkSingle(golden, outputs);
      } finally {
        await step.close();
      }
    });

    run(`${stem}: the losses of 20 steps`, async () => {
      const backend = device.backend;
      if (!backend) return;
      const golden = readGolden<StepMeta>(`step-${stem}`);
      const step = await StepRun.create(backend, stepData(golden), { fusions: new Set<Fusion>(backend.info.fusions) });
      const exact = backend.info.real === 'f64';
      try {
        const whole = golden.values('losses.loss').length;
        expect(whole).toBe(20);
        const steps = device.slow ? 2 : whole;
        const spread = new Map<string, number>();
        for (let k = 0; k < steps; k++) {
          await step.step();
          for (const [name, value] of step.losses()) {
            const want = golden.values(`losses.${name}`)[k] as number;
            const error = Math.abs(value - want) / Math.max(Math.abs(want), 1e-3);
            const seen = Math.max(spread.get(name) ?? LOSSES, golden.values(`spread.${name}`)[k] as number);
            spread.set(name, seen);
            const bound = exact ? REFERENCE : SPREADS * seen;
            expect(error, `step ${k} ${name}: ${value} for ${want}`).toBeLessThanOrEqual(bound);
          }
        }
        if (exact && golden.meta.config.optimizer.name === 'sgd') checkAfter(golden, step.after());
      } finally {
        await step.close();
      }
    });
  }
});

/**
 * Sum and norm of every tensor after the 20 steps. (Not for Adam: it turns the rounding of a gradient that is truly zero,
 * a bias before a norm, into steps of the learning rate.)
 */
function checkAfter(golden: Golden<StepMeta>, after: ReadonlyMap<string, Float64Array>): void {
  for (const name of golden.names('after.')) {
    const [sum = 0, norm = 0] = golden.values(`after.${name}`);
    const found = after.get(`new.${name}`) as Float64Array;
    const scale = Math.max(norm, 1e-3);
    const total = found.reduce((a, b) => a + b, 0);
    expect(Math.abs(total - sum) / (scale * Math.sqrt(found.length)), name).toBeLessThanOrEqual(REFERENCE);
    expect(Math.abs(norm2(found) - norm) / scale, name).toBeLessThanOrEqual(REFERENCE);
  }
}
