/**
 * Which algorithm a convolution is computed by: direct, or Winograd's F(m, 3) on each axis (native/kernels/winograd.h). Kernels
 * 3×3×3 and 1×3×3 of stride 1 have a choice; what is cheapest by the table below is taken.
 */
import type { Arithmetic } from '../arithmetic.js';
import { defineAlgorithms } from '../graph/algorithms.js';
import { required } from '../graph/kernel.js';
import { bitsOf } from '../precision.js';
import type { Graph, Node, Shape, Tensor } from '../graph/types.js';

/** `variant` of a kernel and of its packed weights: the direct algorithm; else 100·mD + 10·mH + mW. */
export const DIRECT = 0;

/** Of everything in this file that decides: a run that goes on under another one has other bits, and is refused. */
export const VARIANT_TABLE = 2;

/** What is computed: a result or a gradient of x from packed weights, or a gradient of weights. */
export type ConvolutionPass = 'data' | 'weights';

interface Costs {
  /** A multiply-add of the direct kernel, and each of its weights (packed, read, or summed over tasks). */
  readonly direct: number;
  readonly directWeight: number;
  /** A number that is transformed on its way in or out, and each of the transformed weights. */
  readonly transform: number;
  readonly weight: number;
}

const BASELINE: Readonly<Record<ConvolutionPass, Costs>> = {
  data: { direct: 0.72, directWeight: 18, transform: 2.4, weight: 18 },
  weights: { direct: 0.63, directWeight: 25, transform: 1.6, weight: 14 },
};

const AVX512: Readonly<Record<ConvolutionPass, Costs>> = {
  data: { direct: 1.07, directWeight: 47, transform: 18, weight: 55 },
  weights: { direct: 1.31, directWeight: 57, transform: 36, weight: 51 },
};
/** What vdpbf16ps makes of a multiply-add of the direct kernel, where activations are bf16. */
const DOT: Readonly<Record<ConvolutionPass, number>> = { data: 0.54, weights: 0.6 };

/**
 * By instruction set, in multiply-adds of the transformed kernel: what `conv_bench ISA 2 '' all` measured on 61 shapes and two cores
 * (Zen 4), fitted without negative costs. What the fit then takes is on average 2 to 4% slower than the best of each shape.
 */
const COSTS: Readonly<Record<string, Readonly<Record<ConvolutionPass, Costs>>>> = {
  amx: AVX512,
  avx512bf16: AVX512,
  avx512: AVX512,
  avx2: {
    data: { direct: 0.85, directWeight: 50, transform: 8.7, weight: 44 },
    weights: { direct: 0.59, directWeight: 54, transform: 5.7, weight: 30 },
  },
  baseline: BASELINE,
  simd128: BASELINE,
  'relaxed-simd': BASELINE,
};

/** Whether convolutions have a choice there. */
export const hasVariants = (isa: string): boolean => COSTS[isa] !== undefined;

/** A variant is taken where it costs less than this share of the direct algorithm. */
const WORTH = 0.9;
/** Channels below which the direct kernel's narrow tiles win: the first layer, the head; and in planes and dw, narrow layers. */
const fewestChannels = (depth: 1 | 3, pass: ConvolutionPass): number => (depth === 3 && pass === 'data' ? 8 : 16);

/** Outputs of a tile along D, H, W; the more exact before the less. */
type Tile = readonly [number, number, number];
const TILES: Readonly<
  Record<Exclude<Arithmetic, 'direct'>, { readonly volume: readonly Tile[]; readonly plane: readonly Tile[] }>
> = {
  precise: {
    volume: [
      [2, 2, 2],
      [4, 2, 2],
      [2, 4, 2],
    ],
    plane: [
      [1, 2, 2],
      [1, 4, 2],
    ],
  },
  fast: {
    volume: [
      [2, 2, 2],
      [4, 2, 2],
      [2, 4, 2],
      [4, 4, 2],
    ],
    plane: [
      [1, 2, 2],
      [1, 4, 2],
      [1, 4, 4],
    ],
  },
};

/**
 * `fast` with activations in bf16 has this one too: what the third axis of F(4,3) loses is far below what their rounding does. It is
 * taken where it costs less than this share of the others: their sums along W stay in registers, which the costs leave out.
 */
const FAST_BF16: Tile = [4, 4, 4];
const WORTH_BF16 = 0.93;

export interface ConvolutionSizes {
  /** Of the result: [N, D, H, W, …]. */
  readonly grid: Shape;
  readonly inputs: number;
  readonly outputs: number;
  /** Along D; 3 along H and W. */
  readonly depth: 1 | 3;
  /** Whether activations are held in bf16. */
  readonly bf16?: boolean;
}

const roundUp = (n: number, m: number): number => Math.ceil(n / m) * m;

/** Channels of a block of a weight gradient: what is transformed is, once for each block of the other side. */
const BLOCK = 32;

/** Multiply-adds, or what takes as long. */
function costOf(sizes: ConvolutionSizes, [md, mh, mw]: Tile, pass: ConvolutionPass, costs: Costs): number {
  const { grid, inputs, outputs } = sizes;
  const [n, d, h, w] = grid;
  const points = (m: number) => (m === 1 ? 1 : m + 2);
  const rows = n * Math.ceil(d / md) * Math.ceil(h / mh) * points(md) * points(mh);
  const tiles = Math.ceil(w / mw);
  const [i, o] = [roundUp(inputs, 16), roundUp(outputs, 16)];
  const again = (channels: number) => (pass === 'weights' ? Math.ceil(channels / BLOCK) : 1);
  const weights = inputs * o * points(mw);
  const transformed = rows * tiles * mw * (i * again(outputs) + o * again(inputs));
  return rows * tiles * weights + costs.transform * transformed + costs.weight * points(md) * points(mh) * weights;
}

/** The variant that a convolution is computed by. Unknown instruction sets have the direct algorithm alone. */
export function variantOf(sizes: ConvolutionSizes, arithmetic: Arithmetic, isa: string, pass: ConvolutionPass): number {
  const costs = COSTS[isa]?.[pass];
  const { grid, inputs, outputs, depth } = sizes;
  if (arithmetic === 'direct' || !costs || Math.min(inputs, outputs) < fewestChannels(depth, pass)) return DIRECT;
  const [n, d, h, w] = grid;
  const weights = depth * 9 * inputs * roundUp(outputs, 16);
  let best: Tile | null = null;
  const direct = costs.direct * (sizes.bf16 && isa !== bitsOf(isa, 'fp32') ? DOT[pass] : 1);
  let least = WORTH * weights * (direct * n * d * h * w + costs.directWeight);
  for (const tile of TILES[arithmetic][depth === 3 ? 'volume' : 'plane']) {
    const cost = costOf(sizes, tile, pass, costs);
    if (cost < least) [best, least] = [tile, cost];
  }
  const third = sizes.bf16 && arithmetic === 'fast' && depth === 3;
  if (third && costOf(sizes, FAST_BF16, pass, costs) < WORTH_BF16 * least) best = FAST_BF16;
  return best ? 100 * best[0] + 10 * best[1] + best[2] : DIRECT;
}

/** Result, operand and outputs of each kernel that has a choice. */
const SIDES: Readonly<Record<string, readonly [grid: string, inputs: string, outputs: string]>> = {
  conv3d_fwd: ['y', 'x', 'y'],
  conv3d_bwd_x: ['dx', 'dy', 'dx'],
  conv3d_bwd_w: ['dy', 'x', 'dy'],
};

function chosen(node: Node, arithmetic: Arithmetic, isa: string): number {
  const sides = SIDES[node.kernel];
  const { kd, kh, kw, sd, sh, sw } = node.attrs;
  if (!sides || (kd !== 1 && kd !== 3) || kh !== 3 || kw !== 3 || sd !== 1 || sh !== 1 || sw !== 1) return DIRECT;
  const [result, operand, out] = sides.map((name) => required(node, name)) as [Tensor, Tensor, Tensor];
  const pass = node.kernel === 'conv3d_bwd_w' ? 'weights' : 'data';
  const channels = { inputs: operand.shape[4], outputs: out.shape[4] };
  const sizes = { grid: result.shape, ...channels, depth: kd, bf16: result.dtype === 'bf16' } as const;
  return variantOf(sizes, arithmetic, isa, pass);
}

/** Convolutions get their variants; weights are packed once for each that reads them. */
defineAlgorithms((graph, { arithmetic, isa }) => {
  if (arithmetic === 'direct' || !hasVariants(isa)) return graph;
  const packs = new Map<Tensor, Node>();
  for (const node of graph.nodes) if (node.kernel === 'conv3d_pack') packs.set(required(node, 'wp'), node);
  const variants = new Map<Node, number>();
  /** By packed weights: what each variant reads. */
  const packed = new Map<Tensor, Map<number, Tensor>>();
  const tensors = [...graph.tensors];
  let last = tensors.reduce((most, t) => Math.max(most, t.id), -1);
  for (const node of graph.nodes) {
    const variant = chosen(node, arithmetic, isa);
    if (variant !== DIRECT) variants.set(node, variant);
    const wp = node.inputs.find((t) => t && packs.has(t));
    if (!wp) continue;
    const own = packed.get(wp) ?? new Map<number, Tensor>();
    packed.set(wp, own);
    if (own.has(variant)) continue;
    const first = own.size === 0;
    own.set(variant, first ? wp : { ...wp, id: (last += 1), name: `${wp.name}.v${variant}` });
    if (!first) tensors.push(own.get(variant) as Tensor);
  }
  let id = graph.nodes.reduce((most, n) => Math.max(most, n.id), -1);
  const nodes = graph.nodes.flatMap((node): Node[] => {
    if (node.kernel === 'conv3d_pack') {
      const own = packed.get(required(node, 'wp'));
      if (!own) return [node];
      return [...own].map(([variant, wp], i) => ({
        ...node,
        id: i === 0 ? node.id : (id += 1),
        attrs: { ...node.attrs, variant },
        outputs: [wp],
      }));
    }
    const variant = variants.get(node) ?? DIRECT;
    const inputs = node.inputs.map((t) => (t && packed.get(t)?.get(variant)) ?? t);
    return [{ ...node, inputs, ...(variants.has(node) ? { attrs: { ...node.attrs, variant } } : {}) }];
  });
  return { ...graph, nodes, tensors };
});

/** How many of a program's convolutions have a choice, and how many are not direct. */
export function countVariants({ nodes }: Graph): { readonly all: number; readonly winograd: number } {
  const all = nodes.filter((n) => n.kernel in SIDES);
  return { all: all.length, winograd: all.filter((n) => n.attrs['variant'] !== DIRECT).length };
}
