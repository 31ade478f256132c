/**
 * Intensity normalisation by kind of channel. CT: clipped to percentiles and scaled by mean and deviation, all of the
 * data set. Everything else: scaled per case by mean and deviation of its voxels that are not zero (of all where none
 * is zero). Runs before any padding, which therefore never counts. No files.
 */
import { Breather } from './breathe.js';
import { type VoxelArray } from './volume.js';

/** What a plan says about one channel; kept in the model. */
export type ChannelNormalization =
  { kind: 'ct'; low: number; high: number; mean: number; std: number } | { kind: 'case' };

/** What was done to one channel of one case: value = (clip(v, low, high) − mean) / std. */
export interface AppliedNormalization {
  low: number | null;
  high: number | null;
  mean: number;
  std: number;
}

const BLOCK = 1 << 15;

/** Mean and deviation over voxels that are not zero, in float64, in two passes; `all` counts the zeros too. */
async function moments(
  values: VoxelArray,
  all: boolean,
  breath: Breather,
): Promise<{ mean: number; std: number; count: number }> {
  let sum = 0;
  let count = 0;
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      if (value === 0 && !all) continue;
      sum += value;
      count++;
    }
    if (breath.due()) await breath.breathe();
  }
  if (count === 0) return { mean: 0, std: 0, count };
  const mean = sum / count;
  let squares = 0;
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      if (value === 0 && !all) continue;
      squares += (value - mean) * (value - mean);
    }
    if (breath.due()) await breath.breathe();
  }
  return { mean, std: Math.sqrt(squares / count), count };
}

/** Normalises one channel into `out`. A channel without contrast becomes 0 at its mean (deviation 1). */
export async function normalizeChannel(
  values: VoxelArray,
  rule: ChannelNormalization,
  out: Float32Array,
  breath: Breather,
): Promise<AppliedNormalization> {
  let { mean, std } = rule.kind === 'ct' ? rule : await moments(values, false, breath);
  const low = rule.kind === 'ct' ? rule.low : -Infinity;
  const high = rule.kind === 'ct' ? rule.high : Infinity;
  // Rounding in a constant channel leaves a deviation that is not quite 0.
  if (!(std > 1e-9 * Math.max(1e-30, Math.abs(mean)))) std = 1;
  for (let start = 0; start < values.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, values.length);
    for (let i = start; i < end; i++) out[i] = (Math.min(Math.max(values[i]!, low), high) - mean) / std;
    if (breath.due()) await breath.breathe();
  }
  return { low: rule.kind === 'ct' ? low : null, high: rule.kind === 'ct' ? high : null, mean, std };
}
