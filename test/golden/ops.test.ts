/**
 * Every operation of test/cases, forward and gradient, against PyTorch's golden values on every device present; larger cases
 * against the float64 reference. Each case runs unfused with gradients written, and with the device's fusions and gradients
 * added. A device that is not there is a skip that is counted.
 */
import { afterAll, describe, expect, test } from 'vitest';
import type { Fusion } from '../../src/backend/types.js';
import { OPS } from '../cases/index.js';
import type { Case, Inputs, Mode, OpCases } from '../cases/types.js';
import { kindOf, lackOf, openDevices, TF32, type Device } from './devices.js';
import { largest, readGolden, relativeError, type Golden } from './fixtures.js';
import { randomInputs } from './random.js';
import { runCase, type CaseRun } from './run-case.js';

const devices = await openDevices(2, TF32);
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

/**
 * Largest error over the tensor's largest entry. float64 sums in another order; fp32 with sums of up to 1,800 terms; TF32
 * rounds both factors of a convolution's products to 2⁻¹¹.
 */
const TOLERANCE = { f64: 1e-12, f32: 4e-6, tf32: 2e-3 } as const;
/** TF32's rounding leaves more than this somewhere. */
const TF32_SHOWS = 2e-5;

const MODES: readonly { title: string; mode: Mode; fused: boolean }[] = [
  { title: 'unfused, gradients written', mode: { dloss: 1 }, fused: false },
  { title: 'fused, gradients added', mode: { dloss: 0.5, addTo: 0.25 }, fused: true },
];

async function run(device: Device, list: OpCases, c: Case, inputs: Inputs, mode: Mode, fused: boolean) {
  if (!device.backend) throw new Error(device.reason);
  return runCase(device.backend, list, c, inputs, mode, fused ? device.backend.info.fusions : new Set<Fusion>());
}

/** The golden gradient as this mode should have it. */
function expectedGradient(list: OpCases, golden: Float64Array, mode: Mode): Float64Array {
  const factor = list.loss ? mode.dloss : 1;
  return golden.map((v) => (mode.addTo ?? 0) + factor * v);
}

function check(
  device: Device,
  list: OpCases,
  c: Case,
  { built, values }: CaseRun,
  expected: (name: string, gradient: boolean) => Float64Array,
): number {
  const kind = kindOf(device);
  const tolerance = list.tolerance?.(c, kind) ?? TOLERANCE[kind];
  let worst = 0;
  expect(values.size).toBeGreaterThan(0);
  for (const [name, found] of values) {
    const want = expected(name, built.gradients.includes(name));
    // A tensor that should be all zero is held to the tolerance itself.
    const error = relativeError(found, want, largest(want) || 1);
    expect(error, `${list.op} ${c.name} ${name} on ${device.label}: error ${error}`).toBeLessThanOrEqual(tolerance);
    worst = Math.max(worst, error);
  }
  return worst;
}

interface OpsMeta {
  readonly cases: readonly Case[];
}

function goldenInputs(golden: Golden<OpsMeta>, c: Case): Inputs {
  return (name) => golden.values(`${c.name}.${name}`);
}

const drawn = new Map<Case, Inputs>();
function inputsOf(list: OpCases, c: Case): Inputs {
  const inputs = drawn.get(c) ?? randomInputs(11 + list.cases.indexOf(c), list, c);
  drawn.set(c, inputs);
  return inputs;
}

/** What the reference gives of a larger case: once, for all devices. */
const truths = new Map<Case, Promise<CaseRun>>();
function truthOf(list: OpCases, c: Case): Promise<CaseRun> {
  const reference = devices.find((d) => d.label === 'reference') as Device;
  const truth = truths.get(c) ?? run(reference, list, c, inputsOf(list, c), { dloss: 1 }, false);
  truths.set(c, truth);
  return truth;
}

const LISTS = OPS.map((list) => ({
  list,
  golden: readGolden<OpsMeta>(`ops-${list.op}`),
  cases: list.cases.filter((c) => c.golden),
  others: list.cases.filter((c) => !c.golden),
}));

for (const { list, golden, cases } of LISTS) {
  test(`${list.op}: the fixture was made from the cases of the list`, () => {
    expect(golden.meta.cases).toEqual(cases);
    expect(cases.length).toBeGreaterThan(0);
  });
}

describe.each(devices)('$label', (device) => {
  for (const { list, golden, cases, others } of LISTS) {
    const on = device.backend && !lackOf(device, list) ? test : test.skip;
    for (const { title, mode, fused } of MODES) {
      on(`${list.op}: PyTorch's values, ${title}`, async () => {
        for (const c of cases) {
          const value = (name: string) => golden.values(`${c.name}.${name}`);
          const found = await run(device, list, c, goldenInputs(golden, c), mode, fused);
          check(device, list, c, found, (name, gradient) => {
            if (gradient) return expectedGradient(list, value(name), mode);
            return list.expected ? list.expected(c, name, value) : value(name);
          });
        }
      });
    }
    if (others.length === 0 || device.label === 'reference') continue;
    on(`${list.op}: the reference's values, larger cases`, async () => {
      let worst = 0;
      for (const c of others) {
        const inputs = inputsOf(list, c);
        const truth = await truthOf(list, c);
        const found = await run(device, list, c, inputs, { dloss: 1 }, true);
        expect([...found.values.keys()]).toEqual([...truth.values.keys()]);
        const error = check(device, list, c, found, (name) => truth.values.get(name) as Float64Array);
        worst = Math.max(worst, error);
      }
      // A table named tf32 that computes in fp32 would pass every bound.
      if (list.op === 'conv3d' && kindOf(device) === 'tf32') expect(worst).toBeGreaterThan(TF32_SHOWS);
    });
  }
});
