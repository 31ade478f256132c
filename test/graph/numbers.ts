/** A small graph with a loss, run on a backend: its values, and its gradients against central differences. */
import type { Backend, Fusion } from '../../src/backend/types.js';
import { differentiate, type DifferentiateOptions } from '../../src/graph/differentiate.js';
import { sizeOf } from '../../src/graph/shape.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import { normal, uniform } from '../golden/random.js';
import { Rig, type Ready } from '../golden/rig.js';

export interface Built {
  readonly loss: Tensor;
  /** Other results that are read, by name. */
  readonly results?: Readonly<Record<string, Tensor>>;
}

export interface Small {
  /** Inputs that gradients are wanted for. */
  readonly inputs: Readonly<Record<string, Shape>>;
  build(rig: Rig, x: Readonly<Record<string, Tensor>>): Built;
}

export function values(name: string, shape: Shape): Float64Array {
  const next = uniform([...name].reduce((h, c) => h * 31 + c.charCodeAt(0), 7));
  return Float64Array.from({ length: sizeOf(shape) }, () => Math.fround(normal(next)));
}

/** Builds, differentiates and compiles; results are `loss`, `d<name>` and what `build` says. */
export async function prepare(
  backend: Backend,
  small: Small,
  fusions: ReadonlySet<Fusion> = new Set(),
  options: DifferentiateOptions = {},
): Promise<Ready> {
  const rig = new Rig(backend);
  const { b } = rig;
  const x = Object.fromEntries(
    Object.entries(small.inputs).map(([name, shape]) => [name, rig.input(name, shape, values(name, shape))]),
  );
  const { loss, results = {} } = small.build(rig, x);
  const targets = new Map(
    Object.entries(x).map(([name, t]) => [t, rig.result(`d${name}`, b.tensor(`d${name}`, t.shape))]),
  );
  differentiate(b, loss, targets, options);
  rig.result('loss', loss);
  for (const [name, t] of Object.entries(results)) rig.result(name, t);
  return rig.ready(fusions);
}

/** The largest difference between the graph's gradients and central differences, over the largest gradient. */
export async function offFromDifferences(backend: Backend, small: Small, fusions?: ReadonlySet<Fusion>) {
  const ready = await prepare(backend, small, fusions);
  try {
    await ready.run();
    const gradients = Object.keys(small.inputs).map((name) => [name, ready.read(`d${name}`)] as const);
    let [worst, largest] = [0, 0];
    for (const [name, gradient] of gradients) {
      const start = values(name, small.inputs[name] as Shape);
      for (let i = 0; i < start.length; i++) {
        const at = async (delta: number) => {
          const moved = start.slice();
          moved[i] = (moved[i] as number) + delta;
          ready.set(name, moved);
          await ready.run();
          return ready.read('loss')[0] as number;
        };
        let best = Infinity;
        for (const h of [1e-5, 1e-6]) {
          const numeric = ((await at(h)) - (await at(-h))) / (2 * h);
          best = Math.min(best, Math.abs(numeric - (gradient[i] as number)));
        }
        worst = Math.max(worst, best);
        largest = Math.max(largest, Math.abs(gradient[i] as number));
      }
      ready.set(name, start);
    }
    return { off: worst / largest, largest };
  } finally {
    await ready.close();
  }
}
