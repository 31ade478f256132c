/**
 * npm run bench -- against --other CHECKOUT --data DATASET [--rounds 9] [--steps 12] [--filter NAME] [--save]
 *
 * Processor time (user and system, every thread) of a step here against another built checkout's: the same commands on the
 * same data, a process each, which take turns step by step, so that what else the machine does falls on both. The first steps
 * are left out. A round is a pair of processes; its ratio is the median of its pairs of steps.
 */
import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { commit } from './report.js';

const { values } = parseArgs({
  options: {
    other: { type: 'string', default: '' },
    data: { type: 'string', default: '' },
    rounds: { type: 'string', default: '9' },
    steps: { type: 'string', default: '12' },
    filter: { type: 'string', default: '' },
    save: { type: 'boolean', default: false },
  },
});
if (!values.other || !values.data) {
  process.stdout.write('against: nothing to compare; give --other CHECKOUT (built) and --data DATASET (labelled)\n');
  process.exit(0);
}
/** Of the beginning of each process. */
const LEFT_OUT = 2;
const [rounds, steps] = [Number(values.rounds), Number(values.steps)];

/** By name: what a process does with the package's API `macl`; `mark()` after each step. */
const WORKS: Record<string, string> = {
  'pretrain-3d': `await macl.pretrain({ ...common, config: { train: { steps } } });`,
  'finetune-3d': `await macl.finetune({ ...common, ...few, config: { train: { steps } } });`,
  'pretrain-2d': `await macl.pretrain({ ...common, config: paper });`,
  'finetune-2d': `await macl.finetune({ ...common, ...few, config: paper });`,
  segment: `
    const { model } = await macl.finetune({ ...common, ...few, config: { train: { steps: 1 } }, onEvent() {} });
    const segmenter = await macl.Segmenter.open(model);
    const grid = { shape: [48, 64, 96], spacingMm: [1, 1, 1], affine: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1] };
    const voxels = Float32Array.from({ length: 48 * 64 * 96 }, (_, i) => Math.sin(i / 97) + Math.cos(i / 8191));
    for (let i = 0; i < steps; i++) { await segmenter.segment({ grid, channels: 1, voxels }); mark(); }
    await segmenter.close();`,
};

/** What stands around a work: the package, and `mark` after each step, which says the step's times and waits for its turn. */
const program = (root: string, work: string, scratch: string) => `
import { readSync, writeSync } from 'node:fs';
const macl = await import(${JSON.stringify(path.join(root, 'dist', 'index.js'))});
const steps = ${steps};
let last = null;
const mark = () => {
  const { user, system } = process.cpuUsage(), now = performance.now();
  writeSync(1, JSON.stringify(last && { cpuMs: (user + system - last.cpu) / 1000, wallMs: now - last.at }) + '\\n');
  readSync(0, Buffer.alloc(1));
  const from = process.cpuUsage();
  last = { cpu: from.user + from.system, at: performance.now() };
};
const common = {
  data: ${JSON.stringify(path.resolve(values.data))},
  out: ${JSON.stringify(path.join(scratch, 'run'))},
  cacheDir: ${JSON.stringify(path.join(scratch, 'cache'))},
  onEvent: (event) => { if (event.kind === 'step') mark(); },
};
const few = { labels: '0.1', val: 'none' };
const paper = { preset: 'paper-2d', data: { patch: [1, 128, 128] }, train: { batch: 4, steps } };
${work}`;

interface Sample {
  readonly cpuMs: number;
  readonly wallMs: number;
}

/** A process that stops after each step until it is told to go on. */
class Side {
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly lines: AsyncIterator<string>;

  constructor(root: string, work: string, folder: string) {
    mkdirSync(folder, { recursive: true });
    rmSync(path.join(folder, 'run'), { recursive: true, force: true });
    const script = path.join(folder, 'work.mjs');
    writeFileSync(script, program(root, work, folder));
    this.child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdin.on('error', () => undefined);
    this.lines = createInterface(this.child.stdout)[Symbol.asyncIterator]();
  }

  /** Until the first step has ended. */
  async begin(): Promise<void> {
    await this.line();
  }

  /** One step's times. */
  async step(): Promise<Sample> {
    this.child.stdin.write('.');
    return JSON.parse(await this.line()) as Sample;
  }

  async end(): Promise<void> {
    this.child.kill('SIGKILL');
    await new Promise((done) => this.child.once('close', done));
  }

  private async line(): Promise<string> {
    const { value, done } = await this.lines.next();
    if (done) throw new Error('a benchmarked process ended early');
    return value;
  }
}

const median = (xs: readonly number[]): number => {
  const sorted = [...xs].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};
const round = (x: number) => Number(x.toFixed(4));

const scratch = mkdtempSync(path.join(os.tmpdir(), 'macl-against-'));
const head = (root: string) =>
  execFileSync('git', ['-C', root, 'rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
const rows: object[] = [];
try {
  const roots = { here: process.cwd(), other: path.resolve(values.other) };
  for (const [name, work] of Object.entries(WORKS)) {
    if (!name.includes(values.filter)) continue;
    const pairs: { here: Sample; other: Sample }[][] = [];
    for (let i = 0; i < rounds; i++) {
      const here = new Side(roots.here, work, path.join(scratch, 'here'));
      await here.begin();
      const other = new Side(roots.other, work, path.join(scratch, 'other'));
      await other.begin();
      const round: { here: Sample; other: Sample }[] = [];
      for (let k = 1; k < steps; k++) {
        const first = k % 2 ? await here.step() : null;
        const theirs = await other.step();
        const ours = first ?? (await here.step());
        if (k > LEFT_OUT) round.push({ here: ours, other: theirs });
      }
      pairs.push(round);
      await Promise.all([here.end(), other.end()]);
    }
    const ratios = pairs.map((round) => median(round.map(({ here, other }) => here.cpuMs / other.cpuMs)));
    const all = pairs.flat();
    const row = {
      name,
      otherCpuMs: round(median(all.map(({ other }) => other.cpuMs))),
      hereCpuMs: round(median(all.map(({ here }) => here.cpuMs))),
      ratio: round(median(ratios)),
      ratioRange: [round(Math.min(...ratios)), round(Math.max(...ratios))],
      otherWallMs: round(median(all.map(({ other }) => other.wallMs))),
      hereWallMs: round(median(all.map(({ here }) => here.wallMs))),
      ratios: ratios.map(round),
    };
    rows.push(row);
    process.stdout.write(
      `${name}: ${row.otherCpuMs} → ${row.hereCpuMs} ms of processor time a step, ratio ${row.ratio} ` +
        `[${row.ratioRange.join(', ')}]; wall ${row.otherWallMs} → ${row.hereWallMs} ms\n`,
    );
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

if (values.save) {
  const date = new Date().toISOString();
  const file = path.join('bench', 'results', `against-${head(values.other)}-${date.slice(0, 10)}.json`);
  const figure = {
    what: 'processor time of a step (user and system, every thread) here against another commit, processes in turns; ratios are here over other',
    other: head(values.other),
    commit: commit(),
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    threads: os.availableParallelism(),
    date,
    command: `npm run bench -- against ${process.argv.slice(2).join(' ')}`,
    rounds,
    steps,
    rows,
  };
  writeFileSync(file, `${JSON.stringify(figure, null, 2)}\n`);
  process.stdout.write(`${file}\n`);
}
