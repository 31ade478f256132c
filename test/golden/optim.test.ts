/**
 * The guard: a gradient or loss that is not finite leaves weights, moments and the count of steps as they were, on every
 * device present. The optimisers' values: ops.test.ts.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { buildOptim, optim, type OptimCase } from '../cases/optim.js';
import { openDevices } from './devices.js';
import { readGolden } from './fixtures.js';
import { Rig } from './rig.js';

const golden = readGolden<unknown>('ops-optim');
const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  run('a gradient or loss that is not finite keeps the commit phase from running', async () => {
    if (!device.backend) return;
    const c = optim.cases.find((one) => one.name === 'adam') as OptimCase;
    const g = golden.values(`${c.name}.g`).slice(0, c.n);
    const rig = new Rig(device.backend);
    buildOptim(rig, c, (name) => (name === 'g' ? g : golden.values(`${c.name}.${name}`)), 1);
    const ready = await rig.ready();
    const stateOf = () => ['w', 'm', 'v', 't'].map((name) => ready.read(name));
    try {
      const before = stateOf();
      for (const [at, value] of [
        [0, Infinity],
        [c.n - 1, NaN],
        [7, -Infinity],
      ] as const) {
        const bad = g.slice();
        bad[at] = value;
        ready.set('g', bad);
        await ready.run();
        expect(ready.read('guard0')[0], `g[${at}] = ${value}`).toBe(1);
        expect(stateOf()).toEqual(before);
      }
      ready.set('g', g);
      ready.set('loss', [NaN]);
      await ready.run();
      expect(ready.read('guard0')[0]).toBe(1);
      expect(stateOf()).toEqual(before);
      ready.set('loss', [1]);
      await ready.run();
      expect(ready.read('t')).toEqual(Float64Array.of(1));
      expect(ready.read('w')).not.toEqual(before[0]);
    } finally {
      await ready.close();
    }
  });
});
