/**
 * Levels, strides and kernels of a U-Net for a size of patch. Coarse axes (anisotropic voxels) are left alone until the
 * others have caught up; small axes stop when there is nothing left to halve. Pure arithmetic.
 */
import { MaclError } from '../errors.js';
import { nearestSizes } from './check.js';
import { mapTriple } from '../settings/fingerprint.js';
import type { ModelConfig, Triple } from '../settings/types.js';

/** An axis counts as coarse while its voxels are more than this much longer than the finest. */
const COARSE = 2;

export interface TopologyRequest {
  readonly dims: 2 | 3;
  /** A branch sees the patch at λ (`Method.shrinks`): the deepest levels are divided by twice. */
  readonly shrinks: boolean;
  /** null: cubic voxels. */
  readonly spacingMm: Triple | null;
  readonly size: Triple;
  /** The size is meant exactly, so it has to divide; else it is about what a patch will be, and will be rounded. */
  readonly exact: boolean;
  readonly levels?: number | undefined;
  readonly decoderBlocks?: number | undefined;
}

export type Topology = Pick<ModelConfig, 'levels' | 'decoderBlocks' | 'strides' | 'kernels'>;

/** 3-D: three levels see a whole patch of 64³ already; 2-D: the published four. */
const mostLevels = (dims: 2 | 3): number => (dims === 2 ? 4 : 3);
const wantedBlocks = (dims: 2 | 3): number => (dims === 2 ? 2 : 1);

/**
 * The deepest network that fits. Given levels or decoder blocks are kept.
 * @throws MaclError `config` with the nearest sizes where nothing fits
 */
export function planTopology(request: TopologyRequest): Topology {
  const { dims, levels, decoderBlocks } = request;
  const most = levels ?? mostLevels(dims);
  const least = levels ?? Math.max(1, decoderBlocks ?? 1);
  // First with at least two axes halved at each level, then with any.
  for (const axes of [2, 1]) {
    for (let l = most; l >= least; l--) {
      for (let n = decoderBlocks ?? Math.min(l, wantedBlocks(dims)); n >= (decoderBlocks ?? 1); n--) {
        if (n > l) continue;
        const strides = stridesFor(request, l, n, axes);
        if (strides) return { levels: l, decoderBlocks: n, strides, kernels: kernelsFor(request, strides) };
      }
    }
  }
  throw nothingFits(request);
}

/** Powers of two that an axis has to give: exactly, or while at least 4 voxels stay at the bottleneck. */
function capacity(request: TopologyRequest): [number, number, number] {
  return mapTriple((axis) => {
    if (request.dims === 2 && axis === 0) return 0;
    const size = request.size[axis];
    if (!request.exact) return Math.max(request.levels ?? 0, Math.floor(Math.log2(size / 4)), 0);
    let power = 0;
    while (size % 2 ** (power + 1) === 0) power++;
    return power;
  }) as [number, number, number];
}

function stridesFor(request: TopologyRequest, levels: number, blocks: number, axes: number): Triple[] | null {
  const left = capacity(request);
  const size = [...request.size];
  const spacing: [number, number, number] = [...(request.spacingMm ?? [1, 1, 1])];
  const strides: Triple[] = [];
  for (let l = 0; l < levels; l++) {
    // The deepest n levels count twice where a branch sees the patch at λ: for the network, and for λ.
    const cost = request.exact && request.shrinks && l >= levels - blocks ? 2 : 1;
    const can = mapTriple(
      (axis) => left[axis] >= cost && (request.levels !== undefined || (size[axis] as number) >= 4),
    );
    // Unless levels were asked for, at least 2 voxels stay at the bottleneck. An axis that cannot be halved any more does not hold the others back.
    const finest = Math.min(...spacing.filter((_, axis) => can[axis as 0]));
    const stride = mapTriple((axis) => (can[axis] && spacing[axis] <= COARSE * finest ? 2 : 1));
    if (stride.filter((s) => s === 2).length < axes) return null;
    for (const axis of [0, 1, 2] as const) {
      if (stride[axis] === 1) continue;
      left[axis] -= cost;
      size[axis] = (size[axis] as number) / 2;
      spacing[axis] *= 2;
    }
    strides.push(stride);
  }
  return strides;
}

/** Kernel 3, and 1 along an axis that is still coarse at that level. */
function kernelsFor(
  { dims, spacingMm }: Pick<TopologyRequest, 'dims' | 'spacingMm'>,
  strides: readonly Triple[],
): Triple[] {
  const spacing: [number, number, number] = [...(spacingMm ?? [1, 1, 1])];
  const kernels: Triple[] = [];
  for (let l = 0; l <= strides.length; l++) {
    const finest = Math.min(...(dims === 2 ? spacing.slice(1) : spacing));
    kernels.push(mapTriple((axis) => ((dims === 2 ? axis === 0 : spacing[axis] > COARSE * finest) ? 1 : 3)));
    for (const axis of [0, 1, 2] as const) spacing[axis] *= strides[l]?.[axis] ?? 1;
  }
  return kernels;
}

function nothingFits({ dims, shrinks, size, levels, decoderBlocks }: TopologyRequest): MaclError {
  const l = levels ?? 1;
  const unit = 2 ** (l + (shrinks ? (decoderBlocks ?? 1) : 0));
  const fit = size.map((s, axis) => (dims === 2 && axis === 0 ? '1' : nearestSizes(s, unit).join(' or ')));
  const what = levels === undefined ? 'any network' : `${levels} levels`;
  const blocks = decoderBlocks === undefined ? '' : ` with ${decoderBlocks} decoder blocks`;
  const words = `data.patch: ${size.join('×')} cannot be halved often enough for ${what}${blocks}; nearest that fit: ${fit.join(', ')}`;
  return new MaclError('config', words, { field: 'data.patch', expected: `multiples of ${unit}`, found: size });
}
