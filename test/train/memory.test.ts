/**
 * A small configuration takes no more memory after 2,000 steps than after 200: native bytes, objects, and what is resident
 * outside V8's heap. V8 itself reserves room for its heap until about step 4,000: from there on all that is resident is held
 * still too. A process of its own, nothing else in it.
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
  /** Resident, without what V8 has reserved for its heap. */
  readonly outside: Readonly<Record<string, number>>;
  readonly objects: Readonly<Record<string, number>>;
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
    const [native, rss, outside, objects] = [{}, {}, {}, {}];
    await ${task}({ ...${JSON.stringify(options)}, onEvent(event) {
      if (event.kind !== 'step' || ![50, 200, 2000, ${SETTLED}, ${STEPS}].includes(event.step)) return;
      gc();
      native[event.step] = nativeBytesAllocated();
      const used = process.memoryUsage();
      rss[event.step] = used.rss;
      outside[event.step] = used.rss - used.heapTotal;
      objects[event.step] = used.heapUsed;
    } });
    process.stdout.write(JSON.stringify({ native, rss, outside, objects, closed: nativeBytesAllocated() }));`);
  expect([status, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as Measured;
}

describe(`${STEPS} steps`, () => {
  it.each([
    ['pretrain', 'resident volumes', {}],
    ['finetune', 'volumes on disk and validation', { storeBytes: 0, val: '0.5' }],
  ] as const)('of %s (%s) leave native bytes and resident memory where they were', (task, _, more) => {
    const { native, rss, outside, objects, closed } = measure(task, more);
    if (device === 'cpu') expect(native['50']).toBeGreaterThan(0);
    expect(native[STEPS]).toBe(native['50']);
    expect((outside['2000']! - outside['200']!) / MIB).toBeLessThan(16);
    expect((objects['2000']! - objects['200']!) / MIB).toBeLessThan(4);
    expect((rss[STEPS]! - rss[SETTLED]!) / MIB).toBeLessThan(16);
    expect(closed).toBe(0);
  });
});
