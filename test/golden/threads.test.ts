/**
 * 1, 2 and 3 threads give the same bits: losses, gradients, parameters, moments and running statistics of three steps,
 * on every fp32 device present. (The float64 reference has no threads.)
 */
import { describe, expect, test } from 'vitest';
import { openDevice, openDevices } from './devices.js';
import { readGolden } from './fixtures.js';
import { stepData, StepRun, type StepMeta } from './steprun.js';

const FIXTURES = ['pretrain-2d', 'pretrain-3d', 'finetune-3d'];
const devices = await openDevices();
for (const d of devices) await d.backend?.close();

async function bits(label: string, threads: number, stem: string): Promise<Map<string, Float64Array>> {
  const { backend, reason } = await openDevice(label, threads);
  if (!backend) throw new Error(reason);
  try {
    const run = await StepRun.create(backend, stepData(readGolden<StepMeta>(`step-${stem}`)));
    try {
      for (let k = 0; k < 3; k++) await run.step();
      const moments = run.state.entries.filter((e) => e.role === 'moment' || e.role === 'counter');
      return new Map([...run.outputs(), ...moments.map((e): [string, Float64Array] => [e.name, run.readEntry(e)])]);
    } finally {
      await run.close();
    }
  } finally {
    await backend.close();
  }
}

describe.each(devices.filter((d) => d.label !== 'reference'))('$label', (device) => {
  const run = device.backend ? test : test.skip;
  for (const stem of FIXTURES) {
    run(`${stem}: the same bits with 1, 2 and 3 threads`, async () => {
      const one = await bits(device.label, 1, stem);
      expect(one.size).toBeGreaterThan(10);
      for (const threads of [2, 3]) {
        const more = await bits(device.label, threads, stem);
        for (const [name, want] of one) {
          const found = more.get(name) as Float64Array;
          const differs = want.findIndex((v, i) => !Object.is(v, found[i]));
          expect(differs, `${name}: first difference with ${threads} threads`).toBe(-1);
        }
      }
    });
  }
});
