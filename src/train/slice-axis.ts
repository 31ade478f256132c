/**
 * Which axis 2-D slices are taken along where nobody says: the thin one of the volumes, whichever it is. Slices across it
 * would be stacks of edges. Reads headers alone.
 */
import type { ConfigInput } from '../settings/types.js';
import { readConfig } from '../config/resolve.js';
import type { Dataset } from '../data/dataset.js';
import { orientationOf, rasGrid, readNiftiHeader } from '../data/nifti/index.js';
import type { Grid } from '../volume.js';

const AXES = ['D', 'H', 'W'] as const;
type Axis = (typeof AXES)[number];

/** Cases that are looked at. */
const MOST_CASES = 40;
/** A thin axis has voxels this many times as long as both others'; below, any axis would do. */
const THIN = 1.5;

/** The axis of one voxel, or of much the longest ones; undefined where no axis stands out. */
export function thinAxis({ shape, spacingMm }: Pick<Grid, 'shape' | 'spacingMm'>): Axis | undefined {
  const single = AXES.filter((_, axis) => shape[axis] === 1);
  if (single.length > 0) return single.length === 1 ? single[0] : undefined;
  return AXES.find((_, axis) => spacingMm.every((mm, other) => other === axis || spacingMm[axis]! >= THIN * mm));
}

/**
 * The configuration with `data.sliceAxis`, for a network of slices that does not say it: the thin axis of most cases, else
 * D. A file that cannot be read is left to whoever reads all of it.
 */
export async function withSliceAxis<C extends ConfigInput>(
  input: C,
  dataset: Dataset,
  ids: readonly string[],
  say: (message: string) => void,
  signal?: AbortSignal,
): Promise<C> {
  if (input.data?.sliceAxis !== undefined || readConfig(input).model?.dims !== 2) return input;
  const wanted = new Set(ids);
  const votes = new Map<Axis | undefined, number>();
  let seen = 0;
  for (const { id, images } of dataset.cases) {
    if (seen === MOST_CASES) break;
    if (!wanted.has(id) || images[0] === undefined) continue;
    const header = await readNiftiHeader(images[0], signal ? { signal } : {}).catch(() => undefined);
    if (!header) continue;
    seen++;
    const thin = thinAxis(rasGrid(orientationOf(header.shape, header.affine)));
    votes.set(thin, (votes.get(thin) ?? 0) + 1);
  }
  const axis = AXES.find((one) => (votes.get(one) ?? 0) > seen / 2) ?? 'D';
  if (axis !== 'D')
    say(
      `2-D slices are taken along ${axis}, the thin axis of ${votes.get(axis)} of ${seen} cases; --slice-axis overrides it`,
    );
  return { ...input, data: { ...input.data, sliceAxis: axis } };
}
