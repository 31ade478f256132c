/** Whose normalisation a fine-tuned model has: the pre-trained run's, unless another kind is asked for. */
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { FinetuneConfigInput } from '../../src/settings/types.js';
import { readNifti, writeNifti } from '../../src/data/nifti/index.js';
import { finetune } from '../../src/train/finetune.js';
import { loadModel } from '../../src/model/model-file.js';
import { pretrain } from '../../src/train/pretrain.js';
import { device, listen, scratchFolder, tinyFinetune, tinyPretrain, toyDataset } from './toy.js';

const root = scratchFolder();
const common = { cacheDir: join(root, 'cache'), device, threads: 1 } as const;
let mr: string;
beforeAll(async () => {
  const ct = await toyDataset(join(root, 'ct'), { modality: 'CT' });
  mr = await toyDataset(join(root, 'mr'));
  await pretrain({ ...common, data: ct, out: join(root, 'pre'), config: tinyPretrain({ train: { steps: 0 } }) });
});

async function tuned(out: string, data: NonNullable<FinetuneConfigInput['data']>) {
  const { messages, onEvent } = listen();
  const config = tinyFinetune({ init: {}, data, train: { steps: 0 } });
  const init = join(root, 'pre');
  const { model } = await finetune({ ...common, data: mr, out: join(root, out), init, config, onEvent });
  return { model: await loadModel(model), warnings: messages('warning').join() };
}

it('is that of the pre-trained run, with a warning where it saw CT and this is MR', async () => {
  const before = await loadModel(join(root, 'pre'));
  const { model, warnings } = await tuned('kept', {});
  expect(before.normalization[0]).toMatchObject({ kind: 'ct' });
  expect(model.normalization).toEqual(before.normalization);
  expect(warnings).toMatch(/"ct".*"robust"/);
});

it('that only scales says in training which volume a few voxels decide on; the default clips them', async () => {
  const data = await toyDataset(join(root, 'hot'), { cases: 2 });
  const file = join(data, 'imagesTr/toy_2.nii.gz');
  const image = await readNifti(file);
  image.voxels[100] = 3e5;
  await writeNifti(file, { like: image, voxels: image.voxels });
  for (const normalize of ['auto', 'case'] as const) {
    const { messages, onEvent } = listen();
    const config = tinyFinetune({ data: { normalize }, train: { steps: 0 } });
    const { model } = await finetune({ ...common, data, out: join(root, `hot-${normalize}`), config, onEvent });
    const { kind } = (await loadModel(model)).normalization[0]!;
    expect(kind).toBe(normalize === 'auto' ? 'robust' : 'case');
    const warnings = messages('warning').filter((words) => words.includes('deviations'));
    if (normalize === 'auto') expect(warnings).toEqual([]);
    else expect(warnings).toEqual([expect.stringMatching(/toy_2\.nii\.gz: the largest value 300000 lies/)]);
  }
});

it('is the one that was asked for, in the configuration and in what the model does', async () => {
  const { model, warnings } = await tuned('changed', { normalize: 'case' });
  expect(model.config.data.normalize).toEqual(['case']);
  expect(model.normalization).toEqual([{ kind: 'case' }]);
  expect(warnings).toBe('');
});
