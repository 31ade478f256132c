/** Views: their numbers, their gradients (against central differences), and what passes may do around them. */
import { afterAll, describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/graph/builder.js';
import { compile } from '../../src/graph/compile.js';
import { differentiate } from '../../src/graph/differentiate.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { openReference } from '../golden/devices.js';
import { addressOfEntry, StateBuilder } from '../../src/nn/state.js';
import { decode, encode, Ready, Rig } from '../golden/rig.js';
import { ALL_FUSIONS, NO_FUSIONS, stubBackend } from './helpers.js';
import { offFromDifferences, values, type Small } from './numbers.js';

const backend = await openReference();
afterAll(() => backend.close());

const H: Shape = [3, 2, 1, 3, 4];
const W: Shape = [4, 4, 1, 1, 3];
const V: Shape = [2, 2, 1, 1, 3];
const level = (b: GraphBuilder, t: Tensor) => ops.fill(b, b.tensor('level', t.shape), 0.37);
const loss = (b: GraphBuilder, t: Tensor) => ops.l1(b, t, level(b, t), true).loss;
const sum = (b: GraphBuilder, ...terms: Tensor[]) =>
  ops.wsum(
    b,
    terms.map((value, i) => ({ weight: 1 + 0.3 * i, value })),
  );

const graphs: Readonly<Record<string, Small>> = {
  'rows that part the samples': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      return { loss: sum(b, loss(b, ops.rows(b, y, 0, 1)), loss(b, ops.rows(b, y, 1, 2))) };
    },
  },
  'rows that leave some samples out': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => ({ loss: loss(b, ops.rows(b, ops.conv3d(b, h!, w!, null), 1, 1)) }),
  },
  'rows that overlap, and the whole': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const parts = [ops.rows(b, y, 0, 2), ops.rows(b, y, 1, 2), ops.rows(b, y, 1, 1)];
      return { loss: sum(b, loss(b, y), ...parts.map((p) => loss(b, p))) };
    },
  },
  'the whole after its rows': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const part = ops.rows(b, y, 1, 2);
      return { loss: sum(b, loss(b, ops.activation(b, part, 0.1)), loss(b, y)) };
    },
  },
  'slices of channels': {
    inputs: { h: H, w: W, v: V },
    build: ({ b }, { h, w, v }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const [first, last] = [ops.sliceChannels(b, y, 0, 2), ops.sliceChannels(b, y, 1, 2)];
      return { loss: sum(b, loss(b, ops.conv3d(b, first, v!, null)), loss(b, ops.conv3d(b, last, v!, null))) };
    },
  },
  'a slice of rows, and rows of a slice': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const one = ops.sliceChannels(b, ops.rows(b, y, 1, 2), 1, 2);
      const two = ops.rows(b, ops.sliceChannels(b, y, 2, 2), 0, 2);
      return { loss: sum(b, loss(b, ops.activation(b, one, 0.1)), loss(b, ops.activation(b, two, 0.3))) };
    },
  },
  'a reshape, used beside what it looks at': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const flat = ops.reshape(b, y, [18, 1, 1, 1, 4]);
      const other = ops.reshape(b, flat, [3, 1, 2, 3, 4]);
      return { loss: sum(b, loss(b, ops.activation(b, flat, 0.2)), loss(b, y), loss(b, other)) };
    },
  },
  'views of an input': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => ({
      loss: sum(
        b,
        loss(b, ops.conv3d(b, ops.rows(b, h!, 1, 2), ops.reshape(b, w!, [4, 4, 3, 1, 1]), null)),
        loss(b, ops.sliceChannels(b, h!, 3, 1)),
      ),
    }),
  },
  'a tensor and a view of it in one kernel': {
    inputs: { h: [2, 1, 1, 1, 4] },
    build: ({ b }, { h }) => ({
      loss: ops.l1(b, ops.activation(b, h!, 0.5), ops.reshape(b, h!, [2, 1, 1, 1, 4]), true).loss,
    }),
  },
  'both sides of a concatenation in views': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const z = ops.activation(b, y, 0.1);
      const joined = ops.concat(b, ops.reshape(b, y, [3, 1, 2, 3, 4]), ops.reshape(b, z, [3, 1, 2, 3, 4]));
      return { loss: sum(b, loss(b, joined), loss(b, ops.rows(b, joined, 2, 1)), loss(b, ops.rows(b, z, 0, 1))) };
    },
  },
  'a concatenation of tensors that are looked at': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const z = ops.activation(b, y, 0.1);
      const joined = ops.concat(b, y, z);
      return { loss: sum(b, loss(b, joined), loss(b, ops.rows(b, y, 1, 1)), loss(b, ops.reshape(b, z, H))) };
    },
  },
  'a concatenation of a tensor whose rows are reshaped': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const z = ops.activation(b, y, 0.1);
      const some = ops.reshape(b, ops.rows(b, y, 1, 2), [4, 1, 3, 1, 4]);
      return { loss: sum(b, loss(b, ops.concat(b, y, z)), loss(b, some)) };
    },
  },
  'a sum whose operands are views': {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      const a = ops.add(b, ops.rows(b, y, 0, 2), ops.rows(b, y, 1, 2));
      return { loss: sum(b, loss(b, a), loss(b, ops.add(b, y, y))) };
    },
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

it('parted samples cost no kernel, forward or backward', () => {
  const b = new GraphBuilder('f32');
  const [h, w] = [b.input('h', H), b.input('w', W)];
  const y = ops.conv3d(b, h, w, null);
  const [one, two] = [ops.rows(b, y, 0, 1), ops.rows(b, y, 1, 2)];
  const l = sum(b, loss(b, one), loss(b, two));
  differentiate(b, l, new Map([[w, b.output(b.tensor('dw', W), 'dw')]]));
  b.output(l, 'loss');
  const { graph } = compile(b.finish(), stubBackend, { offsets: new Map(), bytes: 0 }, 0);
  const kernels = graph.nodes.map((n) => n.kernel);
  expect(kernels).not.toContain('rows');
  expect(kernels.filter((k) => k === 'fill_fwd' || k === 'copy_fwd')).toHaveLength(3); // two levels, the loss's own 1
  const parts = graph.nodes.filter((n) => n.kernel === 'l1_fwdbwd').map((n) => n.outputs[3]!.view!.of);
  expect(parts[0]).toBe(parts[1]);
});

it('detach passes values, and no gradient', async () => {
  const small: Small = {
    inputs: { h: H, w: W },
    build: ({ b }, { h, w }) => {
      const y = ops.conv3d(b, h!, w!, null);
      return { loss: ops.l1(b, y, ops.detach(b, ops.activation(b, y, 0)), true).loss };
    },
  };
  const rig = new Rig(backend);
  const x = Object.fromEntries(
    Object.entries(small.inputs).map(([n, s]) => [n, rig.input(n, s, values(n, s))]),
  ) as Record<string, Tensor>;
  const { loss: l } = small.build(rig, x);
  const dw = rig.result('dw', rig.b.tensor('dw', W));
  differentiate(rig.b, l, new Map([[x.w!, dw]]));
  const kernels = rig.b.nodes.map((n) => n.kernel);
  expect(kernels).not.toContain('normact_bwd');
  const ready = await rig.ready();
  await ready.run();
  expect(Math.max(...ready.read('dw').map(Math.abs))).toBeGreaterThan(1e-4);
  await ready.close();

  const b = new GraphBuilder('f64');
  const h = b.input('h', H);
  const stopped = loss(b, ops.detach(b, h));
  expect(() => differentiate(b, stopped, new Map([[h, b.tensor('dh', H)]]))).toThrow(/does not reach h/);
});

it('no kernel writes in place over what a view still looks at', async () => {
  const read = async (inPlace: boolean) => {
    const rig = new Rig(backend);
    const { b } = rig;
    const x = rig.input('x', H, values('x', H));
    const y = ops.activation(b, x, 0.5);
    const part = ops.rows(b, y, 1, 1);
    if (!inPlace) rig.result('y', y);
    const z = ops.activation(b, y, 2);
    const late = ops.add(b, part, ops.rows(b, z, 1, 1));
    rig.result('late', late);
    const ready = await rig.ready();
    await ready.run();
    const out = ready.read('late');
    await ready.close();
    return out;
  };
  expect(await read(true)).toEqual(await read(false));
});

describe('what is refused', () => {
  const b = new GraphBuilder('f32');
  const x = b.input('x', H);
  it.each([
    [() => ops.rows(b, x, 2, 2), /samples 2 … 3 of x, which has 3/],
    [() => ops.rows(b, x, 0.5, 1), /samples/],
    [() => ops.sliceChannels(b, x, 0, 5), /channels 0 … 4 of x, which has 4/],
    [() => ops.reshape(b, x, [1, 1, 1, 1, 4]), /3×2×1×3×4 does not fill 1×1×1×1×4/],
    [() => ops.reshape(b, ops.sliceChannels(b, x, 0, 2), [1, 1, 1, 1, 36]), /has gaps/],
    [() => b.output(ops.rows(b, x, 0, 1), 'y'), /y: an input, a view/],
    [
      () => differentiate(b, loss(b, x), new Map([[ops.rows(b, x, 0, 1), b.tensor('d', [1, 2, 1, 3, 4])]])),
      /x\.rows is a view/,
    ],
  ])('%s', (make, message) => {
    expect(make).toThrow(message);
  });
});

it('views of the state: weights under another shape, rows of a queue that are read and committed', async () => {
  const s = new StateBuilder(backend.info);
  const zero = { kind: 'constant', value: 0 } as const;
  s.declare('other.weight', [5], 'parameter', zero);
  const w = s.declare('conv.weight', [4, 4, 1, 1, 3], 'parameter', zero);
  const queue = s.declare('queue', [4, 1, 1, 1, 2], 'queue', zero);
  const state = s.finish([], false);
  const step = async (shape: Shape | null) => {
    const rig = new Rig(backend);
    const { b } = rig;
    const h = rig.input('h', H, values('h', H));
    const y = ops.conv3d(b, h, shape ? ops.reshape(b, w, shape) : w, null);
    const l = loss(b, y);
    const flat = b.tensor('gradients', state.weights.shape, b.real, { keep: true });
    const part = (t: Tensor) =>
      b.tensor(`grad.${t.name}`, t.shape, b.real, { view: { of: flat, offset: t.view!.offset, dense: true } });
    const parameters = state.entries.filter((e) => e.role === 'parameter').map((e) => e.tensor);
    const unused = new Set(parameters.filter((t) => t !== w));
    differentiate(b, l, new Map(parameters.map((t) => [t, part(t)])), { unused });
    // Commit: the queue's last two rows move to the front.
    rig.result('last', ops.add(b, ops.rows(b, queue, 2, 2), ops.rows(b, queue, 0, 2)));
    b.emit('copy_fwd', { accumulate: 0 }, { x: ops.rows(b, queue, 2, 2) }, { y: ops.rows(b, queue, 0, 2) }, true);
    b.guard = ops.fill(b, b.tensor('guard', [1, 1, 1, 1, 1], 'i32'), 0);
    const program = compile(b.finish(), backend, state, 0, { fusions: ALL_FUSIONS });
    const session = await backend.createSession(program.sizes);
    const ready = new Ready(session, program);
    const at = (t: Tensor) =>
      addressOfEntry(
        state,
        state.entries.find((e) => e.tensor === t)!,
      );
    session.write('state', at(w).offset, encode(values('w', w.shape), b.real));
    session.write('state', at(queue).offset, encode([1, 2, 3, 4, 5, 6, 7, 8], b.real));
    ready.set('h', values('h', H));
    await ready.run();
    const kept = program.kept.get('gradients')!;
    const out = {
      gradients: decode(session.read('scratch', kept.offset, kept.bytes), kept.dtype),
      last: ready.read('last'),
      queue: decode(session.read('state', at(queue).offset, at(queue).bytes), queue.dtype),
    };
    await ready.close();
    return out;
  };
  const plain = await step(null);
  const viewed = await step([4, 4, 1, 1, 3]);
  expect(viewed).toEqual(plain);
  expect(Math.max(...plain.gradients.slice(5).map(Math.abs))).toBeGreaterThan(1e-4);
  expect([...plain.gradients.slice(0, 5)]).toEqual([0, 0, 0, 0, 0]);
  expect([...plain.last]).toEqual([6, 8, 10, 12]);
  expect([...plain.queue]).toEqual([5, 6, 7, 8, 5, 6, 7, 8]);
});
