/**
 * What fixed seeds come out as, as hashes: a pre-training in 3-D and in 2-D and one of wider layers (which the tuned kernels
 * take), a fine-tuning with validation, a prediction. Of tensors and numbers alone, so that metadata may grow.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readNifti } from '../../src/data/nifti/index.js';
import { readSafetensors } from '../../src/data/safetensors.js';
import { finetune, predict, pretrain } from '../../src/index.js';
import { logOf, tinyFinetune, tinyPretrain } from '../train/toy.js';

export const RUNS = ['pretrain', 'pretrain-2d', 'wide', 'finetune', 'predict'] as const;
export type Hashes = Readonly<Record<(typeof RUNS)[number], string>>;

const sha = (parts: readonly (Uint8Array | string)[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 16);
};

/** All tensors of a file by name, whatever their order in it. */
function tensorsOf(file: string): (Uint8Array | string)[] {
  const { tensors } = readSafetensors(new Uint8Array(readFileSync(file)), file);
  return [...tensors]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, t]) => [`${name} ${t.dtype} ${t.shape.join('x')};`, t.bytes]);
}

/** Names of numbers that were in the log when the hashes were made: what is logged beside them may grow. */
const LOGGED = ['step', 'loss', 'loss.global', 'loss.dense', 'loss.er', 'loss.ce', 'loss.dice', 'cosine', 'bottleneck'];
const MORE = ['gradnorm', 'effectiveRank', 'deadUnits', 'lr', 'validationDice', 'validationDicePerClass', 'best'];

/** Weights, moments and running statistics of every checkpoint, the model, and the numbers of the log. */
export function hashOfRun(out: string): string {
  const checkpoints = readdirSync(join(out, 'checkpoints')).filter((name) => name.endsWith('.safetensors'));
  const files = [...checkpoints.sort().map((name) => join('checkpoints', name)), 'model.safetensors'];
  const numbers = logOf(out).map((record) => [...LOGGED, ...MORE].map((name) => record[name] ?? null));
  return sha([...files.flatMap((name) => tensorsOf(join(out, name))), JSON.stringify(numbers)]);
}

export const hashOfModel = (out: string): string => sha(tensorsOf(join(out, 'model.safetensors')));

export interface Machine {
  readonly device: 'cpu' | 'wasm' | 'reference';
  readonly isa?: string;
}

/** @param data a toy dataset of four cases with labels */
export async function bitsOf(machine: Machine, data: string, folder: string): Promise<Hashes> {
  const cacheDir = join(folder, 'cache');
  const arithmetic = 'direct';
  const [pre, flat, wide, fine] = ['pre', 'flat', 'wide', 'fine'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  const common = { data, cacheDir, ...machine };
  await pretrain({ ...common, out: pre, config: tinyPretrain({ train: { arithmetic } }) });
  await pretrain({
    ...common,
    out: flat,
    config: {
      preset: 'paper-2d',
      model: { dims: 2, filters: 3, levels: 2, decoderBlocks: 1 },
      data: { patch: [1, 8, 16] },
      train: { steps: 6, batch: 5, checkpointEvery: 3, seed: 11, arithmetic },
    },
  });
  await pretrain({
    ...common,
    out: wide,
    config: {
      model: { filters: 16, levels: 2, decoderBlocks: 1 },
      data: { patch: [8, 8, 16] },
      train: { steps: 3, batch: 2, checkpointEvery: 9, seed: 3, arithmetic },
    },
  });
  await finetune({
    ...common,
    out: fine,
    init: pre,
    labels: 'toy_1,toy_2,toy_3,toy_4',
    val: 'toy_2,toy_3',
    config: tinyFinetune({ init: {}, augment: { mirror: [false, false, true] }, train: { valEvery: 4, arithmetic } }),
  });
  const [result] = await predict({
    model: fine,
    input: join(data, 'imagesTr', 'toy_1.nii.gz'),
    out: join(folder, 'predicted'),
    mirror: true,
    probabilities: true,
    arithmetic,
    ...machine,
  });
  const files = readdirSync(join(folder, 'predicted'), { recursive: true, encoding: 'utf8' });
  const images = await Promise.all(
    files
      .filter((name) => name.endsWith('.nii.gz'))
      .sort()
      .map((name) => readNifti(join(folder, 'predicted', name))),
  );
  if (!result) throw new Error('nothing was predicted');
  const voxels = images.map(({ voxels: v }) => new Uint8Array(v.buffer, v.byteOffset, v.byteLength));
  return {
    pretrain: hashOfRun(pre),
    'pretrain-2d': hashOfRun(flat),
    wide: hashOfRun(wide),
    finetune: hashOfRun(fine),
    predict: sha(voxels),
  };
}
