/**
 * npm run bench -- step [--device cpu|wasm|cuda] [--isa NAME] [--threads N]
 *   [--arithmetic NAME] [--precision NAME] [--runs N] [--save]
 *
 * Whole training steps and inference: median time, samples/s, arithmetic rate, share of the fp32 multiply-add ceiling
 * measured in the same run, and memory (the session's segments). Random data; warm-up apart.
 */
import { computingFlags, Report, timeOf } from './report.js';
import { fillInputs, openWork, unet, works } from './works.js';

const options = computingFlags();
const { computing } = options;
/** What a processor works on in tenths of a second, and on a GPU what people train there. */
const WORKS = [
  ...works('3-D f16 2×48×64×48', unet(3, 16, 3, 1), 2, [48, 64, 48], computing),
  ...works('2-D f32 4×256²', unet(2, 32, 4, 2), 4, [1, 256, 256], computing),
  ...(/^cuda(:|$)/.test(options.device)
    ? [
        ...works('3-D f32 4×96³', unet(3, 32, 4, 1), 4, [96, 96, 96], computing),
        ...works('3-D f32 2×128³', unet(3, 32, 4, 2), 2, [128, 128, 128], computing),
        ...works('2-D f32 16×512²', unet(2, 32, 4, 2), 16, [1, 512, 512], computing),
      ]
    : []),
];

const report = await Report.open('step', options);
const { backend } = report;

const rows = [];
const chosen = WORKS.filter((w) => w.name.includes(options.filter));
const possible = report.has(computing.precision, chosen.length) ? chosen : [];
for (const work of possible) {
  report.measureCeiling();
  const built = work.build(backend);
  const { program } = built;
  const executor = await openWork(backend, built);
  fillInputs(executor, program);
  const timing = await timeOf(work.name, Number(options.runs), () => executor.run(program));
  const loss = program.io.has('loss') ? executor.scalar(program, 'loss') : null;
  if (loss !== null && !Number.isFinite(loss)) throw new Error(`${work.name}: the loss is ${loss}`);
  await executor.close();
  const gflop = program.costs().reduce((sum, k) => sum + k.flops, 0) / 1e9;
  const { sizes, scratchBytesWithoutReuse } = program;
  const row = {
    work: work.name,
    ...timing,
    samplesPerSecond: (1000 * work.batch) / timing.medianMs,
    gflops: (1000 * gflop) / timing.medianMs,
    sessionBytes: sizes.state + sizes.scratch + sizes.io,
    scratchBytesWithoutReuse,
  };
  rows.push(row);
  // As each is done: a run that is ended early has shown what it has.
  process.stdout.write(`${JSON.stringify(row)}\n`);
}
await backend.close();

report.print(
  rows,
  rows.map(
    (r) =>
      `${r.work.padEnd(30)} ${r.medianMs.toFixed(0).padStart(6)} ms (${r.bestMs.toFixed(0)}–${r.worstMs.toFixed(0)}) ` +
      `${r.samplesPerSecond.toFixed(2).padStart(7)} samples/s ${r.gflops.toFixed(0).padStart(5)} GFLOP/s${report.share(r.gflops)} ` +
      `${(r.sessionBytes / 2 ** 20).toFixed(0)} MiB`,
  ),
);
