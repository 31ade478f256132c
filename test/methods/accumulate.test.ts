/** `train.accumulate`: batches one after the other in one step, against the batches by themselves and against one large batch. */
import { afterAll, describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import { MaclError } from '../../src/errors.js';
import { compileStep, sizesOf } from '../../src/methods/step.js';
import type { ConfigInput } from '../../src/settings/types.js';
import { openReference } from '../golden/devices.js';
import { netOf, stepOn } from './step-rig.js';

const reference = await openReference();
afterAll(() => reference.close());

const of = (task: 'pretrain' | 'finetune', accumulate: number, more: object = {}, real: 'f32' | 'f64' = 'f64') =>
  netOf({ task, ...more, train: { batch: task === 'pretrain' ? 2 : 1, accumulate } } as ConfigInput, [], real);

function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  expect(found.length, what).toBe(expected.length);
  const scale = Math.max(1e-3, ...Array.from(expected, Math.abs));
  for (let i = 0; i < expected.length; i++)
    expect(Math.abs(found[i]! - expected[i]!) / scale, `${what}[${i}]`).toBeLessThan(1e-11);
}

describe.each([
  ['pretrain', 2, 3],
  ['finetune', 1, 5],
] as const)('%s', (task, batch, n) => {
  it(`${n} batches of ${batch} give the mean of their gradients and results`, async () => {
    const whole = await stepOn(reference, of(task, n), n * batch);
    const single = of(task, 1);
    const parts = await Promise.all(
      Array.from({ length: n }, (_, k) => stepOn(reference, single, batch, { first: k * batch })),
    );
    const mean = (values: number[]): number => values.reduce((a, v) => a + v, 0) / n;
    for (const [name, found] of whole.gradients) {
      const each = parts.map((p) => p.gradients.get(name)!);
      expectClose(
        found,
        found.map((_, i) => mean(each.map((g) => g[i]!))),
        name,
      );
    }
    for (const name of Object.keys(whole.results)) {
      if (name === 'gradnorm') continue;
      expectClose([whole.results[name]!], [mean(parts.map((p) => p.results[name]!))], name);
    }
    const squares = [...whole.gradients.values()].map((g) => g.reduce((a, v) => a + v * v, 0));
    expect(whole.results['gradnorm']).toBeCloseTo(Math.sqrt(squares.reduce((a, v) => a + v, 0)), 9);
  });

  it('running statistics see the passes of the batches in their order', async () => {
    const whole = await stepOn(reference, of(task, n), n * batch);
    // With a rate of 0 the weights stay, and a step after the other moves the statistics alone.
    let state: Uint8Array | undefined;
    let last = whole;
    for (let k = 0; k < n; k++) {
      last = await stepOn(reference, of(task, 1), batch, { first: k * batch, lr: 0, ...(state && { begin: state }) });
      ({ state } = last);
    }
    const statistics = [...whole.after].filter(([name]) => name.includes('running_'));
    expect(statistics.length).toBeGreaterThan(4);
    for (const [name, found] of statistics) {
      expect(found, name).toEqual(last.after.get(name));
      expect(found, name).not.toEqual(whole.before.get(name));
    }
  });
});

// Norms on given statistics see no batch, and InstanceNorm never does.
describe.each([
  ['frozen norms', { optimizer: { groups: [{ parts: ['norms'], frozen: true }] } }],
  ['nnunet-plain', { model: { backbone: 'nnunet-plain' } }],
])('where nothing couples the samples (%s)', (_name, network) => {
  const both = (dicePer: 'sample' | 'batch') => {
    const more = { ...network, loss: { name: 'ce+dice', dicePer } };
    const large = netOf({ task: 'finetune', ...more, train: { batch: 4 } } as ConfigInput);
    return Promise.all([stepOn(reference, of('finetune', 4, more), 4), stepOn(reference, large, 4)]);
  };

  it('is one large batch', async () => {
    const [parts, once] = await both('sample');
    for (const [name, found] of parts.gradients) expectClose(found, once.gradients.get(name)!, name);
    expectClose([parts.results['loss']!], [once.results['loss']!], 'loss');
  });

  it('is another where Dice is taken over a batch', async () => {
    const [parts, once] = await both('batch');
    expect(Math.abs(parts.results['loss']! - once.results['loss']!)).toBeGreaterThan(1e-6);
  });
});

it('takes the memory of one batch', async () => {
  const cpu = await openBackend('cpu', { threads: 1 });
  try {
    for (const task of ['pretrain', 'finetune'] as const) {
      const scratch = (n: number, recompute: 'none' | 'blocks' = 'none') => {
        const net = of(task, n, { model: { filters: 8, recompute }, data: { patch: [16, 16, 16] } }, 'f32');
        return compileStep(net, cpu, { sizes: sizesOf(net) }).sizes.scratch;
      };
      expect(scratch(8) / scratch(1), task).toBeLessThan(1.05);
      expect(scratch(8, 'blocks') / scratch(1, 'blocks'), task).toBeLessThan(1.05);
    }
  } finally {
    await cpu.close();
  }
});

it('refuses samples that are no whole batches', async () => {
  const error = await stepOn(reference, of('finetune', 4), 6).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(MaclError);
  expect((error as MaclError).message).toMatch(/expected a multiple of train\.accumulate = 4 samples, found 6/);
});
