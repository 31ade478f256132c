/**
 * Every operation with activations in bf16, on each device that has them, against the reference, which rounds where they
 * store. A number in the middle of two bf16 ones may be rounded to either, as the order of a sum decides: no error is larger
 * than one such step, and few numbers have one.
 */
import { afterAll, describe, expect, test } from 'vitest';
import type { Fusion } from '../../src/backend/types.js';
import { kernelDef } from '../../src/graph/kernel.js';
import { OPS } from '../cases/index.js';
import type { Case, Inputs, Mode, OpCases } from '../cases/types.js';
import { lackOf, openDevices, type Device } from './devices.js';
import { largest } from './fixtures.js';
import { randomInputs } from './random.js';
import { runCase, type CaseRun } from './run-case.js';

const devices = await openDevices(2);
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

/** bf16 has 8 bits: a step is at most 2⁻⁷ of a number, and of a sum that it went into, at most so much of the largest. */
const STEP = 2 ** -7;
/** What differs by more than fp32's rounding, of all numbers: seldom a sum lies so near the middle. */
const NEAR = 2e-5;
const SHARE = 0.02;

const MODES: readonly { title: string; mode: Mode; fused: boolean }[] = [
  { title: 'unfused, gradients written', mode: { dloss: 1 }, fused: false },
  { title: 'fused, gradients added', mode: { dloss: 0.5, addTo: 0.25 }, fused: true },
];

const run = (device: Device, list: OpCases, c: Case, inputs: Inputs, mode: Mode, fused: boolean): Promise<CaseRun> => {
  if (!device.backend) throw new Error(device.reason);
  const fusions = fused ? device.backend.info.fusions : new Set<Fusion>();
  return runCase(device.backend, list, c, inputs, mode, fusions, 'bf16');
};

const truths = new Map<string, Promise<CaseRun>>();
const reference = devices.find((d) => d.label === 'reference') as Device;

describe.each(devices.filter((d) => d.label !== 'reference'))('$label', (device) => {
  const has = device.backend?.info.precisions.includes('bf16') ?? false;
  for (const list of OPS) {
    const on = has && !lackOf(device, list) ? test : test.skip;
    for (const { title, mode, fused } of MODES)
      on(`${list.op}: the reference's values, ${title}`, async () => {
        let [numbers, differ] = [0, 0];
        for (const [i, c] of list.cases.entries()) {
          const inputs = randomInputs(11 + i, list, c);
          const key = `${list.op} ${c.name} ${title}`;
          const truth = truths.get(key) ?? run(reference, list, c, inputs, mode, false);
          truths.set(key, truth);
          const { values } = await truth;
          const found = await run(device, list, c, inputs, mode, fused);
          expect([...found.values.keys()]).toEqual([...values.keys()]);
          for (const [name, want] of values) {
            const have = found.values.get(name) as Float64Array;
            const scale = largest(want) || 1;
            const errors = have.map((v, k) => Math.abs(v - (want[k] as number)) / scale);
            const worst = largest(errors);
            expect(worst, `${key} ${name}: ${worst}`).toBeLessThanOrEqual(STEP);
            numbers += errors.length;
            differ += errors.filter((e) => e > NEAR).length;
          }
        }
        expect(differ / numbers, `${differ} of ${numbers} differ`).toBeLessThanOrEqual(SHARE);
      });
  }
});

test('activations are bf16 here, not fp32 under another name', async () => {
  const list = OPS.find((l) => l.op === 'conv3d') as OpCases;
  const [c] = list.cases as [Case];
  const inputs = randomInputs(1, list, c);
  expect(kernelDef('conv3d_fwd').alike).toEqual(['x', 'y']);
  const narrow = (await run(reference, list, c, inputs, { dloss: 1 }, false)).values.get('y') as Float64Array;
  expect(narrow.every((v) => (new Uint32Array(Float32Array.of(v).buffer)[0] as number) % 65536 === 0)).toBe(true);
});
