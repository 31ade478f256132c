/**
 * sgd, adam, adamw, the gradient norm with clipping, and the guard, against PyTorch over three steps on every device
 * present. A gradient that is not finite leaves everything as it was.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { adam, gradnorm, sgd } from '../../src/ops/index.js';
import { cases, type OptimCase } from '../cases/optim.js';
import { openDevices, type Device } from './devices.js';
import { readGolden, relativeError } from './fixtures.js';
import { Rig, type Ready } from './rig.js';

const TOLERANCE = { f64: 1e-12, f32: 1e-6 } as const;
const golden = readGolden<{ cases: readonly { name: string }[] }>('ops-optim');
const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

async function prepare(device: Device, c: OptimCase): Promise<Ready> {
  if (!device.backend) throw new Error(device.reason);
  const rig = new Rig(device.backend);
  const { b } = rig;
  const zeros = new Float64Array(c.n);
  const flat = (name: string, values: ArrayLike<number>) => rig.input(name, [c.n, 1, 1, 1, 1], values);
  const [g, w, m, v] = [flat('g', zeros), flat('w', golden.values(`${c.name}.w`)), flat('m', zeros), flat('v', zeros)];
  const scalar = (name: string, value: number) => rig.input(name, [1, 1, 1, 1, 1], [value], 'f64');
  const [lr, loss, t] = [scalar('lr', c.lr), scalar('loss', 1), scalar('t', 0)];
  const { norm, clip, guard } = gradnorm(b, g, loss, c.maxNorm);
  rig.result('norm', norm);
  rig.result('clip', clip);
  b.guard = rig.result('guard', guard);
  const { momentum, weightDecay } = c;
  if (c.kind === 'sgd') sgd(b, { g, lr, clip, w }, m, { momentum, weightDecay });
  else {
    const options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay, decoupled: c.kind === 'adamw' };
    adam(b, { g, lr, clip, w }, m, v, t, options);
  }
  return rig.ready();
}

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  const tolerance = TOLERANCE[device.backend?.info.real === 'f64' ? 'f64' : 'f32'];
  for (const c of cases) {
    run(`${c.name}: PyTorch's values`, async () => {
      const ready = await prepare(device, c);
      const value = (name: string) => golden.values(`${c.name}.${name}`);
      const rows = (name: string, k: number) => value(name).subarray(k * c.n, (k + 1) * c.n);
      try {
        for (let k = 0; k < 3; k++) {
          ready.set('g', rows('g', k));
          await ready.run();
          expect(relativeError(ready.read('w'), rows('after', k)), `w after step ${k}`).toBeLessThanOrEqual(tolerance);
          const [norm, clip] = [ready.read('norm'), ready.read('clip')];
          expect(relativeError(norm, [value('norm')[k] as number]), `norm ${k}`).toBeLessThanOrEqual(tolerance);
          expect(relativeError(clip, [value('clip')[k] as number]), `clip ${k}`).toBeLessThanOrEqual(tolerance);
          expect(ready.read('guard')[0]).toBe(0);
        }
      } finally {
        await ready.close();
      }
    });
  }
  run('a gradient or loss that is not finite keeps the commit phase from running', async () => {
    const c = cases.find((k) => k.kind === 'adam') as OptimCase;
    const ready = await prepare(device, c);
    try {
      const g = golden.values(`${c.name}.g`).slice(0, c.n);
      const before = ['w', 'm', 'v', 't'].map((name) => ready.read(name));
      for (const [at, value] of [
        [0, Infinity],
        [c.n - 1, NaN],
        [7, -Infinity],
      ] as const) {
        const bad = g.slice();
        bad[at] = value;
        ready.set('g', bad);
        await ready.run();
        expect(ready.read('guard')[0], `g[${at}] = ${value}`).toBe(1);
      }
      ready.set('g', g);
      ready.set('loss', [NaN]);
      await ready.run();
      expect(ready.read('guard')[0]).toBe(1);
      expect(['w', 'm', 'v', 't'].map((name) => ready.read(name))).toEqual(before);
      ready.set('loss', [1]);
      await ready.run();
      expect(ready.read('t')).toEqual(Float64Array.of(1));
    } finally {
      await ready.close();
    }
  });
});
