/**
 * The share of positive pairs: the chance that two independently drawn samples are positives, so that a plan in which
 * nothing is told apart is seen before it is trained. Exact over all pairs of cases and of places in them; a sample's own
 * other view does not count.
 */
import { mapTriple } from '../settings/fingerprint.js';
import type { DataConfig, Triple } from '../settings/types.js';

/** Shapes that are told apart; more are thinned out evenly, in the order of their voxels. */
const MOST_SHAPES = 1500;

export interface SharePlan {
  readonly patch: Triple;
  /** 2-D slices are taken everywhere along D, whatever the patch. */
  readonly dims: 2 | 3;
  readonly position: DataConfig['position'];
  readonly threshold: number | readonly number[];
}

/** Where a patch of `size` voxels may be centred in an axis of `length`, as a share of it. */
export function centres(length: number, size: number): number[] {
  if (size >= length) return [0.5];
  return Array.from({ length: length - size + 1 }, (_, start) => (start + size / 2) / length);
}

/** Slice i of n is at (i + 1) / n. */
export const slicePositions = (count: number): number[] => Array.from({ length: count }, (_, i) => (i + 1) / count);

/** Chance that a value of `a` and one of `b` (both ascending) differ by less than the threshold. */
export function nearChance(a: readonly number[], b: readonly number[], threshold: number): number {
  let low = 0;
  let high = 0;
  let near = 0;
  for (const x of a) {
    while (low < b.length && x - (b[low] as number) >= threshold) low++;
    while (high < b.length && (b[high] as number) - x < threshold) high++;
    near += Math.max(0, high - low);
  }
  return near / (a.length * b.length);
}

/** Reduces shapes to different ones with their counts, at most `most`. */
export function distinctShapes(shapes: readonly Triple[], most = MOST_SHAPES): { shape: Triple; count: number }[] {
  const counts = new Map<string, { shape: Triple; count: number }>();
  for (const shape of shapes) {
    const key = shape.join();
    const entry = counts.get(key);
    if (entry) entry.count++;
    else counts.set(key, { shape, count: 1 });
  }
  const all = [...counts.values()];
  if (all.length <= most) return all;
  const voxels = ({ shape }: { shape: Triple }) => shape[0] * shape[1] * shape[2];
  all.sort((p, q) => voxels(p) - voxels(q));
  return Array.from({ length: most }, (_, i) => all[Math.floor((i * all.length) / most)] as (typeof all)[number]);
}

/** @param shapes of the cases, resampled; each case is drawn as often as any other */
export function positiveShare(shapes: readonly Triple[], plan: SharePlan, most?: number): number {
  const cases = distinctShapes(shapes, most);
  const axes = plan.position === 'slice' ? ([0] as const) : ([0, 1, 2] as const);
  const threshold = mapTriple((axis) =>
    typeof plan.threshold === 'number' ? plan.threshold : ((plan.threshold[axis] ?? plan.threshold.at(-1)) as number),
  );
  // As the sampler has them: in 3-D a slice's place is the patch's centre along D.
  const places = (axis: 0 | 1 | 2, length: number) =>
    axis !== 0 || plan.dims === 3
      ? centres(length, plan.patch[axis])
      : plan.position === 'slice'
        ? slicePositions(length)
        : centres(length, 1);
  const chances = new Map<string, number>();
  const chance = (axis: 0 | 1 | 2, first: number, second: number): number => {
    const key = first < second ? `${axis},${first},${second}` : `${axis},${second},${first}`;
    let value = chances.get(key);
    if (value === undefined) {
      value = nearChance(places(axis, first), places(axis, second), threshold[axis]);
      chances.set(key, value);
    }
    return value;
  };
  let sum = 0;
  let weight = 0;
  cases.forEach((p, i) => {
    for (let j = i; j < cases.length; j++) {
      const q = cases[j] as (typeof cases)[number];
      const w = p.count * q.count * (i === j ? 1 : 2);
      let product = 1;
      for (const axis of axes) product *= chance(axis, p.shape[axis], q.shape[axis]);
      sum += w * product;
      weight += w;
    }
  });
  return weight === 0 ? 1 : sum / weight;
}
