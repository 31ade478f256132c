/**
 * Writes the synthetic volumes of `synthetic.ts` as a dataset in the Decathlon's layout, with the labels of the test
 * cases beside it (labelsTs) so that they can be evaluated. Node only.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Breather } from '../breathe.js';
import { asFileError } from './files.js';
import { writeNifti } from './nifti/index.js';
import { makeSyntheticCase, SYNTHETIC_CLASSES, type SyntheticCase } from './synthetic.js';

export interface SyntheticDatasetOptions {
  trainCases: number;
  testCases: number;
  seed: number | bigint;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

export interface SyntheticDataset {
  /** Case names, in order; training cases have their files in imagesTr, test cases in imagesTs. */
  train: string[];
  test: string[];
}

/** A plain RAS grid around the origin: i, j, k are W, H, D. */
function affineOf({ shape, spacingMm }: SyntheticCase): Float64Array {
  const affine = new Float64Array(16);
  for (let row = 0; row < 3; row++) {
    const spacing = spacingMm[2 - row]!;
    affine[5 * row] = spacing;
    affine[4 * row + 3] = (-spacing * (shape[2 - row]! - 1)) / 2;
  }
  affine[15] = 1;
  return affine;
}

/**
 * Makes `dir` and writes dataset.json, imagesTr, labelsTr, imagesTs, labelsTs into it. Training cases come first in the
 * population of `seed`, then the test cases. Throws MaclError `file` or `aborted`.
 */
export async function writeSyntheticDataset(dir: string, options: SyntheticDatasetOptions): Promise<SyntheticDataset> {
  const { trainCases, testCases, seed, signal } = options;
  const total = trainCases + testCases;
  const breath = new Breather(signal);
  const names: SyntheticDataset = { train: [], test: [] };
  try {
    for (const folder of ['imagesTr', 'labelsTr', 'imagesTs', 'labelsTs']) {
      await mkdir(join(dir, folder), { recursive: true });
    }
  } catch (error) {
    throw asFileError(error, dir, 'write');
  }
  for (let index = 0; index < total; index++) {
    const part = index < trainCases ? 'Tr' : 'Ts';
    const name = `phantom_${String(index + 1).padStart(3, '0')}`;
    (part === 'Tr' ? names.train : names.test).push(name);
    const made = await makeSyntheticCase(seed, index, breath);
    const [depth, height, width] = made.shape;
    const grid = { shape: [width, height, depth] as const, affine: affineOf(made), ...(signal && { signal }) };
    await writeNifti(join(dir, `images${part}`, `${name}.nii.gz`), { ...grid, voxels: made.voxels });
    await writeNifti(join(dir, `labels${part}`, `${name}.nii.gz`), { ...grid, voxels: made.labels });
    options.onProgress?.(index + 1, total);
    await breath.breathe();
  }
  const json = {
    name: 'Phantom',
    description: 'Synthetic volumes made by macl; they stand for no real anatomy',
    tensorImageSize: '3D',
    modality: { 0: 'synthetic' },
    labels: Object.fromEntries(SYNTHETIC_CLASSES.map((name, value) => [String(value), name])),
    numTraining: trainCases,
    numTest: testCases,
    training: names.train.map((name) => ({
      image: `./imagesTr/${name}.nii.gz`,
      label: `./labelsTr/${name}.nii.gz`,
    })),
    test: names.test.map((name) => `./imagesTs/${name}.nii.gz`),
  };
  const file = join(dir, 'dataset.json');
  try {
    await writeFile(file, `${JSON.stringify(json, null, 1)}\n`);
  } catch (error) {
    throw asFileError(error, file, 'write');
  }
  return names;
}
