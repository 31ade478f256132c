/**
 * npm run bench -- conv3d [--device cpu|wasm] [--isa NAME] [--threads N] [--runs N] [--filter TEXT] [--save]
 *
 * GFLOP/s of conv3d through the whole path (one program, one call), forward with bias and statistics, dx and dw, and its
 * share of the fp32 multiply-add ceiling measured in the same run. Multiplications by the zeros of the padding count as
 * they do everywhere, though they are not all carried out: small volumes can seem to exceed the ceiling. Random data;
 * results are poisoned before and looked at after; warm-up apart; medians with the spread.
 */
import type { Backend } from '../src/backend/types.js';
import { GraphBuilder } from '../src/graph/builder.js';
import { compile } from '../src/graph/compile.js';
import type { Shape, Tensor } from '../src/graph/types.js';
import '../src/ops/index.js';
import { flags, Report, timeOf, type Timing } from './report.js';

/** [N, D, H, W], in, out, kernel. */
interface Case {
  readonly voxels: readonly [number, number, number, number];
  readonly i: number;
  readonly o: number;
  readonly k: readonly [number, number, number];
}

const K3 = [3, 3, 3] as const;
const volumes = [
  [2, 48, 64, 48],
  [2, 24, 32, 24],
  [2, 12, 16, 12],
] as const;
const CASES: Case[] = [
  ...volumes.flatMap((voxels) => [16, 32, 64].map((c): Case => ({ voxels, i: c, o: c, k: K3 }))),
  { voxels: [2, 48, 64, 48], i: 1, o: 16, k: K3 },
  { voxels: [2, 48, 64, 48], i: 32, o: 16, k: K3 },
  { voxels: [2, 48, 64, 48], i: 16, o: 3, k: [1, 1, 1] },
  { voxels: [4, 1, 256, 256], i: 32, o: 32, k: [1, 3, 3] },
];
const PASSES = ['forward', 'dx', 'dw'] as const;
type Pass = (typeof PASSES)[number];

function labelOf(c: Case): string {
  return `${c.voxels.join('×')} ${c.i}→${c.o} k${c.k.join('')}`;
}

const flopOf = (c: Case) => 2 * [...c.voxels, c.i, c.o, ...c.k].reduce((a, b) => a * b, 1);

/** Random bytes of fp32 numbers in [−1, 1): one block of them again and again, as the generator is not what is timed. */
function randomBytes(count: number): Uint8Array {
  const block = Float32Array.from({ length: 65_521 }, () => Math.random() * 2 - 1);
  const all = new Float32Array(count);
  for (let at = 0; at < count; at += block.length) all.set(block.subarray(0, Math.min(block.length, count - at)), at);
  return new Uint8Array(all.buffer);
}

/** One convolution `repeats` times in a program, so that the call itself does not count for small ones. */
function programOf(backend: Backend, c: Case, pass: Pass, repeats: number) {
  const b = new GraphBuilder('f32');
  const x = b.input('x', [...c.voxels, c.i] as const satisfies Shape);
  const w = b.input('w', [c.o, c.i, ...c.k] as const satisfies Shape);
  const bias = b.input('bias', [c.o, 1, 1, 1, 1]);
  const dy = b.input('dy', [...c.voxels, c.o] as const satisfies Shape);
  const [kd, kh, kw] = c.k;
  const stats = pass === 'forward' && kd * kh * kw > 1 ? 1 : 0;
  const attrs = { kd, kh, kw, sd: 1, sh: 1, sw: 1, stats, act: 0, slope: 0, accumulate: 0 };
  const pack = (mode: number) =>
    b.emitOnce('conv3d_pack', { mode, sd: 1, sh: 1, sw: 1 }, { w }, 'wp', () => b.opaque(`wp${mode}`));
  const result = (like: Tensor, last: boolean) => {
    const t = b.tensor('result', like.shape);
    return last ? b.output(t, 'result') : t;
  };
  for (let r = 1; r <= repeats; ++r) {
    const last = r === repeats;
    if (pass === 'forward') {
      const moment = (name: string) => (stats ? b.tensor(name, bias.shape) : null);
      const outputs = { y: result(dy, last), mean: moment('mean'), var: moment('var'), ws: b.opaque('ws') };
      b.emit('conv3d_fwd', attrs, { x, wp: pack(0), b: bias }, outputs);
    } else if (pass === 'dx') {
      b.emit('conv3d_bwd_x', attrs, { dy, wp: pack(1) }, { dx: result(x, last), ws: b.opaque('ws') });
    } else {
      const db = b.tensor('db', bias.shape);
      b.emit('conv3d_bwd_w', attrs, { x, dy }, { dw: result(w, last), db, ws: b.opaque('ws') });
    }
  }
  return compile(b.finish(), backend, { offsets: new Map(), bytes: 0 }, 0);
}

/** Time of one convolution. */
async function time(backend: Backend, c: Case, pass: Pass, runs: number): Promise<Timing> {
  const repeats = Math.min(8, Math.max(1, Math.round(1e9 / flopOf(c))));
  const program = programOf(backend, c, pass, repeats);
  const session = await backend.createSession(program.sizes);
  try {
    const loaded = session.load(program.bytes);
    for (const [name, slot] of program.io)
      if (name !== 'result') session.write('io', slot.offset, randomBytes(slot.bytes / 4));
    const result = program.io.get('result');
    if (!result) throw new Error('the program has no result');
    session.write('io', result.offset, new Uint8Array(result.bytes).fill(0xff)); // NaN
    await session.run(loaded);
    const values = new Float32Array(session.read('io', result.offset, result.bytes).slice().buffer);
    if (!values.every(Number.isFinite)) throw new Error(`${labelOf(c)} ${pass}: the result was not written whole`);
    const { medianMs, bestMs, worstMs } = await timeOf(labelOf(c), runs, () => session.run(loaded));
    return { medianMs: medianMs / repeats, bestMs: bestMs / repeats, worstMs: worstMs / repeats };
  } finally {
    await session.close();
  }
}

const options = flags();
const report = await Report.open('conv3d', options);
const { backend } = report;
const rows = [];
for (const c of CASES.filter((one) => labelOf(one).includes(options.filter))) {
  for (const pass of PASSES) {
    if (pass === 'dx' && c.i === 1) continue; // an image needs no gradient
    report.measureCeiling();
    const timing = await time(backend, c, pass, Number(options.runs));
    rows.push({ case: labelOf(c), pass, ...timing, gflops: flopOf(c) / timing.medianMs / 1e6 });
  }
}
await backend.close();

report.print(
  rows,
  rows.map(
    (row) =>
      `${row.case.padEnd(28)} ${row.pass.padEnd(8)} ${row.medianMs.toFixed(2).padStart(9)} ms ` +
      `(${row.bestMs.toFixed(2)}–${row.worstMs.toFixed(2)}) ${row.gflops.toFixed(1).padStart(8)} GFLOP/s${report.share(row.gflops)}`,
  ),
);
