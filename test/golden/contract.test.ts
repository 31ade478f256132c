/**
 * `macl step` without the command line around it: configuration, weights and batch as files have them, results with
 * PyTorch's names and layouts, against PyTorch in float64; what is wrong is named.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import { resolveConfig } from '../../src/config/index.js';
import { asFloat64, type RawTensor } from '../../src/data/safetensors.js';
import { runStep } from '../../src/step/step.js';
import { openReference } from './devices.js';
import { largest, readGolden, relativeError } from './fixtures.js';
import type { StepMeta } from './steprun.js';

const FIXTURES = [
  'pretrain-2d',
  'pretrain-3d',
  'pretrain-anisotropic',
  'finetune-ce-2d',
  'finetune-3d',
  'simclr-3d',
  'pcl-2d',
  'volumefusion-3d',
  'plain-macl-3d',
  'plain-finetune-2d',
];
const TOLERANCE = 1e-8;
const backend = await openReference();
afterAll(() => backend.close());

const files = { weights: 'W.safetensors', batch: 'B.safetensors' };

function inputs(stem: string) {
  const golden = readGolden<StepMeta>(`step-${stem}`);
  const part = (prefix: string) =>
    new Map(
      golden.names(prefix).map((k): [string, RawTensor] => [k, golden.file.tensors.get(prefix + k) as RawTensor]),
    );
  const config = JSON.parse(JSON.stringify(golden.meta.config)) as Record<string, unknown>;
  return { golden, config, weights: part('weights.'), batch: part('batch.') };
}

describe('one step by its contract', () => {
  test.each(FIXTURES)('%s: names, shapes, dtypes and values', async (stem) => {
    const { golden, config, weights, batch } = inputs(stem);
    const out = await runStep({ config: resolveConfig(config), weights, batch, backend, steps: 1, files });
    expect([...out.keys()].sort()).toEqual(golden.names('out.').sort());
    for (const [name, t] of out) {
      expect(t.shape, name).toEqual(golden.shape(`out.${name}`));
      expect(t.dtype, name).toBe('F64');
      const on = name.startsWith('grad.') ? name.replace(/\.bias$/, '.weight') : name;
      const error = relativeError(asFloat64(t), golden.values(`out.${name}`), largest(golden.values(`out.${on}`)));
      expect(error, `${name}: error ${error}`).toBeLessThanOrEqual(TOLERANCE);
    }
  });

  test.each(['pretrain-anisotropic', 'finetune-3d'])('%s: 20 steps, the losses of the last', async (stem) => {
    const { golden, config, weights, batch } = inputs(stem);
    const out = await runStep({ config: resolveConfig(config), weights, batch, backend, steps: 20, files });
    for (const name of golden.names('losses.')) {
      const want = golden.values(`losses.${name}`)[19] as number;
      expect(relativeError(asFloat64(out.get(name) as RawTensor), [want]), name).toBeLessThanOrEqual(TOLERANCE);
    }
  });

  test('results are fp32 on an fp32 device', async () => {
    const { config, weights, batch } = inputs('finetune-3d');
    const device = await openBackend('auto', { threads: 1 });
    try {
      const out = await runStep({ config: resolveConfig(config), weights, batch, backend: device, steps: 1, files });
      expect(new Set([...out.values()].map((t) => t.dtype))).toEqual(new Set(['F32']));
    } finally {
      await device.close();
    }
  });
});

describe('what is wrong is named', () => {
  const step = (stem: string, change: (given: ReturnType<typeof inputs>) => void) => {
    const given = inputs(stem);
    change(given);
    const { config, weights, batch } = given;
    return (async () => runStep({ config: resolveConfig(config), weights, batch, backend, steps: 1, files }))();
  };

  test('an unknown key', async () => {
    const change = ({ config }: ReturnType<typeof inputs>) => Object.assign(config.loss as object, { temprature: 0.1 });
    await expect(step('pretrain-3d', change)).rejects.toMatchObject({ name: 'MaclError', code: 'config' });
    await expect(step('pretrain-3d', change)).rejects.toThrow(/temprature/);
  });

  test('a weight that is not there, and one of another shape', async () => {
    const missing = ({ weights }: ReturnType<typeof inputs>) => weights.delete('encoder.centre.conv2.bias');
    await expect(step('pretrain-3d', missing)).rejects.toThrow(/encoder\.centre\.conv2\.bias/);
    const other = ({ weights }: ReturnType<typeof inputs>) =>
      weights.set('head.bias', { dtype: 'F32', shape: [5], bytes: new Uint8Array(20) });
    await expect(step('finetune-3d', other)).rejects.toThrow(/head\.bias/);
  });

  test('num_batches_tracked is accepted', async () => {
    const more = ({ weights }: ReturnType<typeof inputs>) =>
      weights.set('encoder.blocks.0.norm1.num_batches_tracked', { dtype: 'I64', shape: [], bytes: new Uint8Array(8) });
    expect(await step('finetune-3d', more)).toEqual(await step('finetune-3d', () => undefined));
  });

  test('a batch without a view', async () => {
    const missing = ({ batch }: ReturnType<typeof inputs>) => batch.delete('v2');
    await expect(step('pretrain-3d', missing)).rejects.toThrow(/v2/);
  });

  // 10 → 5 → 2 and 5 → 2 → 1 give the same grids by rounding down, so only a check of the sizes themselves sees it.
  test.each([6, 10])(
    'a patch of width %i, which is not divided exactly: the nearest that fits is named',
    async (width) => {
      const cut = ({ batch }: ReturnType<typeof inputs>) => {
        for (const name of ['i1', 'i2', 'v1', 'v2']) {
          const { shape } = batch.get(name) as RawTensor;
          const size = [...shape.slice(0, 4), width];
          batch.set(name, { dtype: 'F32', shape: size, bytes: new Uint8Array(size.reduce((x, y) => x * y, 4)) });
        }
      };
      await expect(step('pretrain-3d', cut)).rejects.toMatchObject({ name: 'MaclError', code: 'config' });
      await expect(step('pretrain-3d', cut)).rejects.toThrow(/8/);
    },
  );

  test('a box that is no whole number', async () => {
    const wrong = ({ batch }: ReturnType<typeof inputs>) => {
      const { shape } = batch.get('boxes') as RawTensor;
      const values = new Float32Array(shape.reduce((x, y) => x * y)).fill(0.5, 6, 7);
      batch.set('boxes', { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) });
    };
    await expect(step('volumefusion-3d', wrong)).rejects.toThrow('boxes: element 6 is 0.5, expected an int32');
  });

  test('a label outside the classes', async () => {
    const wrong = ({ batch }: ReturnType<typeof inputs>) => {
      const y = batch.get('y') as RawTensor;
      const labels = new Int32Array(y.bytes.slice().buffer).fill(3, 0, 1);
      batch.set('y', { ...y, bytes: new Uint8Array(labels.buffer) });
    };
    await expect(step('finetune-3d', wrong)).rejects.toMatchObject({ code: 'label' });
  });
});
