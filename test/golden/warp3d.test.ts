/** What warp3d does with a descriptor that points outside the store, on every device present. Its values: ops.test.ts. */
import { afterAll, describe, expect, test } from 'vitest';
import { warp3d } from '../cases/warp3d.js';
import { openDevices } from './devices.js';
import { readGolden, relativeError } from './fixtures.js';
import { Rig } from './rig.js';

const devices = await openDevices();
afterAll(async () => {
  for (const d of devices) await d.backend?.close();
});

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  const golden = readGolden<unknown>('ops-warp3d');
  run('a descriptor that points outside the store is refused, and the session goes on', async () => {
    if (!device.backend) return;
    const c = warp3d.cases.find((one) => one.name === 'identity');
    if (!c) throw new Error('the list has no case identity');
    const value = (name: string) => golden.values(`${c.name}.${name}`);
    const rig = new Rig(device.backend);
    warp3d.build(rig, c, value, { dloss: 1 });
    const ready = await rig.ready();
    try {
      const words = ready.read('y.desc');
      for (const [word, bad] of [
        [0, -64],
        [0, ready.program.sizes.store],
        [1, 1e6],
        [4, 1e9],
        [7, 99],
        [0, NaN],
      ] as const) {
        const broken = words.slice();
        broken[word] = bad;
        ready.set('y.desc', broken);
        await expect(ready.run(), `word ${word} = ${bad}`).rejects.toMatchObject({
          name: 'MaclError',
          code: 'program',
        });
      }
      ready.set('y.desc', words);
      await ready.run();
      expect(relativeError(ready.read('y'), value('y'))).toBeLessThan(1e-5);
    } finally {
      await ready.close();
    }
  });
});
