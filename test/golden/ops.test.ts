/**
 * Every operation, forward and gradient, against PyTorch's golden values on every device present; larger cases against
 * the float64 reference. Each case runs unfused with gradients written, and with the device's fusions and gradients
 * added. A device that is not there is a skip that is counted.
 */
import { afterAll, describe, expect, test } from 'vitest';
import type { Fusion } from '../../src/backend/types.js';
import { openDevices, TF32, type Device } from './devices.js';
import { drivers, type BaseCase, type Built, type Driver, type Inputs, type Mode } from './drivers.js';
import { largest, readGolden, relativeError, type Golden } from './fixtures.js';
import { randomInputs } from './random.js';
import { Rig } from './rig.js';

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
/** fp32 has 2⁻²⁴ of a mean 200 times the deviation to lose. */
const OFFSET_TOLERANCE = 1e-4;

const MODES: readonly { title: string; mode: Mode; fused: boolean }[] = [
  { title: 'unfused, gradients written', mode: { dloss: 1 }, fused: false },
  { title: 'fused, gradients added', mode: { dloss: 0.5, addTo: 0.25 }, fused: true },
];

async function runCase(device: Device, driver: Driver, c: BaseCase, inputs: Inputs, mode: Mode, fused: boolean) {
  const backend = device.backend;
  if (!backend) throw new Error(device.reason);
  const rig = new Rig(backend);
  const built = driver.build(rig, c, inputs, mode);
  const ready = await rig.ready(fused ? backend.info.fusions : new Set<Fusion>());
  try {
    await ready.run();
    const results = new Map([...built.results, ...built.gradients].map((name) => [name, ready.read(name)]));
    return { built, results };
  } finally {
    await ready.close();
  }
}

/** The golden gradient as this mode should have it. */
function expectedGradient(driver: Driver, golden: Float64Array, mode: Mode): Float64Array {
  const factor = driver.loss ? mode.dloss : 1;
  return golden.map((v) => (mode.addTo ?? 0) + factor * v);
}

function check(
  title: string,
  device: Device,
  c: BaseCase,
  built: Built,
  results: ReadonlyMap<string, Float64Array>,
  expected: (name: string, gradient: boolean) => Float64Array,
): number {
  const { real, isa } = device.backend?.info ?? { real: 'f64', isa: '' };
  const kind = isa === 'tf32' ? isa : real;
  const tolerance = c.name === 'offset' && kind === 'f32' ? OFFSET_TOLERANCE : TOLERANCE[kind];
  let worst = 0;
  for (const name of [...built.results, ...built.gradients]) {
    const want = expected(name, built.gradients.includes(name));
    // A tensor that should be all zero is held to the tolerance itself.
    const error = relativeError(results.get(name) as Float64Array, want, largest(want) || 1);
    expect(error, `${title} ${c.name} ${name} on ${device.label}: error ${error}`).toBeLessThanOrEqual(tolerance);
    worst = Math.max(worst, error);
  }
  return worst;
}

interface OpsMeta {
  readonly cases: readonly { name: string }[];
}

/** Golden names of what a run changes in place. */
const GOLDEN_NAME: Readonly<Record<string, string>> = { rm: 'new_rm', rv: 'new_rv' };

function goldenInputs(golden: Golden<OpsMeta>, c: BaseCase): Inputs {
  return (name) => golden.values(`${c.name}.${name}`);
}

for (const driver of drivers) {
  test(`${driver.op}: the fixture has the cases of the list`, () => {
    const names = driver.cases.filter((c) => c.golden).map((c) => c.name);
    expect(readGolden<OpsMeta>(`ops-${driver.op}`).meta.cases.map((c) => c.name)).toEqual(names);
    expect(names.length).toBeGreaterThan(0);
  });
}

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  for (const driver of drivers) {
    const golden = readGolden<OpsMeta>(`ops-${driver.op}`);
    const cases = driver.cases.filter((c) => c.golden);
    for (const { title, mode, fused } of MODES) {
      run(`${driver.op}: PyTorch's values, ${title}`, async () => {
        for (const c of cases) {
          const { built, results } = await runCase(device, driver, c, goldenInputs(golden, c), mode, fused);
          check(driver.op, device, c, built, results, (name, gradient) => {
            const values = golden.values(`${c.name}.${GOLDEN_NAME[name] ?? name}`);
            return gradient ? expectedGradient(driver, values, mode) : values;
          });
        }
      });
    }
    const others = driver.cases.filter((c) => !c.golden);
    if (others.length === 0 || device.label === 'reference') continue;
    run(`${driver.op}: the reference's values, larger cases`, async () => {
      const reference = devices.find((d) => d.label === 'reference') as Device;
      let worst = 0;
      for (const [i, c] of others.entries()) {
        const inputs = randomInputs(11 + i, driver.classes(c));
        const [mode, fused] = [{ dloss: 1 }, true];
        const truth = await runCase(reference, driver, c, inputs, mode, false);
        const { built, results } = await runCase(device, driver, c, inputs, mode, fused);
        const error = check(driver.op, device, c, built, results, (name) => truth.results.get(name) as Float64Array);
        worst = Math.max(worst, error);
      }
      // A table named tf32 that computes in fp32 would pass every bound.
      if (driver.op === 'conv3d' && device.backend?.info.isa === 'tf32') expect(worst).toBeGreaterThan(TF32_SHOWS);
    });
  }
});
