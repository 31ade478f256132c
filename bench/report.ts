/** What every benchmark shares: its flags, the device, the ceiling measured in between, and the head of a figure. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Bench } from 'tinybench';
import { DEFAULT_ARITHMETIC, type Arithmetic } from '../src/arithmetic.js';
import { openBackend } from '../src/backend/choose.js';
import type { Backend, DeviceName } from '../src/backend/types.js';
import { enableRelaxedSimd } from '../src/backend/wasm-platform-node.js';
import { PRECISIONS, type Precision } from '../src/precision.js';
import { bitsOf, CeilingMeter } from './ceiling.js';
import type { Computing } from './works.js';

export interface Flags {
  readonly device: string;
  readonly isa?: string | undefined;
  readonly threads?: string | undefined;
  readonly runs: string;
  readonly arithmetic: string;
  /** Of what computes in one precision alone; else rows say theirs. */
  readonly precision?: string | undefined;
  /** Only what has this in its name. */
  readonly filter: string;
  readonly save: boolean;
}

const OPTIONS = {
  device: { type: 'string', default: 'cpu' },
  isa: { type: 'string' },
  threads: { type: 'string' },
  runs: { type: 'string', default: '7' },
  arithmetic: { type: 'string', default: DEFAULT_ARITHMETIC },
  filter: { type: 'string', default: '' },
  save: { type: 'boolean', default: false },
} as const;

export const flags = (): Flags => parseArgs({ options: OPTIONS }).values;

/** Of benchmarks that have a choice of precision too. */
export const COMPUTING_OPTIONS = { ...OPTIONS, precision: { type: 'string', default: 'fp32' } } as const;

export const computingOf = (values: { readonly arithmetic: string; readonly precision: string }): Computing => ({
  arithmetic: values.arithmetic as Arithmetic,
  precision: precisionOf(values.precision),
});

export function computingFlags(): Flags & { readonly computing: Computing } {
  const { values } = parseArgs({ options: COMPUTING_OPTIONS });
  return { ...values, computing: computingOf(values) };
}

export function precisionOf(name: string): Precision {
  const found = PRECISIONS.find((one) => one === name);
  if (found) return found;
  throw new Error(`precision: expected ${PRECISIONS.join(' or ')}, found ${name}`);
}

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

export interface Timing {
  readonly medianMs: number;
  readonly bestMs: number;
  readonly worstMs: number;
}

/** WebAssembly is compiled anew for speed while it runs: what is timed has run for this long before, and runs this long. */
const LEAST_MS = 400;

/** Times of `work`, which has run before: at least `runs` of them, and as many as make `LEAST_MS`. */
export async function timeOf(name: string, runs: number, work: () => Promise<unknown>): Promise<Timing> {
  const bench = new Bench({ iterations: runs, time: LEAST_MS, warmupIterations: 2, warmupTime: LEAST_MS });
  bench.add(name, async () => void (await work()));
  await bench.run();
  const result = bench.tasks[0]?.result;
  if (!result || !('latency' in result)) throw new Error(`${name}: was not timed`, { cause: result });
  const { p50, min, max } = result.latency;
  return { medianMs: p50, bestMs: min, worstMs: max };
}

export class Report {
  private ceiling: number | null = null;

  private constructor(
    private readonly name: string,
    private readonly given: Flags,
    readonly backend: Backend,
    private readonly meter: CeilingMeter | null,
  ) {}

  static async open(name: string, given: Flags): Promise<Report> {
    if (given.device === 'wasm') enableRelaxedSimd();
    const backend = await openBackend(given.device as DeviceName, {
      ...(given.isa ? { isa: given.isa } : {}),
      ...(given.threads ? { threads: Number(given.threads) } : {}),
    });
    const { name: device, threads } = backend.info;
    const meter = device === 'cuda' ? null : CeilingMeter.build(process.cwd(), threads);
    return new Report(name, given, backend, meter);
  }

  /** Whether the device has a precision; where it has not, says how many works are left out for that. */
  has(precision: Precision, works: number): boolean {
    const { name, isa, precisions } = this.backend.info;
    if (precisions.includes(precision)) return true;
    process.stdout.write(`${this.name}: ${works} skipped: ${name} ${isa} has no ${precision}\n`);
    return false;
  }

  /** Again and again, as others may use the machine: the best is the ceiling. */
  measureCeiling(): void {
    if (this.meter) this.ceiling = Math.max(this.ceiling ?? 0, this.meter.measure()[bitsOf(this.backend.info.isa)]);
  }

  /** Of the ceiling, or null where none was measured. */
  shareOf(gflops: number): number | null {
    return this.ceiling === null ? null : Number((gflops / this.ceiling).toFixed(3));
  }

  /** ` 87%` of the ceiling, or nothing where none was measured. */
  share(gflops: number): string {
    return this.ceiling === null ? '' : ` ${((100 * gflops) / this.ceiling).toFixed(0).padStart(4)}%`;
  }

  /** Prints the head and the lines; with --save also writes head and rows to bench/results. */
  print(rows: readonly object[], lines: readonly string[]): void {
    const { name: device, isa, threads } = this.backend.info;
    const { precision } = this.given;
    const bits = bitsOf(isa);
    const head = {
      device,
      isa,
      threads,
      arithmetic: this.given.arithmetic,
      ...(precision ? { precision } : {}),
      cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
      ...(this.backend.info.device ? { card: this.backend.info.device } : {}),
      commit: commit(),
      date: new Date().toISOString(),
      command: `npm run bench -- ${this.name} ${process.argv.slice(2).join(' ')}`.trim(),
      bits,
      ceilingGflops: this.ceiling,
      peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    };
    const ceiling = this.ceiling === null ? 'not measured (no compiler)' : `${this.ceiling.toFixed(0)} GFLOP/s`;
    const where = head.card ?? `${threads} threads, ${head.cpu}`;
    process.stdout.write(
      `${this.name} on ${device} ${isa}, ${where}, ${head.arithmetic} arithmetic, ${precision ? `${precision}, ` : ''}commit ${head.commit}, ${head.date}\n` +
        (device === 'cuda' ? '' : `ceiling (fp32 multiply-add, ${bits} bits, all threads): ${ceiling}\n`) +
        `${lines.join('\n')}\n`,
    );
    if (!this.given.save) return;
    const what = precision && precision !== 'fp32' ? `${this.name}-${precision}` : this.name;
    const file = path.join('bench', 'results', `${what}-${device}-${isa}-${head.date.slice(0, 10)}.json`);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(
      file,
      `${JSON.stringify({ ...head, rows: [...earlierRows(file, head.commit, rows), ...rows] }, null, 2)}\n`,
    );
    process.stdout.write(`${file}\n`);
  }
}

/** Rows of the same day and commit whose work was not measured again: a long benchmark is run part by part. */
function earlierRows(file: string, commitNow: string, rows: readonly object[]): object[] {
  if (!existsSync(file)) return [];
  const known = JSON.parse(readFileSync(file, 'utf8')) as { commit: string; rows: object[] };
  const keyOf = (row: object) =>
    JSON.stringify(['work', 'case', 'peer', 'mode', 'ours'].map((key) => (row as Record<string, unknown>)[key]));
  const now = new Set(rows.map(keyOf));
  return known.commit === commitNow ? known.rows.filter((row) => !now.has(keyOf(row))) : [];
}

/** MACL_COMMIT says it where there is no repository (a bundle on another machine). */
export function commit(): string {
  if (process.env.MACL_COMMIT) return process.env.MACL_COMMIT;
  try {
    const changed = execFileSync('git', ['status', '--porcelain', 'src', 'native'], { encoding: 'utf8' }) !== '';
    return (
      execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim() +
      (changed ? ' with changes' : '')
    );
  } catch {
    return 'unknown';
  }
}
