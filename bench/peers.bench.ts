/**
 * npm run bench:peers -- [--filter TEXT] [--rounds 7] [--modes fp32,bf16] [--peers NAMES] [--device cpu|wasm] [--threads N]
 *   [--isa NAME] [--arithmetic NAME] [--python PATH] [--save]
 *
 * Training steps, inference, a whole volume by sliding window, convolutions and dense SupCon against PyTorch (the best of eager,
 * channels-last and compiled, each with fused optimisers and one batched SupCon), inference also against ONNX Runtime and
 * OpenVINO. Both sides have the same weights and inputs and take turns, run by run, with all threads; losses of steps and what
 * inferences give are compared. A mode is what the other side computes in: its fp32 against ours, its bf16 (autocast, or
 * OpenVINO's own) against ours in bf16 and in fp32. `bench:peers` sets up the other side in .cache; where that cannot be, its
 * rows are skipped, and counted.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DEFAULT_ARITHMETIC, type Arithmetic } from '../src/arithmetic.js';
import type { Precision } from '../src/precision.js';
import { isTorch, Peer, peerPython, peersFor, type PeerName } from './peer.js';
import { peerWorks, type Opened, type PeerWork } from './peer-works.js';
import { median, precisionOf, Report } from './report.js';

const { values: options } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    rounds: { type: 'string', default: '7' },
    modes: { type: 'string', default: 'fp32' },
    peers: { type: 'string', default: '' },
    device: { type: 'string', default: 'cpu' },
    threads: { type: 'string' },
    isa: { type: 'string' },
    arithmetic: { type: 'string', default: DEFAULT_ARITHMETIC },
    python: { type: 'string' },
    install: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
  },
});
const rounds = Number(options.rounds);

/** What both sides compute in: what people would choose here, and what anyone can who has fp32 alone. */
interface Pair {
  readonly ours: Precision;
  readonly mode: Precision;
}
const PAIRS: Readonly<Record<Precision, readonly Pair[]>> = {
  fp32: [{ ours: 'fp32', mode: 'fp32' }],
  bf16: [
    { ours: 'bf16', mode: 'bf16' },
    { ours: 'fp32', mode: 'bf16' },
  ],
};

const arithmetic = options.arithmetic as Arithmetic;
const chosenOf = (precision: Precision) =>
  peerWorks({ arithmetic, precision }).filter((work) => work.name.includes(options.filter));
const asked = options.modes.split(',').map(precisionOf);
const jobs = chosenOf('fp32').flatMap(({ name, modes }) =>
  asked.filter((mode) => modes.includes(mode)).flatMap((mode) => PAIRS[mode].map((pair) => ({ name, ...pair }))),
);

const python = peerPython(options.python, options.install);
if (!python) {
  process.stdout.write(`peers: ${jobs.length} skipped: there are none (npm run bench:peers sets them up)\n`);
  process.exit(0);
}
const report = await Report.open('peers', { ...options, runs: options.rounds });
const { backend } = report;
const threads = backend.info.threads;
const folder = mkdtempSync(path.join(os.tmpdir(), 'macl-peers-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
/** Of an AVX2 table: what holds PyTorch to it too. */
const environment = backend.info.isa === 'avx2' ? { ATEN_CPU_CAPABILITY: 'avx2', ONEDNN_MAX_CPU_ISA: 'AVX2' } : {};

const round = (n: number) => Number(n.toPrecision(4));

/** Threads of OpenMP go on looking for work for a while after their last: the other side would run beside them. */
const REST_MS = 50;

/**
 * How far losses may lie apart, relatively: of the first step, and of later ones, whose weights have gone their own ways. bf16
 * keeps 8 bits, so each stored number is off by up to 2⁻⁹ of itself, and the two sides do not round the same ones: PyTorch
 * rounds weights too, ours what is stored but not what a fused kernel has in registers. Some forty roundings one after the
 * other, each on its own, leave 2⁻⁹ √40 ≈ 1% of a logit; a loss is a mean over many, whose errors mostly cancel: half of that.
 */
const SAME_LOSS = { fp32: [2e-5, 2e-3], bf16: [5e-3, 2e-2] } as const;

/** How far what inferences give may lie apart (`Opened.apart`): of bf16 twice that 1% of a logit. */
const SAME_OUTPUT = { fp32: 2e-5, bf16: 2e-2 } as const;

interface Tried {
  readonly peer: PeerName;
  readonly row: Readonly<Record<string, unknown>>;
  readonly ratio: number;
  readonly line: string;
}

/** Both sides' turns; null where the other side cannot be started. */
async function race(work: PeerWork, name: PeerName, { ours: precision, mode }: Pair): Promise<Tried | null> {
  report.measureCeiling();
  const ours = await work.open(backend, folder);
  try {
    const output = path.join(folder, 'output.safetensors');
    const spec = { peer: name, mode, threads, work: ours.spec, ...(ours.apart ? { output } : {}) };
    const specFile = path.join(folder, 'spec.json');
    writeFileSync(specFile, JSON.stringify(spec));
    const peer = await Peer.start(python!, specFile, { name, install: options.install, environment }).catch(
      (error: unknown) => void process.stderr.write(`macl: ${work.name} with ${name} ${mode}: ${String(error)}\n`),
    );
    if (!peer) return null;
    const compared = new Compared(ours, mode, `${work.name}, ${name} ${mode} and ours ${precision}`);
    const [mine, theirs]: [number[], number[]] = [[], []];
    try {
      for (const value of peer.values) {
        await ours.run();
        compared.value(value);
      }
      await compared.output(output);
      for (let i = 0; i < rounds; i++) {
        await delay(REST_MS);
        const start = performance.now();
        await ours.run();
        mine.push((performance.now() - start) / ours.repeats);
        await delay(REST_MS);
        const { ms, value } = await peer.step();
        theirs.push(ms);
        compared.value(value);
      }
    } catch (error) {
      peer.kill();
      throw error;
    }
    return triedOf(
      work,
      name,
      { ours: precision, mode },
      { mine, theirs, compared, peer, bytes: ours.bytes, peak: await peer.close() },
    );
  } finally {
    await ours.close();
  }
}

/** Holds the two sides' values against each other. */
class Compared {
  private readonly values: number[] = [];
  private outputApart: number | undefined;
  constructor(
    private readonly ours: Opened,
    private readonly mode: Precision,
    private readonly name: string,
  ) {}

  /** What the other side's run gave, once ours has run too. */
  value(theirs: number): void {
    const mine = this.ours.value();
    if (mine === null) return;
    const apart = Math.abs(mine - theirs) / Math.max(1e-3, Math.abs(mine));
    this.check(apart, SAME_LOSS[this.mode][this.values.length === 0 ? 0 : 1], 'values');
    this.values.push(apart);
  }

  async output(file: string): Promise<void> {
    this.outputApart = await this.ours.apart?.(file);
    if (this.outputApart !== undefined) this.check(this.outputApart, SAME_OUTPUT[this.mode], 'outputs');
  }

  private check(apart: number, most: number, what: string): void {
    if (apart <= most) return;
    throw new Error(`${this.name}: ${what} lie ${apart} apart, so the two do not compute the same`);
  }

  get figures(): object {
    const { values, outputApart } = this;
    return {
      ...(values.length ? { firstApart: values[0], furthestApart: Math.max(...values) } : {}),
      ...(outputApart === undefined ? {} : { outputApart }),
    };
  }
}

interface Timed {
  readonly mine: readonly number[];
  readonly theirs: readonly number[];
  readonly compared: Compared;
  readonly peer: Peer;
  readonly bytes: number;
  readonly peak: number;
}

function triedOf(
  work: PeerWork,
  name: PeerName,
  pair: Pair,
  { mine, theirs, compared, peer, bytes, peak }: Timed,
): Tried {
  const ratios = theirs.map((t, i) => t / mine[i]!);
  const ratio = median(theirs) / median(mine);
  const gflop = 1e3 * work.gflop(backend);
  const row = {
    work: work.name,
    peer: name,
    ...pair,
    ratio: round(ratio),
    ratios: [Math.min(...ratios), Math.max(...ratios)].map(round),
    oursMs: [median(mine), Math.min(...mine), Math.max(...mine)].map(round),
    peerMs: [median(theirs), Math.min(...theirs), Math.max(...theirs)].map(round),
    oursShare: report.shareOf(gflop / median(mine)),
    peerShare: report.shareOf(gflop / median(theirs)),
    ...(bytes ? { oursBytes: bytes, peerBytes: peak, memoryRatio: round(bytes / peak) } : {}),
    ...compared.figures,
    versions: peer.versions,
  };
  const line =
    `${work.name.padEnd(42)} ${name.padEnd(15)} ${pair.ours} ${median(mine).toFixed(2).padStart(8)} ms, theirs ` +
    `${pair.mode} ${median(theirs).toFixed(2).padStart(8)} ms: ${ratio.toFixed(2)}× [${row.ratios.join(', ')}]` +
    (bytes ? `  ${(bytes / 2 ** 20).toFixed(0)} of ${(peak / 2 ** 20).toFixed(0)} MiB` : '');
  process.stdout.write(`${line}\n`);
  return { peer: name, row, ratio, line };
}

const rows: object[] = [];
const lines: string[] = [];
let absent = 0;
const computed = jobs.filter(({ ours }) => backend.info.precisions.includes(ours));
if (computed.length < jobs.length) report.has('bf16', jobs.length - computed.length);
for (const { name, ...pair } of computed) {
  const work = chosenOf(pair.ours).find((one) => one.name === name)!;
  const able = peersFor(backend.info.name, pair.mode).filter((peer) => work.peers.includes(peer));
  const tried: Tried[] = [];
  for (const peer of able.filter((p) => !options.peers || options.peers.split(',').includes(p))) {
    const one = await race(work, peer, pair);
    if (one) tried.push(one);
    else absent++;
  }
  const torch = tried.filter(({ peer }) => isTorch(peer));
  const best = torch.reduce<Tried | null>((a, b) => (a && a.ratio <= b.ratio ? a : b), null);
  for (const t of tried) rows.push({ ...t.row, bestOfTorch: t === best });
  lines.push(...[best, ...tried.filter((t) => !torch.includes(t))].flatMap((t) => (t ? [t.line] : [])));
}
await backend.close();
if (absent > 0) process.stdout.write(`peers: ${absent} skipped: the other side could not be started\n`);
report.print(rows, lines);
