/**
 * Which algorithm a convolution is computed by: direct, or Winograd's F(m, 3) on each axis (native/kernels/winograd.h). Kernels
 * 3×3×3 and 1×3×3 of stride 1 have a choice; what is cheapest by the table below is taken.
 */
import type { Arithmetic } from '../arithmetic.js';
import { defineAlgorithms } from '../graph/algorithms.js';
import { required } from '../graph/kernel.js';
import type { Graph, Node, Shape, Tensor } from '../graph/types.js';

/** `variant` of a kernel and of its packed weights: the direct algorithm; else 100·mD + 10·mH + mW. */
export const DIRECT = 0;

/** Of everything in this file that decides: a run that goes on under another one has other bits, and is refused. */
export const VARIANT_TABLE = 1;

interface Costs {
  readonly transform: number;
  readonly weight: number;
  readonly direct: number;
}

/**
 * By instruction set, in multiply-adds: what a number costs that is transformed on its way in or out, what one of the transformed
 * weights costs (it is made once a step and read for few tiles), and how much slower than its own multiplications the direct
 * kernel runs. From whole layers on two cores.
 */
const COSTS: Readonly<Record<string, Costs>> = {
  avx512: { transform: 16, weight: 6, direct: 1.15 },
  avx2: { transform: 16, weight: 6, direct: 1.25 },
  baseline: { transform: 12, weight: 6, direct: 1.2 },
  simd128: { transform: 12, weight: 6, direct: 1.2 },
  'relaxed-simd': { transform: 12, weight: 6, direct: 1.2 },
};

/** A variant is taken where it costs less than this share of the direct algorithm. */
const WORTH = 0.9;
/** Channels below which the direct kernel's narrow tiles win: the first layer, the head. */
const FEWEST_CHANNELS = 8;

/** Outputs of a tile along D, H, W; the more exact before the less. */
type Tile = readonly [number, number, number];
const TILES: Readonly<
  Record<Exclude<Arithmetic, 'direct'>, { readonly volume: readonly Tile[]; readonly plane: readonly Tile[] }>
> = {
  precise: {
    volume: [
      [2, 2, 2],
      [2, 4, 2],
      [4, 2, 2],
    ],
    plane: [
      [1, 2, 2],
      [1, 4, 2],
    ],
  },
  fast: {
    volume: [
      [2, 2, 2],
      [2, 4, 2],
      [4, 2, 2],
      [4, 4, 2],
    ],
    plane: [
      [1, 2, 2],
      [1, 4, 2],
      [1, 4, 4],
    ],
  },
};

export interface ConvolutionSizes {
  /** Of the result: [N, D, H, W, …]. */
  readonly grid: Shape;
  readonly inputs: number;
  readonly outputs: number;
  /** Along D; 3 along H and W. */
  readonly depth: 1 | 3;
}

const roundUp = (n: number, m: number): number => Math.ceil(n / m) * m;

/** Multiply-adds, or what takes as long. */
function costOf({ grid, inputs, outputs }: ConvolutionSizes, [md, mh, mw]: Tile, costs: Costs): number {
  const [n, d, h, w] = grid;
  const points = (m: number) => (m === 1 ? 1 : m + 2);
  const rows = n * Math.ceil(d / md) * Math.ceil(h / mh) * points(md) * points(mh);
  const tiles = Math.ceil(w / mw);
  const products = rows * tiles * points(mw) * inputs * roundUp(outputs, 16);
  const transformed = rows * ((tiles * mw + 2) * roundUp(inputs, 16) + tiles * mw * roundUp(outputs, 16));
  const weights = points(md) * points(mh) * points(mw) * inputs * roundUp(outputs, 16);
  return products + costs.transform * transformed + costs.weight * weights;
}

/** The variant that a convolution is computed by. Unknown instruction sets have the direct algorithm alone. */
export function variantOf(sizes: ConvolutionSizes, arithmetic: Arithmetic, isa: string): number {
  const costs = COSTS[isa];
  if (arithmetic === 'direct' || !costs || Math.min(sizes.inputs, sizes.outputs) < FEWEST_CHANNELS) return DIRECT;
  const { grid, inputs, outputs, depth } = sizes;
  const [n, d, h, w] = grid;
  let best: Tile | null = null;
  let least = WORTH * costs.direct * n * d * h * w * depth * 9 * inputs * roundUp(outputs, 16);
  for (const tile of TILES[arithmetic][depth === 3 ? 'volume' : 'plane']) {
    const cost = costOf(sizes, tile, costs);
    if (cost < least) [best, least] = [tile, cost];
  }
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
  const [grid, inputs, outputs] = sides.map((name) => required(node, name).shape) as [Shape, Shape, Shape];
  return variantOf({ grid, inputs: inputs[4], outputs: outputs[4], depth: kd }, arithmetic, isa);
}

/** Convolutions get their variants; weights are packed once for each that reads them. */
defineAlgorithms((graph, { arithmetic, isa }) => {
  if (arithmetic === 'direct' || !COSTS[isa]) return graph;
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
