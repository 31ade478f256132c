/** Datasets as they are found: whose file is whose, in every layout, and what is said of the rest. */
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Dataset, openDataset, type OpenDatasetOptions } from '../../src/data/dataset.js';
import { compileGlob } from '../../src/data/layouts/glob.js';
import { namesMask, patientOf, sharedKey } from '../../src/data/layouts/names.js';
import { parseTable } from '../../src/data/layouts/table.js';
import { type MaclError } from '../../src/errors.js';
import { makeNifti, testFolder } from './make-nifti.js';

const base = testFolder();
let counter = 0;
/** Every volume has voxels of its own. */
let voxel = 0;

function put(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const data = Uint8Array.from({ length: 8 }, (_, n) => (n === 0 ? voxel >> 8 : n === 1 ? voxel & 255 : n));
  voxel++;
  writeFileSync(path, path.includes('.nii') || /\.NII/i.test(path) ? makeNifti({ dims: [2, 2, 2], data }) : 'x');
}

function dataset(files: readonly string[], json?: object): string {
  const root = join(base, `set${counter++}`);
  mkdirSync(root);
  for (const file of files) put(join(root, file));
  if (json) writeFileSync(join(root, 'dataset.json'), JSON.stringify(json));
  return root;
}

/** id → [images, label], within the root. */
function shown({ root, cases }: Dataset): Record<string, [string[], string | undefined]> {
  const within = (path: string): string => path.slice(root.length + 1);
  return Object.fromEntries(cases.map(({ id, images, label }) => [id, [images.map(within), label && within(label)]]));
}

async function refusal(root: string, options: OpenDatasetOptions = {}): Promise<MaclError> {
  return (await openDataset(root, options).then(
    () => new Error('nothing was thrown'),
    (error: unknown) => error,
  )) as MaclError;
}

const V1 = { modality: { 0: 'MRI' }, labels: { 0: 'background', 1: 'a' } };
const V2 = { channel_names: { 0: 'T1' }, labels: { background: 0, a: 1 }, file_ending: '.nii.gz' };
const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `p${n}`);
const entry = (image: string, label: string) => ({
  image: `./imagesTr/${image}.nii.gz`,
  label: `./labelsTr/${label}.nii.gz`,
});
const pairsOf = (names: readonly string[], suffix = ''): string[] =>
  names.flatMap((id) => [`imagesTr/${id}${suffix}.nii.gz`, `labelsTr/${id}.nii.gz`]);

describe('a list in dataset.json that names a channel file', () => {
  it.each([
    ['channel_names', V2],
    ['modality', V1],
    ['neither', { labels: V2.labels }],
  ])('is the case of that file, with %s', async (_, meta) => {
    const names = ids(3);
    const training = names.map((id) => entry(`${id}_0000`, id));
    const set = await openDataset(dataset(pairsOf(names, '_0000'), { ...meta, training }));
    expect(shown(set)).toEqual(
      Object.fromEntries(names.map((id) => [id, [[`imagesTr/${id}_0000.nii.gz`], `labelsTr/${id}.nii.gz`]])),
    );
    expect(set.cases.map(({ role }) => role)).toEqual(['training', 'training', 'training']);
  });

  it('is one case for all its channels, and in another folder too', async () => {
    const files = ['a', 'b'].flatMap((id) => [
      `imagesTr/${id}_0000.nii.gz`,
      `imagesTr/${id}_0001.nii.gz`,
      `labelsTr/${id}.nii.gz`,
    ]);
    const more = ['imagesVa/v_0000.nii.gz', 'imagesVa/v_0001.nii.gz', 'labelsVa/v.nii.gz'];
    const json = {
      ...V2,
      channel_names: { 0: 'T1', 1: 'T2' },
      training: ['a', 'b'].flatMap((id) => [entry(`${id}_0000`, id), entry(`${id}_0001`, id)]),
      validation: [{ image: 'imagesVa/v_0000.nii.gz', label: 'labelsVa/v.nii.gz' }],
    };
    const set = await openDataset(dataset([...files, ...more], json));
    expect(set.cases.map(({ id, role, images }) => [id, role, images.length])).toEqual([
      ['a', 'training', 2],
      ['b', 'training', 2],
      ['v', 'validation', 2],
    ]);
    expect(set.notes.join('\n')).toContain('listed more than once: a, b');
  });

  it('may list the files of a case (MONAI)', async () => {
    const files = ['a', 'b'].flatMap((id) => [
      `imagesTr/${id}_0000.nii.gz`,
      `imagesTr/${id}_0001.nii.gz`,
      `labelsTr/${id}.nii.gz`,
    ]);
    const image = ['imagesTr/a_0000.nii.gz', 'imagesTr/a_0001.nii.gz'];
    const set = await openDataset(
      dataset(files, { labels: V1.labels, training: [{ image, label: 'labelsTr/a.nii.gz' }] }),
    );
    expect(shown(set)).toMatchObject({ a: [image, 'labelsTr/a.nii.gz'] });
    expect(set.cases.map(({ id, role }) => [id, role])).toEqual([
      ['a', 'training'],
      ['b', 'unlisted'],
    ]);
  });

  it('may pair a mask of another name', async () => {
    const json = { ...V1, training: [entry('a', 'a_seg')] };
    const set = await openDataset(dataset(['imagesTr/a.nii.gz', 'labelsTr/a_seg.nii.gz'], json));
    expect(shown(set)).toEqual({ a: [['imagesTr/a.nii.gz'], 'labelsTr/a_seg.nii.gz'] });
    expect(set.notTaken).toEqual([]);
  });

  it('keeps a number that belongs to the name', async () => {
    const names = ['s_0000', 's_0001'];
    const set = await openDataset(dataset(pairsOf(names), { ...V1, training: names.map((id) => entry(id, id)) }));
    expect(Object.keys(shown(set))).toEqual(names);
  });
});

describe('lists of training, validation and test', () => {
  it.each([['validation'], ['val']])('"%s" is never training', async (key) => {
    const names = ids(6);
    const list = names.map((id) => entry(id, id));
    const set = await openDataset(dataset(pairsOf(names), { ...V1, training: list.slice(0, 4), [key]: list.slice(4) }));
    expect(set.cases.map(({ role }) => role)).toEqual([
      ...Array<string>(4).fill('training'),
      'validation',
      'validation',
    ]);
    expect(set.notes).toContain('2 cases for validation (dataset.json), never trained on: p4, p5');
  });

  it('what is tested is no case, what is on no list is told apart', async () => {
    const names = ids(6);
    const json = { ...V1, training: names.slice(0, 3).map((id) => entry(id, id)), test: ['./imagesTr/p3.nii.gz'] };
    const set = await openDataset(dataset(pairsOf(names), json));
    expect(set.cases.map(({ id, role }) => [id, role])).toEqual([
      ['p0', 'training'],
      ['p1', 'training'],
      ['p2', 'training'],
      ['p4', 'unlisted'],
      ['p5', 'unlisted'],
    ]);
    expect(set.notes).toContain('1 case for testing, never trained on: p3');
    expect(set.notes.join('\n')).toMatch(/2 cases outside the training list .*: p4, p5/);
  });

  it.each([
    [
      'training and validation',
      { validation: [entry('p1', 'p1')] },
      /case p1 is in training and in validation: training\[1\] and validation\[0\]/,
    ],
    [
      'training and test',
      { test: ['imagesTr/p1.nii.gz'] },
      /case p1 is in training and is tested: training\[1\] and test\[0\]/,
    ],
    ['training and test, as objects', { test: [{ image: 'imagesTr/p1.nii.gz' }] }, /case p1 .*test\[0\]/],
  ])('a case in %s is refused', async (_, more, message) => {
    const names = ids(3);
    const training = names.map((id) => entry(id, id));
    const error = await refusal(dataset(pairsOf(names), { ...V1, training, ...more }));
    expect([error.code, error.message]).toEqual(['dataset', expect.stringMatching(message)]);
  });

  it('a channel file of a training case in the test list is refused', async () => {
    const names = ids(2);
    const json = { ...V2, training: names.map((id) => entry(id, id)), test: ['imagesTr/p0_0000.nii.gz'] };
    expect((await refusal(dataset(pairsOf(names, '_0000'), json))).message).toMatch(/p0 .*training\[0\] and test\[0\]/);
  });

  it('lists under unknown names, settings and counts that are not followed are named', async () => {
    const names = ids(2);
    const json = {
      ...V1,
      numTraining: 5,
      training: names.map((id) => ({ ...entry(id, id), fold: 0 })),
      excluded: ['p1'],
      overwrite_image_reader_writer: 'SimpleITKIO',
      description: 'prose',
      licence: 'prose',
    };
    const notes = (await openDataset(dataset(pairsOf(names), json))).notes.join('\n');
    expect(notes).toContain('not followed: "excluded", "overwrite_image_reader_writer"');
    expect(notes).toContain('not followed in the entries of training: "fold"');
    expect(notes).toContain('numTraining is 5, but training names 2');
    expect(notes).not.toContain('licence');
  });
});

describe('one file under two names', () => {
  it.each([
    ['a hard link', linkSync],
    ['a symbolic link', symlinkSync],
  ])('%s in the folder is one case', async (_, link) => {
    const root = dataset(pairsOf(['a', 'b']));
    link(join(root, 'imagesTr/a.nii.gz'), join(root, 'imagesTr/z.nii.gz'));
    const set = await openDataset(root);
    expect(Object.keys(shown(set))).toEqual(['a', 'b']);
    expect(set.notes).toContain('1 case left out, the same file as another: z (a)');
  });

  it('keeps the one that a list names, refuses other labels and other roles', async () => {
    const json = { ...V1, training: [entry('z', 'z')] };
    const root = dataset(pairsOf(['b', 'z']), json);
    linkSync(join(root, 'imagesTr/z.nii.gz'), join(root, 'imagesTr/a.nii.gz'));
    expect((await openDataset(root)).cases.map(({ id, role }) => [id, role])).toEqual([
      ['b', 'unlisted'],
      ['z', 'training'],
    ]);
    put(join(root, 'labelsTr/a.nii.gz'));
    expect((await refusal(root)).message).toMatch(/cases z and a are one file: .*, with different labels/);
    const roles = dataset(pairsOf(['a', 'b']), { ...V1, training: [entry('a', 'a')], validation: [entry('c', 'b')] });
    linkSync(join(roles, 'imagesTr/a.nii.gz'), join(roles, 'imagesTr/c.nii.gz'));
    expect((await refusal(roles)).message).toMatch(/cases a and c are one file: imagesTr\/a.* and imagesTr\/c/);
  });

  it('in imagesTs is never trained on', async () => {
    const root = dataset(pairsOf(['a', 'b', 'c']));
    mkdirSync(join(root, 'imagesTs'));
    linkSync(join(root, 'imagesTr/a.nii.gz'), join(root, 'imagesTs/t.nii.gz'));
    const set = await openDataset(root);
    expect(Object.keys(shown(set))).toEqual(['b', 'c']);
    expect(set.notes).toContain('1 case for testing, never trained on: a');
    put(join(root, 'imagesTs/b.nii.gz'));
    expect((await openDataset(root)).notes.join('\n')).toMatch(/1 case of imagesTs has the name .* b; are they other/);
  });

  it('as image and label is refused; a shared label makes one patient', async () => {
    const own = dataset(pairsOf(['a']), {
      ...V1,
      training: [{ image: 'imagesTr/a.nii.gz', label: 'imagesTr/a.nii.gz' }],
    });
    expect((await refusal(own)).message).toMatch(/imagesTr\/a\.nii\.gz is the label of case a and an image of case a/);
    const shared = dataset(pairsOf(['a', 'b', 'c']), {
      ...V1,
      training: [entry('a', 'a'), entry('b', 'a'), entry('c', 'c')],
    });
    const set = await openDataset(shared);
    expect(set.cases.map(({ group }) => group)).toEqual(['a', 'a', 'c']);
    expect(set.notes.join('\n')).toContain('cases a, b share the label labelsTr/a.nii.gz');
    const parted = { ...V1, training: [entry('a', 'a')], validation: [entry('b', 'a')] };
    expect((await refusal(dataset(pairsOf(['a', 'b']), parted))).message).toMatch(
      /one label for cases in training and val/,
    );
  });
});

describe('names', () => {
  it('are compared in composed form, endings without regard to case', async () => {
    const names = ['L\u00e9sion1', 'L\u00e9sion2'];
    const files = names.flatMap((id) => [`imagesTr/${id.normalize('NFD')}.NII.GZ`, `labelsTr/${id}.Nii.gz`]);
    const bare = await openDataset(dataset(files));
    expect(bare.cases.map(({ id, label }) => [id, label !== undefined])).toEqual(names.map((id) => [id, true]));
    expect(bare.notes).toEqual([]);
    const listed = await openDataset(dataset(files, { ...V1, training: names.map((id) => entry(id, id)) }));
    expect(listed.cases.map(({ id, missing }) => [id, missing])).toEqual(names.map((id) => [id, []]));
    const twice = dataset(['imagesTr/\u00e9.nii', 'imagesTr/e\u0301.nii']);
    expect((await refusal(twice)).message).toMatch(/is there twice/);
  });

  it('with numbers at the end are explained where nothing says that they are channels', async () => {
    const numbered = ['s_0000.nii', 's_0001.nii', 's_0002.nii'];
    const cases = await openDataset(dataset(numbered));
    expect(cases).toMatchObject({ channels: 1, cases: [{ id: 's_0000' }, { id: 's_0001' }, { id: 's_0002' }] });
    expect(cases.notes.join()).toMatch(/s_0000, s_0001, s_0002: a case each, as nothing says .* channel_names/);
    const two = [...numbered, 't_0000.nii', 't_0001.nii', 't_0002.nii'];
    const joined = await openDataset(dataset(two));
    expect(joined).toMatchObject({ channels: 3, cases: [{ id: 's' }, { id: 't' }] });
    expect(joined.notes.join()).toMatch(/2 cases of 3 channels/);
    // dataset.json says that there is one channel: then the numbers are those of cases.
    const one = await openDataset(
      dataset(
        two.map((name) => `imagesTr/${name}`),
        V1,
      ),
    );
    expect(one.cases.map(({ id }) => id)).toEqual(two.map((name) => name.replace('.nii', '')).sort());
    const error = await refusal(
      dataset(
        numbered.map((name) => `imagesTr/${name}`),
        { ...V2, file_ending: '.nii' },
      ),
    );
    expect(error.message).toContain('s_0001_0000.nii');
  });

  it.each([
    ['p1/seg.nii.gz', true, 'p 1'],
    ['labelsTr/case_1.nii', true, 'case 1'],
    ['Ground truth/7.nii', true, '7'],
    ['p1-label.nii', true, 'p 1'],
    ['p1/LungMask.nii', true, 'p 1/lung'],
    ['p1/lungmask.nii', true, 'p 1'],
    ['p1/ct.nii.gz', false, 'p 1/ct'],
    ['images/p1.nii', false, 'p 1'],
    ['segovia/label1x.nii', true, 'segovia/1 x'],
    ['Regensburg/scan.nii', false, 'regensburg'],
  ])('%s is a mask: %s', (path, isMask, key) => {
    expect([namesMask(path), sharedKey(path)]).toEqual([isMask, key]);
  });

  it.each([
    ['patient001_frame12', 'patient001'],
    ['sub-01_ses-2_T1w', 'sub-01'],
    ['P012_slice_034', 'P012'],
    ['hippocampus_017', 'hippocampus_017'],
    ['liver_1', 'liver_1'],
  ])('%s is of %s', (id, patient) => expect(patientOf(id)).toBe(patient));
});

describe('channel names', () => {
  it.each([
    [{ channel_names: { T1: 0, T2: '1' } }, ['T1', 'T2']],
    [{ channel_names: ['T1', 'T2'] }, ['T1', 'T2']],
    [{ modality: { T1: 0, FLAIR: 1 } }, ['T1', 'FLAIR']],
  ])('%j', async (meta, names) => {
    const files = ['imagesTr/a_0000.nii', 'imagesTr/a_0001.nii', 'labelsTr/a.nii'];
    expect((await openDataset(dataset(files, { labels: V1.labels, ...meta }))).channelNames).toEqual(names);
  });

  it.each([
    ['noNorm', 'none'],
    ['rescale_to_0_1', 'unit'],
    ['zscore', 'case'],
    ['RGB_to_0_1', 'other'],
    ['CT', 'ct'],
    ['T1', 'other'],
    ['constructor', 'other'],
  ])('that are orders are followed and said: %s', async (name, kind) => {
    for (const meta of [{ channel_names: { 0: name } }, { modality: { 0: name } }]) {
      const { kinds, notes } = await openDataset(dataset(pairsOf(['a'], '_0000'), { labels: V1.labels, ...meta }));
      expect(kinds).toEqual([kind]);
      expect(notes.some((note) => note.startsWith(`channel 0 is called ${name}: `))).toBe(/_|norm|score/i.test(name));
    }
  });

  it('of 100,000 labels are refused at once', async () => {
    const labels = Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [`class${n}`, n]));
    const root = dataset(pairsOf(['a']), { ...V1, labels });
    // Of this process alone, whatever else the machine does; quadratic, it was 8 s.
    const start = process.cpuUsage();
    expect((await refusal(root)).message).toMatch(/labels: 100000 classes, at most 255/);
    const { user, system } = process.cpuUsage(start);
    expect(user + system).toBeLessThan(3e6);
  });
});

describe('what was not taken', () => {
  it('is counted and named', async () => {
    const root = dataset([
      ...pairsOf(['a']),
      'labelsTr/lost.nii.gz',
      'imagesTr/b.nrrd',
      'imagesTr/c.mha',
      'imagesTr/.DS_Store',
      'imagesVa/v.nii.gz',
      'stray.nii',
    ]);
    const { notTaken, notes } = await openDataset(root);
    expect(notTaken).toEqual([
      { path: 'imagesTr/b.nrrd', why: 'no NIfTI file' },
      { path: 'imagesTr/c.mha', why: 'no NIfTI file' },
      { path: 'labelsTr/lost.nii.gz', why: 'mask without image' },
      { path: 'imagesVa/v.nii.gz', why: 'outside imagesTr' },
      { path: 'stray.nii', why: 'outside imagesTr' },
    ]);
    expect(notes).toContain('2 files not taken (no NIfTI file): imagesTr/b.nrrd, imagesTr/c.mha');
    expect(notes).toContain('1 file not taken (mask without image): labelsTr/lost.nii.gz');
  });
});

describe('a folder without dataset.json', () => {
  it('with a sub-folder a patient', async () => {
    const files = ids(3).flatMap((id) => [`${id}/ct.nii.gz`, `${id}/ct_seg.nii.gz`, `${id}/report.txt`]);
    const set = await openDataset(dataset(files));
    expect(set.layout).toBe('patients');
    expect(shown(set)).toEqual(
      Object.fromEntries(ids(3).map((id) => [id, [[`${id}/ct.nii.gz`], `${id}/ct_seg.nii.gz`]])),
    );
    expect(set.notes).toEqual([]);
  });

  it('whatever the names: deeper folders, other words, one without mask, names that differ from patient to patient', async () => {
    const set = await openDataset(
      dataset([
        'export/M\u00fcller 1/2021-03-04/Thorax native.nii',
        'export/M\u00fcller 1/2021-03-04/GTV.nii',
        'export/p2/day1/scan 17.NII.GZ',
        'export/p2/day1/tumour mask.nii.gz',
        'export/p3/x/only.nii',
      ]),
    );
    expect(shown(set)).toEqual({
      'M\u00fcller 1_2021-03-04': [
        ['export/M\u00fcller 1/2021-03-04/Thorax native.nii'],
        'export/M\u00fcller 1/2021-03-04/GTV.nii',
      ],
      p2_day1: [['export/p2/day1/scan 17.NII.GZ'], 'export/p2/day1/tumour mask.nii.gz'],
      p3_x: [['export/p3/x/only.nii'], undefined],
    });
    expect(set.cases.map(({ group }) => group)).toEqual(['M\u00fcller 1', 'p2', 'p3']);
    expect(set.notes).toContain('1 case of 3 without label: p3_x');
  });

  it('with images and masks in folders of their own, or flat', async () => {
    const apart = await openDataset(
      dataset(['images/a.nii', 'images/b.nii', 'masks/a.nii', 'masks/b_mask.nii', 'masks/c.nii']),
    );
    expect(shown(apart)).toEqual({ a: [['images/a.nii'], 'masks/a.nii'], b: [['images/b.nii'], 'masks/b_mask.nii'] });
    expect(apart.notTaken).toEqual([{ path: 'masks/c.nii', why: 'mask without image' }]);
    const flat = await openDataset(dataset(['a.nii', 'a_seg.nii', 'b.nii', 'c-label.nii']));
    // Leftovers are no pair.
    expect(shown(flat)).toEqual({ a: [['a.nii'], 'a_seg.nii'], b: [['b.nii'], undefined] });
    expect(flat.notTaken).toEqual([{ path: 'c-label.nii', why: 'mask without image' }]);
  });

  it('says where a patient has several volumes or several masks', async () => {
    const several = await openDataset(dataset(ids(2).flatMap((id) => [`${id}/t1.nii`, `${id}/t2.nii`])));
    expect(Object.keys(shown(several))).toEqual(['p0_t1', 'p0_t2', 'p1_t1', 'p1_t2']);
    expect(several.cases.map(({ group }) => group)).toEqual(['p0', 'p0', 'p1', 'p1']);
    expect(several.notes.join()).toMatch(/2 folders with several volumes \(p0: t1\.nii, t2\.nii\).*--image-glob/);
    const masks = await openDataset(
      dataset(['p0/ct.nii', 'p0/liver_mask.nii', 'p0/spleen_mask.nii', 'p1/ct.nii', 'p1/mask.nii']),
    );
    expect(shown(masks)).toEqual({ p0: [['p0/ct.nii'], undefined], p1: [['p1/ct.nii'], 'p1/mask.nii'] });
    expect(masks.notTaken.map(({ why }) => why)).toEqual(Array<string>(2).fill('one of several masks of an image'));
  });

  it('joins channels of names that have numbers', async () => {
    const set = await openDataset(
      dataset(ids(2).flatMap((id) => [`${id}/${id}_0000.nii`, `${id}/${id}_0001.nii`, `${id}/${id}_seg.nii`])),
    );
    expect(shown(set)).toEqual(
      Object.fromEntries(
        ids(2).map((id) => [id, [[`${id}/${id}_0000.nii`, `${id}/${id}_0001.nii`], `${id}/${id}_seg.nii`]]),
      ),
    );
  });

  it('whose folders say what volumes are for: test is no training, validation is held back', async () => {
    const pairs = (folder: string, id: string): string[] => [
      `${folder}/images/${id}.nii`,
      `${folder}/labels/${id}.nii`,
    ];
    const root = dataset([
      ...pairs('train', 'a'),
      ...pairs('train', 'b'),
      ...pairs('Validation set', 'a'),
      ...pairs('test', 'c'),
    ]);
    const set = await openDataset(root);
    expect(set.cases.map(({ id, role, group, label }) => [id, role, group, label !== undefined])).toEqual([
      ['training_a', 'training', 'training/a', true],
      ['training_b', 'training', 'training/b', true],
      ['validation_a', 'validation', 'validation/a', true],
    ]);
    expect(set.notTaken.map(({ path, why }) => [path, why])).toEqual([
      ['test/images/c.nii', 'in a folder for testing'],
      ['test/labels/c.nii', 'in a folder for testing'],
    ]);
    const globs = { imageGlobs: ['**/images/*.nii'], labelGlob: '**/labels/*.nii' };
    const filesOf = async (options: object) =>
      (await openDataset(root, options)).cases.flatMap(({ images }) => images.map((file) => relative(root, file)));
    expect(await filesOf(globs)).toEqual(['train/images/a.nii', 'train/images/b.nii', 'Validation set/images/a.nii']);
    expect(await filesOf({ imageGlobs: ['test/images/*'] })).toEqual(['test/images/c.nii']);
    linkSync(join(root, 'train/images/a.nii'), join(root, 'test/images/d.nii'));
    expect((await openDataset(root)).notes).toContain('1 case for testing, never trained on: training_a');
  });

  it('is not misled by the name of the project, and finds a dataset one folder down', async () => {
    const files = ids(2).flatMap((id) => [`liver-seg/${id}/ct.nii`, `liver-seg/${id}/mask.nii`]);
    expect(Object.keys(shown(await openDataset(dataset(files))))).toEqual(['p0', 'p1']);
    const inner = dataset(pairsOf(['a']).map((file) => `Task07_Toy/${file}`));
    writeFileSync(join(inner, 'Task07_Toy/dataset.json'), JSON.stringify(V1));
    expect(await openDataset(inner)).toMatchObject({ layout: 'msd', root: join(inner, 'Task07_Toy') });
  });

  it('of BIDS: masks in derivatives, several sessions of one subject', async () => {
    const set = await openDataset(
      dataset([
        'sub-01/anat/sub-01_T1w.nii.gz',
        'sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz',
        'sub-02/ses-2/anat/sub-02_ses-2_T1w.nii.gz',
        'derivatives/lesion/sub-01/anat/sub-01_space-T1w_label-L_mask.nii.gz',
      ]),
    );
    expect(set.cases.map(({ group, label }) => [group, label !== undefined])).toEqual([
      ['sub-01', true],
      ['sub-02', false],
      ['sub-02', false],
    ]);
  });

  it('stays inside its root and ends where links form a loop', async () => {
    const root = dataset(['p0/ct.nii', 'p1/ct.nii']);
    symlinkSync('..', join(root, 'p0/loop'));
    expect(Object.keys(shown(await openDataset(root)))).toEqual(['p0', 'p1']);
    symlinkSync(base, join(root, 'out'));
    expect((await refusal(root)).message).toMatch(/link out of the dataset/);
  });

  it('in which nothing fits shows the layouts that do; DICOM names its converter', async () => {
    for (const files of [[], ['notes.txt'], ['p0/seg.nii'], ['p0/a.nrrd']]) {
      const { code, message } = await refusal(dataset(files));
      expect(code).toBe('dataset');
      for (const part of [
        'imagesTr/liver_1.nii.gz',
        'liver_1_0000.nii.gz',
        'patient1/ct.nii.gz',
        '--image-glob',
        '.csv',
      ])
        expect(message).toContain(part);
    }
    const dicom = dataset(['p0/IM0001.dcm', 'p0/IM0002.dcm']);
    expect((await refusal(dicom)).message).toMatch(/2 files of DICOM \(p0\/IM0001\.dcm\)[\s\S]*dcm2niix/);
    const nameless = dataset([]);
    mkdirSync(join(nameless, 'p0'));
    const bytes = new Uint8Array(200);
    bytes.set(new TextEncoder().encode('DICM'), 128);
    writeFileSync(join(nameless, 'p0/1.2.840.17'), bytes);
    expect((await refusal(nameless)).message).toMatch(/1 file of DICOM[\s\S]*dcm2niix/);
    put(join(nameless, 'p1/ct.nii'));
    expect((await openDataset(nameless)).notes.join()).toMatch(/1 file not taken \(DICOM.*dcm2niix.*1\.2\.840\.17/);
  });

  it('with a named pipe lists it as a case, without waiting', async () => {
    const root = dataset(['p0/ct.nii', 'p1/ct.nii']);
    execFileSync('mkfifo', [join(root, 'p1/pet.nii')]);
    const files = (await openDataset(root)).cases.flatMap(({ images }) => images.map((file) => relative(root, file)));
    expect(files.sort()).toEqual(['p0/ct.nii', 'p1/ct.nii', 'p1/pet.nii']);
  });
});

describe('patterns', () => {
  it.each([
    ['*/ct.nii.gz', 'p1/ct.nii.gz', ['p1']],
    ['*/ct.nii.gz', 'a/p1/ct.nii.gz', undefined],
    ['**/ct.nii.gz', 'a/p1/ct.nii.gz', ['a/p1/']],
    ['*_ct.nii', 'x/y/7_ct.nii', ['x/y/', '7']],
    ['p?/{ct,mr}.nii', 'p3/mr.nii', ['3']],
    ['p[0-4]/ct.nii', 'p5/ct.nii', undefined],
    ['a+b(1)/ct.nii', 'a+b(1)/ct.nii', []],
    ['*/ct.nii', 'p1/CT.NII', ['p1']],
    ['*.nii', 'e\u0301.nii', ['', '\u00e9']],
  ])('%s fits %s: %j', (pattern, path, parts) => expect(compileGlob(pattern, '--image-glob')(path)).toEqual(parts));

  it.each(['', '/data/*.nii', '../*.nii', 'p[1', 'p{1'])('%j is refused', (pattern) => {
    expect(() => compileGlob(pattern, '--label-glob')).toThrow(/--label-glob/);
  });

  const files = ids(3).flatMap((id) => [`${id}/scan.nii`, `${id}/lesion.nii`, `${id}/pet.nii`]);

  it('name images and labels, paired by what the wildcards stand for', async () => {
    const set = await openDataset(dataset(files), { imageGlobs: ['*/scan.nii'], labelGlob: '*/lesion.nii' });
    expect(shown(set)).toEqual(Object.fromEntries(ids(3).map((id) => [id, [[`${id}/scan.nii`], `${id}/lesion.nii`]])));
    expect(set.notTaken.map(({ path }) => path)).toEqual(ids(3).map((id) => `${id}/pet.nii`));
    expect(set.layout).toBe('globs');
  });

  it('give a channel each, the missing one named', async () => {
    const root = dataset(files.filter((file) => file !== 'p1/pet.nii'));
    const set = await openDataset(root, { imageGlobs: ['*/scan.nii', '*/pet.nii'], labelGlob: '*/lesion.nii' });
    expect(set.channels).toBe(2);
    expect(set.cases.map(({ missing }) => missing.length)).toEqual([0, 1, 0]);
  });

  it('say which of both a file is, and what fits nothing', async () => {
    const root = dataset(['a.nii', 'a_x.nii', 'b.nii']);
    const set = await openDataset(root, { imageGlobs: ['*.nii'], labelGlob: '*_x.nii' });
    expect(shown(set)).toEqual({ a: [['a.nii'], 'a_x.nii'], b: [['b.nii'], undefined] });
    expect((await refusal(root, { imageGlobs: ['*.mha'] })).message).toMatch(
      /--image-glob \*\.mha: fits none .*a\.nii/,
    );
    // A dataset.json does not matter where patterns are given.
    const msd = dataset(pairsOf(['a']), V1);
    const globbed = await openDataset(msd, { imageGlobs: ['imagesTr/*'], labelGlob: 'labelsTr/*' });
    expect(shown(globbed)).toEqual({ a: [['imagesTr/a.nii.gz'], 'labelsTr/a.nii.gz'] });
  });
});

describe('a table', () => {
  const table = (text: string, files: readonly string[] = ['i/a.nii', 'i/b.nii', 'l/a.nii', 'l/b.nii']): string => {
    const root = dataset(files);
    writeFileSync(join(root, 'cases.csv'), text);
    return join(root, 'cases.csv');
  };

  it.each([[','], [';'], ['\t']])('with %j between its cells names cases, patients and roles', async (comma) => {
    const rows = [
      ['\ufeffimage', 'label', 'ID', 'patient', 'split'],
      ['i/a.nii', 'l/a.nii', 'one', 'P', 'train'],
      ['"i/b.nii"', 'l/b.nii', '"t""wo"', 'Q', 'val'],
    ];
    const set = await openDataset(table(rows.map((row) => row.join(comma)).join('\r\n')));
    expect(set).toMatchObject({ layout: 'table', name: 'cases', channels: 1 });
    expect(set.cases.map(({ id, group, role, label }) => [id, group, role, label !== undefined])).toEqual([
      ['one', 'P', 'training', true],
      ['t"wo', 'Q', 'validation', true],
    ]);
  });

  it('with a column a channel, ids by the place in the folder, files that are missing', async () => {
    const files = ['p1/t1.nii', 'p1/t2.nii', 'p2/t1.nii'];
    const set = await openDataset(
      table('image_T1,image_T2,age\np1/t1.nii,p1/t2.nii,3\np2/t1.nii,p2/t2.nii,4\n', files),
    );
    expect(set).toMatchObject({ channelNames: ['T1', 'T2'] });
    expect(set.cases.map(({ id, missing }) => [id, missing.length])).toEqual([
      ['p1', 0],
      ['p2', 1],
    ]);
    expect(set.notes.join()).toContain('columns that are not used: age');
  });

  it.each([
    ['image,label\n../x.nii,\n', /row 2: "\.\.\/x\.nii" leaves the dataset/],
    ['image,label\n/etc/x.nii,\n', /row 2: "\/etc\/x\.nii" is an absolute path/],
    ['label\nl/a.nii\n', /expected a column image/],
    ['image,label\n', /names no case/],
    ['image,split\ni/a.nii,later\n', /row 2: split: expected train, val or test, found later/],
    ['image,id\ni/a.nii,x\ni/b.nii,x\n', /row 3: case x is there twice: row 2 and row 3/],
    ['image,id\ni/a.nii,a/b\n', /is no name of a case/],
    ['image,label\ni/a.nii,l/a.nii,more\n', /row 2: 3 cells, the header has 2/],
    ['image,label\ni/a.nii,l/a.nii\ni/a.nii,l/b.nii\n', /twice|with different labels/],
    ['image,split\ni/a.nii,train\ni/b.nii,test\ni/b.nii,train\n', /twice|is tested/],
    ['image\n"i/a.nii\n', /a quote is not closed/],
  ])('%j is refused', async (text, message) => {
    expect((await refusal(table(text))).message).toMatch(message);
  });

  it('is parsed as RFC 4180 has it', () => {
    expect(parseTable('a,b\n"x,1","y\n2"\n\n# no\n,z\n', 't')).toEqual([
      ['a', 'b'],
      ['x,1', 'y\n2'],
      ['', 'z'],
    ]);
    expect(parseTable('a,b\n1,', 't')).toEqual([
      ['a', 'b'],
      ['1', ''],
    ]);
  });

  it('is not any other file', async () => {
    const root = dataset(['a.nii']);
    expect((await refusal(join(root, 'a.nii'))).message).toMatch(/expected a folder, or a table/);
  });
});
