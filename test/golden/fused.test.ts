/**
 * Every fused program against the unfused one: each fusion alone and all together, on every device present. The cases of
 * the operations, and losses, gradients, parameters and running statistics of whole steps.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { FUSIONS, type Backend, type Fusion } from '../../src/backend/types.js';
import { OPS } from '../cases/index.js';
import { kindOf, lackOf, openDevices } from './devices.js';
import { largest, readGolden, relativeError } from './fixtures.js';
import { randomInputs } from './random.js';
import { programText, runCase } from './run-case.js';
import { stepData, StepRun, type StepMeta } from './steprun.js';

const FIXTURES = ['pretrain-2d', 'pretrain-anisotropic', 'finetune-3d'];
/** A case's fused kernel adds in another order, over sums of up to 1,800 terms. */
const OP_TOLERANCE = { f64: 1e-12, f32: 4e-6 } as const;
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
  run('operations: fused as unfused, and each fusion has a case', async () => {
    const backend = device.backend;
    if (!backend) return;
    const kind = kindOf(device) === 'f64' ? 'f64' : 'f32';
    const sets = [...FUSIONS.map((f) => new Set([f])), new Set(FUSIONS)];
    const seen = new Set<string>();
    for (const list of OPS.filter((one) => !lackOf(device, one))) {
      for (const c of list.cases.filter((one) => one.golden || !device.slow)) {
        const inputs = randomInputs(7, list, c);
        const unfused = programText(backend, list, c, new Set());
        const changed = sets.filter((fusions) => programText(backend, list, c, fusions) !== unfused);
        if (changed.length === 0) continue;
        const plain = await runCase(backend, list, c, inputs, { dloss: 1 }, new Set());
        for (const fusions of changed) {
          const title = [...fusions].join('+');
          const fused = await runCase(backend, list, c, inputs, { dloss: 1 }, fusions);
          seen.add(title);
          for (const [name, want] of plain.values) {
            const error = relativeError(fused.values.get(name) ?? [], want, largest(want) || 1);
            const tolerance = list.tolerance?.(c, kind) ?? OP_TOLERANCE[kind];
            expect(error, `${title}: ${list.op} ${c.name} ${name}: error ${error}`).toBeLessThanOrEqual(tolerance);
          }
        }
      }
    }
    expect(seen).toEqual(new Set(sets.map((s) => [...s].join('+'))));
  });
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
