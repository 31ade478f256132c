/** Weights by name into a network's state: what has to be there, and what is known before memory is taken. */
import { afterAll, describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import type { PretrainConfig, ResolvedConfig } from '../../src/settings/types.js';
import { rawTensor, type RawTensor } from '../../src/data/safetensors.js';
import { MaclError } from '../../src/errors.js';
import { declareNetwork } from '../../src/methods/network.js';
import type { LoadedModel } from '../../src/model/description.js';
import { emptyState, initialState, stateTensors, weightsState } from '../../src/model/network-state.js';
import { runStep } from '../../src/step/step.js';
import { transferWeights } from '../../src/model/transfer.js';
import { openReference } from '../golden/devices.js';

const backend = await openReference();
afterAll(() => backend.close());

const ROLES = ['parameter', 'statistic'] as const;
const model = { dims: 3, inChannels: 1, filters: 2, levels: 2, decoderBlocks: 1 } as const;
const pretrain = resolveConfig({ task: 'pretrain', model }) as PretrainConfig;
const finetune = resolveConfig({ task: 'finetune', model: { ...model, classes: 2 } });
const pretrained = declareNetwork(pretrain, { real: 'f32', alignment: 64 }, 'training').state;
const segment = declareNetwork(finetune, { real: 'f32', alignment: 64 }, 'training').state;
const host = { hostFreeBytes: 2 ** 40 };
const errorOf = (f: () => unknown): MaclError => {
  try {
    f();
  } catch (error) {
    if (error instanceof MaclError) return error;
    throw error;
  }
  throw new Error('accepted');
};

describe('a state from weights', () => {
  it('has them, and zeros elsewhere', async () => {
    const tensors = stateTensors(segment, initialState(segment, 5, host), ROLES);
    const state = await weightsState(segment, tensors, 'W', host);
    expect(stateTensors(segment, state, ROLES)).toEqual(tensors);
    const others = stateTensors(segment, state, ['moment', 'counter']);
    expect(others.size).toBeGreaterThan(0);
    for (const t of others.values()) expect(t.bytes.every((b) => b === 0)).toBe(true);
  });
  it('that is too large is known before it is taken', () => {
    for (const bytes of [2 ** 44, 2 ** 52]) {
      const error = errorOf(() => emptyState({ bytes }, host));
      expect([error.code, error.details.neededBytes]).toEqual(['memory', bytes]);
      expect(error.details.freeBytes).toBeLessThan(bytes);
    }
  });
  it('names what does not fit before it takes anything', async () => {
    const config = resolveConfig({
      task: 'pretrain',
      model: { dims: 2, filters: 4096, levels: 6, decoderBlocks: 1 },
    });
    const view = rawTensor(new Float32Array(2 * 128 * 128), [2, 1, 1, 128, 128]);
    const batch = new Map<string, RawTensor>(['i1', 'i2', 'v1', 'v2'].map((name) => [name, view]));
    batch.set('pos', rawTensor(Float32Array.of(0, 1), [2, 1]));
    const weights = stateTensors(pretrained, initialState(pretrained, 0, host), ROLES);
    const files = { weights: 'W.safetensors', batch: 'B.safetensors' };
    const error = await runStep({ config, weights, batch, backend, steps: 1, files }).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: 'MaclError', code: 'weights' });
    expect((error as Error).message).toMatch(/encoder\.blocks\.0\.conv1\.weight: expected \[4096, 1, 1, 3, 3\], found/);
  });
});

describe('from an earlier run', () => {
  const from = (config: ResolvedConfig, tensors: ReadonlyMap<string, RawTensor>) =>
    ({ file: 'pre', config, tensors }) as unknown as LoadedModel;
  const without = (table: typeof segment, prefix: string) =>
    new Map([...stateTensors(table, initialState(table, 1, host), ROLES)].filter(([name]) => !name.startsWith(prefix)));
  const transfer = (model: LoadedModel) => transferWeights(segment, initialState(segment, 2, host), model);

  it('a decoder block that was pre-trained must be there, one that was not is fresh', () => {
    const error = errorOf(() => transfer(from(pretrain, without(pretrained, 'decoder.blocks.0.conv2.'))));
    expect(error.code).toBe('weights');
    expect(error.details.tensors).toEqual(['decoder.blocks.0.conv2.weight', 'decoder.blocks.0.conv2.bias']);
    const { fresh } = transfer(from(pretrain, without(pretrained, 'none')));
    expect(new Set(fresh.map((n) => n.split('.').slice(0, 3).join('.')))).toEqual(
      new Set(['decoder.blocks.1', 'head.weight', 'head.bias']),
    );
  });
  it('of fine-tuning, every block must be', () => {
    const error = errorOf(() => transfer(from(finetune, without(segment, 'decoder.blocks.1.up.'))));
    expect(error.details.tensors).toEqual(['decoder.blocks.1.up.weight', 'decoder.blocks.1.up.bias']);
    expect(transfer(from(finetune, without(segment, 'head.'))).fresh).toEqual(['head.weight', 'head.bias']);
  });
});
