/** Which algorithm a convolution gets: by shape and instruction set, each with weights packed for it, and nothing packed in vain. */
import { describe, expect, test } from 'vitest';
import { checkGraph } from '../../src/graph/check.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { chooseAlgorithms } from '../../src/graph/algorithms.js';
import type { Graph, Node, Shape } from '../../src/graph/types.js';
import { conv3d } from '../../src/ops/index.js';
import {
  countVariants,
  DIRECT,
  variantOf,
  type ConvolutionPass,
  type ConvolutionSizes,
} from '../../src/ops/conv3d-variants.js';

const sizes = (grid: readonly [number, number, number], inputs: number, outputs: number): ConvolutionSizes => ({
  grid: [2, ...grid, outputs],
  inputs,
  outputs,
  depth: grid[0] === 1 ? 1 : 3,
});
const ISAS = ['avx512', 'avx2', 'baseline', 'simd128', 'relaxed-simd'];
const PASSES: readonly ConvolutionPass[] = ['data', 'weights'];

describe.each(ISAS.flatMap((isa) => PASSES.map((pass) => [isa, pass] as const)))('on %s, %s', (isa, pass) => {
  test('direct is direct', () => {
    expect(variantOf(sizes([48, 64, 48], 16, 16), 'direct', isa, pass)).toBe(DIRECT);
  });

  test('large volumes have F(4,3) on two axes where it is fast, on one where it is precise', () => {
    expect(variantOf(sizes([48, 64, 48], 32, 32), 'fast', isa, pass)).toBe(442);
    expect([242, 422]).toContain(variantOf(sizes([48, 64, 48], 32, 32), 'precise', isa, pass));
    expect(variantOf(sizes([1, 256, 256], 32, 32), 'fast', isa, pass)).toBe(144);
    expect(variantOf(sizes([1, 256, 256], 32, 32), 'precise', isa, pass)).toBe(142);
  });

  test('large volumes have it on all three where activations are bf16, and that only where it is fast', () => {
    const volume = { ...sizes([48, 64, 48], 32, 32), bf16: true };
    expect(variantOf(volume, 'fast', isa, pass)).toBe(444);
    expect([242, 422]).toContain(variantOf(volume, 'precise', isa, pass));
    expect(variantOf({ ...sizes([1, 256, 256], 32, 32), bf16: true }, 'fast', isa, pass)).toBe(144);
  });

  test('few channels and single voxels are direct', () => {
    for (const [i, o] of [
      [1, 16],
      [16, 3],
      [7, 32],
    ] as const)
      expect(variantOf(sizes([48, 64, 48], i, o), 'fast', isa, pass)).toBe(DIRECT);
    expect(variantOf(sizes([1, 1, 1], 64, 64), 'fast', isa, pass)).toBe(DIRECT);
  });
});

test.each(['plain', 'ref64', 'fp32', 'tf32'])('%s has the direct algorithm alone', (isa) => {
  for (const pass of PASSES) expect(variantOf(sizes([48, 64, 48], 32, 32), 'fast', isa, pass)).toBe(DIRECT);
});

/** Two convolutions with the same weights, on a large grid and on a single voxel, and one with weights of its own. */
function twoGrids(): Graph {
  const b = new GraphBuilder('f32');
  const w = b.tensor('w', [32, 32, 3, 3, 3], 'f32', { segment: 'state' });
  const one = b.tensor('one', [32, 32, 1, 1, 1], 'f32', { segment: 'state' });
  const large = b.input('large', [1, 12, 12, 12, 32]);
  const small = b.input('small', [1, 1, 1, 1, 32]);
  b.output(conv3d(b, large, w, null), 'a');
  b.output(conv3d(b, small, w, null), 'b');
  b.output(conv3d(b, large, one, null), 'c');
  return b.finish();
}

const kernelsOf = ({ nodes }: Graph, kernel: string): Node[] => nodes.filter((n) => n.kernel === kernel);
const fast = { arithmetic: 'fast', isa: 'avx2' } as const;

describe('the choice in a graph', () => {
  test('weights are packed once for each variant that reads them', () => {
    const graph = chooseAlgorithms(twoGrids(), fast);
    expect(kernelsOf(graph, 'conv3d_fwd').map((n) => n.attrs['variant'])).toEqual([442, DIRECT, DIRECT]);
    expect(kernelsOf(graph, 'conv3d_pack').map((n) => n.attrs['variant'])).toEqual([442, DIRECT, DIRECT]);
    for (const n of kernelsOf(graph, 'conv3d_fwd')) {
      const pack = graph.nodes.find((p) => p.kernel === 'conv3d_pack' && p.outputs[0] === n.inputs[1]);
      expect(pack?.attrs['variant']).toBe(n.attrs['variant']);
    }
    expect(new Set(graph.nodes.map((n) => n.id)).size).toBe(graph.nodes.length);
    expect(new Set(graph.tensors.map((t) => t.id)).size).toBe(graph.tensors.length);
    expect(checkGraph(graph)).toEqual([]);
    expect(countVariants(graph)).toEqual({ all: 3, winograd: 1 });
  });

  test('nothing is packed that nobody reads, and other backends keep the graph', () => {
    const given = twoGrids();
    expect(chooseAlgorithms(given, { arithmetic: 'direct', isa: 'avx2' })).toBe(given);
    expect(chooseAlgorithms(given, { arithmetic: 'fast', isa: 'ref64' })).toBe(given);
    const b = new GraphBuilder('f32');
    const shape: Shape = [1, 24, 24, 24, 32];
    const w = b.tensor('w', [32, 32, 3, 3, 3], 'f32', { segment: 'state' });
    b.output(conv3d(b, b.input('x', shape), w, null), 'y');
    const graph = chooseAlgorithms(b.finish(), fast);
    expect(kernelsOf(graph, 'conv3d_pack')).toHaveLength(1);
    expect(kernelsOf(graph, 'conv3d_pack')[0]?.attrs['variant']).toBe(442);
  });
});
