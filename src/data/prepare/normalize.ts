/**
 * Intensity normalisation by kind of channel. `ct`: clipped to percentiles and scaled by mean and deviation, all of the
 * data set. `robust`: clipped to percentiles of the case, then scaled by the case's mean and deviation. `case`: scaled by
 * the case's mean and deviation alone. `unit`: the case's smallest and largest value become 0 and 1. `none`: as it is.
 * Per case what counts are its voxels that are not zero (all where none is zero).
 * Runs before any padding, which therefore never counts. No files.
 */
import { type Breather } from '../../breathe.js';
import { orderStatistics } from './order-statistics.js';
import { type VoxelArray } from '../../volume.js';
import { type ChannelNormalization } from '../../settings/types.js';

export type { ChannelNormalization } from '../../settings/types.js';

/** What was done to one channel of one case: value = (clip(v, low, high) − mean) / std. */
export interface AppliedNormalization {
  low: number | null;
  high: number | null;
  mean: number;
  std: number;
}

/** An unclipped deviation this many times the clipped one is worth a warning: a few voxels decide on all others. */
const OUTLIER_FACTOR = 2;
/** The percentiles that the warning compares with. */
const USUAL_PERCENTILES = [0.5, 99.5] as const;

const BLOCK = 1 << 15;

interface Moments {
  mean: number;
  std: number;
}

/**
 * Mean and deviation over voxels that are not zero, clipped, in float64, in two passes. A volume of zeros has 0 and 0;
 * where none is zero this is over all.
 */
async function moments(values: VoxelArray, low: number, high: number, breath: Breather): Promise<Moments> {
  let sum = 0;
  let count = 0;
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      if (value === 0) continue;
      sum += Math.min(Math.max(value, low), high);
      count++;
    }
    if (breath.due()) await breath.breathe();
  }
  if (count === 0) return { mean: 0, std: 0 };
  const mean = sum / count;
  let squares = 0;
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      if (value === 0) continue;
      const off = Math.min(Math.max(value, low), high) - mean;
      squares += off * off;
    }
    if (breath.due()) await breath.breathe();
  }
  return { mean, std: Math.sqrt(squares / count) };
}

/** Rounding in a constant channel leaves a deviation that is not quite 0. */
const hasContrast = ({ mean, std }: Moments): boolean => std > 1e-9 * Math.max(1e-30, Math.abs(mean));

/** A channel without contrast becomes 0 at its mean (deviation 1). */
const orUnit = (found: Moments): Moments => (hasContrast(found) ? found : { mean: found.mean, std: 1 });

/** The voxels at two percentiles of those that are not zero; the next rank outwards where none is at one. */
async function percentiles(
  values: VoxelArray,
  [low, high]: readonly [number, number],
  breath: Breather,
): Promise<[number, number]> {
  const ranks = (count: number): number[] => [
    Math.floor((low / 100) * (count - 1)),
    Math.ceil((high / 100) * (count - 1)),
  ];
  const [least = 0, most = 0] = await orderStatistics(values, ranks, breath);
  return [least, most];
}

/** The smallest and the largest of all values. */
async function extremes(values: VoxelArray, breath: Breather): Promise<[number, number]> {
  let [least, most] = [Infinity, -Infinity];
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) {
      least = Math.min(least, values[i]!);
      most = Math.max(most, values[i]!);
    }
    if (breath.due()) await breath.breathe();
  }
  return [least, most];
}

/** What a rule comes to for one channel, and what is worth saying about it. */
export async function measureChannel(
  values: VoxelArray,
  rule: ChannelNormalization,
  breath: Breather,
): Promise<{ applied: AppliedNormalization; warning?: string }> {
  if (rule.kind === 'ct') {
    const { low, high } = rule;
    return { applied: { low, high, ...orUnit(rule) } };
  }
  if (rule.kind === 'none') return { applied: { low: null, high: null, mean: 0, std: 1 } };
  if (rule.kind === 'unit') {
    const [least, most] = await extremes(values, breath);
    return { applied: { low: null, high: null, mean: least, std: most > least ? most - least : 1 } };
  }
  const plain = await moments(values, -Infinity, Infinity, breath);
  const [low, high] = await percentiles(values, rule.kind === 'robust' ? rule.percentiles : USUAL_PERCENTILES, breath);
  const clipped = await moments(values, low, high, breath);
  // Between its percentiles a channel may be constant: what is left of it lies outside, and is kept.
  if (rule.kind === 'robust' && hasContrast(clipped)) return { applied: { low, high, ...clipped } };
  const applied = { low: null, high: null, ...orUnit(plain) };
  return hasContrast(clipped) && plain.std > OUTLIER_FACTOR * clipped.std
    ? { applied, warning: await outlierWarning(values, plain, clipped, [low, high], breath) }
    : { applied };
}

async function outlierWarning(
  values: VoxelArray,
  plain: Moments,
  clipped: Moments,
  [low, high]: readonly [number, number],
  breath: Breather,
): Promise<string> {
  const [least = 0, most = 0] = await orderStatistics(values, (count) => [0, count - 1], breath);
  const above = most - high >= low - least;
  const [name, found, percentile, limit] = above
    ? (['largest', most, '99.5th', high] as const)
    : (['smallest', least, '0.5th', low] as const);
  const far = Math.abs(found - limit) / clipped.std;
  return (
    `the ${name} value ${short(found)} lies ${short(far)} deviations beyond the ${percentile} percentile (${short(limit)}), ` +
    `and scaling by the deviation of all voxels makes the rest ${short(plain.std / clipped.std)} times as flat: ` +
    `a model trained with data.normalize "robust" clips such voxels`
  );
}

const short = (value: number): string => String(Number(value.toPrecision(3)));

/** Normalises some voxels of a channel into `out`. */
export function normalizeInto(values: VoxelArray, applied: AppliedNormalization, out: Float32Array): void {
  const { mean, std } = applied;
  const low = applied.low ?? -Infinity;
  const high = applied.high ?? Infinity;
  for (let i = 0; i < values.length; i++) out[i] = (Math.min(Math.max(values[i]!, low), high) - mean) / std;
}
