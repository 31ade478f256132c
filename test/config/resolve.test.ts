import { describe, expect, it } from 'vitest';
import {
  meaningOf,
  patchUnit,
  planPretrain,
  presetLacks,
  resolveConfig,
  type ResolvedConfig,
} from '../../src/config/index.js';
import type { FinetuneConfig, PretrainConfig } from '../../src/settings/types.js';
import { MaclError } from '../../src/errors.js';
import { methodNamed } from '../../src/methods/index.js';
import { lambdaOf } from '../../src/settings/lambda.js';
import { fingerprintOf } from './fingerprints.js';

const pretrain = (value: object = {}) => resolveConfig({ task: 'pretrain', ...value }) as PretrainConfig;
const finetune = (value: object = {}) =>
  resolveConfig({ task: 'finetune', model: { classes: 3 }, ...value }) as FinetuneConfig;
const message = (value: object): string => {
  try {
    resolveConfig(value);
  } catch (error) {
    if (error instanceof MaclError && error.code === 'config') return error.message;
    throw error;
  }
  return 'accepted';
};

describe('defaults', () => {
  it('are the published constants', () => {
    const p = pretrain();
    expect(p.loss).toEqual({
      temperature: 0.1,
      threshold: 0.1,
      weights: { global: 1, dense: 0.5, er: 1 },
      temperatureFactor: 'none',
      er: 'absolute',
    });
    expect(p.optimizer).toMatchObject({
      name: 'sgd',
      lr: 0.01,
      momentum: 0.9,
      weightDecay: 1e-5,
      clip: 0,
      schedule: 'cosine',
      lrFinal: 0,
    });
    const f = finetune();
    expect(f.loss).toEqual({ name: 'ce+dice', classWeights: null, dicePer: 'batch' });
    expect(f.optimizer).toMatchObject({ name: 'adam', lr: 5e-4, weightDecay: 0, schedule: 'cosine' });
    expect(f.optimizer.lrFinal).toBeCloseTo(5e-6, 12);
    expect(f.data.foreground).toBe(0.33);
  });
  it('of strides and kernels go by dims', () => {
    const two = pretrain({ model: { dims: 2, levels: 2 } }).model;
    expect(two.strides).toEqual([
      [1, 2, 2],
      [1, 2, 2],
    ]);
    expect(two.kernels).toEqual([
      [1, 3, 3],
      [1, 3, 3],
      [1, 3, 3],
    ]);
    const three = pretrain({ model: { dims: 3, levels: 1 } }).model;
    expect(three).toMatchObject({
      strides: [[2, 2, 2]],
      kernels: [
        [3, 3, 3],
        [3, 3, 3],
      ],
      decoderBlocks: 1,
    });
  });
  it('take one weight of three', () => {
    expect(pretrain({ loss: { weights: { er: 0.1 } } }).loss.weights).toEqual({ global: 1, dense: 0.5, er: 0.1 });
  });
  it('turn numbers into lists by axis', () => {
    expect(finetune({ augment: { rotation: 15, mirror: true } }).augment).toMatchObject({
      rotation: [15, 15, 15],
      mirror: [true, true, true],
    });
    const two = finetune({ model: { classes: 2, dims: 2 }, augment: { rotation: 15, mirror: true } });
    expect(two.augment).toMatchObject({ rotation: [15, 0, 0], mirror: [false, true, true] });
    expect(finetune({ model: { classes: 2, inChannels: 2 }, data: { normalize: 'ct' } }).data.normalize).toEqual([
      'ct',
      'ct',
    ]);
  });
  it('do not change what was given', () => {
    const given = Object.freeze({ task: 'pretrain', loss: Object.freeze({ weights: Object.freeze({ er: 2 }) }) });
    resolveConfig(given);
    expect(given).toEqual({ task: 'pretrain', loss: { weights: { er: 2 } } });
  });
});

describe('presets', () => {
  it('paper-2d is the published setting', () => {
    const p = pretrain({ preset: 'paper-2d' });
    expect(p.model).toMatchObject({ dims: 2, filters: 32, levels: 4, decoderBlocks: 2 });
    expect(lambdaOf(p.model)).toEqual([1, 0.25, 0.25]);
    expect(p.optimizer).toMatchObject({ lr: 0.1, schedule: 'cosine', lrFinal: 0 });
    expect(p.augment).toMatchObject({ nonSpatial: 'identity', interpolation: 'cubic' });
    const f = finetune({ preset: 'paper-2d' });
    expect(f.loss.name).toBe('ce');
    expect(f.optimizer).toMatchObject({ name: 'adam', lr: 5e-4, lrFinal: 5e-6, weightDecay: 0 });
  });
  it('code-2d differs in points 1, 2, 3, 7, 9 and 10, and says what it lacks', () => {
    const p = pretrain({ preset: 'code-2d' });
    expect(p.augment.nonSpatial).toBe('code');
    expect(p.augment.intensity.brightness).toBeGreaterThan(0);
    expect(p.optimizer).toMatchObject({ lr: 0.01, schedule: 'cosine-floor', lrFinal: 5e-6 });
    expect(p.loss.temperatureFactor).toBe('code');
    expect(p.init).toEqual({ linear: 'pytorch', channels: 'repeat' });
    expect(finetune({ preset: 'code-2d' }).optimizer).toMatchObject({ weightDecay: 1e-5, schedule: 'cosine-floor' });
    const lacks = presetLacks('code-2d').join(' ');
    for (const word of ['elastic', 'blur', 'evaluation protocol', 'GPUs']) expect(lacks).toContain(word);
    expect(presetLacks('paper-2d')).toEqual([]);
  });
  it('stand below what is given', () => {
    const p = pretrain({ preset: 'paper-2d', optimizer: { lr: 0.03 }, model: { filters: 8 } });
    expect(p.optimizer).toMatchObject({ lr: 0.03, weightDecay: 1e-5 });
    expect(p.model).toMatchObject({ filters: 8, levels: 4 });
  });
  it('end at a rate that goes with a given one, and contradict nobody', () => {
    const rates = (preset: string, optimizer: object) => {
      const { lr, lrFinal } = finetune({ preset, optimizer }).optimizer;
      return [lr, lrFinal];
    };
    for (const preset of ['default', 'paper-2d', 'code-2d']) {
      const [lr, lrFinal] = rates(preset, { lr: 1e-6 });
      expect(lr).toBe(1e-6);
      expect(lrFinal).toBeCloseTo(1e-8, 20);
      expect(rates(preset, { lr: 1e-6, lrFinal: 1e-7 })).toEqual([1e-6, 1e-7]);
    }
    expect(rates('paper-2d', { lr: 5e-4 })).toEqual([5e-4, 5e-6]);
    expect(pretrain({ preset: 'paper-2d', optimizer: { lr: 1e-7 } }).optimizer.lrFinal).toBe(0);
    expect(pretrain({ preset: 'code-2d', optimizer: { lr: 1e-6 } }).optimizer.lrFinal).toBeCloseTo(5e-10, 20);
    const text = message({ task: 'finetune', preset: 'paper-2d', model: { classes: 2 }, optimizer: { lrFinal: 1 } });
    expect(text).toMatch(/lrFinal: expected at most optimizer\.lr = 0\.0005, found 1$/);
  });
  it('of 2-D refuse 3-D', () => {
    expect(message({ task: 'pretrain', preset: 'paper-2d', model: { dims: 3 } })).toMatch(
      /model\.dims: expected 2, because preset paper-2d/,
    );
  });
});

describe('the position that a threshold is for', () => {
  const thresholds = [undefined, 0.1, [0.1], [0.1, 0.1, 0.1]];
  it.each([2, 3] as const)('is the same for a configuration and a plan, %i-D', (dims) => {
    const cases = fingerprintOf([
      [40, 80, 80],
      [36, 72, 90],
    ]);
    const found = thresholds.map((threshold) => {
      const loss = threshold === undefined ? {} : { threshold };
      const input = { task: 'pretrain', model: { dims }, loss } as const;
      const { position } = resolveConfig(input).data;
      expect(planPretrain(cases, input).config.data.position).toBe(position);
      return position;
    });
    expect(found).toEqual(dims === 2 ? ['slice', 'slice', 'slice', 'centre'] : ['centre', 'centre', 'slice', 'centre']);
  });
});

describe('λ and sizes', () => {
  const model = {
    levels: 3,
    decoderBlocks: 1,
    strides: [
      [1, 2, 2],
      [2, 2, 2],
      [2, 2, 1],
    ],
  } as const;
  it('follow from the deepest strides, axis by axis', () => {
    expect(lambdaOf(model)).toEqual([0.5, 0.5, 1]);
    expect(lambdaOf({ ...model, decoderBlocks: 2 })).toEqual([0.25, 0.25, 0.5]);
    expect(patchUnit(model, methodNamed('pretrain'))).toEqual([8, 16, 4]);
    expect(patchUnit(model, methodNamed('finetune'))).toEqual([4, 8, 4]);
  });
  it('a patch that does not divide: the nearest that do, for each axis', () => {
    const text = message({
      task: 'pretrain',
      model: { dims: 3, levels: 3, decoderBlocks: 1 },
      data: { patch: [20, 32, 8] },
    });
    expect(text).toMatch(/data\.patch: expected multiples of 16×16×16/);
    expect(text).toMatch(/D = 20 is not a multiple of 16, nearest 16 or 32/);
    expect(text).toMatch(/W = 8 is not a multiple of 16, nearest 16$/);
    expect(text).not.toMatch(/H = /);
    expect(message({ task: 'finetune', model: { classes: 2, levels: 3 }, data: { patch: [8, 16, 24] } })).toBe(
      'accepted',
    );
  });
});

describe('contradictions are named', () => {
  const model = { dims: 3, levels: 2 };
  const cases: [string, object, RegExp][] = [
    [
      'strides and levels',
      { task: 'pretrain', model: { ...model, strides: [[2, 2, 2]] } },
      /model\.strides: expected 2 entries .*found 1/,
    ],
    [
      'kernels and levels',
      {
        task: 'pretrain',
        model: {
          ...model,
          kernels: [
            [3, 3, 3],
            [3, 3, 3],
          ],
        },
      },
      /model\.kernels: expected 3 entries/,
    ],
    [
      'n and levels',
      { task: 'pretrain', model: { ...model, decoderBlocks: 3 } },
      /model\.decoderBlocks: expected at most model\.levels = 2/,
    ],
    [
      '2-D with a stride along D',
      { task: 'pretrain', model: { dims: 2, strides: [[2, 2, 2]] } },
      /model\.strides: expected stride 1 along D/,
    ],
    [
      '2-D with a kernel along D',
      {
        task: 'pretrain',
        model: {
          dims: 2,
          levels: 1,
          kernels: [
            [1, 3, 3],
            [3, 3, 3],
          ],
        },
      },
      /model\.kernels/,
    ],
    [
      '2-D with a thick patch',
      { task: 'pretrain', model: { dims: 2 }, data: { patch: [2, 64, 64] } },
      /data\.patch: expected D = 1/,
    ],
    [
      '2-D turned about H',
      { task: 'pretrain', model: { dims: 2 }, augment: { rotation: [0, 5, 0] } },
      /augment\.rotation/,
    ],
    [
      '2-D mirrored along D',
      { task: 'pretrain', model: { dims: 2 }, augment: { mirror: [true, false, false] } },
      /augment\.mirror/,
    ],
    [
      'a batch of one',
      { task: 'pretrain', train: { batch: 1 } },
      /train\.batch: expected at least 2 in pre-training, found 1/,
    ],
    [
      'more samples than are contrasted',
      { task: 'pretrain', train: { batch: 257 } },
      /train\.batch: expected at most 256 \(.*found 257/,
    ],
    [
      'more classes than the losses hold',
      { task: 'finetune', model: { classes: 129 } },
      /model\.classes: expected at most 128 \(.*found 129/,
    ],
    ['no classes', { task: 'finetune' }, /model\.classes/],
    [
      'weights and classes',
      { task: 'finetune', model: { classes: 3 }, loss: { classWeights: [1, 1] } },
      /loss\.classWeights: expected 3 entries/,
    ],
    [
      'a floor above the rate',
      { task: 'finetune', model: { classes: 3 }, optimizer: { lr: 1e-5, lrFinal: 1e-4 } },
      /lrFinal/,
    ],
    [
      'scale upside down',
      { task: 'pretrain', augment: { scale: [1.2, 0.8] } },
      /augment\.scale: expected the smallest factor first/,
    ],
    ['slices in 3-D', { task: 'pretrain', data: { sliceAxis: 'H' } }, /data\.sliceAxis/],
    [
      'thresholds and position',
      { task: 'pretrain', data: { position: 'slice' }, loss: { threshold: [1, 1, 1] } },
      /loss\.threshold: expected 1 entries/,
    ],
    [
      'a non-spatial change of nothing',
      { task: 'pretrain', augment: { nonSpatial: 'brightness+contrast', intensity: { brightness: 0, contrast: 0 } } },
      /augment\.intensity: expected brightness or contrast above 0/,
    ],
    [
      'channels and kinds',
      { task: 'pretrain', data: { normalize: ['ct', 'case'] } },
      /data\.normalize: expected 1 entries/,
    ],
  ];
  it.each(cases)('%s', (_name, value, text) => expect(message(value)).toMatch(text));
});

it('what a model keeps of its configuration has no threads and no intervals', () => {
  const a: ResolvedConfig = pretrain({ train: { threads: 3, valEvery: 7, checkpointEvery: 9, seed: 5 } });
  const b: ResolvedConfig = pretrain({ train: { threads: 1, seed: 5 } });
  expect(meaningOf(a)).toEqual(meaningOf(b));
  expect(resolveConfig(meaningOf(a)).train.seed).toBe(5);
});
