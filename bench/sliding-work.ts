/** A whole volume by sliding window: ours as `Segmenter` and `macl predict` do it, the other side's in tools/bench/windows.py. */
import path from 'node:path';
import type { Backend } from '../src/backend/types.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../src/data/files.js';
import { asFloat32, rawTensor } from '../src/data/safetensors.js';
import { declareSegmentation } from '../src/methods/network.js';
import { initialState, stateTensors } from '../src/model/network-state.js';
import { Predictor } from '../src/predict/predictor.js';
import { tileStarts } from '../src/segment/sliding.js';
import type { FinetuneConfig, Planned } from '../src/settings/types.js';
import type { Triple, Volume } from '../src/volume.js';
import type { PeerWork } from './peer-works.js';
import { RUNTIME_PEERS } from './peer.js';
import { CLASSES, gflopOf, noise, works, type Computing, type Model } from './works.js';

const IDENTITY = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);

/** A volume at the network's spacing that nothing normalises: what is left is the window. */
function volumeOf(shape: Triple): Volume & { readonly voxels: Float32Array } {
  const voxels = noise(shape[0] * shape[1] * shape[2]);
  return { grid: { shape, spacingMm: [1, 1, 1], affine: IDENTITY }, channels: 1, voxels };
}

export function slidingWork(model: Model, patch: Triple, shape: Triple, computing: Computing): PeerWork {
  const [window] = works('', model, 1, patch, computing, ['inference']);
  const starts = shape.map((length, axis) => tileStarts(length, patch[axis]!));
  const windows = starts.reduce((product, list) => product * list.length, 1);
  const planned = window!.config as FinetuneConfig;
  const config = { ...planned, data: { ...planned.data, patch, normalize: ['none'] } } as Planned<FinetuneConfig>;
  return {
    name: `sliding window ${shape.join('×')} in ${windows} of ${patch.join('×')}`,
    peers: RUNTIME_PEERS,
    modes: ['fp32', 'bf16'],
    gflop: (b) => windows * gflopOf(window!, b),
    open: (backend, folder) => open(backend, folder, { config, shape, starts, computing }),
  };
}

async function open(
  backend: Backend,
  folder: string,
  given: { config: Planned<FinetuneConfig>; shape: Triple; starts: number[][]; computing: Computing },
): ReturnType<PeerWork['open']> {
  const { config, shape, starts, computing } = given;
  const { state } = declareSegmentation(config, backend.info, 'inference');
  const tensors = stateTensors(state, initialState(state, 1, backend.info), ['parameter', 'statistic']);
  const [weights, file] = ['weights', 'volume'].map((n) => path.join(folder, `${n}.safetensors`)) as [string, string];
  const volume = volumeOf(shape);
  await writeSafetensorsFile(weights, tensors);
  await writeSafetensorsFile(file, new Map([['x', rawTensor(volume.voxels, shape)]]));
  const classes = Array.from({ length: CLASSES }, (_, value) => ({ value, name: String(value) }));
  const model = { config, normalization: [{ kind: 'none' }], classes, channelNames: ['image'], file: weights, tensors };
  const predictor = await Predictor.open([model as Parameters<typeof Predictor.open>[0][0]], backend, computing);
  let labels = new Uint8Array(0);
  return {
    spec: { kind: 'windows', model: { ...config.model }, weights, volume: file, patch: config.data.patch, starts },
    bytes: 0,
    repeats: 1,
    run: async () => (labels = (await predictor.segment(volume)) as Uint8Array<ArrayBuffer>),
    value: () => null,
    apart: (theirs) => labelsApart(theirs, labels),
    close: () => predictor.close(),
  };
}

/** An error that is normally distributed reaches six of its standard deviations in some voxel of several millions. */
const LARGEST_ERROR = 6;

/**
 * By how much logits lie apart at least, over their root mean square, so that the labels can differ as they do: where the other
 * side's largest logit beats its second by no more than two errors can make up for, it is a tie, which has no right label.
 */
async function labelsApart(file: string, labels: Uint8Array): Promise<number> {
  const { tensors } = await readSafetensorsFile(file);
  const [theirs, margins] = [tensors.get('labels')!.bytes, asFloat32(tensors.get('margins')!)];
  if (theirs.length !== labels.length) throw new Error(`${theirs.length} labels, expected ${labels.length}`);
  const most = labels.reduce((m, label, i) => (label === theirs[i] ? m : Math.max(m, margins[i]!)), 0);
  return most / (Math.SQRT2 * LARGEST_ERROR);
}
