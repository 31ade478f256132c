/**
 * How much each voxel of a tile counts: a Gaussian around the tile's centre, σ = tile / 8 on each axis. Weights are
 * kept per axis and already divided by their sum over the tiles that cover a voxel: tiles form a grid, so the product
 * over axes adds up to one everywhere and an average needs no second volume of weights.
 */

/** The Gaussian on one axis of a tile of `size` voxels, 1 at the centre. */
export function gaussianAxis(size: number): Float64Array {
  const sigma = size / 8;
  const centre = (size - 1) / 2;
  return Float64Array.from({ length: size }, (_, i) => Math.exp(-(((i - centre) / sigma) ** 2) / 2));
}

/**
 * For each tile start on an axis of `length` voxels, the weight of each of the tile's `size` voxels, so that over all
 * tiles the weights of a voxel add up to 1. Voxels of a tile outside the axis (padding) weigh 0.
 */
export function axisWeights(starts: readonly number[], size: number, length: number): Float64Array[] {
  const gaussian = gaussianAxis(size);
  const total = new Float64Array(length);
  const inside = (position: number): boolean => position >= 0 && position < length;
  for (const start of starts) {
    for (let i = 0; i < size; i++) if (inside(start + i)) total[start + i]! += gaussian[i]!;
  }
  return starts.map((start) => gaussian.map((weight, i) => (inside(start + i) ? weight / total[start + i]! : 0)));
}
