/**
 * Winograd's algorithm against the float64 reference: each variant of a convolution and its gradients on every device that has it,
 * and whole steps of each arithmetic, within the bounds of docs/step.md.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { ARITHMETICS } from '../../src/arithmetic.js';
import type { Backend } from '../../src/backend/types.js';
import { countVariants, DIRECT } from '../../src/ops/conv3d-variants.js';
import { conv3d } from '../../src/ops/index.js';
import { openDevice, openDevices, openReference } from './devices.js';
import { normal, uniform } from './random.js';
import { randomData } from './random-step.js';
import { Rig } from './rig.js';
import { StepRun, type StepConfig } from './steprun.js';

const reference = await openReference();
const devices = (await openDevices()).filter(({ label }) => !/reference|plain|cuda/.test(label));
afterAll(async () => {
  await reference.close();
  for (const d of devices) await d.backend?.close();
});

type Five = readonly [number, number, number, number, number];
interface Shapes {
  readonly x: Five;
  readonly out: number;
}
/** Whole tiles, ragged ones on each axis, channels beside a block of 16, several strips, several groups of outputs. */
const VOLUMES: readonly Shapes[] = [
  { x: [1, 4, 4, 4, 16], out: 16 },
  { x: [2, 5, 7, 13, 9], out: 17 },
  { x: [1, 2, 3, 65, 48], out: 40 },
];
const PLANES: readonly Shapes[] = [
  { x: [2, 1, 9, 11, 9], out: 17 },
  { x: [1, 3, 4, 70, 33], out: 64 },
];
/** Of the largest entry: sums of 27·48 products in fp32, and transforms of three axes. */
const BOUND = 1e-5;

async function convolution(backend: Backend, { x: shape, out }: Shapes, depth: 1 | 3, variant: number) {
  const next = uniform(5);
  const numbers = (count: number) => Float32Array.from({ length: count }, () => normal(next));
  const count = (s: readonly number[]) => s.reduce((a, b) => a * b, 1);
  const rig = new Rig(backend);
  const x = rig.input('x', shape, numbers(count(shape)));
  const kernel: Five = [out, shape[4], depth, 3, 3];
  const w = rig.input('w', kernel, numbers(count(kernel)));
  const b = rig.input('b', [out, 1, 1, 1, 1], numbers(out));
  const y = rig.result('y', conv3d(rig.b, x, w, b));
  rig.gradients(y, rig.input('dy', y.shape, numbers(count(y.shape))), { x, w, b });
  for (const { kernel: name, attrs } of rig.b.nodes) if (name.startsWith('conv3d_')) Object.assign(attrs, { variant });
  const ready = await rig.ready();
  await ready.run();
  const found = new Map(['y', 'dx', 'dw', 'db'].map((name) => [name, ready.read(name)]));
  await ready.close();
  return found;
}

const STEPS: Readonly<
  Record<string, { readonly config: StepConfig; readonly patch: readonly [number, number, number] }>
> = {
  'pretrain 3-D': {
    config: {
      task: 'pretrain',
      model: { dims: 3, inChannels: 1, filters: 8, levels: 2, decoderBlocks: 1 },
      loss: {},
      optimizer: { name: 'sgd', lr: 0.01 },
    },
    patch: [16, 16, 24],
  },
  'finetune 3-D': {
    config: {
      task: 'finetune',
      model: { dims: 3, inChannels: 1, filters: 16, levels: 2, decoderBlocks: 2, classes: 3 },
      loss: {},
      optimizer: { name: 'adam', lr: 5e-4 },
    },
    patch: [8, 12, 20],
  },
  'finetune 2-D': {
    config: {
      task: 'finetune',
      model: { dims: 2, inChannels: 2, filters: 16, levels: 2, decoderBlocks: 2, classes: 3 },
      loss: {},
      optimizer: { name: 'adam', lr: 5e-4 },
    },
    patch: [1, 40, 28],
  },
};

const wanted = new Map<string, ReadonlyMap<string, Float64Array>>();
async function referenceOf(name: string): Promise<ReadonlyMap<string, Float64Array>> {
  const { config, patch } = STEPS[name]!;
  const known = wanted.get(name);
  if (known) return known;
  const run = await StepRun.create(reference, randomData(config, 2, patch));
  await run.step();
  const out = run.outputs();
  wanted.set(name, out);
  await run.close();
  return out;
}

const largest = (v: Float64Array): number => v.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const norm2 = (v: Float64Array): number => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));

describe.each(devices)('$label', (device) => {
  const run = device.backend ? test : test.skip;
  const backend = device.backend as Backend;

  for (const [shapes, depth, variants] of [
    [VOLUMES, 3, [222, 242, 422, 442, 444]],
    [PLANES, 1, [122, 142, 144]],
  ] as const)
    run.each(variants)('variant %i and its gradients', async (variant) => {
      for (const shape of shapes) {
        const want = await convolution(reference, shape, depth, DIRECT);
        const direct = await convolution(backend, shape, depth, DIRECT);
        const found = await convolution(backend, shape, depth, variant);
        for (const [name, values] of want) {
          const error = Math.max(...(found.get(name) as Float64Array).map((v, i) => Math.abs(v - values[i]!)));
          expect(error / largest(values), `${name} of ${shape.x.join('×')}`).toBeLessThanOrEqual(BOUND);
        }
        // Another algorithm it is.
        expect(found.get('y')).not.toEqual(direct.get('y'));
      }
    });

  run.each([222, 242, 422, 442, 444])(
    'variant %i takes at most 8 MiB of a thread, however wide it is',
    async (variant) => {
      for (const grid of [
        [2, 12, 16, 12],
        [1, 6, 8, 6],
        [1, 40, 48, 300],
      ] as const)
        for (const channels of grid[3] > 100 ? [16] : [16, 256, 512]) {
          const rig = new Rig(backend);
          const x = rig.input('x', [...grid, channels], new Float32Array(grid.reduce((p, n) => p * n, channels)));
          const w = rig.input('w', [channels, channels, 3, 3, 3], new Float32Array(27 * channels ** 2));
          const y = conv3d(rig.b, x, w, null);
          rig.gradients(y, y, { x, w });
          for (const { kernel, attrs } of rig.b.nodes)
            if (kernel.startsWith('conv3d_')) Object.assign(attrs, { variant });
          const { session } = await rig.ready();
          expect(session.scratchBytes / backend.info.threads, `${grid.join('×')}×${channels}`).toBeLessThanOrEqual(
            8 << 20,
          );
          await session.close();
        }
    },
  );

  for (const name of Object.keys(STEPS))
    run.each(ARITHMETICS)(`${name} %s: losses, statistics and gradients of a step`, async (arithmetic) => {
      const { config, patch } = STEPS[name]!;
      const want = await referenceOf(name);
      const step = await StepRun.create(backend, randomData(config, 2, patch), { arithmetic });
      const { winograd } = countVariants(step.program.graph);
      if (arithmetic === 'direct') expect(winograd).toBe(0);
      else expect(winograd).toBeGreaterThan(5);
      await step.step();
      const found = step.outputs();
      await step.close();
      for (const [key, values] of want) {
        const own = found.get(key) as Float64Array;
        const difference = own.map((v, i) => v - values[i]!);
        if (key.startsWith('loss') || key.includes('running_')) {
          const error = largest(difference) / Math.max(largest(values), 1e-3);
          expect(error, key).toBeLessThanOrEqual(1e-5);
        } else if (key.startsWith('grad.') && key.endsWith('weight')) {
          expect(norm2(difference) / norm2(values), key).toBeLessThanOrEqual(1e-1);
        }
      }
    });
});

/**
 * Errors of every variant against float64, by input and output channels: the largest and the root mean square, over the root mean
 * square of the truth, in 1e-7. The most of result and dx, and of dw, on these grids, of two instruction sets.
 */
interface Errors {
  readonly data: readonly [max: number, rms: number];
  readonly weights: readonly [max: number, rms: number];
}
const ERRORS: Readonly<Record<number, Readonly<Record<number, Errors>>>> = {
  16: {
    [DIRECT]: { data: [28.2, 3.46], weights: [7.28, 1.44] },
    222: { data: [10.3, 2.18], weights: [15, 2.91] },
    242: { data: [32.2, 3.77], weights: [22.8, 4.17] },
    422: { data: [20.1, 3.74], weights: [19.9, 4.26] },
    442: { data: [53.5, 6.35], weights: [32.1, 6.2] },
    444: { data: [108, 10.8], weights: [46.6, 9.17] },
    122: { data: [7.42, 1.55], weights: [8.69, 2.09] },
    142: { data: [16.8, 2.68], weights: [16, 3.8] },
    144: { data: [33.5, 4.57], weights: [20.3, 5.06] },
  },
  64: {
    [DIRECT]: { data: [63.8, 6.87], weights: [18.8, 2.74] },
    222: { data: [16.8, 3.55], weights: [16.8, 3] },
    242: { data: [35.8, 6.1], weights: [27.1, 4.13] },
    422: { data: [35.5, 6.05], weights: [27.1, 4.27] },
    442: { data: [92.8, 10.5], weights: [51.5, 6.15] },
    444: { data: [162, 17.9], weights: [66.4, 9.12] },
    122: { data: [12.5, 2.62], weights: [13.2, 2.76] },
    142: { data: [33.3, 4.52], weights: [27.7, 3.77] },
    144: { data: [71.2, 7.66], weights: [29.8, 4.95] },
  },
  256: {
    [DIRECT]: { data: [176, 13.5], weights: [51.9, 3.8] },
    222: { data: [43, 6.72], weights: [31.1, 3.73] },
    242: { data: [77.2, 11.5], weights: [41.1, 4.97] },
    422: { data: [81.3, 11.4], weights: [49.5, 5.62] },
    442: { data: [176, 19.6], weights: [66.5, 7.58] },
    444: { data: [332, 33.5], weights: [112, 10.6] },
    122: { data: [28.3, 4.96], weights: [31, 3.73] },
    142: { data: [73, 8.5], weights: [55.6, 4.79] },
    144: { data: [158, 14.4], weights: [58.2, 6.23] },
  },
};

/** How much more is let pass: compilers add in other orders. */
const PASSES = [1.5, 1.25] as const;

function errorOf(found: Float64Array, truth: Float64Array): readonly [max: number, rms: number] {
  const scale = Math.sqrt(truth.reduce((sum, v) => sum + v * v, 0) / truth.length) * 1e-7;
  const difference = found.map((v, i) => v - truth[i]!);
  return [largest(difference) / scale, norm2(difference) / Math.sqrt(truth.length) / scale];
}

describe.each(devices.filter(({ label }) => /avx/.test(label)))(
  'errors of each variant on $label',
  ({ label, backend }) => {
    const run = backend ? test : test.skip;
    run.each(Object.keys(ERRORS).map(Number))('%i channels', async (channels) => {
      for (const depth of [3, 1] as const) {
        const shape = { x: depth === 3 ? [1, 6, 8, 12, channels] : [1, 1, 24, 24, channels], out: channels } as Shapes;
        const truth = await convolution(reference, shape, depth, DIRECT);
        for (const variant of depth === 3 ? [DIRECT, 222, 242, 422, 442, 444] : [122, 142, 144]) {
          const found = await convolution(backend as Backend, shape, depth, variant);
          const [y, dx, dw] = ['y', 'dx', 'dw'].map((name) => errorOf(found.get(name)!, truth.get(name)!));
          const seen: Errors = { data: [Math.max(y![0], dx![0]), Math.max(y![1], dx![1])], weights: dw! };
          if (process.env.MACL_ERRORS === 'print')
            process.stdout.write(`${JSON.stringify({ label, channels, variant, ...seen })}\n`);
          for (const of of ['data', 'weights'] as const)
            for (const i of [0, 1] as const)
              expect(seen[of][i], `${variant} ${of}`).toBeLessThanOrEqual(
                PASSES[i] * ERRORS[channels]![variant]![of][i],
              );
        }
      }
    });
  },
);

test('fast has the same bits with any number of threads', async () => {
  const { config, patch } = STEPS['finetune 3-D']!;
  const outputs: ReadonlyMap<string, Float64Array>[] = [];
  for (const threads of [1, 2, 3]) {
    const { backend } = await openDevice('cpu baseline', threads);
    if (!backend) return;
    const step = await StepRun.create(backend, randomData(config, 2, patch), { arithmetic: 'fast' });
    await step.step();
    await step.step();
    outputs.push(step.outputs());
    await step.close();
    await backend.close();
  }
  for (const other of outputs.slice(1))
    for (const [key, values] of outputs[0]!) expect(other.get(key), key).toEqual(values);
});
