/** What a norm's gradient rule appends, and what is refused: kernels by name, without a device. */
import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/graph/builder.js';
import { compile } from '../../src/graph/compile.js';
import { differentiateNode } from '../../src/graph/differentiate.js';
import { required } from '../../src/graph/kernel.js';
import type { Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { ALL_FUSIONS, stubBackend } from './helpers.js';

function setUp(samples = 2) {
  const b = new GraphBuilder('f32');
  const x = b.input('x', [samples, 3, 4, 5, 6]);
  const [gamma, beta, runningMean, runningVar] = (['gamma', 'beta', 'rm', 'rv'] as const).map((name) =>
    b.input(name, [6, 1, 1, 1, 1]),
  ) as [Tensor, Tensor, Tensor, Tensor];
  return { b, x, norm: { gamma, beta, runningMean, runningVar, eps: 1e-5 } };
}

/** Nodes of the backward pass of `y` for some targets. */
function backward(b: GraphBuilder, y: Tensor, targets: Tensor[]) {
  const first = b.nodes.length;
  const node = b.producer(y)!;
  const gradients = new Map(targets.map((t) => [t, b.tensor(`d${t.name}`, t.shape, t.dtype)]));
  differentiateNode(b, node, new Map([[y, b.input('dy', y.shape)]]), gradients);
  return b.nodes.slice(first);
}
const names = (nodes: readonly { kernel: string }[]) => nodes.map((n) => n.kernel);

describe('the gradient of a norm', () => {
  it('goes to γ and β where x needs none, and to γ or β alone', () => {
    for (const pick of [['gamma', 'beta'], ['gamma'], ['beta']] as const) {
      const { b, x, norm } = setUp();
      const { y } = ops.normactTrain(b, x, norm, 0);
      const nodes = backward(
        b,
        y,
        pick.map((p) => norm[p]),
      );
      expect(names(nodes)).toEqual(['normact_sums']);
      const outs = nodes[0]!.outputs.map((t) => t?.name ?? null);
      expect(outs.slice(0, 3)).toEqual([
        'sums',
        (pick as readonly string[]).includes('gamma') ? 'dgamma' : null,
        (pick as readonly string[]).includes('beta') ? 'dbeta' : null,
      ]);
    }
  });

  it('goes to x where γ and β need none: through its own statistics, and without sums through given ones', () => {
    const own = setUp();
    expect(names(backward(own.b, ops.normactTrain(own.b, own.x, own.norm, 0).y, [own.x]))).toEqual([
      'normact_sums',
      'normact_bwd',
    ]);
    const given = setUp();
    const [node] = backward(given.b, ops.normactEval(given.b, given.x, given.norm, 0), [given.x]);
    expect([node!.kernel, node!.attrs['norm']]).toEqual(['normact_bwd', 2]);
  });

  it('is divided by the values that a statistic is over', () => {
    const batch = setUp();
    const sums = backward(batch.b, ops.normactTrain(batch.b, batch.x, batch.norm, 0).y, [batch.x]);
    expect(sums[1]!.attrs['count']).toBe(2 * 3 * 4 * 5);
    expect(required(sums[0]!, 'sums').shape).toEqual([6, 2, 1, 1, 1]);
    const each = setUp();
    const nodes = backward(each.b, ops.instanceNorm(each.b, each.x, each.norm, 0), [each.x]);
    expect(nodes[1]!.attrs['count']).toBe(3 * 4 * 5);
    expect(required(nodes[0]!, 'sums').shape).toEqual([2, 6, 2, 1, 1]);
  });

  it('does not pass through given statistics that need one: they would have to be constants', () => {
    const { b, x, norm } = setUp();
    const y = ops.normactEval(b, x, norm, 0);
    expect(() => backward(b, y, [x, norm.runningMean])).toThrow(/normact_fwd .* no gradient for its input mean \(rm\)/);
  });

  it('refuses statistics that are said to be its own and are another tensor’s', () => {
    const { b, x, norm } = setUp();
    const { y } = ops.normactTrain(b, x, norm, 0);
    const fwd = b.producer(y)!;
    const other = ops.activation(b, x, 1);
    const z = b.tensor('z', x.shape);
    const inputs = { x: other, mean: required(fwd, 'mean'), var: required(fwd, 'var') };
    b.emit('normact_fwd', fwd.attrs, inputs, { y: z });
    expect(() => backward(b, z, [other])).toThrow(/said to be its own/);
  });
});

describe('running statistics', () => {
  const part = (b: GraphBuilder, running: Tensor, offset: number) =>
    b.tensor(`part${offset}`, [6, 1, 1, 1, 1], 'f32', { segment: 'io', view: { of: running, offset, dense: true } });

  it('are updated by one kernel, the rows of a norm in the order of its passes', () => {
    const { b, x, norm } = setUp();
    const running = b.input('running', [24, 1, 1, 1, 1]);
    const at = (offset: number) => ({
      ...norm,
      runningMean: part(b, running, offset),
      runningVar: part(b, running, offset + 6),
    });
    const [first, second] = [at(12), at(0)];
    const passes = [first, second, first].map((n) => ops.normactTrain(b, x, n, 0).pass);
    const halved = { ...passes[2]!, count: 7 };
    ops.updateRunning(b, [passes[0]!, passes[1]!, halved], running, 0.1);
    const node = b.nodes.at(-1)!;
    expect([node.kernel, node.commit, node.attrs]).toEqual(['running_step', true, { momentum: 0.1, norms: 2 }]);
    const table = new Float64Array(required(node, 'table').constant!.buffer);
    expect([...table]).toEqual([0, 2, 3, 12, 6, 0, 120, 12, 6, 24, 7, 0, 6, 12, 120]);
    expect(passes.map((p) => [p.mean.view!.offset, p.var.view!.offset])).toEqual([
      [0, 6],
      [12, 18],
      [24, 30],
    ]);
  });

  it('that lie elsewhere, or apart, are refused', () => {
    const { b, x, norm } = setUp();
    const running = b.input('running', [24, 1, 1, 1, 1]);
    const { pass } = ops.normactTrain(b, x, norm, 0);
    expect(() => ops.updateRunning(b, [pass], running, 0.1)).toThrow(/rm and rv have to lie side by side in running/);
    const apart = { ...norm, runningMean: part(b, running, 0), runningVar: part(b, running, 12) };
    const other = ops.normactTrain(b, x, apart, 0);
    expect(() => ops.updateRunning(b, [other.pass], running, 0.1)).toThrow(
      expect.objectContaining({
        details: expect.objectContaining({
          expected: 'element 6 of running for the variance',
          found: 'element 12',
        }) as object,
      }),
    );
  });
});

describe('norms', () => {
  it('without running statistics cannot be evaluated with them, and commit nothing', () => {
    const { b, x, norm } = setUp();
    const bare = { gamma: null, beta: null, runningMean: null, runningVar: null, eps: norm.eps };
    expect(() => ops.normactEval(b, x, bare, 0)).toThrow(/keeps no running statistics/);
    const { pass } = ops.normactTrain(b, x, bare, 0);
    const before = b.nodes.length;
    ops.updateRunning(b, [pass], b.input('running', [12, 1, 1, 1, 1]), 0.1);
    expect(b.nodes.length).toBe(before);
  });

  it('of one value are refused', () => {
    const b = new GraphBuilder('f32');
    const norm = { gamma: null, beta: null, eps: 1e-5 };
    expect(() => ops.instanceNorm(b, b.input('x', [4, 1, 1, 1, 3]), norm, 0)).toThrow(/InstanceNorm .* 4×1×1×1×3/);
  });

  it('InstanceNorm keeps its statistics beside the convolution; those of one sample are written by it', () => {
    for (const samples of [1, 2]) {
      const b = new GraphBuilder('f32');
      const x = b.input('x', [samples, 2, 4, 4, 2]);
      const y = ops.conv3d(b, x, b.input('w', [4, 2, 3, 3, 3]), null);
      b.output(ops.instanceNorm(b, y, { gamma: null, beta: null, eps: 1e-5 }, 0), 'y');
      const { graph } = compile(b.finish(), stubBackend, { offsets: new Map(), bytes: 0 }, 0, { fusions: ALL_FUSIONS });
      expect(names(graph.nodes).includes('normact_stats')).toBe(samples > 1);
    }
  });
});
