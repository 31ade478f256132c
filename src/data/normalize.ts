/**
 * Intensity normalisation by kind of channel. CT: clipped to percentiles and scaled by mean and deviation, all of the
 * data set. Everything else: scaled per case by mean and deviation of its voxels that are not zero (of all where none
 * is zero). Runs before any padding, which therefore never counts. No files.
 */
import { type Breather } from './breathe.js';
import { type VoxelArray } from './volume.js';
import { type ChannelNormalization } from '../config/types.js';

export type { ChannelNormalization } from '../config/types.js';

/** What was done to one channel of one case: value = (clip(v, low, high) − mean) / std. */
export interface AppliedNormalization {
  low: number | null;
  high: number | null;
  mean: number;
  std: number;
}

const BLOCK = 1 << 15;

/**
 * Mean and deviation over voxels that are not zero, in float64, in two passes. A volume of zeros has 0 and 0; where none
 * is zero this is over all.
 */
async function moments(values: VoxelArray, breath: Breather): Promise<{ mean: number; std: number }> {
  let sum = 0;
  let count = 0;
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      if (value === 0) continue;
      sum += value;
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
      squares += (value - mean) * (value - mean);
    }
    if (breath.due()) await breath.breathe();
  }
  return { mean, std: Math.sqrt(squares / count) };
}

/** What a rule comes to for one channel. A channel without contrast becomes 0 at its mean (deviation 1). */
export async function measureChannel(
  values: VoxelArray,
  rule: ChannelNormalization,
  breath: Breather,
): Promise<AppliedNormalization> {
  const ct = rule.kind === 'ct';
  const { mean, std: measured } = ct ? rule : await moments(values, breath);
  // Rounding in a constant channel leaves a deviation that is not quite 0.
  const std = measured > 1e-9 * Math.max(1e-30, Math.abs(mean)) ? measured : 1;
  return { low: ct ? rule.low : null, high: ct ? rule.high : null, mean, std };
}

/** Normalises some voxels of a channel into `out`. */
export function normalizeInto(values: VoxelArray, applied: AppliedNormalization, out: Float32Array): void {
  const { mean, std } = applied;
  const low = applied.low ?? -Infinity;
  const high = applied.high ?? Infinity;
  for (let i = 0; i < values.length; i++) out[i] = (Math.min(Math.max(values[i]!, low), high) - mean) / std;
}
