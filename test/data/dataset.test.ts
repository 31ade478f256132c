import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type MaclError } from '../../src/errors.js';
import { openDataset, selectCases } from '../../src/data/dataset.js';
import { drawFraction, resolveCases, splitValidation } from '../../src/data/lists.js';
import { makeNifti, testFolder } from './make-nifti.js';

const base = testFolder();
let counter = 0;

/** A dataset of small volumes: names → nothing, or text for other files. */
function dataset(files: string[], json?: unknown): string {
  const root = join(base, `set${counter++}`);
  mkdirSync(root);
  for (const name of files) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), makeNifti({ dims: [2, 2, 2] }));
  }
  if (json !== undefined)
    writeFileSync(join(root, 'dataset.json'), typeof json === 'string' ? json : JSON.stringify(json));
  return root;
}

const MSD = { name: 'Toy', modality: { 0: 'CT' }, labels: { 0: 'background', 4: 'b', 2: 'a' } };

describe('openDataset', () => {
  it('reads the Decathlon layout: sorted, dot files skipped, everything in imagesTr, values with names', async () => {
    const root = dataset(
      ['imagesTr/b.nii', 'imagesTr/a.nii', 'imagesTr/._a.nii', 'imagesTr/c.nii', 'labelsTr/a.nii', 'imagesTs/t.nii'],
      { ...MSD, training: [{ image: './imagesTr/a.nii', label: './labelsTr/a.nii' }], test: ['./imagesTs/t.nii'] },
    );
    const set = await openDataset(root);
    expect(set.cases.map(({ id }) => id)).toEqual(['a', 'b', 'c']);
    expect(set.cases.map(({ label }) => label !== undefined)).toEqual([true, false, false]);
    expect(set).toMatchObject({ name: 'Toy', layout: 'msd', channels: 1, channelNames: ['CT'], kinds: ['ct'] });
    expect(set.classes).toEqual([
      { value: 0, name: 'background' },
      { value: 2, name: 'a' },
      { value: 4, name: 'b' },
    ]);
    expect(set.notes).toContain('2 cases of 3 without label: b, c');
  });

  it('names a missing label and a missing image', async () => {
    const root = dataset(['imagesTr/a.nii'], {
      ...MSD,
      training: [
        { image: 'imagesTr/a.nii', label: 'labelsTr/a.nii' },
        { image: 'imagesTr/z.nii', label: 'labelsTr/z.nii' },
      ],
    });
    const set = await openDataset(root);
    expect(set.cases[0]!.missingLabel).toBe(join(set.root, 'labelsTr/a.nii'));
    expect(set.cases[1]!.missing).toEqual([join(set.root, 'imagesTr/z.nii')]);
    expect(set.notes).toContain('case z: imagesTr/z.nii is missing');
  });

  it('reads nnU-Net raw: a file a channel, the missing one named, the ignore label apart', async () => {
    const json = {
      channel_names: { 0: 'T1', 1: 'CT' },
      labels: { background: 0, tumour: 1, ignore: 2 },
      file_ending: '.nii',
      numTraining: 2,
    };
    const root = dataset(
      ['imagesTr/p1_0000.nii', 'imagesTr/p1_0001.nii', 'imagesTr/p2_0000.nii', 'labelsTr/p1.nii', 'labelsTr/p2.nii'],
      json,
    );
    const set = await openDataset(root);
    expect(set).toMatchObject({ layout: 'nnunet', channels: 2, kinds: ['other', 'ct'], ignoreValue: 2 });
    expect(set.cases.map(({ id, images }) => [id, images.length])).toEqual([
      ['p1', 2],
      ['p2', 2],
    ]);
    expect(set.cases[1]!.missing).toEqual([join(set.root, 'imagesTr/p2_0001.nii')]);
    expect(set.cases[1]!.label).toBe(join(set.root, 'labelsTr/p2.nii'));
    const extra = dataset(['imagesTr/p_0000.nii', 'imagesTr/p_0007.nii'], json);
    await expect(openDataset(extra)).rejects.toThrow(/p_0007\.nii: channel: 7/);
  });

  it('takes folders without dataset.json, with and without channel endings', async () => {
    const plain = await openDataset(dataset(['imagesTr/x.nii', 'imagesTr/y.nii', 'labelsTr/x.nii']));
    expect(plain).toMatchObject({ layout: 'folder', channels: 1, classes: [], kinds: ['other'] });
    const grouped = await openDataset(dataset(['imagesTr/x_0000.nii', 'imagesTr/x_0001.nii', 'labelsTr/x.nii']));
    expect(grouped.cases.map(({ id, images }) => [id, images.length])).toEqual([['x', 2]]);
    const numbered = await openDataset(dataset(['imagesTr/x_0000.nii', 'imagesTr/x_0001.nii', 'labelsTr/x_0000.nii']));
    expect(numbered.cases.map(({ id }) => id)).toEqual(['x_0000', 'x_0001']);
    const bare = await openDataset(dataset(['v1.nii', 'v2.nii']));
    expect(bare.cases.map(({ id }) => id)).toEqual(['v1', 'v2']);
    await expect(openDataset(dataset(['labelsTr/x.nii']))).rejects.toThrow(/imagesTr/);
    await expect(openDataset(join(base, 'nowhere'))).rejects.toThrow(/nowhere.*no such file/);
  });

  it('refuses one case in two files', async () => {
    await expect(openDataset(dataset(['imagesTr/x.nii', 'imagesTr/x.nii.gz']))).rejects.toThrow(
      /case x is there twice/,
    );
  });

  it('refuses two entries of dataset.json with one id, and an entry that shares its id with a volume of imagesTr', async () => {
    const pair = (folder: string) => ({ image: `./${folder}/img.nii`, label: `./${folder}/lab.nii` });
    const files = ['s1/img.nii', 's1/lab.nii', 's2/img.nii', 's2/lab.nii'];
    const training = [pair('s1'), pair('s2')];
    const twice = dataset(files, { ...MSD, training });
    await expect(openDataset(twice)).rejects.toMatchObject({
      code: 'dataset',
      message: expect.stringMatching(
        /dataset\.json: .*case img is there twice.*training\[0\] and training\[1\]/,
      ) as string,
      details: { file: join(twice, 'dataset.json') },
    });
    // The same files twice are one case.
    const same = await openDataset(dataset(files, { ...MSD, training: [pair('s1'), pair('s1')] }));
    expect(same.cases.map(({ id, label }) => [id, label])).toEqual([['img', join(same.root, 's1/lab.nii')]]);
    const message = /dataset\.json: .*case img is there twice: s1\/img\.nii and imagesTr\/img\.nii/;
    const beside = [...files, 'imagesTr/img.nii'];
    for (const json of [{ training: [pair('s1')] }, { dataset: { img: { images: ['s1/img.nii'] } } }])
      await expect(openDataset(dataset(beside, { ...MSD, ...json }))).rejects.toThrow(message);
    // Another ending, and a name without a folder, mean the volume that is there.
    for (const image of ['imagesTr/img.nii.gz', 'img.nii.gz', 'img']) {
      const set = await openDataset(dataset(beside, { ...MSD, training: [{ image, label: 's1/lab.nii' }] }));
      expect(set.cases).toMatchObject([{ images: [join(set.root, 'imagesTr/img.nii')], missing: [] }]);
    }
    const linked = dataset(['data/img.nii'], { ...MSD, training: [{ image: 'data/img.nii' }] });
    symlinkSync('data', join(linked, 'imagesTr'));
    expect((await openDataset(linked)).cases.map(({ id }) => id)).toEqual(['img']);
  });

  it.each(['x/../../../evilout', 'a/b', 'a\\b', '..', '.hidden', '', 'a\0b'])('refuses the id %j', async (id) => {
    const root = dataset(['imagesTr/a.nii'], { ...MSD, dataset: { [id]: { images: ['imagesTr/a.nii'] } } });
    await expect(openDataset(root)).rejects.toMatchObject({
      code: 'dataset',
      message: expect.stringContaining(`${join(root, 'dataset.json')}: dataset[${JSON.stringify(id)}]: `) as string,
    });
  });

  it.each([
    ['../out.nii', 'leaves the dataset'],
    ['imagesTr/../../out.nii', 'leaves the dataset'],
    ['../out-that-is-not-there.nii', 'leaves the dataset'],
    ['/etc/hostname', 'absolute path'],
    ['/not/there.nii', 'absolute path'],
    ['C:\\\\x.nii', 'absolute path'],
    ['imagesTr/link.nii', 'link out of the dataset'],
    ['imagesTr/dangling.nii', 'link out of the dataset'],
    ['folder/x.nii', 'link out of the dataset'],
    ['folder/not-there.nii', 'link out of the dataset'],
  ])('refuses %s in dataset.json', async (path, why) => {
    for (const entry of [{ image: path }, { image: 'imagesTr/a.nii', label: path }]) {
      const root = dataset(['imagesTr/a.nii'], { ...MSD, training: [entry] });
      symlinkSync(join(base, 'outside.nii'), join(root, 'imagesTr/dangling.nii'));
      writeFileSync(join(base, 'real.nii'), makeNifti());
      symlinkSync('../../real.nii', join(root, 'imagesTr/link.nii'));
      mkdirSync(join(base, 'elsewhere'), { recursive: true });
      symlinkSync('../elsewhere', join(root, 'folder'));
      await expect(openDataset(root)).rejects.toThrow(why);
      await expect(openDataset(root)).rejects.toMatchObject({
        code: 'dataset',
        details: { file: join(root, 'dataset.json') },
      });
    }
  });

  it('refuses links out of the dataset in a listing unless they are followed; inner links are fine', async () => {
    const root = dataset(['imagesTr/a.nii', 'store/b.bin']);
    symlinkSync('../store/b.bin', join(root, 'imagesTr/b.nii'));
    expect((await openDataset(root)).cases.map(({ id }) => id)).toEqual(['a', 'b']);
    writeFileSync(join(base, 'real2.nii'), makeNifti());
    symlinkSync('../../real2.nii', join(root, 'imagesTr/c.nii'));
    await expect(openDataset(root)).rejects.toThrow(/c\.nii.*--follow-links/);
    expect((await openDataset(root, { followLinks: true })).cases.map(({ id }) => id)).toEqual(['a', 'b', 'c']);
    symlinkSync(root, join(base, 'linked-root'));
    expect((await openDataset(join(base, 'linked-root'), { followLinks: true })).root).toBe(root);
  });

  it.each([
    ['{', /dataset\.json: JSON/],
    [[], /dataset\.json: JSON: expected an object/],
    [{ ...MSD, labels: { 0: 'background', 1: 'a', x: 1 } }, /labels\["x"\]: the value 1 is a's/],
    [{ ...MSD, labels: { background: 0, a: 1.5 } }, /labels\["a"\]: expected a whole number/],
    [{ ...MSD, labels: { background: 0, a: [1, 2] } }, /labels\["a"\]: regions/],
    [{ ...MSD, modality: { 1: 'CT' } }, /modality\["0"\]/],
    [{ ...MSD, training: [{}] }, /training\[0\]\.image/],
    [{ ...MSD, file_ending: '.png' }, /file_ending/],
  ])('names the field of %j', async (json, message) => {
    await expect(openDataset(dataset(['imagesTr/a.nii'], json))).rejects.toThrow(message);
  });

  it('selects cases and names the ones that are not there', async () => {
    const set = await openDataset(dataset(['imagesTr/a.nii', 'imagesTr/b.nii']));
    expect(selectCases(set, ['b', 'a']).map(({ id }) => id)).toEqual(['a', 'b']);
    expect(() => selectCases(set, ['a', 'q', 'r'])).toThrow(/q, r/);
  });
});

describe('resolveCases', () => {
  const available = Array.from({ length: 40 }, (_, n) => `case_${String(n).padStart(2, '0')}`);
  const options = { available, seed: 7, flag: '--labels' };

  it('takes a key of a JSON file, a text file, a comma list', async () => {
    const json = join(base, 'splits.json');
    writeFileSync(json, JSON.stringify({ few: ['case_03', 'case_01.nii.gz'], none: [], text: 'x' }));
    expect(await resolveCases(`${json}#few`, options)).toEqual(['case_01', 'case_03']);
    await expect(resolveCases(`${json}#many`, options)).rejects.toThrow(/many: no such key; lists there: few/);
    await expect(resolveCases(`${json}#text`, options)).rejects.toThrow(/text: expected a list/);
    await expect(resolveCases(`${json}#none`, options)).rejects.toThrow(/none/);
    const text = join(base, 'list.txt');
    writeFileSync(text, '# few\ncase_05\r\n\ncase_02.nii\ncase_05\n');
    expect(await resolveCases(text, options)).toEqual(['case_02', 'case_05']);
    expect(await resolveCases('case_09, case_00', options)).toEqual(['case_00', 'case_09']);
    await expect(resolveCases('case_09,other', options)).rejects.toThrow(/--labels.*not among the 40 cases: other/);
    await expect(resolveCases(join(base, 'none.txt'), options)).rejects.toThrow(/none\.txt: --labels: no such file/);
  });

  it('draws a fraction that only the seed decides, a smaller one within a larger one', async () => {
    const tenth = await resolveCases('0.1', options);
    expect(tenth).toHaveLength(4);
    expect(await resolveCases(0.1, options)).toEqual(tenth);
    expect(drawFraction([...available].reverse(), 0.1, 7)).toEqual(tenth);
    expect(await resolveCases(0.1, { ...options, seed: 8 })).not.toEqual(tenth);
    const half = await resolveCases(0.5, options);
    expect(half).toEqual(expect.arrayContaining(tenth));
    expect(await resolveCases('0.001', options)).toHaveLength(1);
    expect(await resolveCases('1', options)).toEqual(available);
    for (const bad of ['0', '1.5', '-0.2']) {
      const error = await resolveCases(bad, options).catch((e: unknown) => e as MaclError);
      expect(error).toMatchObject({ code: 'config', details: { field: '--labels' } });
    }
  });
});

describe('splitValidation', () => {
  const available = Array.from({ length: 60 }, (_, n) => `case_${String(n).padStart(2, '0')}`);

  it('holds nothing back below 40 cases, a fifth from there on, and what --val says', async () => {
    const few = available.slice(0, 39);
    expect(await splitValidation({ chosen: few, available, seed: 1 })).toEqual({ train: few, val: [] });
    const many = available.slice(0, 40);
    const { train, val } = await splitValidation({ chosen: many, available, seed: 1 });
    expect([train.length, val.length]).toEqual([32, 8]);
    expect([...train, ...val].sort()).toEqual(many);
    expect((await splitValidation({ chosen: many, available, seed: 1, val: 'none' })).val).toEqual([]);
    expect((await splitValidation({ chosen: few, available, seed: 1, val: 0.1 })).val).toHaveLength(4);
    const named = await splitValidation({ chosen: few, available, seed: 1, val: 'case_00,case_50' });
    expect(named).toEqual({ train: few.slice(1), val: ['case_00', 'case_50'] });
    await expect(splitValidation({ chosen: ['case_01'], available, seed: 1, val: '0.5' })).rejects.toThrow(
      /--val 0\.5: holds back all 1/,
    );
  });
});

const hippocampus = resolve(import.meta.dirname, '../../../shared/data/Task04_Hippocampus');
const there = await openDataset(hippocampus).catch(() => undefined);

describe.skipIf(!there)(`the hippocampus cases (${there ? 'found' : 'skipped: shared data is not there'})`, () => {
  it('are 208, labelled, with two structures; the published list has 21 of them', async () => {
    expect(there!.cases).toHaveLength(208);
    expect(there!.cases.every(({ label, missing }) => label && !missing.length)).toBe(true);
    expect(there!.classes.map(({ name }) => name)).toEqual(['background', 'Anterior', 'Posterior']);
    const available = there!.cases.map(({ id }) => id);
    const ids = await resolveCases(join(hippocampus, 'splits.json#labeled10'), {
      available,
      seed: 0,
      flag: '--labels',
    });
    expect(ids).toHaveLength(21);
  });
});
