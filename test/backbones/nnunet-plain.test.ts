/** nnU-Net's plain U-Net: its published numbers of parameters, names, plans, and what a bottleneck needs. */
import { describe, expect, test } from 'vitest';
import { backboneOf } from '../../src/backbones/index.js';
import { describePlan, planFinetune, planPretrain, resolveConfig } from '../../src/config/index.js';
import { bottleneckVoxels } from '../../src/config/check.js';
import { MaclError } from '../../src/errors.js';
import { METHOD_NAMES, methodNamed } from '../../src/methods/index.js';
import { stubBackend } from '../graph/helpers.js';
import { declareNetwork } from '../../src/methods/network.js';
import { fingerprintOf, hippocampi } from '../config/fingerprints.js';

const errorOf = (f: () => unknown): MaclError => {
  try {
    f();
  } catch (error) {
    if (error instanceof MaclError) return error;
    throw error;
  }
  throw new Error('accepted');
};
const plain = (stages: number, dims: 2 | 3, classes: number) =>
  resolveConfig({
    task: 'finetune',
    model: { backbone: 'nnunet-plain', dims, levels: stages - 1, classes, inChannels: 1 },
  });

describe('parameters', () => {
  // As published with a head at each decoder block; here the last alone is there.
  test.each([
    [3, 6, 2, 31195594],
    [3, 6, 4, 31197204],
    [3, 5, 2, 16547592],
    [3, 4, 2, 5602950],
    [2, 7, 2, 33471820],
    [2, 8, 4, 46328604],
  ] as const)('%i-D, %i stages, %i classes', (dims, stages, classes, published) => {
    const most = dims === 3 ? 320 : 512;
    const widths = Array.from({ length: stages - 1 }, (_, t) => Math.min(32 * 2 ** t, most));
    const others = widths.slice(1).reduce((sum, width) => sum + classes * (width + 1), 0);
    const net = declareNetwork(plain(stages, dims, classes), stubBackend.info, 'inference');
    expect(net.state.parameterCount).toBe(published - others);
  });

  test('of encoder and decoder blocks, each', () => {
    const { state, backbone } = declareNetwork(plain(6, 3, 2), stubBackend.info, 'inference');
    const counts = new Map<string, number>();
    for (const { name, shape } of state.entries) {
      const part = backbone.partOf(name)!;
      const key = part.part === 'decoder' ? `block ${part.block}` : part.part;
      counts.set(key, (counts.get(key) ?? 0) + shape.reduce((a, b) => a * b, 1));
    }
    expect(Object.fromEntries(counts)).toEqual({
      encoder: 14025120,
      'block 0': 9115840,
      'block 1': 5965568,
      'block 2': 1590144,
      'block 3': 397760,
      'block 4': 99552,
      head: 66,
    });
  });

  test('have the names and shapes of the format; a stride is the first convolution of a stage', () => {
    const config = resolveConfig({
      task: 'finetune',
      model: { backbone: 'nnunet-plain', dims: 3, filters: 4, levels: 2, classes: 3, inChannels: 2 },
    });
    const { state } = declareNetwork(config, stubBackend.info, 'inference');
    const shapes = Object.fromEntries(state.entries.map(({ name, shape }) => [name, shape.join()]));
    expect(shapes).toMatchObject({
      'encoder.stages.0.conv1.weight': '4,2,3,3,3',
      'encoder.stages.0.norm1.weight': '4',
      'encoder.stages.2.conv2.bias': '16',
      'decoder.blocks.0.up.weight': '16,8,2,2,2',
      'decoder.blocks.1.conv1.weight': '4,8,3,3,3',
      'decoder.blocks.1.norm2.bias': '4',
      'heads.1.weight': '3,4,1,1,1',
    });
    expect(Object.keys(shapes).filter((name) => /running|heads\.0|^head\./.test(name))).toEqual([]);
    expect(backboneOf(config.model).levelNames(config.model)).toEqual([0, 1, 2].map((t) => `encoder.stages.${t}`));
  });
});

describe('a bottleneck', () => {
  const pretrain = (patch: readonly number[], method = 'macl', more: object = {}) =>
    resolveConfig({
      task: 'pretrain',
      method,
      model: { backbone: 'nnunet-plain', dims: 3, levels: 2, decoderBlocks: 1, ...more },
      data: { patch },
    });

  test('of one voxel in the branch at λ is refused with the patches that have two', () => {
    const error = errorOf(() => pretrain([8, 8, 8]));
    expect(error).toMatchObject({ code: 'config', details: { field: 'data.patch', found: [8, 8, 8] } });
    expect(error.message).toMatch(
      /at least 2 voxels a sample .*λ.*nnunet-plain.*1 there, nearest 16×8×8 or 8×16×8 or 8×8×16/,
    );
    expect(pretrain([16, 8, 8]).data.patch).toEqual([16, 8, 8]);
  });

  test('counts the whole patch where no branch sees it smaller, and none where nothing is normalised there', () => {
    expect(errorOf(() => pretrain([4, 4, 4], 'simclr')).message).toMatch(/1 there, nearest 8×4×4/);
    expect(pretrain([8, 4, 4], 'simclr').data.patch).toEqual([8, 4, 4]);
    expect(pretrain([8, 8, 8], 'macl', { backbone: 'unet' }).data.patch).toEqual([8, 8, 8]);
  });

  test('in 2-D grows in the slice alone', () => {
    const config = { task: 'finetune', data: { patch: [1, 4, 4] } } as const;
    const model = { backbone: 'nnunet-plain', dims: 2, levels: 2, classes: 2 } as const;
    expect(errorOf(() => resolveConfig({ ...config, model })).message).toMatch(/nearest 1×8×4 or 1×4×8$/);
  });
});

describe('plans', () => {
  const small = fingerprintOf(hippocampi);
  const model = { backbone: 'nnunet-plain' } as const;

  test('take 32 filters, say the backbone, and count channels that are capped', () => {
    const plan = planFinetune(small, { task: 'finetune', model });
    expect(plan.config.model).toMatchObject({ backbone: 'nnunet-plain', filters: 32 });
    expect(describePlan(plan).join('\n')).toContain('network: nnunet-plain, 3 levels of 32 filters up');
    const wide = planFinetune(small, { task: 'finetune', model: { ...model, filters: 512 } });
    const capped = planFinetune(small, { task: 'finetune', model: { ...model, filters: 320 } });
    expect(wide.estimatedBytes).toBe(capped.estimatedBytes);
  });

  test('leave enough voxels at every bottleneck, and as many as are wanted where positions do not ask for less', () => {
    for (const name of METHOD_NAMES) {
      const method = methodNamed('pretrain', name);
      const { config, warnings } = planPretrain(small, { task: 'pretrain', method: name, model });
      expect(resolveConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
      const voxels = bottleneckVoxels(config.data.patch, config.model, method);
      expect(voxels, name).toBeGreaterThanOrEqual(method.threshold ? 2 : 8);
      expect(/voxels a sample at the bottleneck/.test(warnings.join('\n')), name).toBe(voxels < 8);
    }
  });

  test('warn of a bottleneck that says little of a sample', () => {
    const given = { ...model, levels: 2, decoderBlocks: 1 };
    const { warnings } = planPretrain(small, { task: 'pretrain', model: given, data: { patch: [16, 8, 8] } });
    expect(warnings.join('\n')).toMatch(/16×8×8 leaves 2 voxels a sample at the bottleneck/);
  });
});
