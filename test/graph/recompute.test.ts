/** Recomputation: the same bits in less scratch, on whole steps; and what it leaves alone. */
import { afterAll, describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { checkGraph } from '../../src/graph/check.js';
import { compile } from '../../src/graph/compile.js';
import { differentiate } from '../../src/graph/differentiate.js';
import { recompute } from '../../src/graph/recompute.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { openReference } from '../golden/devices.js';
import { randomData } from '../golden/random-step.js';
import { Ready } from '../golden/rig.js';
import { StepRun, type StepConfig } from '../golden/steprun.js';
import { ALL_FUSIONS, buildAll, NO_FUSIONS } from './helpers.js';
import { values } from './numbers.js';

const backends = [await openReference(), await openBackend('cpu', { threads: 2 })];
afterAll(() => Promise.all(backends.map((b) => b.close())));

const SGD = { name: 'sgd', lr: 0.01, momentum: 0.9, weightDecay: 1e-4 } as const;
const pretrain: StepConfig = {
  task: 'pretrain',
  model: { dims: 3, inChannels: 1, filters: 4, levels: 2, decoderBlocks: 2 },
  loss: { temperature: 0.1, threshold: 0.3, weights: { global: 1, dense: 0.5, er: 1 } },
  optimizer: SGD,
};
const finetune: StepConfig = {
  task: 'finetune',
  model: { dims: 3, inChannels: 1, filters: 4, levels: 2, decoderBlocks: 1, classes: 3 },
  loss: { name: 'ce+dice' },
  optimizer: SGD,
};
const encoder = ['encoder.blocks.0', 'encoder.blocks.1'];
const all = [...encoder, 'encoder.centre', 'decoder.blocks.0', 'decoder.blocks.1'];
const cases = [
  ['pretrain', pretrain, [16, 16, 32], encoder, 0.6],
  ['pretrain', pretrain, [16, 16, 32], all, 0.6],
  ['finetune', finetune, [8, 16, 32], encoder, 0.8],
  ['finetune', finetune, [8, 16, 32], all, 0.8],
] as const;

describe.each(backends.map((b) => [b.info.name, b] as const))('%s', (_, backend) => {
  describe.each(cases)('%s', (_task, config, patch, scopes, less) => {
    it.each([
      ['unfused', NO_FUSIONS],
      ['fused', ALL_FUSIONS],
    ])(`${scopes.length} scopes, %s: the same bits in less scratch`, async (_title, fusions) => {
      const read = async (again: readonly string[]) => {
        const data = randomData(config, 2, patch);
        // Of activations is spoken here: weights transformed for another algorithm would be most of these networks' scratch.
        const run = await StepRun.create(backend, data, { fusions, recompute: again, arithmetic: 'direct' });
        await run.step();
        await run.step();
        const out = run.outputs();
        const { scratch } = run.program.sizes;
        const nodes = run.program.graph.nodes.filter((n) => n.again).map((n) => n.kernel);
        expect(run.program.text().match(/ again /g) ?? []).toHaveLength(nodes.length);
        await run.close();
        return { out, scratch, nodes };
      };
      const plain = await read([]);
      const again = await read(scopes);
      expect([...again.out.keys()]).toEqual([...plain.out.keys()]);
      for (const [name, want] of plain.out) expect(again.out.get(name), name).toEqual(want);
      expect(plain.nodes).toEqual([]);
      expect(new Set(again.nodes)).toEqual(new Set(again.nodes.filter((k) => !/stats|pack|_bwd/.test(k))));
      expect(again.nodes).toContain('conv3d_fwd');
      expect(again.scratch / plain.scratch).toBeLessThan(less);
    });
  });
});

describe('of whole steps', () => {
  it.each(buildAll().map((b) => [b.name, b] as const))('%s stays sound', (name, { graph }) => {
    const again = recompute(graph, encoder);
    expect(checkGraph(again)).toEqual([]);
    const twice = again.nodes.filter((n) => n.again);
    expect(twice.length > 0).toBe(/pretrain|finetune/.test(name));
    expect(new Set(again.nodes.map((n) => n.id)).size).toBe(again.nodes.length);
    expect(new Set(again.tensors.map((t) => t.id)).size).toBe(again.tensors.length);
    // All that is left out is as it was.
    expect(again.nodes.filter((n) => !n.again).map((n) => n.id)).toEqual(graph.nodes.map((n) => n.id));
    expect(recompute(graph, []).nodes).toEqual(graph.nodes);
  });
});

const X: Shape = [2, 2, 2, 2, 2];
const W: Shape = [2, 2, 1, 1, 1];
const level = (b: GraphBuilder, t: Tensor) => ops.fill(b, b.tensor('level', t.shape), 0.37);

/** Two convolutions in scope `part`, then a loss. */
function small(
  between: (b: GraphBuilder, x: Tensor) => Tensor,
  after: (b: GraphBuilder, x: Tensor) => void = () => {},
) {
  const b = new GraphBuilder('f32');
  const [x, w, v] = [b.input('x', X), b.input('w', W), b.input('v', W)];
  const [inside, y] = b.within('part', () => {
    const h = between(b, ops.conv3d(b, x, w, null));
    return [h, ops.conv3d(b, h, v, null)] as const;
  });
  after(b, inside);
  const { loss } = ops.l1(b, y, level(b, y));
  const targets = new Map([w, v].map((t) => [t, b.output(b.tensor(`d${t.name}`, W), `d${t.name}`)]));
  differentiate(b, loss, targets);
  b.output(loss, 'loss');
  const graph = recompute(b.finish(), ['part']);
  expect(checkGraph(graph)).toEqual([]);
  return graph.nodes.filter((n) => n.again).map((n) => n.kernel);
}

it('runs what only its own scope reads', () => {
  expect(small((b, h) => ops.activation(b, h, 0.1))).toEqual(['conv3d_fwd', 'normact_fwd']);
});

it('runs views again, of samples and of channels', () => {
  expect(
    small((b, h) =>
      ops.concat(b, ops.sliceChannels(b, ops.activation(b, h, 0.1), 0, 1), ops.sliceChannels(b, h, 1, 1)),
    ),
  ).toEqual(['conv3d_fwd', 'normact_fwd', 'slice', 'slice', 'concat_fwd']);
});

it('keeps what others read, themselves or through a view', () => {
  const read = (b: GraphBuilder, t: Tensor) => void b.output(ops.add(b, t, t), 'sum');
  expect(small((b, h) => ops.activation(b, h, 0.1), read)).toEqual(['conv3d_fwd']);
  const viewed = (b: GraphBuilder, h: Tensor) => ops.reshape(b, ops.activation(b, h, 0.1), [4, 1, 2, 2, 2]);
  expect(small(viewed, read)).toEqual(['conv3d_fwd']);
});

it('keeps what is a result, and what reads something that changes', () => {
  expect(small((b, h) => b.output(ops.activation(b, h, 0.1), 'h'))).toEqual(['conv3d_fwd']);
  const sum = (b: GraphBuilder, h: Tensor): Tensor => {
    const total = b.tensor('total', X);
    b.emit('copy_fwd', { accumulate: 0 }, { x: h }, { y: total });
    const early = ops.activation(b, total, 0.1);
    b.emit('copy_fwd', { accumulate: 1 }, { x: early }, { y: total });
    return ops.concat(b, ops.sliceChannels(b, total, 0, 1), ops.sliceChannels(b, early, 0, 1));
  };
  expect(small(sum)).not.toContain('copy_fwd');
  expect(small(sum)).not.toContain('normact_fwd');
});

it('refuses a scope in which nothing is computed', () => {
  const [built] = buildAll();
  expect(() => recompute(built!.graph, ['encoder.blocks.0', 'encoder.block.1'])).toThrow(
    /nothing is computed in the scope "encoder\.block\.1"/,
  );
});

describe('micro-batches', () => {
  const B: Shape = [4, 8, 8, 8, 2];
  const K: Shape = [2, 2, 3, 3, 3];
  /** Mean |y − 0.37| of a batch of 4, at once or in two halves, with the gradients of both convolutions. */
  const build = (b: GraphBuilder, halves: number) => {
    const x = b.input('x', B);
    const weights = ['w', 'v'].map((name) => b.input(name, K));
    const targets = new Map(weights.map((t) => [t, b.output(b.tensor(`d${t.name}`, K), `d${t.name}`)]));
    const parts = Array.from({ length: halves }, (_, i) => {
      const from = b.nodes.length;
      return b.within(`part${i}`, () => {
        const some = ops.rows(b, x, (i * 4) / halves, 4 / halves);
        const [w, v] = weights as [Tensor, Tensor];
        const y = b.within('body', () => {
          const h = ops.activation(b, ops.conv3d(b, some, w, null), 0.1);
          return ops.activation(b, ops.conv3d(b, h, v, null), 0.1);
        });
        const loss = ops.wsum(b, [{ weight: 1 / halves, value: ops.l1(b, y, level(b, y)).loss }]);
        differentiate(b, loss, targets, { from, written: i > 0 });
        return loss;
      });
    });
    b.output(
      ops.wsum(
        b,
        parts.map((value) => ({ weight: 1, value })),
      ),
      'loss',
    );
    return b.finish();
  };

  it.each([
    ['unfused', NO_FUSIONS],
    ['fused', ALL_FUSIONS],
  ])(
    'give the sum of their gradients in less scratch, and the same bits when computed again, %s',
    async (_, fusions) => {
      const backend = backends[0]!;
      const read = async (halves: number, scopes: readonly string[]) => {
        const graph = recompute(build(new GraphBuilder(backend.info.real), halves), scopes);
        const program = compile(graph, backend, { offsets: new Map(), bytes: 0 }, 0, { fusions });
        const session = await backend.createSession(program.sizes);
        const ready = new Ready(session, program);
        for (const [name, shape] of [
          ['x', B],
          ['w', K],
          ['v', K],
        ] as const)
          ready.set(name, values(name, shape));
        await ready.run();
        const out = ['loss', 'dw', 'dv'].map((name) => ready.read(name));
        await ready.close();
        return { out, scratch: program.sizes.scratch, scopes: graph.nodes.map((n) => n.scope) };
      };
      const whole = await read(1, []);
      const halves = await read(2, []);
      const again = await read(2, ['body']);
      halves.out.forEach((v, i) =>
        v.forEach((e, k) =>
          expect(Math.abs(e - whole.out[i]![k]!)).toBeLessThan(1e-13 * Math.max(...whole.out[i]!.map(Math.abs))),
        ),
      );
      expect(halves.scratch).toBeLessThan(0.7 * whole.scratch);
      expect(again.out).toEqual(halves.out);
      expect(again.scratch).toBeLessThan(halves.scratch);
      expect(new Set(halves.scopes.filter((s) => s.startsWith('part')))).toEqual(
        new Set(['part0', 'part0.body', 'part1', 'part1.body']),
      );
    },
  );
});
