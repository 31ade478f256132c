/** Whole gradients on the float64 reference: against central differences, fused as unfused; and what is refused. */
import { afterAll, describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/graph/builder.js';
import { differentiate } from '../../src/graph/differentiate.js';
import { allKernels } from '../../src/graph/kernel.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { openReference } from '../golden/devices.js';
import { ALL_FUSIONS, NO_FUSIONS } from './helpers.js';
import { offFromDifferences, prepare, values, type Small } from './numbers.js';

const backend = await openReference();
afterAll(() => backend.close());

const H: Shape = [2, 2, 2, 3, 2];
const C: Shape = [2, 1, 1, 1, 1];
const W: Shape = [2, 2, 3, 1, 3];
const level = (b: GraphBuilder, t: Tensor) => ops.fill(b, b.tensor('level', t.shape), 0.37);
/** How far a tensor is from 0.37, over its size. */
const loss = (b: GraphBuilder, t: Tensor) => ops.l1(b, t, level(b, t), true).loss;
const pos = (b: GraphBuilder, n: number) => {
  const p = b.tensor('pos', [n, 1, 1, 1, 1], 'f64');
  for (let i = 0; i < n; i++)
    ops.fill(b, b.tensor('pos.i', [1, 1, 1, 1, 1], 'f64', { view: { of: p, offset: i, dense: true } }), i / n);
  return p;
};
const norm = (gamma: Tensor, beta: Tensor) => ({ gamma, beta, runningMean: gamma, runningVar: gamma, eps: 1e-5 });

const graphs: Readonly<Record<string, Small>> = {
  'a residual': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => ({ loss: loss(b, ops.add(b, ops.conv3d(b, h!, w!, null), h!)) }),
  },
  'residuals one after the other': {
    inputs: { h: H, w: W, v: W },
    build: ({ b }, { h, w, v }) => {
      const first = ops.add(b, ops.activation(b, ops.conv3d(b, h!, w!, null), 0.1), h!);
      return { loss: loss(b, ops.add(b, first, ops.conv3d(b, first, v!, null))) };
    },
  },
  'a + a': { inputs: { h: H }, build: ({ b }, { h }) => ({ loss: loss(b, ops.add(b, h!, h!)) }) },
  'a sum of what is used elsewhere too': {
    inputs: { h: H, k: H },
    build: ({ b }, { h, k }) => {
      const sum = ops.add(b, h!, k!);
      return {
        loss: ops.wsum(b, [
          { weight: 0.3, value: loss(b, sum) },
          { weight: 0.5, value: loss(b, ops.activation(b, k!, 0.2)) },
          { weight: 0.7, value: loss(b, h!) },
        ]),
      };
    },
  },
  'a copy': {
    inputs: { h: H },
    build: ({ b }, { h }) => {
      const copy = b.tensor('copy', H);
      b.emit('copy_fwd', { accumulate: 0 }, { x: h }, { y: copy });
      return { loss: loss(b, ops.add(b, copy, h!)) };
    },
  },
  'copies added into one tensor': {
    inputs: { h: H, k: H },
    build: ({ b }, { h, k }) => {
      const sum = b.tensor('sum', H);
      b.emit('copy_fwd', { accumulate: 0 }, { x: h }, { y: sum });
      b.emit('copy_fwd', { accumulate: 1 }, { x: k }, { y: sum });
      return { loss: loss(b, sum) };
    },
  },
  'concat(h, h)': { inputs: { h: H }, build: ({ b }, { h }) => ({ loss: loss(b, ops.concat(b, h!, h!)) }) },
  'concat(h, h) of a convolution that is used twice': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const joined = loss(b, ops.concat(b, y, y));
      return {
        loss: ops.wsum(b, [
          { weight: 1, value: joined },
          { weight: 0.5, value: loss(b, y) },
        ]),
      };
    },
  },
  'l1(h, h + k) and supcon(h, h)': {
    inputs: { h: [3, 1, 1, 1, 4], k: [3, 1, 1, 1, 4] },
    build: ({ b }, { h, k }) => {
      const near = ops.l1(b, h!, ops.add(b, h!, k!), true).loss;
      const same = ops.supcon(b, h!, h!, pos(b, 3), { temperature: 0.5, threshold: 0.4 }).loss;
      return {
        loss: ops.wsum(b, [
          { weight: 1, value: near },
          { weight: 0.5, value: same },
        ]),
      };
    },
  },
  'a scalar used twice, and scaled': {
    inputs: { h: H },
    build: ({ b }, { h }) => {
      const part = loss(b, h!);
      return {
        loss: ops.wsum(b, [
          { weight: 0.3, value: part },
          { weight: 0.5, value: ops.scale(b, part, 3) },
          { weight: 0.1, value: part },
        ]),
      };
    },
  },
  'gamma and beta where x needs no gradient': {
    inputs: { gamma: C, beta: C },
    build: ({ b, ...rig }, { gamma, beta }) => {
      void rig;
      const x = ops.fill(b, b.tensor('x', H), 0);
      const bump = b.tensor('bump', [1, 1, 1, 1, 2], b.real, { view: { of: x, offset: 4, dense: true } });
      ops.fill(b, bump, 1.5);
      return { loss: loss(b, ops.normactTrain(b, x, norm(gamma!, beta!), 0.1).y) };
    },
  },
  'a bias whose weights are frozen': {
    inputs: { bias: C },
    build: ({ b }, { bias }) => {
      const x = ops.fill(b, b.tensor('x', H), 0.5);
      const w = ops.fill(b, b.tensor('w', W), 0.25);
      return { loss: loss(b, ops.conv3d(b, x, w, bias!)) };
    },
  },
  'a norm': {
    inputs: { h: H, gamma: C, beta: C },
    build: ({ b }, { h, gamma, beta }) => ({
      loss: loss(b, ops.normactTrain(b, h!, norm(gamma!, beta!), 0.1).y),
    }),
  },
};

describe.each(Object.entries(graphs))('%s', (_, small) => {
  it.each([
    ['unfused', NO_FUSIONS],
    ['fused', ALL_FUSIONS],
  ])('has the gradient of its differences, %s', async (_title, fusions) => {
    const { off, largest } = await offFromDifferences(backend, small, fusions);
    expect(largest).toBeGreaterThan(1e-4);
    expect(off).toBeLessThan(1e-7);
  });
});

describe('two losses over the same tensors', () => {
  const z: Shape = [4, 1, 1, 1, 5];
  const two: Small = {
    inputs: { z1: z, z2: z },
    build: ({ b }, { z1, z2 }) => {
      const p = pos(b, 4);
      const of = (temperature: number) => ops.supcon(b, z1!, z2!, p, { temperature, threshold: 0.3 }).loss;
      const [first, second] = [of(0.1), of(0.7)];
      return {
        loss: ops.wsum(b, [
          { weight: 1, value: first },
          { weight: 1, value: second },
        ]),
        results: { first, second },
      };
    },
  };

  it('keep their own temperatures when fused', async () => {
    const read = async (fusions: typeof NO_FUSIONS) => {
      const ready = await prepare(backend, two, fusions);
      await ready.run();
      const out = ['loss', 'first', 'second', 'dz1', 'dz2'].map((name) => [...ready.read(name)]);
      const kernels = ready.program.graph.nodes.map((n) => n.kernel);
      await ready.close();
      return { out, kernels };
    };
    const plain = await read(NO_FUSIONS);
    const fused = await read(ALL_FUSIONS);
    expect(fused.kernels.filter((k) => k === 'supcon_fwdbwd')).toHaveLength(2);
    expect(fused.kernels).not.toContain('supcon_fwd');
    expect(fused.out[1]).not.toEqual(fused.out[2]);
    fused.out.forEach((list, i) => list.forEach((v, k) => expect(Math.abs(v - plain.out[i]![k]!)).toBeLessThan(1e-12)));
    expect((await offFromDifferences(backend, two, ALL_FUSIONS)).off).toBeLessThan(1e-7);
  });
});

describe('what is refused', () => {
  const start = () => {
    const b = new GraphBuilder('f64');
    const h = b.input('h', H);
    return {
      b,
      h,
      targets: (...ts: Tensor[]) => new Map(ts.map((t) => [t, b.tensor(`d${t.name}`, t.shape, t.dtype)])),
    };
  };

  it('a gradient through a kernel that has none', () => {
    const { b, h, targets } = start();
    const mean = b.tensor('mean', C);
    const variance = b.tensor('var', C);
    b.within('odd', () =>
      b.emit('normact_stats', { unused: 0 }, { x: h }, { mean, var: variance, ws: b.opaque('ws') }),
    );
    expect(() => differentiate(b, loss(b, mean), targets(h))).toThrow(
      /no gradient passes through normact_stats at odd \(only the norm/,
    );
  });

  it('a gradient through an output that the rule leaves out', () => {
    const { b, h, targets } = start();
    const { meansq } = b.within('odd', () => ops.l1(b, h, level(b, h)));
    expect(() => differentiate(b, meansq, targets(h))).toThrow(
      /l1_fwd at odd has no gradient through its output meansq/,
    );
  });

  it('a gradient for an input that the rule leaves out', () => {
    const { b, h, targets } = start();
    const weights = b.input('cw', C, 'f64');
    const y = b.input('y', [H[0], H[1], H[2], H[3], 1], 'i32');
    const ce = ops.softmaxce(b, h, y, weights);
    expect(() => differentiate(b, ce, targets(h, weights))).toThrow(/no gradient for its input cw \(cw\)/);
  });

  it("a gradient through a norm with another tensor's statistics, as these depend on a target too", () => {
    const { b, h, targets } = start();
    const { pass } = ops.normactTrain(b, ops.activation(b, h, 1), norm(b.input('g', C), b.input('g2', C)), 1);
    const { mean, var: variance } = pass;
    const given = { ...norm(b.input('gamma', C), b.input('beta', C)), runningMean: mean, runningVar: variance };
    const y = b.within('odd', () => ops.normactEval(b, h, given, 0.1));
    expect(() => differentiate(b, loss(b, y), targets(h))).toThrow(
      /normact_fwd at odd has no gradient for its input mean/,
    );
  });

  it('a target that the loss does not reach, unless it is declared', async () => {
    const { b, h, targets } = start();
    const w = b.input('lonely.weight', W);
    const all = targets(h, w);
    expect(() => differentiate(b, loss(b, h), all)).toThrow(/does not reach lonely\.weight/);
    const small: Small = {
      inputs: { h: H, w: W },
      build: (rig, x) => ({ loss: loss(rig.b, x.h!) }),
    };
    await expect(prepare(backend, small)).rejects.toThrow(/does not reach w/);
  });

  it('a gradient tensor of another shape', () => {
    const { b, h } = start();
    expect(() => differentiate(b, loss(b, h), new Map([[h, b.tensor('d', W)]]))).toThrow(/cannot lie in d/);
  });

  it('second derivatives', () => {
    const { b, h, targets } = start();
    const all = targets(h);
    differentiate(b, loss(b, h), all);
    expect(() => differentiate(b, loss(b, all.get(h)!), targets(h))).toThrow(/second derivatives/);
  });
});

it('every kernel has a rule or says why not', () => {
  for (const k of allKernels())
    if (typeof k.gradient !== 'function') expect(k.gradient.none.length, k.name).toBeGreaterThan(10);
});

it('a frozen target gets 0, and those of a second loss are added', async () => {
  const read = async (build: (b: GraphBuilder, h: Tensor, k: Tensor, targets: Map<Tensor, Tensor>) => void) => {
    const { Rig } = await import('../golden/rig.js');
    const rig = new Rig(backend);
    const [h, k] = (['h', 'k'] as const).map((n) => rig.input(n, H, values(n, H))) as [Tensor, Tensor];
    const targets = new Map([h, k].map((t) => [t, rig.result(`d${t.name}`, rig.b.tensor(`d${t.name}`, H))]));
    build(rig.b, h, k, targets);
    const ready = await rig.ready();
    await ready.run();
    const out = [ready.read('dh'), ready.read('dk')] as const;
    await ready.close();
    return out;
  };
  const both = await read((b, h, k, targets) => differentiate(b, loss(b, ops.add(b, h, k)), targets));
  const frozen = await read((b, h, k, targets) =>
    differentiate(b, loss(b, ops.add(b, h, k)), targets, { unused: new Set([k]) }),
  );
  expect(frozen[0]).toEqual(both[0]);
  expect([...frozen[1]]).toEqual(new Array(frozen[1].length).fill(0));
  const twice = await read((b, h, k, targets) => {
    differentiate(b, loss(b, ops.add(b, h, k)), targets);
    const from = b.nodes.length;
    differentiate(b, loss(b, ops.add(b, h, k)), targets, { from, written: true });
  });
  expect([...twice[0]]).toEqual([...both[0]].map((v) => 2 * v));
  expect([...twice[1]]).toEqual([...both[1]].map((v) => 2 * v));
});

it('refuses a gradient that reaches what was computed before `from`', () => {
  const b = new GraphBuilder('f64');
  const h = b.input('h', H);
  const w = b.input('w', W);
  const y = ops.activation(b, h, 0.1);
  const from = b.nodes.length;
  const l = loss(b, ops.conv3d(b, y, w, null));
  const targets = new Map([h, w].map((t) => [t, b.tensor(`d${t.name}`, t.shape)]));
  const frozen = { from, unused: new Set([h]) };
  expect(() => differentiate(b, l, targets, { from })).toThrow(/does not reach h/);
  expect(() => differentiate(b, l, new Map([...targets]), frozen)).not.toThrow();
  const both = ops.wsum(b, [
    { weight: 1, value: loss(b, ops.conv3d(b, y, w, null)) },
    { weight: 1, value: loss(b, h) },
  ]);
  expect(() => differentiate(b, both, targets, { from, written: true })).toThrow(
    /reaches act, which was computed before/,
  );
});

describe('tensors that only lie in the same memory', () => {
  const start = () => {
    const b = new GraphBuilder('f64');
    const h = b.input('h', H);
    const w = b.input('w', W);
    const targets = new Map([h, w].map((t) => [t, b.tensor(`d${t.name}`, t.shape)]));
    return { b, h, w, targets };
  };
  const byHand = (b: GraphBuilder, of: Tensor) =>
    b.tensor('hand', [2, 2, 2, 3, 1], b.real, { view: { of, offset: 1, dense: false } });

  it('do not pass a gradient unseen: a part of a computed one', () => {
    const { b, h, w, targets } = start();
    const y = ops.conv3d(b, h, w, null);
    const l = ops.wsum(b, [
      { weight: 1, value: loss(b, byHand(b, y)) },
      { weight: 1, value: loss(b, y) },
    ]);
    expect(() => differentiate(b, l, targets)).toThrow(/no gradient passes from hand to w\.y/);
  });

  it('do not pass a gradient unseen: parts laid side by side', () => {
    const { b, h, w, targets } = start();
    const parts = [ops.activation(b, h, 0.1), ops.activation(b, h, 0.2)];
    const flat = b.sideBySide('flat', parts);
    const l = ops.wsum(b, [
      { weight: 1, value: loss(b, flat) },
      { weight: 1, value: loss(b, ops.conv3d(b, h, w, null)) },
    ]);
    expect(() => differentiate(b, l, targets)).toThrow(/no gradient passes from flat to act/);
  });

  it('are no obstacle where no gradient passes', () => {
    const { b, h, w, targets } = start();
    const y = ops.conv3d(b, h, w, null);
    b.output(ops.add(b, byHand(b, y), byHand(b, y)), 'looked at');
    const l = ops.l1(b, y, ops.detach(b, ops.activation(b, y, 0.5)), true).loss;
    expect(() => differentiate(b, l, targets)).not.toThrow();
  });

  it('are not written over', () => {
    const { b, h, w, targets } = start();
    const y = ops.conv3d(b, h, w, null);
    b.within('mask', () => ops.fill(b, ops.rows(b, y, 1, 1), 0));
    expect(() => differentiate(b, loss(b, y), targets)).toThrow(/fill_fwd at mask writes over w\.y/);
    const c = start();
    const z = ops.conv3d(c.b, c.h, c.w, null);
    c.b.emit('copy_fwd', { accumulate: 1 }, { x: ops.sliceChannels(c.b, c.h, 0, 1) }, { y: byHand(c.b, z) });
    expect(() => differentiate(c.b, loss(c.b, z), c.targets)).toThrow(/copy_fwd at .*writes over w\.y/);
  });
});

it.each([
  ['before', true],
  ['after', false],
])(
  'a tensor put together from views that are made %s it is written has the gradient of its differences',
  async (_, early) => {
    const small: Small = {
      inputs: { h: H, w: W },
      build: ({ b }, { h, w }) => {
        const y = ops.conv3d(b, h!, w!, null);
        const whole = b.tensor('whole', H);
        const look = () => ops.sliceChannels(b, ops.rows(b, whole, 0, 2), 1, 1);
        const first = early ? look() : null;
        for (const i of [0, 1])
          b.emit(
            'copy_fwd',
            { accumulate: 0 },
            { x: ops.rows(b, i === 0 ? y : h!, i, 1) },
            { y: ops.rows(b, whole, 1 - i, 1) },
          );
        b.emit('copy_fwd', { accumulate: 1 }, { x: ops.rows(b, h!, 1, 1) }, { y: ops.rows(b, whole, 0, 1) });
        return {
          loss: ops.wsum(b, [
            { weight: 1, value: loss(b, whole) },
            { weight: 0.4, value: loss(b, first ?? look()) },
          ]),
        };
      },
    };
    for (const fusions of [NO_FUSIONS, ALL_FUSIONS]) {
      const { off, largest } = await offFromDifferences(backend, small, fusions);
      expect(largest).toBeGreaterThan(1e-4);
      expect(off).toBeLessThan(1e-7);
    }
  },
);
