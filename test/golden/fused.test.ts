/**
 * Every fused program against the unfused one: each fusion alone and all together, on every device present. Losses,
 * gradients, parameters and running statistics after the step.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { FUSIONS, type Backend, type Fusion } from '../../src/backend/types.js';
import { openDevices } from './devices.js';
import { largest, readGolden, relativeError } from './fixtures.js';
import { stepData, StepRun, type StepMeta } from './steprun.js';

const FIXTURES = ['pretrain-2d', 'pretrain-anisotropic', 'finetune-3d'];
/** A fused kernel may add in another order. In fp32 a rounding can flip a ReLU: hence the bound on a gradient. */
const TOLERANCE = { f64: 1e-10, f32: 1e-2 } as const;
/** Parameters after Adam's step: it turns the rounding of a gradient that is truly zero into a part of a step. */
const UPDATE_TOLERANCE = 1e-8;
const LOSS_TOLERANCE = { f64: 1e-10, f32: 1e-5 } as const;

const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

async function outputs(backend: Backend, stem: string, fusions: ReadonlySet<Fusion>) {
  const run = await StepRun.create(backend, stepData(readGolden<StepMeta>(`step-${stem}`)), { fusions });
  try {
    await run.step();
    return { values: run.outputs(), kernels: run.program.graph.nodes.map((n) => n.kernel) };
  } finally {
    await run.close();
  }
}

/** The bias of a convolution before a norm has a true gradient of zero: measured on its weight's scale. */
function scaleOf(values: ReadonlyMap<string, Float64Array>, name: string): number {
  const on = name.startsWith('grad.') ? name.replace(/\.bias$/, '.weight') : name;
  return Math.max(largest(values.get(on) ?? []), 1e-3);
}

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  for (const stem of FIXTURES) {
    run(`${stem}: fused as unfused`, async () => {
      const backend = device.backend;
      if (!backend) return;
      const real = backend.info.real === 'f64' ? 'f64' : 'f32';
      const plain = await outputs(backend, stem, new Set());
      const each: ReadonlySet<Fusion>[] = device.slow ? [] : FUSIONS.map((f) => new Set([f]));
      const sets = [...each, new Set(FUSIONS)];
      for (const fusions of sets) {
        const title = [...fusions].join('+');
        const fused = await outputs(backend, stem, fusions);
        // Fine-tuning and pre-training both have something for each fusion to do.
        expect(fused.kernels, title).not.toEqual(plain.kernels);
        for (const [name, want] of plain.values) {
          const steady = name.startsWith('loss') || name.includes('running_');
          const update = name.startsWith('new.') && !steady;
          // In fp32 that part is a whole step: there the updates are held to the own gradients (step.test.ts).
          if (update && real === 'f32') continue;
          const tolerance = update ? UPDATE_TOLERANCE : (steady ? LOSS_TOLERANCE : TOLERANCE)[real];
          const error = relativeError(fused.values.get(name) ?? [], want, scaleOf(plain.values, name));
          expect(error, `${title} ${name} on ${device.label}: error ${error}`).toBeLessThanOrEqual(tolerance);
        }
      }
    });
  }
});
