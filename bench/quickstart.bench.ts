/**
 * npm run bench -- quickstart --run FOLDER [--run FOLDER …] [--save]
 *
 * Collects finished quickstarts (`macl quickstart --seed N --out FOLDER`, one a seed) into one figure: Dice of each model by
 * seed, and what the seeds have in common. It trains nothing.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { QuickstartReport } from '../src/quickstart/quickstart.js';
import { commit } from './report.js';

const { values } = parseArgs({
  strict: false,
  options: {
    run: { type: 'string', multiple: true, default: [] },
    save: { type: 'boolean', default: false },
  },
});

const reports = (values.run as string[])
  .map((folder) => JSON.parse(readFileSync(path.join(folder, 'report.json'), 'utf8')) as QuickstartReport)
  .sort((a, b) => a.seed - b.seed);
const [first] = reports;
if (!first) {
  process.stdout.write('quickstart: nothing to collect; give --run FOLDER of finished quickstarts\n');
  process.exit(0);
}
for (const { device, sizes, seed } of reports)
  if (device.isa !== first.device.isa || JSON.stringify(sizes) !== JSON.stringify(first.sizes))
    throw new Error(`seed ${seed}: another device or other sizes than seed ${first.seed}`);

const dice = (x: number | null): number => {
  if (x === null) throw new Error('a Dice is not defined');
  return Number(x.toFixed(4));
};
/** Mean over seeds, smallest and largest. */
const spread = (values: readonly number[]) => ({
  mean: dice(values.reduce((sum, v) => sum + v, 0) / values.length),
  range: [Math.min(...values), Math.max(...values)],
});

const seeds = reports.map((report) => ({
  seed: report.seed,
  rows: Object.fromEntries(
    report.rows.map(({ name, dice: d, ci95 }) => [name, { dice: dice(d), ci95: ci95?.map(dice) }]),
  ),
  differences: Object.fromEntries(
    Object.entries(report.differences).map(([name, { dice: d, ci95 }]) => [
      name,
      { dice: dice(d), ci95: ci95?.map(dice) },
    ]),
  ),
  secondsByPart: report.secondsByPart,
  threads: report.device.threads,
}));
const over = (of: (report: QuickstartReport) => number | null) => spread(reports.map((report) => dice(of(report))));
const figure = {
  what: `mean Dice over ${first.sizes.testCases} unseen synthetic volumes, by seed; differences are pre-trained minus the other`,
  device: first.device.backend,
  isa: first.device.isa,
  cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
  commit: commit(),
  date: new Date().toISOString(),
  command: `macl quickstart --seed N, N = ${reports.map(({ seed }) => seed).join(', ')}`,
  sizes: first.sizes,
  overSeeds: {
    rows: Object.fromEntries(first.rows.map(({ name }, n) => [name, over((report) => report.rows[n]!.dice)])),
    differences: Object.fromEntries(
      (['scratch', 'scratch+'] as const).map((name) => [name, over((report) => report.differences[name].dice)]),
    ),
  },
  seeds,
};
process.stdout.write(`${JSON.stringify(figure, null, 2)}\n`);
if (values.save) {
  const file = path.join(
    'bench',
    'results',
    `quickstart-${figure.device}-${figure.isa}-${figure.date.slice(0, 10)}.json`,
  );
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(figure, null, 2)}\n`);
  process.stdout.write(`${file}\n`);
}
