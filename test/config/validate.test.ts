/** The schema check agrees with ajv on everything that can be wrong with a configuration, error by error. */
import { Ajv } from 'ajv';
import { expect, it } from 'vitest';
import { configSchema, resolveConfig } from '../../src/config/index.js';
import type { JsonSchema } from '../../src/settings/json-schema.js';
import { violations } from '../../src/config/validate.js';
import { Draws } from '../../src/philox.js';

const VALUES: unknown[] = [
  ...[null, true, false, 0, 1, -1, 0.5, 2, 3, 1e9, 1e300, NaN, Infinity, '', 'sgd', 'auto', '3'],
  ...[[], [1, 2, 3], [1, 2], ['ct'], [[1, 1, 1]], [true, false, true], {}, { a: 1 }],
];

/** One change somewhere: another value, a key more, a key less. */
function mutate(value: unknown, draws: Draws): unknown {
  const copy = structuredClone(value);
  let at = copy as Record<string, unknown>;
  for (;;) {
    const keys = Object.keys(at);
    const key = keys[draws.int(Math.max(1, keys.length))];
    if (key === undefined || draws.uniform() < 0.1) {
      at[draws.uniform() < 0.5 ? 'surprise' : 'a/~b'] = VALUES[draws.int(VALUES.length)];
      return copy;
    }
    const inner = at[key];
    if (typeof inner === 'object' && inner !== null && draws.uniform() < 0.7) {
      at = inner as Record<string, unknown>;
      continue;
    }
    if (draws.uniform() < 0.15 && !Array.isArray(at)) delete at[key];
    else at[key] = VALUES[draws.int(VALUES.length)];
    return copy;
  }
}

it.each(['pretrain', 'finetune'] as const)('%s', (task) => {
  const schema = (configSchema.definitions as Record<string, JsonSchema>)[task]!;
  const validate = new Ajv({ verbose: true, strict: true, allowUnionTypes: true }).compile(schema);
  const whole = resolveConfig({
    task,
    model: task === 'finetune' ? { classes: 3, inChannels: 2 } : { inChannels: 2 },
    data: { patch: [64, 64, 64], spacingMm: [1, 2, 3], normalize: ['ct', 'case'] },
  });
  const draws = new Draws(11, 0, 0, 0);
  let refused = 0;
  for (let n = 0; n < 4000; n++) {
    let value: unknown = whole;
    for (let times = 1 + draws.int(3); times > 0; times--) value = mutate(value, draws);
    const expected = validate(value)
      ? []
      : (validate.errors ?? []).map(({ instancePath, keyword, params, data }) => ({
          instancePath,
          keyword,
          params,
          data,
        }));
    const found = violations(schema, value).map(({ instancePath, keyword, params, data }) => ({
      instancePath,
      keyword,
      params,
      data,
    }));
    const plain = (all: typeof found) =>
      all.map((e) => {
        const { comparison: _, ...params } = e.params as Record<string, unknown>;
        return { ...e, params };
      });
    expect(plain(found), JSON.stringify(value)).toEqual(plain(expected));
    if (found.length > 0) refused++;
  }
  expect(refused).toBeGreaterThan(2000);
});
