/** One case of an operation on a backend: everything that its program gives back. */
import type { Backend, Fusion } from '../../src/backend/types.js';
import type { Precision } from '../../src/precision.js';
import type { Built, Case, Inputs, Mode, OpCases } from '../cases/types.js';
import { Rig } from './rig.js';

export interface CaseRun {
  readonly built: Built;
  /** Results and gradients by name. */
  readonly values: ReadonlyMap<string, Float64Array>;
}

export async function runCase(
  backend: Backend,
  list: OpCases,
  c: Case,
  inputs: Inputs,
  mode: Mode,
  fusions: ReadonlySet<Fusion>,
  precision: Precision = 'fp32',
): Promise<CaseRun> {
  const rig = new Rig(backend, precision);
  const built = list.build(rig, c, inputs, mode);
  const ready = await rig.ready(fusions);
  try {
    await ready.run();
    const values = new Map([...built.results, ...built.gradients].map((name) => [name, ready.read(name)]));
    return { built, values };
  } finally {
    await ready.close();
  }
}

/** A case's program in words: whether fusions change anything in it. No value is looked at. */
export function programText(backend: Backend, list: OpCases, c: Case, fusions: ReadonlySet<Fusion>): string {
  const rig = new Rig(backend);
  list.build(rig, c, (_, count) => new Uint8Array(count), { dloss: 1 });
  return rig.compiled(fusions).text();
}
