/**
 * npm run bench -- loop --data DATASET [--steps 60] [--device cpu] [--isa NAME] [--threads N] [--arithmetic NAME]
 *   [--precision NAME] [--filter TEXT] [--save]
 *
 * What a training on real data costs beside its network: the share of a step that augmentation takes (`warp3d`), that of drawing
 * and reading the next step's samples (beside the kernels, on the event loop's thread), that of the loop around them, and the
 * ratio of a whole step to a step of the same network with fixed inputs, which takes its turn after each. Volumes in memory, and
 * read from disk for each step. DATASET is labelled; a tenth of its cases is taken. The first steps are left out.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { RunFolder } from '../src/train/run-folder.js';
import { prepared, stepsOf, type LoopStep } from './loop-work.js';
import { COMPUTING_OPTIONS, computingOf, median, Report } from './report.js';

const LEFT_OUT = 5;
const { values: options } = parseArgs({
  options: {
    ...COMPUTING_OPTIONS,
    data: { type: 'string', default: '' },
    steps: { type: 'string', default: '60' },
  },
});
const computing = computingOf(options);
const steps = Number(options.steps);
const works = (['pretrain', 'finetune'] as const)
  .flatMap((task) => (['memory', 'disk'] as const).map((from) => ({ task, from, name: `${task} from ${from}` })))
  .filter(({ name }) => name.includes(options.filter));
if (!options.data) {
  process.stdout.write(`loop: ${works.length} skipped: give --data DATASET (labelled)\n`);
  process.exit(0);
}
const report = await Report.open('loop', { ...options, runs: options.steps });
const { backend } = report;
const scratch = mkdtempSync(path.join(os.tmpdir(), 'macl-loop-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

const round = (n: number) => Number(n.toPrecision(4));

function rowOf(name: string, seen: readonly LoopStep[]) {
  const of = (figure: (step: LoopStep) => number) => round(median(seen.map(figure)));
  return {
    work: name,
    stepMs: of((s) => s.wall),
    dummyMs: of((s) => s.dummy),
    ratio: of((s) => s.wall / s.dummy),
    warpShare: of((s) => s.warp / s.wall),
    dataShare: of((s) => s.data / s.wall),
    loopShare: of((s) => (s.wall - s.kernels) / s.wall),
  };
}

const rows: ReturnType<typeof rowOf>[] = [];
for (const { task, from, name } of report.has(computing.precision, works.length) ? works : []) {
  report.measureCeiling();
  const cases = await prepared(task, options.data, path.join(scratch, 'cache'), steps, computing, backend);
  const folder = await RunFolder.open(path.join(scratch, name.replaceAll(' ', '-')), { resume: false });
  const seen = await stepsOf(cases, from, backend, folder);
  await folder.close();
  rows.push(rowOf(name, seen.slice(LEFT_OUT)));
}
await backend.close();

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
report.print(
  rows,
  rows.map(
    (r) =>
      `${r.work.padEnd(22)} ${r.stepMs.toFixed(1).padStart(7)} ms, with fixed inputs ${r.dummyMs.toFixed(1).padStart(7)} ms: ` +
      `${r.ratio.toFixed(3)}×; warp3d ${percent(r.warpShare)}, data ${percent(r.dataShare)}, loop ${percent(r.loopShare)}`,
  ),
);
