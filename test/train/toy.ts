/** Tiny datasets and configurations for the tests of training: a ball and a box in noise, a few thousand voxels a case. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { reportCpu } from '../../src/backend/cpu.js';
import type { FinetuneConfigInput, PretrainConfigInput } from '../../src/settings/types.js';
import { writeNifti } from '../../src/data/nifti/index.js';
import { Draws } from '../../src/philox.js';
import type { Triple } from '../../src/volume.js';
import type { TrainEvent } from '../../src/train/events.js';

/** What these tests run on: the addon, or WebAssembly where it is not built. */
export const device = reportCpu().available ? 'cpu' : 'wasm';

export interface Toy {
  readonly cases?: number;
  /** D, H, W. */
  readonly shape?: Triple;
  readonly spacingMm?: Triple;
  /** More than one: nnU-Net's layout, a file a channel. */
  readonly channels?: number;
  /** Label values: background, ball, box. */
  readonly values?: readonly [number, number, number];
  readonly modality?: string;
  /** Multiplied with the images. */
  readonly gain?: number;
}

const gridOf = (spacingMm: Triple): Float64Array =>
  Float64Array.from([spacingMm[2], 0, 0, 0, 0, spacingMm[1], 0, 0, 0, 0, spacingMm[0], 0, 0, 0, 0, 1]);

/** [D, H, W] voxels and labels of one case, by its number. */
export function toyVolume(index: number, shape: Triple, values: readonly number[] = [0, 1, 2], gain = 1) {
  const draws = new Draws(77, 0, index, 0);
  const [d, h, w] = shape;
  const voxels = new Float32Array(d * h * w);
  const labels = new Int16Array(d * h * w);
  const centre = shape.map((n) => n * (0.4 + 0.1 * draws.uniform())) as unknown as Triple;
  const radius = Math.min(d, h, w) * 0.28;
  for (let z = 0, at = 0; z < d; z++)
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++, at++) {
        const ball = Math.hypot(z - centre[0], y - centre[1], x - centre[2]) < radius;
        const box = !ball && z > d * 0.55 && y > h * 0.6 && x > w * 0.3 && x < w * 0.8;
        const kind = ball ? 1 : box ? 2 : 0;
        labels[at] = values[kind] as number;
        voxels[at] = gain * ([100, 300, 500][kind]! + x * 2 + 20 * draws.normal());
      }
  return { voxels, labels };
}

/** Writes a dataset; @returns its folder. */
export async function toyDataset(folder: string, toy: Toy = {}): Promise<string> {
  const { cases = 4, shape = [12, 14, 16], spacingMm = [1, 1, 1], channels = 1, values = [0, 1, 2] } = toy;
  for (const name of ['imagesTr', 'labelsTr']) mkdirSync(join(folder, name), { recursive: true });
  const grid = { shape: [shape[2], shape[1], shape[0]] as const, affine: gridOf(spacingMm) };
  const names: string[] = [];
  for (let n = 0; n < cases; n++) {
    const name = `toy_${n + 1}`;
    names.push(name);
    const { voxels, labels } = toyVolume(n, shape, values, toy.gain);
    for (let c = 0; c < channels; c++) {
      const file = channels === 1 ? `${name}.nii.gz` : `${name}_${String(c).padStart(4, '0')}.nii.gz`;
      const shown = c === 0 ? voxels : voxels.map((v, i) => 1000 - v / (c + 1) + (i % 7));
      await writeNifti(join(folder, 'imagesTr', file), { ...grid, voxels: shown });
    }
    await writeNifti(join(folder, 'labelsTr', `${name}.nii.gz`), { ...grid, voxels: labels });
  }
  const modality = toy.modality ?? 'MRI';
  const json =
    channels === 1
      ? {
          name: 'Toy',
          modality: { 0: modality },
          labels: { [values[0]]: 'background', [values[1]]: 'ball', [values[2]]: 'box' },
          training: names.map((n) => ({ image: `./imagesTr/${n}.nii.gz`, label: `./labelsTr/${n}.nii.gz` })),
          test: [],
        }
      : {
          channel_names: Object.fromEntries(Array.from({ length: channels }, (_, c) => [c, `${modality}${c}`])),
          labels: { background: values[0], ball: values[1], box: values[2] },
          numTraining: cases,
          file_ending: '.nii.gz',
        };
  writeFileSync(join(folder, 'dataset.json'), JSON.stringify(json));
  return folder;
}

export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'macl-train-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

type Part<T> = Omit<T, 'task'>;

export function tinyPretrain(more: Part<PretrainConfigInput> = {}): Part<PretrainConfigInput> {
  return {
    ...more,
    model: { filters: 2, levels: 2, decoderBlocks: 1, ...more.model },
    data: { patch: [8, 8, 8], ...more.data },
    train: { steps: 12, batch: 3, checkpointEvery: 5, seed: 7, ...more.train },
  };
}

export function tinyFinetune(more: Part<FinetuneConfigInput> = {}): Part<FinetuneConfigInput> {
  return {
    ...more,
    ...(more.model || !more.init ? { model: { filters: 2, levels: 2, decoderBlocks: 1, ...more.model } } : {}),
    data: { patch: [8, 8, 8], ...more.data },
    train: { steps: 12, batch: 2, checkpointEvery: 5, seed: 7, ...more.train },
  };
}

/** A fine-tuning that is long enough to tell the toys' classes apart. */
export const LEARNS = {
  train: { steps: 80, checkpointEvery: 1000 },
  optimizer: { lr: 0.02 },
  model: { filters: 4 },
} as const;

/** What a run has written, by file: equal runs have equal texts. Times leave the log, folders leave the record. */
export function runFiles(out: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const name of readdirSync(out, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(out, name);
    if (name === 'checkpoints') continue;
    files[name] =
      name === 'log.jsonl'
        ? JSON.stringify(logOf(out))
        : readFileSync(path).toString(name.endsWith('s') ? 'latin1' : 'utf8');
  }
  return files;
}

/** Records of log.jsonl without what depends on the clock. */
export function logOf(out: string): Record<string, unknown>[] {
  const lines = readFileSync(join(out, 'log.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const { samplesPerSecond: _, ...record } = JSON.parse(line) as Record<string, unknown>;
    return record;
  });
}

/** Collects events; `at` is called with each. */
export function listen(at: (event: TrainEvent) => void = () => undefined) {
  const events: TrainEvent[] = [];
  return {
    events,
    onEvent: (event: TrainEvent) => {
      events.push(event);
      at(event);
    },
    messages: (kind: 'note' | 'warning') => events.flatMap((e) => (e.kind === kind ? [e.message] : [])),
  };
}
