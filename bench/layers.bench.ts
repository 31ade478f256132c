/**
 * npm run bench -- layers [--device cpu|reference] [--isa NAME] [--threads N]
 *   [--arithmetic NAME] [--precision NAME] [--runs N] [--filter TEXT] [--save]
 *
 * Where a step's time goes: milliseconds of each kernel call (median of the runs, from one meeting of the threads to the next),
 * its arithmetic rate as a share of the fp32 multiply-add ceiling, and its bytes a second; summed by kernel, then call by call.
 */
import { computingFlags, median, Report } from './report.js';
import { fillInputs, openWork, unet, works } from './works.js';

const options = computingFlags();
const { computing } = options;
const WORKS = [
  ...works('3-D f16 2×48×64×48', unet(3, 16, 3, 1), 2, [48, 64, 48], computing),
  ...works('2-D f32 4×256²', unet(2, 32, 4, 2), 4, [1, 256, 256], computing),
];
const report = await Report.open('layers', options);

interface Call {
  readonly kernel: string;
  readonly where: string;
  readonly ms: number;
  readonly gflop: number;
  readonly mb: number;
  readonly variant: number;
}

const line = (label: string, { ms, gflop, mb }: Pick<Call, 'ms' | 'gflop' | 'mb'>, whole: number) =>
  `${label.padEnd(64)} ${ms.toFixed(2).padStart(8)} ms ${((100 * ms) / whole).toFixed(1).padStart(5)}% ` +
  `${gflop.toFixed(2).padStart(7)} GFLOP${gflop ? report.share((1e3 * gflop) / ms) : '     '} ` +
  `${mb.toFixed(1).padStart(7)} MB ${(mb / ms).toFixed(1).padStart(6)} GB/s`;

const rows = [];
const lines: string[] = [];
const chosen = WORKS.filter((w) => w.name.includes(options.filter));
const possible = report.has(computing.precision, chosen.length) ? chosen : [];
for (const work of possible) {
  report.measureCeiling();
  const built = work.build(report.backend);
  const { program } = built;
  const executor = await openWork(report.backend, built);
  fillInputs(executor, program);
  const { nodes } = program.graph;
  const seen = nodes.map((): number[] => []);
  for (let run = 0; run < Number(options.runs) + 2; run++) {
    await executor.run(program);
    const times = executor.session.times();
    // What runs once stands in front, and is not timed.
    if (run >= 2) times.forEach((ms, i) => seen[nodes.length - times.length + i]?.push(ms));
  }
  await executor.close();
  const costs = program.costs();
  const calls = nodes.map((node, i): Call => {
    const shape = (node.inputs.find((t) => t && !t.opaque) ?? node.outputs[0])?.shape.join('×') ?? '';
    const to = node.outputs.find((t) => t && !t.opaque)?.shape.join('×') ?? '';
    const { flops, bytes } = costs[i]!;
    return {
      kernel: node.kernel,
      where: `${node.scope} ${shape} → ${to}`,
      ms: median(seen[i]!),
      gflop: flops / 1e9,
      mb: bytes / 1e6,
      variant: node.attrs['variant'] ?? 0,
    };
  });
  const total = (of: readonly Call[]) => ({
    ms: of.reduce((sum, c) => sum + c.ms, 0),
    gflop: of.reduce((sum, c) => sum + c.gflop, 0),
    mb: of.reduce((sum, c) => sum + c.mb, 0),
  });
  const whole = total(calls);
  const kernels = [...new Set(calls.map((c) => c.kernel))]
    .map((kernel) => calls.filter((c) => c.kernel === kernel))
    .map((of) => ({ kernel: of[0]!.kernel, count: of.length, ...total(of) }))
    .sort((a, b) => b.ms - a.ms);
  lines.push(line(work.name, whole, whole.ms));
  for (const k of kernels) lines.push(line(`  ${k.kernel} (${k.count})`, k, whole.ms));
  for (const c of calls.filter((one) => one.ms > whole.ms / 250))
    lines.push(line(`    ${c.kernel}${c.variant ? ` ${c.variant}` : ''} ${c.where}`, c, whole.ms));
  rows.push({ work: work.name, ...whole, kernels, calls });
}
await report.backend.close();
report.print(rows, lines);
