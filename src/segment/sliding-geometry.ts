/**
 * Where the tiles of a sliding window lie, and in which mirrored forms they are seen. Numbers only.
 */

/**
 * First voxels of the tiles on one axis: steps of half a tile, the last tile flush with the end. A volume smaller than
 * the tile has one tile around its middle, so the start is negative there and the rest is padding.
 */
export function tileStarts(length: number, tile: number): number[] {
  if (length <= tile) return [0 - Math.floor((tile - length) / 2)];
  const step = Math.max(1, Math.floor(tile / 2));
  const starts: number[] = [];
  for (let start = 0; start < length - tile; start += step) starts.push(start);
  starts.push(length - tile);
  return starts;
}

/** Every set of the given axes, the empty one first. */
export function mirrorSets(axes: readonly number[]): number[][] {
  let sets: number[][] = [[]];
  for (const axis of axes) sets = [...sets, ...sets.map((set) => [...set, axis])];
  return sets;
}
