/**
 * 8,000 steps of a small configuration take no more memory than the first 4,000, in which the heaps reach their size (20,000
 * stay there too); a process of its own, nothing else in it.
 */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { compileSources, type Children } from './child.js';
import { device, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const STEPS = 8000;
const SETTLED = 4000;
const MIB = 2 ** 20;
let children: Children;
let data: string;
beforeAll(async () => {
  children = compileSources(root);
  data = await toyDataset(join(root, 'data'));
});

interface Measured {
  readonly native: Readonly<Record<string, number>>;
  readonly rss: Readonly<Record<string, number>>;
  readonly closed: number;
}

function measure(task: 'pretrain' | 'finetune', more: object): Measured {
  const train = { steps: STEPS, batch: 2, checkpointEvery: 400 };
  const [model, patch] = [{ levels: 1 }, [4, 4, 4]] as const;
  const config =
    task === 'pretrain'
      ? tinyPretrain({ model, data: { patch }, train })
      : tinyFinetune({ model, data: { patch }, train: { ...train, valEvery: 1000 } });
  const options = { data, cacheDir: join(root, 'cache'), device, threads: 1, out: join(root, task), config, ...more };
  const { status, stdout, stderr } = children.run(`
    import { ${task} } from '${children.url(`train/${task}`)}';
    import { nativeBytesAllocated } from '${children.url('backend/addon')}';
    const [native, rss] = [{}, {}];
    await ${task}({ ...${JSON.stringify(options)}, onEvent(event) {
      if (event.kind !== 'step' || ![50, ${SETTLED}, ${STEPS}].includes(event.step)) return;
      gc();
      native[event.step] = nativeBytesAllocated();
      rss[event.step] = process.memoryUsage.rss();
    } });
    process.stdout.write(JSON.stringify({ native, rss, closed: nativeBytesAllocated() }));`);
  expect([status, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as Measured;
}

describe(`${STEPS} steps`, () => {
  it.each([
    ['pretrain', 'resident volumes', {}],
    ['finetune', 'volumes on disk and validation', { storeBytes: 0, val: '0.5' }],
  ] as const)('of %s (%s) leave native bytes and resident memory where they were', (task, _, more) => {
    const { native, rss, closed } = measure(task, more);
    if (device === 'cpu') expect(native['50']).toBeGreaterThan(0);
    expect(native[STEPS]).toBe(native['50']);
    expect((rss[STEPS]! - rss[SETTLED]!) / MIB).toBeLessThan(16);
    expect(closed).toBe(0);
  });
});
