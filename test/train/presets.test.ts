/** The published settings end to end on a few tiny slices: pre-training, fine-tuning from it, prediction. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readNifti } from '../../src/data/nifti/index.js';
import { predict } from '../../src/index.js';
import { finetune } from '../../src/train/finetune.js';
import { pretrain } from '../../src/train/pretrain.js';
import { device, listen, logOf, scratchFolder, toyDataset } from './toy.js';

const root = scratchFolder();

describe.each(['paper-2d', 'code-2d'] as const)('preset %s', (preset) => {
  it('runs from volumes to segmentations', async () => {
    const data = await toyDataset(join(root, `${preset}-data`), { cases: 2, shape: [6, 40, 36], spacingMm: [5, 1, 1] });
    const common = { data, cacheDir: join(root, 'cache'), device, threads: 2 } as const;
    const { events, onEvent } = listen();
    const config = { preset, data: { patch: [1, 64, 64] }, train: { steps: 2, batch: 2 } } as const;
    await pretrain({ ...common, out: join(root, `${preset}-pre`), config, onEvent });
    const lines = events.flatMap((e) => (e.kind === 'plan' ? e.lines : [])).join('\n');
    expect(lines).toMatch(/0\.25|1\/4/);
    if (preset === 'code-2d')
      expect(lines + events.flatMap((e) => ('message' in e ? [e.message] : [])).join()).toMatch(/elastic/);
    for (const record of logOf(join(root, `${preset}-pre`)))
      for (const name of ['loss', 'loss.global', 'loss.dense', 'loss.er'])
        expect(record[name], `${name} of step ${String(record['step'])}`).toEqual(expect.any(Number));
    await finetune({
      ...common,
      out: join(root, `${preset}-fine`),
      init: join(root, `${preset}-pre`),
      config: { ...config, data: { patch: [1, 32, 32] } },
    });
    const log = logOf(join(root, `${preset}-fine`));
    expect(log).toHaveLength(2);
    expect(log.every((r) => typeof r['loss'] === 'number' && !('loss.dice' in r))).toBe(true);
    const model = join(root, `${preset}-fine`);
    const out = join(root, `${preset}-out`);
    await predict({ model, input: join(data, 'imagesTr'), out, device });
    expect(readdirSync(out)).toEqual(['toy_1.nii.gz', 'toy_2.nii.gz']);
    expect([...(await readNifti(join(out, 'toy_1.nii.gz'))).header.shape]).toEqual([36, 40, 6]);
  });
});
