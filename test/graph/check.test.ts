/** What the checks in `compile` find, that a graph stays as it was, and regions of buffers. */
import { afterAll, describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/graph/builder.js';
import { checkGraph, checkPlan } from '../../src/graph/check.js';
import { compile } from '../../src/graph/compile.js';
import type { Life, MemoryPlan } from '../../src/graph/plan.js';
import { regionsOverlap, uncovered, type Region } from '../../src/graph/regions.js';
import { joinNodes } from '../../src/graph/rewrite.js';
import type { Graph, Shape, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { uniform } from '../golden/random.js';
import { openReference } from '../golden/devices.js';
import { ALL_FUSIONS, buildAll, NO_FUSIONS, stubBackend } from './helpers.js';

const backend = await openReference();
afterAll(() => backend.close());
const X: Shape = [1, 1, 1, 2, 4];
const nothing = { offsets: new Map<Tensor, number>(), bytes: 0 };
const compiled = (b: GraphBuilder) => compile(b.finish(), stubBackend, nothing, 0);
const start = () => {
  const b = new GraphBuilder('f32');
  return { b, x: b.input('x', X) };
};

describe('compile refuses', () => {
  it('a result that nobody writes', () => {
    const { b, x } = start();
    ops.activation(b, x, 0);
    b.output(b.tensor('y', X), 'y');
    expect(() => compiled(b)).toThrow(/unsound: no node writes \(all of\) the result y/);
  });
  it('a result that is written in part', () => {
    const { b, x } = start();
    const y = b.tensor('y', X);
    const part = b.tensor('part', [1, 1, 1, 2, 3], 'f32', { view: { of: y, offset: 1, dense: false } });
    b.emit('copy_fwd', { accumulate: 0 }, { x: ops.sliceChannels(b, x, 0, 3) }, { y: part });
    b.output(y, 'y');
    expect(() => compiled(b)).toThrow(/no node writes \(all of\) the result y/);
    ops.fill(b, b.tensor('rest', [1, 1, 1, 2, 1], 'f32', { view: { of: y, offset: 0, dense: false } }), 1);
    expect(() => compiled(b)).not.toThrow();
  });
  it('a read of what has been written in part', () => {
    const { b, x } = start();
    const y = b.tensor('y', X);
    ops.fill(b, b.tensor('part', [4, 1, 1, 1, 1], 'f32', { view: { of: y, offset: 3, dense: true } }), 1);
    b.output(ops.add(b, x, y), 'z');
    expect(() => compiled(b)).toThrow(/add_fwd at \) reads b \(y\) before it is written/);
  });
  it('a write over a constant', () => {
    const { b } = start();
    ops.fill(b, b.constant('c', [1]), 2);
    expect(() => compiled(b)).toThrow(/writes over the constant c/);
  });
  it('a view that reaches past its tensor, and a dense one of a slice', () => {
    const { b, x } = start();
    const past = b.tensor('past', [2, 1, 1, 2, 4], 'f32', { view: { of: x, offset: 0, dense: true } });
    b.output(ops.add(b, past, past), 'y');
    expect(() => compiled(b)).toThrow(/past reaches past the end of x/);
    const c = start();
    const slice = ops.sliceChannels(c.b, c.x, 0, 2);
    const flat = c.b.tensor('flat', [4, 1, 1, 1, 1], 'f32', { view: { of: slice, offset: 0, dense: true } });
    c.b.output(ops.add(c.b, flat, flat), 'y');
    expect(() => compiled(c.b)).toThrow(/flat is a dense view of x\.slice, a slice of channels/);
  });
});

it('finds a value whose place another has taken', () => {
  const { b, x } = start();
  const y = ops.activation(b, x, 0.5);
  const z = ops.activation(b, y, 0.5);
  b.output(ops.add(b, z, y), 'sum');
  const graph = b.finish();
  expect(checkGraph(graph)).toEqual([]);
  z.view = { of: y, offset: 0, dense: false, inPlace: true };
  expect(checkGraph(graph).join()).toMatch(/add_fwd at \) reads b \(act\) after act took its place/);
});

it('finds buffers that are alive together and overlap', () => {
  const tensor = (id: number): Tensor => ({
    id,
    name: `t${id}`,
    shape: [1, 1, 1, 1, 16],
    dtype: 'f32',
    segment: 'scratch',
    opaque: false,
  });
  const lives: Life[] = [
    { tensor: tensor(0), first: 0, last: 3 },
    { tensor: tensor(1), first: 4, last: 5 },
    { tensor: tensor(2), first: 2, last: 4 },
  ];
  const plan = (...at: number[]): MemoryPlan => ({
    offsets: new Map(lives.map((l, i) => [l.tensor, at[i]!])),
    scratchBytes: 128,
    scratchBytesWithoutReuse: 192,
    ioBytes: 0,
    ioInput: { offset: 0, bytes: 0 },
    ioResults: { offset: 0, bytes: 0 },
    lives,
  });
  expect(checkPlan(plan(0, 0, 64))).toEqual([]);
  expect(checkPlan(plan(0, 0, 60))).toEqual([
    't0 and t2 are alive together and overlap',
    't2 and t1 are alive together and overlap',
  ]);
  expect(checkPlan(plan(0, 68, 64)).join()).toMatch(/t1 reaches past the scratch segment/);
});

describe('a graph stays as it was', () => {
  const shown = (graph: Graph) =>
    JSON.stringify([graph.tensors, graph.nodes.map((n) => ({ ...n, forward: n.forward?.id }))]);

  it.each(buildAll().map((b) => [b.name, b] as const))(
    '%s: compiled for two backends, with and without fusions',
    (_, built) => {
      const { graph, state } = built;
      const before = shown(graph);
      const smaller = { ...stubBackend, opaqueBytes: () => 128 };
      const first = compile(graph, stubBackend, state, 1024);
      const plain = compile(graph, smaller, state, 1024, { fusions: NO_FUSIONS });
      const again = compile(graph, stubBackend, state, 1024);
      expect(shown(graph)).toBe(before);
      expect(plain.text()).not.toBe(first.text());
      expect(again.bytes).toEqual(first.bytes);
      expect(plain.graph.nodes.length).toBeGreaterThan(first.graph.nodes.length);
    },
  );
});

describe('regions', () => {
  const elements = (r: Region): Set<number> =>
    new Set(
      Array.from({ length: r.rows }, (_, i) =>
        Array.from({ length: r.length }, (_e, k) => r.start + i * r.ld + k),
      ).flat(),
    );
  const next = uniform(11);
  const int = (n: number) => Math.floor(next() * n);
  /** Dense parts, and slices of rows of 6. */
  const region = (): Region => {
    if (next() < 0.5) {
      const length = 1 + int(30);
      return { start: int(60), rows: 1, length, ld: length };
    }
    const length = 1 + int(5);
    return { start: 6 * int(8) + int(7 - length), rows: 2 + int(4), length, ld: 6 };
  };

  it('overlap where they share an element', () => {
    for (let i = 0; i < 2000; i++) {
      const [a, b] = [region(), region()];
      const shared = [...elements(a)].some((e) => elements(b).has(e));
      expect(regionsOverlap(a, b), JSON.stringify([a, b])).toBe(shared);
    }
  });

  it('leave uncovered what no part has', () => {
    for (let i = 0; i < 1000; i++) {
      const [whole, ...parts] = Array.from({ length: 1 + int(5) }, region) as [Region, ...Region[]];
      const rest = new Set([...elements(whole)].filter((e) => !parts.some((p) => elements(p).has(e))));
      const gaps = uncovered(whole, parts);
      const found = gaps.flatMap((g) => [...elements(g)]);
      expect(found.length, 'gaps do not overlap').toBe(new Set(found).size);
      expect(
        [...found].sort((a, b) => a - b),
        JSON.stringify([whole, parts]),
      ).toEqual([...rest].sort((a, b) => a - b));
    }
  });
});

describe('joining nodes', () => {
  it('moves readers of either result behind, views and sums too, and keeps the order of the rest', () => {
    const b = new GraphBuilder('f32');
    const x = b.input('x', X);
    const [y, z] = [b.tensor('y', X), b.tensor('z', X)];
    const copy = (from: Tensor, to: Tensor, accumulate = 0) =>
      b.emit('copy_fwd', { accumulate }, { x: from }, { y: to });
    const earlier = copy(x, y);
    ops.fill(b, z, 0);
    const slice = b.tensor('slice', [1, 1, 1, 2, 2], 'f32', { view: { of: y, offset: 2, dense: false } });
    const adds = copy(slice, b.tensor('part', [1, 1, 1, 2, 2], 'f32', { view: { of: z, offset: 0, dense: false } }), 1);
    const reads = copy(z, b.tensor('late', X));
    const other = copy(x, b.tensor('other', X));
    const later = copy(x, b.tensor('w', X));
    const after = copy(x, b.tensor('after', X));
    const joined = { ...later, scope: 'joined' };
    const order = joinNodes(b.nodes, [{ earlier, later, joined }]);
    expect(order).toEqual([b.nodes[1], other, joined, adds, reads, after]);
  });

  it('leaves a pair alone whose later node needs the earlier one', () => {
    const b = new GraphBuilder('f32');
    const x = b.input('x', X);
    const [y, z] = [b.tensor('y', X), b.tensor('z', X)];
    const copy = (from: Tensor, to: Tensor) => b.emit('copy_fwd', { accumulate: 0 }, { x: from }, { y: to });
    const earlier = copy(x, y);
    copy(y, z);
    const later = copy(z, b.tensor('w', X));
    expect(joinNodes(b.nodes, [{ earlier, later, joined: { ...later, scope: 'joined' } }])).toEqual(b.nodes);
  });

  it('a loss whose gradient is weighted by the loss itself is not fused, and right', async () => {
    const b = new GraphBuilder(backend.info.real);
    const x = b.input('x', X);
    const { loss } = ops.l1(b, x, ops.fill(b, b.tensor('level', X), 0));
    const fwd = b.producer(loss)!;
    const dx = b.tensor('dx', X);
    const db = b.tensor('db', X);
    const sums = fwd.outputs[1]!;
    b.backwardOf(fwd, () => {
      b.emit('l1_bwd', fwd.attrs, { a: x, b: fwd.inputs[1], sums, dloss: loss }, { da: dx, db });
    });
    b.output(dx, 'dx');
    const program = compile(b.finish(), backend, nothing, 0, { fusions: ALL_FUSIONS });
    expect(program.graph.nodes.map((n) => n.kernel)).toEqual(['fill_fwd', 'l1_fwd', 'l1_bwd']);
  });
});
