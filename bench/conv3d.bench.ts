/**
 * npm run bench -- conv3d [--device cpu|wasm] [--isa NAME] [--threads N]
 *   [--arithmetic NAME] [--precision NAME] [--runs N] [--filter TEXT] [--save]
 *
 * GFLOP/s of conv3d through the whole path (one program, one call), forward with bias and statistics, dx and dw, and its
 * share of the fp32 multiply-add ceiling measured in the same run. Multiplications by the zeros of the padding count as
 * they do everywhere, though they are not all carried out: small volumes can seem to exceed the ceiling. Random data;
 * results are poisoned before and looked at after; warm-up apart; medians with the spread.
 */
import type { Backend } from '../src/backend/types.js';
import { flopOf, labelOf, openConv, PASSES, repeatsOf, type ConvCase, type Pass } from './conv-work.js';
import { computingFlags, Report, timeOf, type Timing } from './report.js';

const K3 = [3, 3, 3] as const;
const volumes = [
  [2, 48, 64, 48],
  [2, 24, 32, 24],
  [2, 12, 16, 12],
] as const;
const CASES: ConvCase[] = [
  ...volumes.flatMap((voxels) => [16, 32, 64].map((c): ConvCase => ({ voxels, i: c, o: c, k: K3 }))),
  { voxels: [2, 48, 64, 48], i: 1, o: 16, k: K3 },
  { voxels: [2, 48, 64, 48], i: 32, o: 16, k: K3 },
  { voxels: [2, 48, 64, 48], i: 16, o: 3, k: [1, 1, 1] },
  { voxels: [4, 1, 256, 256], i: 32, o: 32, k: [1, 3, 3] },
];
/** Time of one convolution. */
async function time(backend: Backend, c: ConvCase, pass: Pass, runs: number): Promise<Timing> {
  const repeats = repeatsOf(c);
  const { session, run } = await openConv(backend, c, pass, repeats, options.computing);
  try {
    const { medianMs, bestMs, worstMs } = await timeOf(labelOf(c), runs, run);
    return { medianMs: medianMs / repeats, bestMs: bestMs / repeats, worstMs: worstMs / repeats };
  } finally {
    await session.close();
  }
}

const options = computingFlags();
const report = await Report.open('conv3d', options);
const { backend } = report;
const rows = [];
const chosen = CASES.filter((one) => labelOf(one).includes(options.filter));
const possible = report.has(options.computing.precision, PASSES.length * chosen.length) ? chosen : [];
for (const c of possible) {
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
