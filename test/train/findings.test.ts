/** What the voxels say before a training: images that are there twice, labels without foreground, masks among images. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeNifti } from '../../src/data/nifti/index.js';
import { finetune, type FinetuneOptions } from '../../src/train/finetune.js';
import { prepare } from '../../src/train/prepare-command.js';
import { device, listen, scratchFolder, tinyFinetune, toyDataset, toyVolume } from './toy.js';

const root = scratchFolder();
const cacheDir = join(root, 'cache');
const SHAPE = [12, 14, 16] as const;
const GRID = {
  shape: [16, 14, 12] as const,
  affine: Float64Array.from([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
};

async function warningsOf(data: string): Promise<string> {
  const { onEvent, messages } = listen();
  await prepare({ data, cacheDir, onEvent });
  return messages('warning').join('\n');
}

async function tuned(data: string, out: string, more: Partial<FinetuneOptions> = {}) {
  const { onEvent, messages } = listen();
  const config = tinyFinetune({ train: { steps: 1 } });
  await finetune({ data, out: join(root, out), cacheDir, device, threads: 2, config, onEvent, ...more });
  const record = JSON.parse(readFileSync(join(root, out, 'config.json'), 'utf8')) as {
    cases: Record<string, string[]>;
  };
  return { cases: record.cases, warnings: messages('warning').join('\n') };
}

/** Writes the labels of the toys again, each through `change`. */
async function relabel(data: string, change: (value: number) => number): Promise<void> {
  for (let n = 0; n < 4; n++) {
    const { labels } = toyVolume(n, [...SHAPE]);
    await writeNifti(join(data, 'labelsTr', `toy_${n + 1}.nii.gz`), { ...GRID, voxels: labels.map(change) });
  }
}

describe('an image that is there twice', () => {
  let data: string;
  beforeAll(async () => {
    data = await toyDataset(join(root, 'twins'));
    // Neither a link nor the same bytes.
    writeFileSync(join(data, 'imagesTr', 'copy.nii'), gunzipSync(readFileSync(join(data, 'imagesTr', 'toy_2.nii.gz'))));
    copyFileSync(join(data, 'labelsTr', 'toy_2.nii.gz'), join(data, 'labelsTr', 'copy.nii.gz'));
    const names = ['toy_1', 'toy_2', 'toy_3', 'toy_4', 'copy'];
    const json = JSON.parse(readFileSync(join(data, 'dataset.json'), 'utf8')) as Record<string, unknown>;
    json.training = names.map((n) => ({ image: `imagesTr/${n}.nii.gz`, label: `labelsTr/${n}.nii.gz` }));
    writeFileSync(join(data, 'dataset.json'), JSON.stringify(json));
  });

  it('is named', async () => expect(await warningsOf(data)).toContain('cases copy, toy_2 hold the same image'));

  it('is not trained on and validated on, and a resume agrees', async () => {
    const { cases, warnings } = await tuned(data, 'twins-run', { val: 'toy_2' });
    expect(cases).toEqual({ train: ['toy_1', 'toy_3', 'toy_4'], validation: ['toy_2'], twins: ['copy'] });
    expect(warnings).toMatch(/1 case left out of training: the same image is in validation: copy \(toy_2\)/);
    await tuned(data, 'twins-run', { val: 'toy_2', labels: 'toy_1,toy_2,toy_3,toy_4,copy', resume: true });
  });
});

describe('labels', () => {
  it('without foreground are named before training', async () => {
    const data = await toyDataset(join(root, 'empty'));
    await relabel(data, () => 0);
    expect(await warningsOf(data)).toMatch(/none of the 4 labelled cases holds any foreground/);
    expect((await tuned(data, 'empty-run')).warnings).toMatch(/none of the 4 labelled cases holds any foreground/);
  });

  it('without a class are named, of the cases that are trained on', async () => {
    const data = await toyDataset(join(root, 'absent'));
    expect(await warningsOf(data)).not.toMatch(/without a voxel/);
    await relabel(data, (value) => (value === 2 ? 1 : value));
    expect(await warningsOf(data)).toContain('class 2 (box) without a voxel in the 4 labelled cases');
    const { labels } = toyVolume(0, [...SHAPE]);
    await writeNifti(join(data, 'labelsTr', 'toy_1.nii.gz'), { ...GRID, voxels: labels });
    expect(await warningsOf(data)).not.toMatch(/without a voxel/);
    const { warnings } = await tuned(data, 'absent-run', { val: 'toy_1' });
    expect(warnings).toContain('class 2 (box) without a voxel in the 3 labelled cases');
  });

  it('that are all to be ignored are refused by training', async () => {
    const data = await toyDataset(join(root, 'ignored'));
    const json = JSON.parse(readFileSync(join(data, 'dataset.json'), 'utf8')) as Record<string, unknown>;
    json.labels = { background: 0, ball: 1, box: 2, ignore: 3 };
    writeFileSync(join(data, 'dataset.json'), JSON.stringify(json));
    await relabel(data, () => 3);
    expect(await warningsOf(data)).toMatch(/every voxel of the 4 labelled cases is to be ignored/);
    await expect(tuned(data, 'ignored-run')).rejects.toMatchObject({ code: 'label', details: { found: 3 } });
  });

  it('among the images are named', async () => {
    const data = await toyDataset(join(root, 'masks'));
    const json = JSON.parse(readFileSync(join(data, 'dataset.json'), 'utf8')) as { training: unknown[] };
    json.training.push({ image: 'imagesTr/lesion.nii.gz' });
    writeFileSync(join(data, 'dataset.json'), JSON.stringify(json));
    copyFileSync(join(data, 'labelsTr', 'toy_1.nii.gz'), join(data, 'imagesTr', 'lesion.nii.gz'));
    expect(await warningsOf(data)).toMatch(/1 image with a few whole values only, as masks have .*lesion \(0, 1, 2\)/);
  });
});
