/**
 * Every registered kernel is run by a case of test/cases, known from the programs that the cases compile to, unfused and
 * fused; and every file of test/cases is read.
 */
import { readdirSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { FUSIONS, type Fusion } from '../../src/backend/types.js';
import { allKernels } from '../../src/graph/kernel.js';
import { OPS } from '../cases/index.js';
import { openReference } from './devices.js';
import { randomInputs } from './random.js';
import { Rig } from './rig.js';

const backend = await openReference();
afterAll(() => backend.close());

function kernelsOf(fusions: ReadonlySet<Fusion>): Set<string> {
  const names = new Set<string>();
  for (const list of OPS)
    for (const c of list.cases) {
      const rig = new Rig(backend);
      list.build(rig, c, randomInputs(1, list, c), { dloss: 1 });
      for (const node of rig.compiled(fusions).graph.nodes) names.add(node.kernel);
    }
  return names;
}

test('every registered kernel has a case', () => {
  const covered = new Set([...kernelsOf(new Set()), ...kernelsOf(new Set(FUSIONS))]);
  expect(
    allKernels()
      .map((k) => k.name)
      .filter((name) => !covered.has(name)),
  ).toEqual([]);
});

test('every file of test/cases is in the list of them, under its own name', () => {
  const files = readdirSync(new URL('../cases/', import.meta.url)).filter((f) => f.endsWith('.ts'));
  const shared = ['build', 'index', 'types'];
  const stems = files.map((f) => f.replace('.ts', '')).filter((stem) => !shared.includes(stem));
  expect(OPS.map((list) => list.op).sort()).toEqual(stems.sort());
  for (const list of OPS) {
    const names = list.cases.map((c) => c.name);
    expect(new Set(names).size, `${list.op}: names of cases`).toBe(names.length);
  }
});
