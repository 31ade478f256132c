/**
 * Graphs drawn at random from operations, views and sums: their gradient against differences along a direction, fused as
 * unfused, and with scopes computed again the same bits. Each is named by its number.
 */
import { afterAll, describe, expect, it } from 'vitest';
import type { Fusion } from '../../src/backend/types.js';
import type { GraphBuilder } from '../../src/graph/builder.js';
import { compile } from '../../src/graph/compile.js';
import { differentiate } from '../../src/graph/differentiate.js';
import { recompute } from '../../src/graph/recompute.js';
import { placeOf, sizeOf } from '../../src/graph/shape.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { openReference } from '../golden/devices.js';
import { normal, uniform } from '../golden/random.js';
import { Ready, Rig } from '../golden/rig.js';
import { ALL_FUSIONS, NO_FUSIONS } from './helpers.js';
import { values } from './numbers.js';

const backend = await openReference();
afterAll(() => backend.close());
const COUNT = 100;

class Drawn {
  readonly rig = new Rig(backend);
  readonly b: GraphBuilder = this.rig.b;
  readonly inputs: Tensor[] = [];
  readonly used = new Set<string>();
  private readonly next: () => number;
  private readonly pool: Tensor[] = [];

  constructor(private readonly seed: number) {
    this.next = uniform(seed * 7919 + 1);
    this.pool.push(this.input([2, 2, 2, 4, 4]), this.input([2, 2, 2, 4, 2]));
    const count = 4 + this.int(12);
    for (let i = 0; i < count; i++) this.b.within(`s${this.int(4)}.n${i}`, () => this.step());
  }

  private int(n: number): number {
    return Math.floor(this.next() * n);
  }
  private pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)] as T;
  }
  private input(shape: Shape): Tensor {
    const name = `in${this.inputs.length}`;
    const t = this.rig.input(name, shape, values(name, shape));
    this.inputs.push(t);
    return t;
  }

  private step(): void {
    const { b } = this;
    // Late ones more often: deeper graphs.
    const x =
      this.next() < 0.6 ? (this.pool.at(-1 - this.int(Math.min(3, this.pool.length))) as Tensor) : this.pick(this.pool);
    const [n, d, h, w, c] = x.shape;
    const alike = this.pool.filter((t) => t.shape.join() === x.shape.join());
    const grid = this.pool.filter(
      (t) => t.shape.slice(0, 4).join() === x.shape.slice(0, 4).join() && t.shape[4] + c <= 12,
    );
    const choices: Record<string, () => Tensor | null> = {
      conv: () => ops.conv3d(b, x, this.input([this.pick([2, 4]), c, this.pick([1, 3]), 1, 1]), null),
      act: () => ops.activation(b, x, 0.4),
      norm: () => {
        const [gamma, beta] = [this.input([c, 1, 1, 1, 1]), this.input([c, 1, 1, 1, 1])];
        return ops.normactTrain(b, x, { gamma, beta, runningMean: gamma, runningVar: gamma, eps: 1e-2 }, 0.4).y;
      },
      'conv and norm': () => {
        const y = ops.conv3d(b, x, this.input([4, c, 1, 1, 3]), null);
        const [gamma, beta] = [this.input([4, 1, 1, 1, 1]), this.input([4, 1, 1, 1, 1])];
        const z = ops.normactTrain(b, y, { gamma, beta, runningMean: gamma, runningVar: gamma, eps: 1e-2 }, 0.4).y;
        if (w % 2 === 0) this.pool.push(ops.maxpool3d(b, z, [1, 1, 2]));
        return z;
      },
      add: () => ops.add(b, x, this.pick(alike)),
      concat: () => (grid.length > 0 ? ops.concat(b, x, this.pick(grid)) : null),
      rows: () => (n > 1 ? ops.rows(b, x, this.int(2), 1) : null),
      slice: () => {
        const offset = this.int(c);
        return ops.sliceChannels(b, x, offset, 1 + this.int(c - offset));
      },
      reshape: () => (placeOf(x).ld === c ? ops.reshape(b, x, [n, d * h, w, 1, c]) : null),
      // Differences know nothing of it: only in some of the graphs.
      detach: () => (this.seed % 4 === 0 ? ops.detach(b, x) : null),
      copies: () => {
        const sum = b.tensor('sum', x.shape);
        b.emit('copy_fwd', { accumulate: 0 }, { x }, { y: sum });
        b.emit('copy_fwd', { accumulate: 1 }, { x: this.pick(alike) }, { y: sum });
        return sum;
      },
      pool: () => (w % 2 === 0 ? ops.maxpool3d(b, x, [1, 1, 2]) : null),
      resize: () => ops.resize3d(b, x, [d, h + 1, w]),
    };
    const name = this.pick(Object.keys(choices));
    const y = choices[name]?.();
    if (!y) return;
    this.used.add(name);
    this.pool.push(y);
  }

  /** A loss over every input, and over what nothing reads; and its gradients. */
  finish() {
    const { b, rig, inputs } = this;
    const read = new Set(b.nodes.flatMap((node) => node.inputs));
    const ends = [...inputs, ...this.pool.filter((t) => !read.has(t))];
    let total: Tensor | null = null;
    for (const [i, t] of ends.entries()) {
      const level = ops.fill(b, b.tensor('level', t.shape), 0.37);
      const value = b.within(`loss${i}`, () => ops.l1(b, t, level, true).loss);
      const terms = [{ weight: 0.3 + 0.2 * (i % 4), value }];
      // Two losses over the same tensors.
      if (i % 3 === 0) terms.push({ weight: 0.1, value: b.within(`loss${i}`, () => ops.l1(b, t, level).loss) });
      if (total) terms.push({ weight: 1, value: total });
      total = ops.wsum(b, terms);
    }
    const loss = total as Tensor;
    const targets = new Map(inputs.map((t) => [t, rig.result(`d${t.name}`, b.tensor(`d${t.name}`, t.shape))]));
    differentiate(b, loss, targets);
    rig.result('loss', loss);
    return b.finish();
  }
}

const drawn = Array.from({ length: COUNT }, (_, seed) => {
  const graph = new Drawn(seed);
  return { seed, inputs: graph.inputs, used: graph.used, graph: graph.finish() };
});

async function run(one: (typeof drawn)[number], fusions: ReadonlySet<Fusion>, scopes: readonly string[]) {
  const program = compile(recompute(one.graph, scopes), backend, { offsets: new Map(), bytes: 0 }, 0, { fusions });
  const ready = new Ready(await backend.createSession(program.sizes), program);
  for (const t of one.inputs) ready.set(t.name, values(t.name, t.shape));
  await ready.run();
  const out = new Map(['loss', ...one.inputs.map((t) => `d${t.name}`)].map((name) => [name, ready.read(name)]));
  return { ready, out, kernels: program.graph.nodes };
}

it('graphs have every operation in them', () => {
  const used = new Set(drawn.flatMap((d) => [...d.used]));
  expect(used.size).toBe(13);
});

describe.each(drawn)('graph $seed', (one) => {
  it('has the gradient of its differences, fused and unfused, computed twice or not', async () => {
    const plain = await run(one, NO_FUSIONS, []);
    // The derivative along a direction, twice: where one step size straddles a kink the other does not.
    const next = uniform(one.seed + 5);
    const direction = new Map(
      one.inputs.map((t) => [t, Float64Array.from({ length: sizeOf(t.shape) }, () => normal(next))]),
    );
    let analytic = 0;
    for (const [t, v] of direction) v.forEach((e, i) => (analytic += e * (plain.out.get(`d${t.name}`)![i] as number)));
    const at = async (delta: number) => {
      for (const [t, v] of direction)
        plain.ready.set(
          t.name,
          values(t.name, t.shape).map((e, i) => e + delta * (v[i] as number)),
        );
      await plain.ready.run();
      return plain.ready.read('loss')[0] as number;
    };
    let off = Infinity;
    for (const h of [1e-6, 1e-7]) off = Math.min(off, Math.abs(((await at(h)) - (await at(-h))) / (2 * h) - analytic));
    await plain.ready.close();
    if (!one.used.has('detach')) expect(off).toBeLessThan(1e-6 * Math.max(1, Math.abs(analytic)));

    const scopes = ['s0', 's1', 's2', 's3'].filter((s) => one.graph.nodes.some((n) => n.scope.startsWith(`${s}.`)));
    const some = scopes.filter((_, i) => (one.seed + i) % 2 === 0);
    const fused = await run(one, ALL_FUSIONS, []);
    for (const [name, want] of plain.out) {
      const largest = Math.max(1e-3, ...want.map(Math.abs));
      fused.out
        .get(name)!
        .forEach((v, i) => expect(Math.abs(v - (want[i] as number)), name).toBeLessThan(1e-11 * largest));
    }
    await fused.ready.close();
    for (const [again, base, fusions] of [
      [scopes, plain, NO_FUSIONS],
      [scopes, fused, ALL_FUSIONS],
      [some, fused, ALL_FUSIONS],
    ] as const) {
      const twice = await run(one, fusions, again);
      await twice.ready.close();
      expect(twice.out).toEqual(base.out);
    }
  });
});
