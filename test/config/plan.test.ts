import { describe, expect, it } from 'vitest';
import {
  describePlan,
  planFinetune,
  planPretrain,
  resolveConfig,
  type FinetuneConfigInput,
  type Fingerprint,
  type PretrainConfigInput,
  type Triple,
} from '../../src/config/index.js';
import { patchUnit } from '../../src/config/check.js';
import { estimateBytes, estimateStepSeconds } from '../../src/config/cost.js';
import type { InitModel } from '../../src/config/plan-init.js';
import { MaclError } from '../../src/errors.js';
import { methodNamed } from '../../src/methods/index.js';
import { fingerprintOf, hippocampi } from './fingerprints.js';

const pretrain = (f: Fingerprint, input: Omit<PretrainConfigInput, 'task'> = {}, options = {}) =>
  planPretrain(f, { task: 'pretrain', ...input }, options);
const finetune = (f: Fingerprint, input: Omit<FinetuneConfigInput, 'task'> = {}, options = {}) =>
  planFinetune(f, { task: 'finetune', ...input }, options);
const errorOf = (f: () => unknown): MaclError => {
  try {
    f();
  } catch (error) {
    if (error instanceof MaclError) return error;
    throw error;
  }
  throw new Error('accepted');
};
const small = fingerprintOf(hippocampi);
const organ = fingerprintOf([
  [120, 160, 140],
  [110, 150, 150],
  [130, 170, 160],
]);
const fits = (patch: Triple, unit: Triple) => patch.every((s, axis) => s % unit[axis as 0] === 0);

describe('fine-tuning small volumes', () => {
  const plan = finetune(small);
  it('takes whole volumes, three levels and 16 filters', () => {
    const { model, data, train } = plan.config;
    expect(data.patch).toEqual([48, 64, 48]);
    expect(model).toMatchObject({ dims: 3, filters: 16, levels: 3, decoderBlocks: 1, classes: 3 });
    expect(model.strides).toEqual([
      [2, 2, 2],
      [2, 2, 2],
      [2, 2, 2],
    ]);
    expect(train).toMatchObject({ batch: 2, steps: 3000 });
    expect(plan.config.loss.name).toBe('ce+dice');
    expect(plan.config.augment).toMatchObject({ rotation: [29, 29, 29], scale: [0.8, 1.25] });
  });
  it('takes the same patch for the few cases of a list, so that larger ones fit too', () => {
    expect(finetune(fingerprintOf(hippocampi.slice(0, 5))).config.data.patch).toEqual([48, 64, 48]);
  });
  it('is a configuration that resolves to itself', () => {
    expect(resolveConfig(JSON.parse(JSON.stringify(plan.config)))).toEqual(plan.config);
  });
  it('its steps hold within an hour', () => {
    const { model, data, train } = plan.config;
    const seconds = estimateStepSeconds(model, data.patch, train.batch, methodNamed('finetune'));
    expect(seconds).toBeGreaterThan(0.4);
    expect(seconds * train.steps).toBeLessThan(3600);
  });
});

describe('accumulation', () => {
  const words = (...plan: Parameters<typeof finetune>) => describePlan(finetune(...plan)).join('\n');
  const train = { accumulate: 4 };
  it('takes as many steps as their samples have time for, at the batch and the memory of one', () => {
    const [one, four] = [finetune(organ), finetune(organ, { train })];
    expect(four.config.train).toMatchObject({ accumulate: 4, batch: one.config.train.batch });
    expect(four.estimatedBytes).toBe(one.estimatedBytes);
    expect(four.config.train.steps).toBeLessThan(one.config.train.steps);
  });
  it('is said with what couples the samples of a batch, and what does not', () => {
    expect(words(small)).not.toMatch(/accumulation/);
    expect(words(small, { train })).toMatch(
      /a step is 4 batches of 2 .*; the norms' batch statistics, Dice see one batch at a time/,
    );
    const uncoupled = { model: { backbone: 'nnunet-plain' }, loss: { dicePer: 'sample' }, train } as const;
    expect(words(small, uncoupled)).toMatch(/nothing couples the samples of a batch/);
    expect(describePlan(pretrain(small, { train })).join('\n')).toMatch(/image and pixel contrast see one batch/);
  });
});

describe('pre-training', () => {
  it('leaves small volumes room to move: at most a quarter of all pairs positive', () => {
    const plan = pretrain(small);
    const { model, data, train } = plan.config;
    expect(model).toMatchObject({ levels: 3, decoderBlocks: 1, filters: 16 });
    expect(plan.lambda).toEqual([0.5, 0.5, 0.5]);
    expect(plan.positiveShare).toBeLessThanOrEqual(0.25);
    expect(plan.positiveShare).toBeGreaterThan(0.02);
    expect(fits(data.patch, patchUnit(model, methodNamed('pretrain')))).toBe(true);
    expect(data.patch[0] * data.patch[1] * data.patch[2]).toBe(16384);
    expect(train.batch).toBeGreaterThanOrEqual(8);
    expect(describePlan(plan).join('\n')).toMatch(/positive pairs: \d+(\.\d)?% of all/);
    expect(plan.warnings).toEqual([]);
  });
  it('fits the network that fine-tuning would plan', () => {
    const [a, b] = [pretrain(small).config.model, finetune(small).config.model];
    expect(a.strides).toEqual(b.strides);
    expect(a.kernels).toEqual(b.kernels);
    expect(a.filters).toBe(b.filters);
  });
  it('refuses a patch that holds every case', () => {
    const error = errorOf(() => pretrain(small, { data: { patch: [48, 64, 48] } }));
    expect(error.code).toBe('config');
    expect(error.message).toMatch(/every pair of samples is a positive/);
  });
  it('keeps a given patch above a quarter, with a warning', () => {
    const plan = pretrain(small, { data: { patch: [32, 32, 32] } });
    expect(plan.config.data.patch).toEqual([32, 32, 32]);
    expect(plan.positiveShare).toBeGreaterThan(0.25);
    expect(plan.warnings.join()).toMatch(/the given patch 32×32×32 makes \d+% of all pairs positives/);
  });
  it('refuses a batch of one', () => {
    expect(errorOf(() => pretrain(small, { train: { batch: 1 } })).message).toMatch(
      /train\.batch: expected at least 2/,
    );
  });
  it('takes larger patches of larger organs', () => {
    const plan = pretrain(organ);
    const { patch } = plan.config.data;
    expect(patch[0] * patch[1] * patch[2]).toBeGreaterThanOrEqual(48 * 48 * 32 * 0.8);
    expect(Math.max(...patch) / Math.min(...patch)).toBeLessThanOrEqual(2);
    expect(plan.positiveShare).toBeLessThanOrEqual(0.25);
  });
  it('goes shallower where deep networks leave no room', () => {
    const plan = pretrain(
      fingerprintOf([
        [20, 20, 20],
        [22, 20, 21],
      ]),
      { loss: { threshold: 0.15 } },
    );
    expect(plan.positiveShare).toBeLessThan(1);
    expect(plan.config.model.levels).toBeLessThan(3);
  });
});

describe('flags are inputs', () => {
  it('a given patch re-plans levels, strides and n around it', () => {
    const cube = pretrain(organ, { data: { patch: [32, 32, 32] } }).config;
    expect(cube.model).toMatchObject({ levels: 3, decoderBlocks: 1 });
    const odd = pretrain(organ, { data: { patch: [20, 32, 36] } }).config;
    expect(fits(odd.data.patch, patchUnit(odd.model, methodNamed('pretrain')))).toBe(true);
    const flat = pretrain(organ, { data: { patch: [15, 64, 64] } }).config;
    expect(flat.model.strides.every((s) => s[0] === 1)).toBe(true);
    expect(flat.model.levels).toBe(3);
    const fine = finetune(organ, { data: { patch: [24, 40, 56] } }).config;
    expect(fits(fine.data.patch, patchUnit(fine.model, methodNamed('finetune')))).toBe(true);
    expect(fine.model.levels).toBe(3);
  });
  it('a patch that nothing fits names the nearest', () => {
    const error = errorOf(() => pretrain(organ, { data: { patch: [33, 33, 33] } }));
    expect(error.message).toMatch(/33×33×33 .* nearest that fit: 32 or 36, 32 or 36, 32 or 36/);
  });
  it('a full contradictory combination is an error with the nearest sizes', () => {
    const model = {
      levels: 3,
      decoderBlocks: 1,
      strides: [
        [2, 2, 2],
        [2, 2, 2],
        [2, 2, 2],
      ],
    } as const;
    const error = errorOf(() => pretrain(organ, { model, data: { patch: [32, 32, 24] } }));
    expect(error.message).toMatch(/W = 24 is not a multiple of 16, nearest 16 or 32/);
  });
  it('strides that contradict levels are an error, not a crash', () => {
    const error = errorOf(() => pretrain(organ, { model: { levels: 4, strides: [[2, 2, 2]] } }));
    expect(error.message).toMatch(/model\.strides: expected 4 entries/);
  });
  it('levels, filters, batch, steps and spacing are kept', () => {
    const plan = finetune(organ, {
      model: { levels: 2, filters: 8 },
      train: { batch: 5, steps: 7 },
      data: { spacingMm: [2, 2, 2] },
    });
    expect(plan.config.model).toMatchObject({ levels: 2, filters: 8 });
    expect(plan.config.train).toMatchObject({ batch: 5, steps: 7 });
    expect(plan.largestShape).toEqual([65, 85, 80]);
    expect(plan.config.model.strides).toHaveLength(2);
  });
});

describe('anisotropic volumes', () => {
  const thick = fingerprintOf(
    [
      [18, 320, 320],
      [20, 320, 320],
      [22, 300, 320],
    ],
    { spacingMm: [6, 0.7, 0.7] },
  );
  it('leave the coarse axis alone until the others have caught up', () => {
    const { model, data } = finetune(thick).config;
    expect(model.strides[0]).toEqual([1, 2, 2]);
    expect(model.kernels[0]).toEqual([1, 3, 3]);
    expect(data.patch[0]).toBeLessThan(data.patch[1]);
    expect(fits(data.patch, patchUnit(model, methodNamed('finetune')))).toBe(true);
  });
  it('take the finer tenth of a coarse axis', () => {
    const shapes: Triple[] = Array.from({ length: 11 }, () => [20, 200, 200]);
    const mixed = fingerprintOf(shapes);
    const cases = mixed.cases.map((c, i): (typeof mixed.cases)[number] => ({ ...c, spacingMm: [4 + i, 1, 1] }));
    expect(finetune({ ...mixed, cases }).config.data.spacingMm).toEqual([5, 1, 1]);
  });
});

describe('2-D', () => {
  it('plans slices, and positions along D', () => {
    const plan = pretrain(small, { model: { dims: 2 } });
    const { model, data, train } = plan.config;
    expect(data.patch).toEqual([1, 64, 64]);
    expect(data.position).toBe('slice');
    expect(model.strides.every((s) => s[0] === 1)).toBe(true);
    expect(model.kernels.every((k) => k[0] === 1)).toBe(true);
    expect(train.batch).toBe(16);
    expect(plan.positiveShare).toBeGreaterThan(0.1);
    expect(plan.positiveShare).toBeLessThan(0.25);
  });
  it('takes the published network from the preset', () => {
    const plan = pretrain(organ, { preset: 'paper-2d' });
    expect(plan.config.model).toMatchObject({ dims: 2, levels: 4, decoderBlocks: 2, filters: 32 });
    expect(plan.lambda).toEqual([1, 0.25, 0.25]);
    expect(plan.config.data.patch).toEqual([1, 192, 192]);
    expect(plan.config.train.steps).toBe(Math.round((100 * (120 + 110 + 130)) / 16));
    expect(describePlan(pretrain(organ, { preset: 'code-2d' })).join('\n')).toMatch(/code-2d still lacks: elastic/);
  });
});

describe('the learning rate of fine-tuning', () => {
  const lr = (input: Parameters<typeof finetune>[1]) => {
    const { lr, lrFinal } = finetune(organ, input).config.optimizer;
    return [lr, lrFinal];
  };
  it('is its own in 3-D with Adam, else the published one; what is given is kept', () => {
    expect(lr({})).toEqual([2e-3, 2e-5]);
    expect(lr({ optimizer: { name: 'adamw' } })).toEqual([2e-3, 2e-5]);
    expect(lr({ optimizer: { lr: 1e-4 } })).toEqual([1e-4, 1e-6]);
    expect(lr({ optimizer: { name: 'sgd' } })[0]).toBe(0.01);
    expect(lr({ model: { dims: 2 } })).toEqual([5e-4, 5e-6]);
    expect(lr({ preset: 'paper-2d' })).toEqual([5e-4, 5e-6]);
  });
});

describe('from a pre-trained run', () => {
  const init = pretrain(organ, {
    model: { filters: 8, levels: 2 },
    data: { spacingMm: [2, 2, 2], patch: [32, 32, 32] },
  }).config;
  it('takes network, spacing and normalisation; plans patch and batch anew', () => {
    const plan = finetune(organ, {}, { init });
    expect(plan.config.model).toMatchObject({ filters: 8, levels: 2, strides: init.model.strides, classes: 3 });
    expect(plan.config.data.spacingMm).toEqual([2, 2, 2]);
    expect(plan.config.data.patch).not.toEqual(init.data.patch);
    expect(plan.config.optimizer.name).toBe('adam');
    expect(plan.config.train.batch).toBe(2);
  });
  it('refuses a flag that says otherwise', () => {
    const error = errorOf(() => finetune(organ, { model: { filters: 16 } }, { init }));
    expect(error.code).toBe('weights');
    expect(error.message).toMatch(/model\.filters: the pre-trained run has 8, found 16/);
    expect(finetune(organ, { model: { filters: 8 } }, { init }).config.model.filters).toBe(8);
  });
  it('warns where the run saw CT and the data is MR, unless normalisation is given', () => {
    const ct = fingerprintOf([[60, 60, 60]], { kinds: ['ct'] });
    const seen = (data: Fingerprint, init: InitModel, own = {}) => finetune(data, own, { init }).warnings.join();
    const onCt = pretrain(ct).config;
    expect(seen(organ, onCt)).toMatch(/channel 0 .*"ct".*"robust"/);
    expect(seen(ct, init)).toMatch(/channel 0 .*"robust".*"ct"/);
    expect(seen(organ, onCt, { data: { normalize: 'case' } })).toBe('');
    expect(seen(organ, init) + seen(ct, onCt)).toBe('');
    // What was pre-trained before there was a percentile clip goes on without one.
    const before = { ...init, data: { ...init.data, normalize: ['case'] as const } };
    expect(seen(organ, before)).toBe('');
    expect(finetune(organ, {}, { init: before }).normalization).toEqual([{ kind: 'case' }]);
  });
  it('one channel for four: sums or repeats', () => {
    const four = fingerprintOf([[60, 60, 60]], { kinds: ['other', 'other', 'other', 'other'] });
    const run = pretrain(four).config;
    expect(run.model.inChannels).toBe(4);
    const sum = finetune(organ, {}, { init: run });
    expect(sum.channels).toBe('sum');
    expect(sum.config.model.inChannels).toBe(1);
    const repeat = finetune(organ, { init: { channels: 'repeat' } }, { init: run });
    expect(repeat.channels).toBe('repeat');
    expect(repeat.config.model.inChannels).toBe(4);
    expect(repeat.config.data.normalize).toHaveLength(4);
    expect(repeat.normalization).toHaveLength(1);
    const two = fingerprintOf([[60, 60, 60]], { kinds: ['other', 'other'] });
    expect(errorOf(() => finetune(two, {}, { init: run })).code).toBe('weights');
  });
});

describe('normalisation', () => {
  it('of CT has the numbers of the data set', () => {
    const plan = finetune(fingerprintOf([[60, 60, 60]], { kinds: ['ct', 'other'] }));
    const robust = { kind: 'robust', percentiles: [0.5, 99.5] };
    expect(plan.normalization).toEqual([{ kind: 'ct', low: -200, high: 300, mean: 40, std: 80 }, robust]);
    expect(plan.config.data.normalize).toEqual(['ct', 'robust']);
  });
  it('can be given', () => {
    const plan = finetune(fingerprintOf([[60, 60, 60]], { kinds: ['ct'] }), { data: { normalize: 'case' } });
    expect(plan.normalization).toEqual([{ kind: 'case' }]);
  });
  it('follows what a channel orders', () => {
    const plan = finetune(fingerprintOf([[60, 60, 60]], { kinds: ['none', 'unit', 'case', 'other'] }));
    expect(plan.config.data.normalize).toEqual(['none', 'unit', 'case', 'robust']);
    expect(plan.normalization.map(({ kind }) => kind)).toEqual(['none', 'unit', 'case', 'robust']);
  });
  it('fails where the numbers are missing', () => {
    const f = { ...fingerprintOf([[60, 60, 60]], { kinds: ['ct'] }), intensity: [] };
    expect(errorOf(() => finetune(f)).code).toBe('dataset');
  });
});

describe('memory and faults', () => {
  it('lowers the batch to a limit, and names bytes where nothing fits', () => {
    const free = pretrain(organ);
    const half = estimateBytes(free.config.model, free.config.data.patch, 4, methodNamed('pretrain'));
    expect(pretrain(organ, {}, { limitBytes: half }).config.train.batch).toBe(4);
    const error = errorOf(() => pretrain(organ, {}, { limitBytes: 1000 }));
    expect(error.code).toBe('memory');
    expect(error.details.neededBytes).toBeGreaterThan(1000);
    expect(error.details.freeBytes).toBe(1000);
  });
  it('no cases, no classes', () => {
    expect(errorOf(() => pretrain(fingerprintOf([]))).code).toBe('dataset');
    expect(errorOf(() => finetune(fingerprintOf(hippocampi, { classes: 0 }))).message).toMatch(/model\.classes/);
  });
});
