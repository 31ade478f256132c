/** Which cases are trained on and which validate: no case, no patient and no image is on both sides. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Dataset, DatasetCase } from '../../src/data/dataset.js';
import { drawFold, drawFraction } from '../../src/data/lists.js';
import { checkSameCases, finetuneCases, groupsOf, pretrainCases, withoutTwins } from '../../src/train/cases.js';
import { scratchFolder } from './toy.js';

const root = scratchFolder();
mkdirSync(root, { recursive: true });

const one = (id: string, more: Partial<DatasetCase> = {}): DatasetCase => ({
  id,
  images: [id],
  label: `${id}.label`,
  missing: [],
  role: 'training',
  group: id,
  ...more,
});
const setOf = (cases: DatasetCase[]): Dataset => ({ root, cases }) as Dataset;
const names = (count: number, prefix = 'c'): string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}${String(n).padStart(3, '0')}`);

/** 30 patients with three cases each. */
const patients = setOf(names(30, 'p').flatMap((group) => [1, 2, 3].map((n) => one(`${group}_frame${n}`, { group }))));
const listed = setOf([
  ...names(10).map((id) => one(id)),
  one('u0', { role: 'unlisted' }),
  one('u1', { role: 'unlisted' }),
  one('v0', { role: 'validation' }),
  one('v1', { role: 'validation' }),
]);
const bare = one('bare');
delete bare.label;
listed.cases.push(bare);

const said: string[] = [];
const say = (message: string): void => void said.push(message);
const tune = (set: Dataset, flags: Parameters<typeof finetuneCases>[1], seed = 0) =>
  finetuneCases(set, flags, seed, say);
const disjoint = (set: Dataset, a: readonly string[], b: readonly string[]): void => {
  const group = groupsOf(set);
  const other = new Set(b.map(group));
  expect(a.filter((id) => other.has(group(id)))).toEqual([]);
};

describe('fine-tuning', () => {
  it('trains on the training list alone and validates on what the dataset holds back', async () => {
    expect(await tune(listed, {})).toEqual({ train: names(10), validation: ['v0', 'v1'] });
    expect(await tune(listed, { val: 'none' })).toEqual({ train: names(10), validation: [] });
    const fraction = await tune(listed, { labels: '0.5' });
    expect(fraction.train).toHaveLength(5);
    expect(names(10)).toEqual(expect.arrayContaining(fraction.train as string[]));
  });

  it('takes an unlisted case that is named, never one that is held back', async () => {
    expect((await tune(listed, { labels: 'c001,u0' })).train).toEqual(['c001', 'u0']);
    await expect(tune(listed, { labels: 'c001,v0' })).rejects.toThrow(/--labels .*: v0/);
    expect((await tune(listed, { labels: 'c001,c002', val: 'u0,v1' })).validation).toEqual(['u0', 'v1']);
  });

  it('never parts a patient, by fraction, by default or by list', async () => {
    for (const flags of [
      {},
      { val: '0.3' },
      { labels: '0.5', val: '0.2' },
      { fold: '2/5' },
      { labels: '0.4', fold: '1/5' },
    ]) {
      const { train, validation } = await tune(patients, flags);
      expect(validation.length).toBeGreaterThan(0);
      expect(train.length).toBeGreaterThan(0);
      disjoint(patients, train, validation);
    }
    said.length = 0;
    const { train } = await tune(patients, { labels: 'p000_frame1,p000_frame2,p001_frame1', val: 'p000_frame3' });
    expect(train).toEqual(['p001_frame1']);
    expect(said.join()).toMatch(/left out of training.*p000_frame1, p000_frame2/);
    // A patient is named by its folder, a case by a channel's file.
    expect((await tune(patients, { labels: 'p003' })).train).toHaveLength(3);
    expect((await tune(listed, { labels: './imagesTr/c004_0000.NII.GZ' })).train).toEqual(['c004']);
  });
});

describe('folds', () => {
  it('hold every patient out once, the same for the same seed', async () => {
    const ids = patients.cases.map(({ id }) => id);
    const group = groupsOf(patients);
    for (const first of [0, 1]) {
      const folds = [0, 1, 2, 3, 4].map((k) => drawFold(ids, `${k + first}/5`, 3, group));
      expect(folds.flat().sort()).toEqual([...ids].sort());
      for (const fold of folds) expect(new Set(fold.map(group)).size).toBe(6);
    }
    expect(drawFold(ids, '0/5', 3, group)).toEqual(drawFold(ids, '5/5', 3, group));
    expect(drawFold([...ids].reverse(), '1/5', 3, group)).toEqual(drawFold(ids, '1/5', 3, group));
    expect(drawFold(ids, '1/5', 4, group)).not.toEqual(drawFold(ids, '1/5', 3, group));
  });

  it('are the same for pre-training and fine-tuning, whatever else there is', async () => {
    for (const set of [patients, listed]) {
      const { train, validation } = await tune(set, { fold: '2/5' }, 7);
      const pre = await pretrainCases(set, { fold: '2/5' }, 7, say);
      disjoint(set, pre.train, validation);
      expect(pre.train).toEqual(expect.arrayContaining(train as string[]));
    }
    const pre = await pretrainCases(listed, { fold: '2/5' }, 7, say);
    expect(pre.train).toEqual(expect.arrayContaining(['u0', 'u1', 'bare']));
  });

  it('a fraction is drawn from what is trained on, a list loses what is held out', async () => {
    const whole = await tune(patients, { fold: '1/5' });
    const tenth = await tune(patients, { fold: '1/5', labels: '0.1' });
    expect(tenth.validation).toEqual(whole.validation);
    expect(whole.train).toEqual(expect.arrayContaining(tenth.train as string[]));
    expect(tenth.train).toHaveLength(9);
    const ids = patients.cases.map(({ id }) => id).join();
    expect(await tune(patients, { fold: '1/5', labels: ids })).toEqual(whole);
  });

  it.each([
    ['6/5', /n of at least 2 and k of 0 to n/],
    ['1/1', /n of at least 2/],
    ['1/99', /30 patients with labels cannot be parted into 99 folds/],
    ['one', /expected k\/n/],
  ])('%s is refused', async (fold, message) => {
    await expect(tune(patients, { fold })).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(message) as string,
    });
  });

  it('of nnU-Net: splits_final.json#0, by --fold, --labels or --val', async () => {
    const file = join(root, 'splits_final.json');
    const splits = [
      { train: names(8), val: ['c008', 'c009'] },
      { train: names(10).slice(2), val: ['c000', 'c001'] },
      { train: names(3), val: ['c002'] },
      { train: ['nobody'], val: ['c002'] },
    ];
    writeFileSync(file, JSON.stringify(splits));
    for (const flags of [
      { fold: `${file}#1` },
      { labels: `${file}#1` },
      { labels: `${file}#1.train`, val: `${file}#1.val` },
    ])
      expect(await tune(listed, flags)).toEqual({ train: splits[1]!.train, validation: splits[1]!.val });
    const pre = await pretrainCases(listed, { fold: `${file}#1` }, 0, say);
    expect(pre.train).not.toEqual(expect.arrayContaining(['c000']));
    expect(pre.train).toEqual(expect.arrayContaining(['u0', 'bare']));
    await expect(tune(listed, { fold: `${file}#2` })).rejects.toThrow(/in train and in val: c002/);
    await expect(tune(listed, { fold: `${file}#3` })).rejects.toThrow(/--fold .*nobody/);
    await expect(tune(listed, { fold: `${file}#4` })).rejects.toThrow(/no such key; lists there: 0, 1, 2, 3/);
    await expect(tune(listed, { fold: `${file}#1`, val: '0.2' })).rejects.toThrow(/--fold .* and --val 0\.2/);
  });
});

describe('pre-training', () => {
  it('takes all but what the dataset holds back, and that where --cases names it', async () => {
    const { train } = await pretrainCases(listed, {}, 0, say);
    expect(train).toEqual([...names(10), 'u0', 'u1', 'bare']);
    said.length = 0;
    expect((await pretrainCases(listed, { cases: 'c001,v1' }, 0, say)).train).toEqual(['c001', 'v1']);
    expect(said.join()).toMatch(/holds back for validation: v1/);
  });
});

describe('twins', () => {
  const split = { train: ['a', 'b', 'c'], validation: ['x', 'y'] };

  it('of validation are not trained on; a resume knows that', () => {
    said.length = 0;
    const parted = withoutTwins(
      split,
      [
        ['b', 'x'],
        ['a', 'c'],
      ],
      say,
    );
    expect(parted).toEqual({ train: ['a', 'c'], validation: ['x', 'y'], twins: ['b'] });
    expect(said.join()).toMatch(/1 case left out of training.*b \(x\)/);
    expect(() => checkSameCases(parted, split, '--labels', false)).not.toThrow();
    expect(() => checkSameCases(parted, { ...split, train: ['a', 'b', 'c', 'd'] }, '--labels', false)).toThrow(/\+d/);
    expect(withoutTwins(split, [['a', 'c']], say)).toBe(split);
    expect(() => withoutTwins(split, [['a', 'b', 'c', 'x']], say)).toThrow(/every training case/);
  });
});

it('a fraction takes whole patients, and of single cases what it always took', () => {
  const ids = names(40);
  expect(drawFraction(ids, 0.1, 7)).toHaveLength(4);
  const group = groupsOf(patients);
  const drawn = drawFraction(
    patients.cases.map(({ id }) => id),
    0.1,
    7,
    group,
  );
  expect(drawn).toHaveLength(9);
  expect(new Set(drawn.map(group)).size).toBe(3);
});
