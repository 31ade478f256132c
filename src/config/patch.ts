/**
 * Sizes of patches. Fine-tuning takes the whole volume where it can; a pre-training patch leaves room to move, because
 * the position of the centre is what is learned from. Pure arithmetic.
 */
import { mapTriple, quantile } from '../settings/fingerprint.js';
import { positiveShare, type SharePlan } from './positives.js';
import type { Triple } from '../settings/types.js';

/** Voxels of a patch in 3-D. Fine-tuning: a step of two patches stays near a second and a half on two cores. */
export const MOST_VOXELS = { finetune: 64 ** 3, pretrain: 48 * 48 * 32 } as const;
/** The share of positive pairs that a plan stays below where it can. */
export const MOST_POSITIVE = 0.25;
/** Shapes that the search over patches looks at. */
const SEARCH_SHAPES = 48;

const volume = (size: Triple): number => size[0] * size[1] * size[2];

/**
 * The size that a patch ought to have before it is rounded to what the network divides by: all of the largest case (and
 * of those a little larger that were not seen: `headroom` times the median), or the median where cases differ much; made
 * smaller along its longest axis (in mm) until the voxels fit.
 */
export function wantedSize(shapes: readonly Triple[], spacingMm: Triple, mostVoxels: number, headroom = 1): Triple {
  const size = mapTriple((axis) => {
    const lengths = shapes.map((s) => s[axis]);
    const [median, largest] = [quantile(lengths, 0.5), Math.max(...lengths)];
    return largest <= 1.5 * median ? Math.max(largest, Math.round(headroom * median)) : Math.ceil(median);
  });
  const out: [number, number, number] = [...size];
  while (volume(out) > mostVoxels) {
    const longest = mapTriple((axis) => (out[axis] > 8 ? out[axis] * spacingMm[axis] : 0));
    const axis = longest.indexOf(Math.max(...longest)) as 0 | 1 | 2;
    if (longest[axis] === 0) break;
    out[axis] -= 1;
  }
  return out;
}

/** Rounds up to the unit, or down where rounding up would not hold more of the cases and the voxels do not fit. */
export function roundToUnit(size: Triple, unit: Triple, mostVoxels: number): Triple {
  const out: [number, number, number] = [...mapTriple((axis) => Math.ceil(size[axis] / unit[axis]) * unit[axis])];
  while (volume(out) > mostVoxels * 1.25) {
    const over = mapTriple((axis) => (out[axis] > unit[axis] ? out[axis] - size[axis] + out[axis] / 1000 : -1));
    const axis = over.indexOf(Math.max(...over)) as 0 | 1 | 2;
    if (over[axis] < 0) break;
    out[axis] -= unit[axis];
  }
  return out;
}

export interface PatchChoice {
  readonly patch: Triple;
  readonly share: number;
}

/**
 * The largest patch (an even one before a long one) of which at most a quarter of all pairs are positives; where there is
 * none, the one with the smallest share.
 * @param leastUnits of `unit` that a patch holds: voxels of the smallest bottleneck
 * @returns null where no patch holds as many
 */
export function choosePretrainPatch(
  shapes: readonly Triple[],
  spacingMm: Triple,
  unit: Triple,
  share: Omit<SharePlan, 'patch'>,
  leastUnits = 1,
  mostVoxels: number = MOST_VOXELS.pretrain,
): PatchChoice | null {
  const sizes = mapTriple((axis) => {
    const median = quantile(
      shapes.map((s) => s[axis]),
      0.5,
    );
    const count = Math.max(1, Math.floor(median / unit[axis]));
    return Array.from({ length: count }, (_, i) => (i + 1) * unit[axis]);
  });
  let best: (PatchChoice & { fits: boolean; score: number }) | undefined;
  for (const d of sizes[0])
    for (const h of sizes[1])
      for (const w of sizes[2]) {
        const patch: Triple = [d, h, w];
        if (volume(mapTriple((axis) => patch[axis] / unit[axis])) < leastUnits) continue;
        const smallest = d === sizes[0][0] && h === sizes[1][0] && w === sizes[2][0];
        if (volume(patch) > mostVoxels && !smallest) continue;
        const found = positiveShare(shapes, { ...share, patch }, SEARCH_SHAPES);
        const extents = patch.map((s, axis) => s * spacingMm[axis as 0]);
        const even = Math.min(...extents) / Math.max(...extents);
        const fits = found <= MOST_POSITIVE;
        const score = fits ? volume(patch) * even : -found;
        const better =
          !best ||
          (fits && !best.fits) ||
          (fits === best.fits && (score > best.score || (score === best.score && found < best.share)));
        if (better) best = { patch, share: found, fits, score };
      }
  return best ?? null;
}
