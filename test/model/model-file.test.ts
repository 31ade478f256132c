/** The metadata of a model: whatever stands there, the error is of the file and names the field. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import type { FinetuneConfig, Planned, PretrainConfig } from '../../src/settings/types.js';
import { writeSafetensorsFile } from '../../src/data/files.js';
import { MaclError } from '../../src/errors.js';
import { describeModel, modelMetadata, type ModelDescription } from '../../src/model/description.js';
import { loadSegmentModel } from '../../src/model/model-file.js';
import { scratchFolder } from '../train/toy.js';

const root = scratchFolder();
const MODEL: ModelDescription<FinetuneConfig> = {
  config: resolveConfig({
    task: 'finetune',
    model: { classes: 2, inChannels: 2 },
    data: { patch: [16, 16, 16], spacingMm: [1, 2, 3], normalize: ['ct', 'case'] },
    loss: { classWeights: [1, 2] },
    train: { steps: 7, seed: 3 },
  }) as Planned<FinetuneConfig>,
  normalization: [{ kind: 'ct', low: -100, high: 300, mean: 50, std: 20 }, { kind: 'case' }],
  classes: [
    { value: 0, name: 'background' },
    { value: 7, name: 'organ' },
  ],
  channelNames: ['CT', 'PET'],
};

function failure(metadata: Record<string, string>): MaclError {
  try {
    describeModel(metadata, 'model.safetensors');
  } catch (error) {
    expect(error).toBeInstanceOf(MaclError);
    return error as MaclError;
  }
  throw new Error('nothing was thrown');
}

describe('the metadata of a model', () => {
  it('says again what was written, of each preset and task', () => {
    const { train, ...rest } = MODEL.config;
    const found = describeModel(modelMetadata(MODEL), 'x');
    expect({ ...found, config: { ...found.config, train } }).toEqual({ ...MODEL, config: { ...rest, train } });
    for (const preset of ['default', 'paper-2d', 'code-2d'] as const)
      for (const task of ['pretrain', 'finetune'] as const) {
        const config = resolveConfig({
          task,
          preset,
          ...(task === 'finetune' && { model: { classes: 2 } }),
          data: { patch: preset === 'default' ? [64, 64, 64] : [1, 128, 128], normalize: 'case' },
        }) as Planned<PretrainConfig>;
        const classes = task === 'finetune' ? MODEL.classes : [];
        const model = { config, normalization: [{ kind: 'case' }] as const, classes, channelNames: ['MR'] };
        const metadata = modelMetadata(model);
        expect(modelMetadata(describeModel(metadata, 'x'))).toEqual(metadata);
      }
  });

  const config = JSON.parse(modelMetadata(MODEL)['macl.config']!) as Record<string, object>;
  const changed = (section: string, values: object) => ({ ...config, [section]: { ...config[section], ...values } });
  const wrong: [key: string, value: unknown, field: string][] = [
    ['macl.config', null, 'macl.config'],
    ['macl.config', [], 'macl.config'],
    ['macl.config', { task: 'finetune' }, 'macl.config.model.classes'],
    ['macl.config', { task: 'finetune', model: { classes: 2 } }, 'macl.config.data.patch'],
    ['macl.config', { ...config, task: 'other' }, 'macl.config.task'],
    ['macl.config', { ...config, surprise: 1 }, 'macl.config.surprise'],
    ['macl.config', { ...config, model: null }, 'macl.config.model'],
    ['macl.config', changed('model', { levels: 'x' }), 'macl.config.model.levels'],
    ['macl.config', changed('data', { patch: null }), 'macl.config.data.patch'],
    ['macl.config', changed('data', { normalize: 'auto' }), 'macl.config.data.normalize'],
    ['macl.normalization', null, 'macl.normalization'],
    ['macl.normalization', [], 'macl.normalization'],
    ['macl.normalization', [{ kind: 'case' }, null], 'macl.normalization[1]'],
    [
      'macl.normalization',
      [{ kind: 'ct', low: 0, high: 1, mean: null, std: 1 }, { kind: 'case' }],
      'macl.normalization[0]',
    ],
    ...[undefined, [1], [99.5, 0.5], [-1, 50], ['0', '1']].map((percentiles): [string, unknown, string] => [
      'macl.normalization',
      [{ kind: 'robust', percentiles }, { kind: 'case' }],
      'macl.normalization[0]',
    ]),
    ['macl.classes', { 0: 'background' }, 'macl.classes'],
    ['macl.classes', [], 'macl.classes'],
    ['macl.classes', [null, MODEL.classes[1]], 'macl.classes[0]'],
    ['macl.classes', [MODEL.classes[0], { value: 0.5, name: 'a' }], 'macl.classes[1]'],
    ['macl.classes', [MODEL.classes[0], { value: 1 }], 'macl.classes[1]'],
    ['macl.classes', [MODEL.classes[0], MODEL.classes[0]], 'macl.classes'],
    ['macl.channels', 'CT', 'macl.channels'],
    ['macl.channels', [1, 2], 'macl.channels[0]'],
    ['macl.channels', ['a', 'b', 'c'], 'macl.channels'],
  ];
  it.each(wrong.map(([key, value, field]) => ({ key, value, field })))(
    '$field that is wrong is an error of the file',
    ({ key, value, field }) => {
      const error = failure({ ...modelMetadata(MODEL), [key]: JSON.stringify(value) });
      expect([error.code, error.details.file, error.details.field]).toEqual(['file', 'model.safetensors', field]);
      expect(error.message).toContain(`model.safetensors: ${key}`);
    },
  );

  it.each(['macl.config', 'macl.normalization', 'macl.classes', 'macl.channels'])('without %s is too', (key) => {
    const metadata = modelMetadata(MODEL);
    delete metadata[key];
    expect([failure(metadata).code, failure(metadata).details.field]).toEqual(['file', key]);
  });

  it('with label values that no type holds is refused before anything is computed', async () => {
    const file = join(root, 'wide.safetensors');
    const classes = [MODEL.classes[0]!, { value: 2 ** 33, name: 'organ' }];
    await writeSafetensorsFile(file, new Map(), modelMetadata({ ...MODEL, classes }));
    await expect(loadSegmentModel(file)).rejects.toMatchObject({ code: 'label', details: { file } });
    const unsigned = [MODEL.classes[0]!, { value: 3000000000, name: 'organ' }];
    await writeSafetensorsFile(file, new Map(), modelMetadata({ ...MODEL, classes: unsigned }));
    expect((await loadSegmentModel(file)).classes).toEqual(unsigned);
  });
});
