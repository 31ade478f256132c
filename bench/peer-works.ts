/** What `npm run bench:peers` compares: each work as ours, and as tools/bench/peer.py is told of it. */
import path from 'node:path';
import type { Backend } from '../src/backend/types.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../src/data/files.js';
import { asFloat32, rawTensor } from '../src/data/safetensors.js';
import { stateTensors } from '../src/model/network-state.js';
import type { Precision } from '../src/precision.js';
import { supcon } from '../test/cases/supcon.js';
import { randomInputs } from '../test/golden/random.js';
import { Rig } from '../test/golden/rig.js';
import { flopOf, labelOf, openConv, PASSES, repeatsOf, type ConvCase, type Pass } from './conv-work.js';
import { RUNTIME_PEERS, TORCH_PEERS, WEB_PEERS, type PeerName } from './peer.js';
import { slidingWork } from './sliding-work.js';
import { CLASSES, fillInputs, gflopOf, openWork, plain, unet, works, type Computing, type Work } from './works.js';

/** One work, opened: a run, what it computed, how much it holds. */
export interface Opened {
  readonly spec: object;
  /** 0 where memory is not compared. */
  readonly bytes: number;
  /** Milliseconds are divided by it. */
  readonly repeats: number;
  run(): Promise<unknown>;
  /** The loss of the last step, or the root mean square of what was computed; null where nothing is compared. */
  value(): number | null;
  /** How far what the last run computed lies from what the other side wrote into a file, over its root mean square. */
  apart?(file: string): Promise<number>;
  close(): Promise<void>;
}

export interface PeerWork {
  readonly name: string;
  readonly peers: readonly PeerName[];
  /** What the other side may compute in. */
  readonly modes: readonly Precision[];
  readonly gflop: (backend: Backend) => number;
  open(backend: Backend, folder: string): Promise<Opened>;
}

export const rms = (values: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! ** 2;
  return Math.sqrt(sum / values.length);
};

const BOTH = ['fp32', 'bf16'] as const;

function stepWork(work: Work): PeerWork {
  return {
    name: work.name,
    peers: work.kind === 'inference' ? [...TORCH_PEERS, ...RUNTIME_PEERS, ...WEB_PEERS] : TORCH_PEERS,
    modes: BOTH,
    gflop: (b) => gflopOf(work, b),
    async open(backend, folder) {
      const built = work.build(backend);
      const { program, state } = built;
      const [weights, batch] = ['weights', 'batch'].map((n) => path.join(folder, `${n}.safetensors`)) as [
        string,
        string,
      ];
      const executor = await openWork(backend, built, (bytes) =>
        writeSafetensorsFile(weights, stateTensors(state, bytes, ['parameter', 'statistic'])),
      );
      const given = fillInputs(executor, program);
      // One channel: [B, D, H, W, 1] lies as PyTorch's [B, 1, D, H, W].
      const shapeOf = (name: string, values: ArrayLike<number>) => {
        const [n, d, h, w] = program.io.get(name)!.shape;
        return name === 'pos'
          ? [work.batch, values.length / work.batch]
          : name === 'y'
            ? [n, d, h, w]
            : [n, 1, d, h, w];
      };
      await writeSafetensorsFile(
        batch,
        new Map([...given].map(([name, values]) => [name, rawTensor(values, shapeOf(name, values) as number[])])),
      );
      const { state: s, scratch, io } = program.sizes;
      const model = { ...work.config.model, classes: CLASSES };
      const logits = () => executor.get(program, 'logits') as Float32Array;
      return {
        spec: { kind: work.kind, model, weights, batch, lr: 1e-4 },
        bytes: s + scratch + io + executor.session.scratchBytes,
        repeats: 1,
        run: () => executor.run(program),
        value: () => (program.io.has('loss') ? executor.scalar(program, 'loss') : rms(logits())),
        ...(work.kind === 'inference' ? { apart: (file: string) => outputApart(file, logits()) } : {}),
        close: () => executor.close(),
      };
    },
  };
}

async function outputApart(file: string, ours: Float32Array): Promise<number> {
  const theirs = asFloat32((await readSafetensorsFile(file)).tensors.get('output')!);
  if (theirs.length !== ours.length) throw new Error(`${theirs.length} results, expected ${ours.length}`);
  return rms(theirs.map((value, i) => value - ours[i]!)) / rms(ours);
}

function convWork(c: ConvCase, pass: Pass, computing: Computing): PeerWork {
  return {
    name: `conv3d ${labelOf(c)} ${pass}`,
    peers: ['eager', 'channels-last'],
    modes: BOTH,
    gflop: () => flopOf(c) / 1e9,
    async open(backend) {
      const repeats = repeatsOf(c);
      const { session, run } = await openConv(backend, c, pass, repeats, computing);
      return {
        spec: { kind: 'conv3d', pass, voxels: c.voxels, i: c.i, o: c.o, k: c.k },
        bytes: 0,
        repeats,
        run,
        value: () => null,
        close: () => session.close(),
      };
    },
  };
}

/** Dense SupCon with its gradients: outside of PyTorch's autocast, so in one mode. */
function supconWork(c: NonNullable<typeof supcon.timing>[number]): PeerWork {
  return {
    name: `supcon ${c.name}`,
    peers: ['eager', 'compiled'],
    modes: ['fp32'],
    gflop: () => 0,
    async open(b) {
      const rig = new Rig(b);
      supcon.build(rig, c, randomInputs(1, supcon, c), { dloss: 1 });
      const ready = await rig.ready();
      const [n, d, h, w, channels] = c.name.split('×').map(Number) as [number, number, number, number, number];
      return {
        spec: { kind: 'supcon', positions: d * h * w, rows: 2 * n, channels },
        bytes: 0,
        repeats: 1,
        run: () => ready.run(),
        value: () => null,
        close: () => ready.close(),
      };
    },
  };
}

const cube = (n: number, c: number, ...grid: [number, number, number]): ConvCase => ({
  voxels: [n, ...grid],
  i: c,
  o: c,
  k: [3, 3, 3],
});
const CONVOLUTIONS: ConvCase[] = [
  cube(1, 16, 96, 96, 96),
  cube(2, 16, 48, 64, 48),
  cube(2, 32, 24, 32, 24),
  cube(2, 64, 12, 16, 12),
  cube(2, 16, 12, 12, 12),
  cube(2, 64, 24, 32, 24),
  cube(2, 128, 6, 8, 6),
  cube(2, 128, 12, 16, 12),
  cube(2, 256, 12, 12, 12),
  cube(2, 256, 6, 8, 6),
  { voxels: [4, 1, 256, 256], i: 32, o: 32, k: [1, 3, 3] },
  { voxels: [4, 1, 64, 64], i: 128, o: 128, k: [1, 3, 3] },
];

/** Names are the same in every precision. */
export function peerWorks(computing: Computing): PeerWork[] {
  const small = unet(3, 16, 3, 1);
  return [
    ...works('3-D f16 2×48×64×48', small, 2, [48, 64, 48], computing).map(stepWork),
    ...works('2-D f32 4×256²', unet(2, 32, 4, 2), 4, [1, 256, 256], computing).map(stepWork),
    ...works('3-D f32 2×64³', unet(3, 32, 4, 1), 2, [64, 64, 64], computing).map(stepWork),
    ...works('nnU-Net f32 2×64×96×64', plain(32, 5), 2, [64, 96, 64], computing, ['finetune']).map(stepWork),
    slidingWork(small, [48, 64, 48], [256, 256, 128], computing),
    ...(supcon.timing ?? []).map(supconWork),
    ...CONVOLUTIONS.flatMap((c) => PASSES.map((pass) => convWork(c, pass, computing))),
  ];
}
