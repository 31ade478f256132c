/**
 * npm run bench -- ops [--device NAME] [--isa NAME] [--threads N] [--runs N] [--filter TEXT] [--save]
 *
 * Time of what the case lists (test/cases) give to be timed: an operation with its gradients, fused as the device asks for,
 * in one program and one call. Random inputs; results are looked at; medians with the spread.
 */
import { OPS } from '../test/cases/index.js';
import { randomInputs } from '../test/golden/random.js';
import { Rig } from '../test/golden/rig.js';
import { flags, Report, timeOf } from './report.js';

const options = flags();
const report = await Report.open('ops', options);
const { backend } = report;
const rows = [];
for (const list of OPS) {
  for (const c of list.timing ?? []) {
    const label = `${list.op} ${c.name}`;
    if (!label.includes(options.filter)) continue;
    report.measureCeiling();
    const rig = new Rig(backend);
    const built = list.build(rig, c, randomInputs(1, list, c), { dloss: 1 });
    const ready = await rig.ready();
    try {
      const timing = await timeOf(label, Number(options.runs), () => ready.run());
      for (const name of [...built.results, ...built.gradients])
        if (!ready.read(name).every(Number.isFinite)) throw new Error(`${label}: ${name} is not finite`);
      rows.push({ case: label, ...timing });
    } finally {
      await ready.close();
    }
  }
}
await backend.close();

report.print(
  rows,
  rows.map(
    (row) =>
      `${row.case.padEnd(48)} ${row.medianMs.toFixed(2).padStart(9)} ms ` +
      `(${row.bestMs.toFixed(2)}–${row.worstMs.toFixed(2)})`,
  ),
);
