/** Folders of cases: dataset.json mutated as a tree and as text, over files with unusual names. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDataset } from '../src/data/dataset.js';
import { randomNifti } from './nifti.js';
import { mutateBytes, mutateJson, Random } from './random.js';
import type { Target } from './target.js';

const JSONS: readonly unknown[] = [
  {
    name: 'x',
    channel_names: { 0: 'MR' },
    labels: { background: 0, a: 1, b: 2 },
    file_ending: '.nii.gz',
    numTraining: 2,
  },
  {
    modality: { 0: 'MRI' },
    labels: { 0: 'background', 1: 'a' },
    training: [{ image: './imagesTr/a.nii.gz', label: './labelsTr/a.nii.gz' }, './imagesTr/b.nii.gz'],
    validation: [{ image: 'imagesTr/c.nii.gz', label: 'labelsTr/c.nii.gz' }],
    test: ['./imagesTs/d.nii.gz'],
  },
  { channel_names: { 0: 'CT' }, labels: { background: 0, whole: [1, 2], core: 2, ignore: 3 } },
];
const NAMES = ['a', 'b', 'c', 'a_0000', 'b_0001', 'é', 'é', 'x y', '.hidden', 'A', 'a.b'];
const ENDINGS = ['.nii.gz', '.nii', '.NII.GZ', '.mha', '.txt'];

let folder = '';
export const dataset: Target = {
  name: 'dataset',
  describe: 'openDataset of folders with mutated dataset.json and unusual file names; no id, no file twice',
  setUp(f) {
    folder = f;
  },
  async run(number) {
    const random = new Random(number);
    const root = join(folder, 'data');
    rmSync(root, { recursive: true, force: true });
    for (const sub of ['imagesTr', 'labelsTr', 'imagesTs', 'more/deep']) {
      if (random.chance(0.2)) continue;
      mkdirSync(join(root, sub), { recursive: true });
      for (let n = random.below(4); n > 0; n--)
        writeFileSync(join(root, sub, random.pick(NAMES) + random.pick(ENDINGS)), randomNifti(random));
    }
    mkdirSync(root, { recursive: true });
    if (random.chance(0.8)) {
      let text = new TextEncoder().encode(JSON.stringify(mutateJson(random.pick(JSONS), random)) ?? '');
      if (random.chance(0.2)) text = Uint8Array.from(mutateBytes(text, random));
      writeFileSync(join(root, 'dataset.json'), text);
    }
    const found = await openDataset(root);
    const ids = found.cases.map((c) => c.id);
    if (new Set(ids).size !== ids.length) throw new Error(`an id twice: ${ids.join(', ')}`);
    const files = found.cases.flatMap((c) => c.images);
    if (new Set(files).size !== files.length) throw new Error(`a file in two cases: ${files.join(', ')}`);
  },
};
