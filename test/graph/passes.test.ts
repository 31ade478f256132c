/** The compiler's passes on whole steps, without a device. */
import { describe, expect, it } from 'vitest';
import { MaclError } from '../../src/errors.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { checkGraph, checkPlan } from '../../src/graph/check.js';
import { compile } from '../../src/graph/compile.js';
import { kernelDef, readsOutput } from '../../src/graph/kernel.js';
import { livesOf } from '../../src/graph/plan.js';
import { addressOfEntry } from '../../src/nn/state.js';
import { concat, conv3d, fill } from '../../src/ops/index.js';
import { ALL_FUSIONS, buildAll, NO_FUSIONS, stubBackend } from './helpers.js';

const NAMES = buildAll().map((b) => b.name);
const one = (name: string) => buildAll().find((b) => b.name === name)!;
const compiled = (name: string, fusions = ALL_FUSIONS) => {
  const { graph, state } = one(name);
  return compile(graph, stubBackend, { offsets: state.offsets, bytes: state.bytes }, 1024, { fusions });
};

describe.each(NAMES)('%s', (name) => {
  it('is sound before and after every fusion', () => {
    expect(checkGraph(one(name).graph)).toEqual([]);
    for (const fusions of [NO_FUSIONS, ...[...ALL_FUSIONS].map((f) => new Set([f])), ALL_FUSIONS]) {
      const program = compiled(name, fusions);
      expect(checkGraph(program.graph)).toEqual([]);
      expect(checkPlan(program.plan)).toEqual([]);
    }
  });

  it('shares scratch between buffers that are not alive together', () => {
    const program = compiled(name);
    expect(program.sizes.scratch).toBeLessThan(0.8 * program.scratchBytesWithoutReuse);
    const alive = (i: number) =>
      livesOf(program.graph.nodes)
        .filter((l) => l.first <= i && i <= l.last)
        .reduce((sum, l) => sum + (l.tensor.opaque ? 4096 : l.tensor.shape.reduce((p, s) => p * s, 4)), 0);
    const peak = Math.max(...program.graph.nodes.map((_, i) => alive(i)));
    expect(program.sizes.scratch).toBeGreaterThanOrEqual(peak);
    expect(program.sizes.scratch).toBeLessThan(1.3 * peak + 1e5);
  });

  it('begins every buffer where the backend wants it', () => {
    const { graph, state } = one(name);
    const { info } = stubBackend;
    for (const alignment of [64, 256]) {
      const { plan } = compile(graph, { ...stubBackend, info: { ...info, alignment } }, state, 1024, {
        fusions: ALL_FUSIONS,
      });
      const own = [...plan.offsets].filter(([t]) => t.segment !== 'state');
      expect(own.length).toBeGreaterThan(20);
      for (const [t, offset] of own) expect(offset % alignment, t.name).toBe(0);
    }
  });

  it('encodes the same bytes every time', () => {
    expect(compiled(name).bytes).toEqual(compiled(name).bytes);
    expect(compiled(name).text()).toBe(compiled(name).text());
  });
});

describe('fusion', () => {
  const kernels = (name: string, fusions = ALL_FUSIONS) => compiled(name, fusions).graph.nodes.map((n) => n.kernel);

  it('leaves no separate statistics, pooling, concatenation or loss behind in a fine-tuning step', () => {
    const fused = kernels('finetune');
    for (const gone of ['normact_stats', 'maxpool3d_fwd', 'concat_fwd', 'concat_bwd', 'dice_fwd', 'softmaxce_bwd'])
      expect(fused).not.toContain(gone);
    const plain = kernels('finetune', NO_FUSIONS);
    for (const there of ['normact_stats', 'maxpool3d_fwd', 'concat_fwd', 'concat_bwd', 'dice_fwd', 'softmaxce_bwd'])
      expect(plain).toContain(there);
  });

  it('writes both halves of a joined tensor in place', () => {
    const program = compiled('finetune');
    const up = program.graph.nodes.find((n) => n.kernel === 'upconv3d_fwd')!;
    const y = up.outputs[0]!;
    expect(y.view?.dense).toBe(false);
    expect(y.view?.of.shape[4]).toBe(2 * y.shape[4]);
  });

  it('packs each weight once although four passes use it', () => {
    const packs = compiled('pretrain from volumes').graph.nodes.filter((n) => n.kernel === 'conv3d_pack');
    const keys = packs.map((n) => `${n.inputs[0]!.name} ${n.attrs['mode']}`);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe('differentiation', () => {
  it('writes each gradient once and adds the rest, parameters in one flat buffer', () => {
    const { graph, state } = one('pretrain from given views');
    const writes = new Map<string, number[]>();
    for (const node of graph.nodes) {
      const def = kernelDef(node.kernel);
      node.outputs.forEach((t, i) => {
        if (!t?.name.startsWith('grad.')) return;
        const adds = readsOutput(node, def.outputs[i]!.name) ? 1 : 0;
        writes.set(t.name, [...(writes.get(t.name) ?? []), adds]);
      });
    }
    const parameters = state.entries.filter((e) => e.role === 'parameter');
    expect([...writes.keys()].sort()).toEqual(parameters.map((p) => `grad.${p.name}`).sort());
    for (const list of writes.values()) expect(list).toEqual([0, ...list.slice(1).map(() => 1)]);
    expect(writes.get('grad.encoder.blocks.0.conv1.weight')).toHaveLength(4);
    expect(writes.get('grad.decoder.blocks.0.conv1.weight')).toHaveLength(2);
    expect(writes.get('grad.projector.pixel.conv1.weight')).toHaveLength(1);
  });

  it('makes no gradient for the image', () => {
    const { graph } = one('finetune');
    const first = graph.nodes.filter((n) => n.kernel === 'conv3d_bwd_x' && n.scope.endsWith('encoder.blocks.0.conv1'));
    expect(first).toEqual([]);
  });
});

describe('the state table', () => {
  it('gives every entry its own bytes', () => {
    const { state } = one('finetune');
    const ranges = state.entries.map((e) => addressOfEntry(state, e)).sort((a, b) => a.offset - b.offset);
    ranges.forEach(
      (r, i) => i > 0 && expect(r.offset).toBeGreaterThanOrEqual(ranges[i - 1]!.offset + ranges[i - 1]!.bytes),
    );
    expect(ranges.at(-1)!.offset + ranges.at(-1)!.bytes).toBeLessThanOrEqual(state.bytes);
  });
});

describe('refusals', () => {
  const b = () => new GraphBuilder('f32');
  it('names what does not fit', () => {
    const g = b();
    const x = g.input('x', [1, 4, 4, 4, 3]);
    const w = g.input('w', [8, 2, 3, 3, 3]);
    expect(() => conv3d(g, x, w, null)).toThrow(/take 2 channels, x has 3/);
    expect(() => concat(g, x, g.input('y', [1, 4, 4, 5, 3]))).toThrow(/grids differ: 1×4×4×4×3 and 1×4×4×5×3/);
    expect(() => g.emit('conv3d_fwd', {}, { x }, {})).toThrow(MaclError);
    expect(() => g.emit('fill_fwd', { valeu: 1 }, {}, { y: x })).toThrow(/no attribute valeu/);
  });

  it('finds reads before writes and overlaps', () => {
    const g = b();
    const [x, y] = [g.tensor('x', [1, 1, 1, 1, 4]), g.tensor('y', [1, 1, 1, 1, 4])];
    g.emit('copy_fwd', { accumulate: 0 }, { x }, { y });
    fill(g, x, 1);
    expect(checkGraph(g.finish()).join()).toMatch(/reads x \(x\) before it is written/);
  });
});
