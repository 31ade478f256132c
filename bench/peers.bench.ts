/**
 * npm run bench:peers -- [--filter TEXT] [--rounds 7] [--modes fp32,bf16] [--threads N] [--isa NAME] [--arithmetic NAME] [--python PATH] [--save]
 *
 * Training steps, inference, convolutions and dense SupCon against PyTorch (the best of eager, channels-last and compiled, each with
 * fused optimisers and one batched SupCon), inference also against ONNX Runtime and OpenVINO. Both sides have the same weights
 * and inputs and take turns, run by run, with all threads; the losses of steps are compared. `bench:peers` sets up the other side
 * in .cache/peers; where that cannot be, all rows are skipped, and counted.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DEFAULT_ARITHMETIC, type Arithmetic } from '../src/arithmetic.js';
import type { Backend } from '../src/backend/types.js';
import { writeSafetensorsFile } from '../src/data/files.js';
import { rawTensor } from '../src/data/safetensors.js';
import { stateTensors } from '../src/model/network-state.js';
import { supcon } from '../test/cases/supcon.js';
import { randomInputs } from '../test/golden/random.js';
import { Rig } from '../test/golden/rig.js';
import { flopOf, labelOf, openConv, PASSES, repeatsOf, type ConvCase, type Pass } from './conv-work.js';
import { Peer, peerPython, RUNTIME_PEERS, TORCH_PEERS, type PeerName } from './peer.js';
import { median, Report } from './report.js';
import { CLASSES, fillInputs, openWork, unet, works, type Work } from './works.js';

const { values: options } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    rounds: { type: 'string', default: '7' },
    modes: { type: 'string', default: 'fp32' },
    peers: { type: 'string', default: '' },
    threads: { type: 'string' },
    isa: { type: 'string' },
    arithmetic: { type: 'string', default: DEFAULT_ARITHMETIC },
    python: { type: 'string' },
    install: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
});
const arithmetic = options.arithmetic as Arithmetic;
const rounds = Number(options.rounds);

/** One work, opened: a run, what it computed, how much it holds. */
interface Opened {
  readonly spec: object;
  readonly bytes: number;
  /** Milliseconds are divided by it. */
  readonly repeats: number;
  run(): Promise<unknown>;
  /** The loss of the last step; null where nothing is compared. */
  value(): number | null;
  close(): Promise<void>;
}

interface Entry {
  readonly name: string;
  readonly peers: readonly PeerName[];
  readonly gflop: (backend: Backend) => number;
  open(backend: Backend, folder: string): Promise<Opened>;
}

function stepEntry(work: Work): Entry {
  return {
    name: work.name,
    peers: work.kind === 'inference' ? [...TORCH_PEERS, ...RUNTIME_PEERS] : TORCH_PEERS,
    gflop: (b) =>
      work
        .build(b)
        .program.costs()
        .reduce((sum, k) => sum + k.flops, 0) / 1e9,
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
      return {
        spec: { kind: work.kind, model, weights, batch, lr: 1e-4 },
        bytes: s + scratch + io + executor.session.scratchBytes,
        repeats: 1,
        run: () => executor.run(program),
        value: () => {
          if (program.io.has('loss')) return executor.scalar(program, 'loss');
          const y = executor.get(program, 'logits') as Float32Array;
          return y.reduce((sum, v) => sum + v, 0) / y.length;
        },
        close: () => executor.close(),
      };
    },
  };
}

function convEntry(c: ConvCase, pass: Pass): Entry {
  return {
    name: `conv3d ${labelOf(c)} ${pass}`,
    peers: ['eager', 'channels-last'],
    gflop: () => flopOf(c) / 1e9,
    async open(backend) {
      const repeats = repeatsOf(c);
      const { session, run } = await openConv(backend, c, pass, repeats, arithmetic);
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

/** Dense SupCon with its gradients. */
function supconEntry(c: NonNullable<typeof supcon.timing>[number]): Entry {
  return {
    name: `supcon ${c.name}`,
    peers: ['eager', 'compiled'],
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

const ENTRIES: Entry[] = [
  ...works('3-D f16 2×48×64×48', unet(3, 16, 3, 1), 2, [48, 64, 48], arithmetic).map(stepEntry),
  ...works('2-D f32 4×256²', unet(2, 32, 4, 2), 4, [1, 256, 256], arithmetic).map(stepEntry),
  ...works('3-D f32 2×64³', unet(3, 32, 4, 1), 2, [64, 64, 64], arithmetic).map(stepEntry),
  ...(supcon.timing ?? []).map(supconEntry),
  ...CONVOLUTIONS.flatMap((c) => PASSES.map((pass) => convEntry(c, pass))),
];
const chosen = ENTRIES.filter((e) => e.name.includes(options.filter));

const python = peerPython(options.python, options.install);
if (!python) {
  process.stdout.write(`peers: ${chosen.length} skipped: there are none (npm run bench:peers sets them up)\n`);
  process.exit(0);
}
const report = await Report.open('peers', { device: 'cpu', runs: options.rounds, ...options });
const { backend } = report;
const threads = backend.info.threads;
const folder = mkdtempSync(path.join(os.tmpdir(), 'macl-peers-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
/** Of an AVX2 table: what holds PyTorch to it too. */
const environment = backend.info.isa === 'avx2' ? { ATEN_CPU_CAPABILITY: 'avx2', ONEDNN_MAX_CPU_ISA: 'AVX2' } : {};

const round = (n: number) => Number(n.toPrecision(4));

/** Threads of OpenMP go on looking for work for a while after their last: the other side would run beside them. */
const REST_MS = 50;

/** How far losses may lie apart, relatively: of the first step, and of later ones, whose weights have gone their own ways. */
const SAME_LOSS = { fp32: [2e-5, 2e-3], bf16: [5e-2, 5e-2] } as const;

const rows: object[] = [];
const lines: string[] = [];
for (const entry of chosen)
  for (const mode of options.modes.split(',') as ('fp32' | 'bf16')[]) {
    const tried: { peer: PeerName; row: Record<string, unknown>; ratio: number; line: string }[] = [];
    for (const name of entry.peers.filter((p) => !options.peers || options.peers.split(',').includes(p))) {
      if (mode === 'bf16' && (RUNTIME_PEERS as readonly string[]).includes(name)) continue;
      report.measureCeiling();
      const ours = await entry.open(backend, folder);
      const specFile = path.join(folder, 'spec.json');
      writeFileSync(specFile, JSON.stringify({ peer: name, mode, threads, work: ours.spec }));
      let peer: Peer;
      try {
        peer = await Peer.start(python, specFile, environment);
      } catch (error) {
        process.stderr.write(`macl: ${entry.name} with ${name} ${mode}: ${String(error)}\n`);
        await ours.close();
        continue;
      }
      const apart: number[] = [];
      const compare = (theirs: number) => {
        const mine = ours.value();
        if (mine !== null) apart.push(Math.abs(mine - theirs) / Math.max(1e-3, Math.abs(mine)));
      };
      for (const value of peer.values) {
        await ours.run();
        compare(value);
      }
      const [mine, theirs]: [number[], number[]] = [[], []];
      for (let i = 0; i < rounds; i++) {
        await delay(REST_MS);
        const start = performance.now();
        await ours.run();
        mine.push((performance.now() - start) / ours.repeats);
        await delay(REST_MS);
        const { ms, value } = await peer.step();
        theirs.push(ms);
        compare(value);
      }
      const peakBytes = await peer.close();
      await ours.close();
      const worst = Math.max(0, ...apart);
      if ((apart[0] ?? 0) > SAME_LOSS[mode][0] || worst > SAME_LOSS[mode][1])
        throw new Error(
          `${entry.name}, ${name} ${mode}: losses lie ${worst} apart, so the two do not compute the same`,
        );
      const ratios = theirs.map((t, i) => t / mine[i]!);
      const ratio = median(theirs) / median(mine);
      const row = {
        work: entry.name,
        peer: name,
        mode,
        ratio: round(ratio),
        ratios: [Math.min(...ratios), Math.max(...ratios)].map(round),
        oursMs: [median(mine), Math.min(...mine), Math.max(...mine)].map(round),
        peerMs: [median(theirs), Math.min(...theirs), Math.max(...theirs)].map(round),
        oursShare: report.shareOf((1e3 * entry.gflop(backend)) / median(mine)),
        peerShare: report.shareOf((1e3 * entry.gflop(backend)) / median(theirs)),
        ...(ours.bytes
          ? { oursBytes: ours.bytes, peerBytes: peakBytes, memoryRatio: round(ours.bytes / peakBytes) }
          : {}),
        ...(apart.length ? { furthestApart: worst } : {}),
        versions: peer.versions,
      };
      const line =
        `${entry.name.padEnd(42)} ${name.padEnd(14)} ${mode} ${median(mine).toFixed(2).padStart(8)} ms, theirs ` +
        `${median(theirs).toFixed(2).padStart(8)} ms: ${ratio.toFixed(2)}× [${row.ratios.join(', ')}]` +
        (ours.bytes ? `  ${(ours.bytes / 2 ** 20).toFixed(0)} of ${(peakBytes / 2 ** 20).toFixed(0)} MiB` : '');
      process.stdout.write(`${line}\n`);
      tried.push({ peer: name, row, ratio, line });
    }
    const torch = tried.filter((t) => (TORCH_PEERS as readonly string[]).includes(t.peer));
    const least = (of: typeof tried) =>
      of.reduce<(typeof tried)[number] | null>((a, b) => (a && a.ratio <= b.ratio ? a : b), null);
    const best = least(torch);
    for (const t of tried) rows.push({ ...t.row, bestOfTorch: t === best });
    lines.push(...[best, ...tried.filter((t) => !torch.includes(t))].flatMap((t) => (t ? [t.line] : [])));
  }
await backend.close();
report.print(rows, lines);
