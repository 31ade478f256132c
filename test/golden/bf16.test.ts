/**
 * Steps with bf16 activations on the reference against PyTorch in float64 with explicit roundings (tools/goldens/bf16.py):
 * both round the same numbers at the same places, so they agree as they do without. And how far that is from fp32.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { openReference } from './devices.js';
import type { Precision } from '../../src/precision.js';
import { largest, norm2, readGolden, relativeError, relativeL2, type Golden } from './fixtures.js';
import { stepData, StepRun, type StepMeta } from './steprun.js';

/**
 * Measured 9e-14. It would be 4e-3 at a number that lies so near the middle of two bf16 ones that the order of a sum decides;
 * sums that are exactly in the middle (of two bf16 numbers) are exact in any order.
 */
const BOUND = 1e-9;
/** docs/step.md: bf16 against fp32. */
const LOSSES = 0.02;
const STATISTICS = 0.03;
const GRADIENTS = 0.3;

const backend = await openReference();
afterAll(() => backend.close());

async function outputs(
  golden: Golden<{ readonly of: string }>,
  precision: Precision,
): Promise<Map<string, Float64Array>> {
  const data = stepData(readGolden<StepMeta>(golden.meta.of));
  const own = golden
    .names('batch.')
    .map((k) => [k, { shape: golden.shape(`batch.${k}`), values: golden.values(`batch.${k}`) }] as const);
  const run = await StepRun.create(backend, { ...data, batch: new Map([...data.batch, ...own]) }, { precision });
  try {
    expect(await run.step()).toBe(true);
    return run.outputs();
  } finally {
    await run.close();
  }
}

describe.each(['pretrain-3d', 'finetune-3d'])('%s', (stem) => {
  const golden = readGolden<{ readonly of: string }>(`step-bf16-${stem}`);

  test('the reference with bf16 is PyTorch with bf16', async () => {
    const found = await outputs(golden, 'bf16');
    expect([...found.keys()].sort()).toEqual(golden.names('out.').sort());
    for (const [name, values] of found) {
      const want = golden.values(`out.${name}`);
      const scale = name.startsWith('grad.') ? golden.values(`out.${name.replace(/\.bias$/, '.weight')}`) : want;
      const error = relativeError(values, want, largest(scale));
      expect.soft(error, `${name}: ${error}`).toBeLessThanOrEqual(BOUND);
    }
  });

  test('and is not fp32, but near it', async () => {
    const [narrow, wide] = [await outputs(golden, 'bf16'), await outputs(golden, 'fp32')];
    for (const [name, want] of wide) {
      const found = narrow.get(name) as Float64Array;
      if (name.startsWith('grad.') || !/^loss|running_/.test(name)) continue;
      const bound = name.startsWith('loss') ? LOSSES : STATISTICS;
      expect(relativeError(found, want, Math.max(largest(want), 1e-3)), name).toBeLessThanOrEqual(bound);
      expect(found, name).not.toEqual(want);
    }
    const flat = (from: ReadonlyMap<string, Float64Array>) =>
      Float64Array.from([...from].filter(([name]) => name.startsWith('grad.')).flatMap(([, v]) => [...v]));
    const error = relativeL2(flat(narrow), flat(wide), norm2(flat(wide)));
    expect(error).toBeGreaterThan(1e-3);
    expect(error).toBeLessThanOrEqual(GRADIENTS);
  });
});
