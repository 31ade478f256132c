/** What may stand where a configuration is asked for. */
import { describe, expect, it } from 'vitest';
import type { FinetuneConfigInput, PretrainConfigInput } from '../../src/settings/types.js';
import { MaclError } from '../../src/errors.js';
import { configFor, readConfigFile } from '../../src/model/config-file.js';

const config = { task: 'pretrain', model: { filters: 8 } };
const record = { format: 1, config, cases: { train: ['a'], validation: [] } };

describe('a configuration given from Node', () => {
  it('is an object with its task or without', () => {
    const without = configFor<PretrainConfigInput>('pretrain', { model: { filters: 8 } });
    expect(without).toEqual(config);
    expect(configFor<PretrainConfigInput>('pretrain', config)).toEqual(config);
    expect(configFor<FinetuneConfigInput>('finetune', undefined)).toEqual({ task: 'finetune' });
  });
  it("is also a run's own record", async () => {
    expect(configFor<PretrainConfigInput>('pretrain', record)).toEqual(config);
    expect(await readConfigFile(record)).toEqual(config);
  });
  it('of the other task is refused, not overridden', () => {
    for (const given of [config, record]) {
      const call = () => configFor<FinetuneConfigInput>('finetune', given);
      expect(call).toThrow(MaclError);
      expect(call).toThrow('config.task: expected finetune, found "pretrain"');
    }
  });
});
