import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDataset } from '../../src/data/dataset.js';
import { readNifti, toRas } from '../../src/data/nifti/index.js';
import { makeSyntheticCase, SYNTHETIC_CLASSES, type SyntheticCase, syntheticCase } from '../../src/data/synthetic.js';
import { type SyntheticDataset, writeSyntheticDataset } from '../../src/data/synthetic-dataset.js';

/** Element by element, which is much faster than a matcher on arrays of this length. */
function equal(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  let differing = a.length === b.length ? 0 : 1;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) differing++;
  return differing === 0;
}

function same(a: SyntheticCase, b: SyntheticCase): boolean {
  return (
    equal(a.shape, b.shape) && equal(a.spacingMm, b.spacingMm) && equal(a.voxels, b.voxels) && equal(a.labels, b.labels)
  );
}

describe('synthetic case', () => {
  const cases = [0, 1, 2, 3, 4, 5].map((index) => syntheticCase(0, index));

  it('depends on seed and index alone', async () => {
    expect(same(syntheticCase(0, 3), cases[3]!)).toBe(true);
    expect(same(await makeSyntheticCase(0, 3), cases[3]!)).toBe(true);
    expect(same(syntheticCase(1, 3), cases[3]!)).toBe(false);
  });

  it('has small anisotropic volumes with all classes', () => {
    expect(new Set(cases.map(({ shape }) => shape.join())).size).toBeGreaterThan(3);
    for (const { voxels, labels, shape, spacingMm } of cases) {
      expect(voxels.length).toBe(shape[0] * shape[1] * shape[2]);
      expect(labels.length).toBe(voxels.length);
      shape.forEach((n) => expect(n >= 40 && n <= 56).toBe(true));
      expect(spacingMm[0]).toBeGreaterThan(1.3 * spacingMm[1]);
      for (let label = 1; label < SYNTHETIC_CLASSES.length; label++) {
        expect(labels.filter((value) => value === label).length).toBeGreaterThan(60);
      }
    }
  });

  it('nests the core in the organ', () => {
    for (const { labels, shape } of cases) {
      const [, height, width] = shape;
      let outside = 0;
      labels.forEach((value, i) => {
        if (value !== 2) return;
        for (const step of [1, width, height * width]) {
          for (const neighbour of [labels[i - step], labels[i + step]]) {
            if (neighbour !== 1 && neighbour !== 2) outside++;
          }
        }
      });
      expect(outside).toBe(0);
    }
  });

  it('keeps structures in place: the organ on one side, the duct on the other', () => {
    for (const { labels, shape } of cases) {
      const middle = (label: number): number => {
        const places = [...labels.keys()].filter((i) => labels[i] === label).map((i) => (i % shape[2]) / shape[2]);
        return places.reduce((sum, place) => sum + place, 0) / places.length;
      };
      expect(middle(1)).toBeLessThan(0.45);
      expect(middle(3)).toBeGreaterThan(0.6);
    }
  });

  it('cannot be told by brightness alone', () => {
    // The best threshold for the organ against the body around it would be right for far fewer than all voxels.
    const { voxels, labels } = cases[0]!;
    const organ = [...voxels.filter((_, i) => labels[i] === 1)].sort((a, b) => a - b);
    const lowest = organ[Math.floor(organ.length * 0.05)]!;
    const others = voxels.filter((value, i) => labels[i] !== 1 && value > lowest).length;
    expect(others).toBeGreaterThan(organ.length);
  });
});

describe('synthetic dataset', () => {
  let dir: string;
  let names: SyntheticDataset;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'macl-synthetic-'));
    names = await writeSyntheticDataset(join(dir, 'data'), { trainCases: 2, testCases: 1, seed: 5 });
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  it('is in the layout of the Decathlon', async () => {
    const dataset = await openDataset(join(dir, 'data'));
    expect(dataset.layout).toBe('msd');
    expect(dataset.cases.map(({ id }) => id)).toEqual(names.train);
    expect(dataset.classes.map(({ name }) => name)).toEqual([...SYNTHETIC_CLASSES]);
    expect(dataset.cases.every(({ label }) => label !== undefined)).toBe(true);
    expect(dataset.notes).toEqual([]);
    const json = JSON.parse(await readFile(join(dir, 'data', 'dataset.json'), 'utf8')) as { test: string[] };
    expect(json.test).toEqual([`./imagesTs/${names.test[0]}.nii.gz`]);
  });

  it('holds the voxels and the spacing of the cases', async () => {
    const made = syntheticCase(5, 2);
    const image = await toRas(await readNifti(join(dir, 'data', 'imagesTs', `${names.test[0]}.nii.gz`)));
    expect(equal(image.volume.voxels, made.voxels)).toBe(true);
    expect(image.volume.grid.shape).toEqual(made.shape);
    image.volume.grid.spacingMm.forEach((mm, axis) => expect(mm).toBeCloseTo(made.spacingMm[axis]!, 6));
    const label = await toRas(await readNifti(join(dir, 'data', 'labelsTs', `${names.test[0]}.nii.gz`)));
    expect(equal(label.volume.voxels, made.labels)).toBe(true);
  });
});
