import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { configSchema, resolveConfig, type ConfigInput } from '../../src/config/index.js';
import { MaclError } from '../../src/errors.js';

function errorOf(value: unknown): MaclError {
  try {
    resolveConfig(value, { source: 'c.json' });
  } catch (error) {
    if (error instanceof MaclError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(value)}`);
}

const model3d = { dims: 3, inChannels: 1, filters: 4, levels: 2, decoderBlocks: 1, classes: 3 };

describe('what the schema refuses', () => {
  const cases: [string, unknown, string, RegExp][] = [
    ['a number', 3, '', /expected an object, found 3/],
    ['a list', [], '', /expected an object, found \[\]/],
    ['no task', {}, 'task', /expected pretrain or finetune, found nothing/],
    ['another task', { task: 'train' }, 'task', /found "train"/],
    [
      'an unknown key',
      { task: 'pretrain', modle: {} },
      'modle',
      /unknown key; did you mean \w+\?; known here: .*model/,
    ],
    [
      'an unknown key inside',
      { task: 'pretrain', optimizer: { lR: 1 } },
      'optimizer.lR',
      /unknown key; did you mean \w+\?; known here: .*lr/,
    ],
    ['a key of the other task', { task: 'pretrain', loss: { name: 'ce' } }, 'loss.name', /unknown key/],
    ['a learning rate that is not a number', { task: 'pretrain', optimizer: { lr: NaN } }, 'optimizer.lr', /found NaN/],
    ['an infinite one', { task: 'pretrain', optimizer: { lr: Infinity } }, 'optimizer.lr', /found Infinity/],
    [
      'a string for a number',
      { task: 'pretrain', optimizer: { lr: '0.1' } },
      'optimizer.lr',
      /expected a number .*found "0.1"/,
    ],
    ['a negative one', { task: 'pretrain', optimizer: { lr: -1 } }, 'optimizer.lr', /at least 0 .*found -1/],
    ['a temperature of 0', { task: 'pretrain', loss: { temperature: 0 } }, 'loss.temperature', /above 0 .*found 0/],
    ['NaN in a list', { task: 'pretrain', loss: { threshold: [0.1, NaN, 0.1] } }, 'loss.threshold.1', /found NaN/],
    [
      'a threshold in words',
      { task: 'pretrain', loss: { threshold: 'x' } },
      'loss.threshold',
      /a number above 0, or a list/,
    ],
    ['dims of 4', { task: 'pretrain', model: { dims: 4 } }, 'model.dims', /2 or 3 .*found 4/],
    ['half a filter', { task: 'pretrain', model: { filters: 1.5 } }, 'model.filters', /integer .*found 1.5/],
    ['a stride of 3', { task: 'pretrain', model: { strides: [[3, 2, 2]] } }, 'model.strides.0.0', /1 or 2 .*found 3/],
    [
      'two sizes',
      { task: 'pretrain', data: { patch: [32, 32] } },
      'data.patch',
      /a list of D, H, W, or null, found \[32,32\]/,
    ],
    ['one class', { task: 'finetune', model: { classes: 1 } }, 'model.classes', /at least 2/],
    ['fp16', { task: 'finetune', train: { precision: 'fp16' } }, 'train.precision', /fp32.* bf16.*found "fp16"/],
    ['λ', { task: 'pretrain', model: { lambda: 0.5 } }, 'model.lambda', /unknown key/],
  ];
  it.each(cases)('%s', (_name, value, field, message) => {
    const error = errorOf(value);
    expect(error.code).toBe('config');
    expect(error.exitCode).toBe(1);
    expect(error.details.field).toBe(field);
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^c\.json: /);
  });

  it.each(['__proto__', 'constructor', 'prototype'])('%s at every depth', (key) => {
    for (const text of [
      `{"task":"pretrain","${key}":{"x":1}}`,
      `{"task":"pretrain","loss":{"weights":{"${key}":{"er":9}}}}`,
    ]) {
      const error = errorOf(JSON.parse(text));
      expect(error.message).toContain(`${key}: unknown key`);
    }
    expect(({} as Record<string, unknown>)['er']).toBeUndefined();
  });
});

describe('the published schema', () => {
  const ajv = new Ajv({ strict: true, allowUnionTypes: true });
  const validate = ajv.compile(JSON.parse(JSON.stringify(configSchema)) as object);
  const good: ConfigInput[] = [
    { task: 'pretrain' },
    { task: 'finetune', model: { ...model3d, dims: 3 }, loss: { name: 'ce' }, train: { threads: null } },
    { task: 'pretrain', preset: 'code-2d', data: { patch: null, spacingMm: [1, 2, 3], normalize: 'ct' } },
  ];
  it('says the same as the check', () => {
    for (const value of good) expect(validate(value), JSON.stringify(validate.errors)).toBe(true);
    expect(validate({ task: 'pretrain', loss: { name: 'ce' } })).toBe(false);
    expect(validate({ task: 'finetune', loss: { temperature: 1 } })).toBe(false);
  });
  it('describes every key', () => {
    const bare: string[] = [];
    const walk = (schema: Record<string, unknown>, path: string) => {
      for (const [key, value] of Object.entries(
        (schema['properties'] ?? {}) as Record<string, Record<string, unknown>>,
      )) {
        if (value['description'] === undefined && value['const'] === undefined) bare.push(`${path}.${key}`);
        walk(value, `${path}.${key}`);
      }
    };
    const { pretrain, finetune } = configSchema['definitions'] as Record<string, Record<string, unknown>>;
    walk(pretrain!, 'pretrain');
    walk(finetune!, 'finetune');
    expect(bare).toEqual([]);
  });
  it('accepts every resolved configuration, so that a run can read its own', () => {
    for (const task of ['pretrain', 'finetune'] as const) {
      for (const preset of ['default', 'paper-2d', 'code-2d'] as const) {
        const resolved = resolveConfig({ task, preset, model: { classes: 4 } });
        expect(validate(resolved), JSON.stringify(validate.errors)).toBe(true);
        expect(resolveConfig(JSON.parse(JSON.stringify(resolved)))).toEqual(resolved);
      }
    }
  });
});
