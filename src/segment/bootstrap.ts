/**
 * Bootstrap over cases: percentile intervals of a mean. A case is drawn with all its values, so that columns (classes,
 * metrics, paired differences) of one call see the same draws. Reproducible: draw d is the Philox stream (seed, d).
 */
import type { OptionKinds } from '../options.js';
import { Breather } from '../breathe.js';
import { Draws, PURPOSE } from '../philox.js';
import { percentile } from './metrics-surface.js';

export interface BootstrapOptions {
  /** Default 2,000. */
  draws?: number;
  /** Default 0. */
  seed?: number | bigint;
  signal?: AbortSignal;
}

export const BOOTSTRAP_OPTIONS: OptionKinds<BootstrapOptions> = { draws: 'count', seed: 'integer', signal: 'signal' };

/** Lower and upper end; NaN where no draw had a finite value. */
export type Interval = readonly [number, number];

/** The mean of the finite values; NaN where there is none. */
export function finiteMean(values: ArrayLike<number>): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    sum += value;
    count++;
  }
  return sum / count;
}

/**
 * 95% intervals of each column's mean over cases: `columns[c][i]` is case i's value. Values that are not finite are
 * left out of a draw's mean; a draw without any is left out of the column's interval. Throws MaclError `aborted`.
 */
export async function bootstrapIntervals(
  columns: readonly ArrayLike<number>[],
  options: BootstrapOptions = {},
): Promise<Interval[]> {
  const draws = options.draws ?? 2000;
  const seed = options.seed ?? 0;
  const breath = new Breather(options.signal);
  const cases = columns[0]?.length ?? 0;
  const means = columns.map(() => new Float64Array(draws));
  const found = columns.map(() => 0);
  const picked = new Uint32Array(cases);
  for (let draw = 0; draw < draws && cases > 0; draw++) {
    const numbers = new Draws(seed, draw, 0, PURPOSE.bootstrap);
    for (let i = 0; i < cases; i++) picked[i] = numbers.int(cases);
    for (let c = 0; c < columns.length; c++) {
      const column = columns[c]!;
      let sum = 0;
      let count = 0;
      for (let i = 0; i < cases; i++) {
        const value = column[picked[i]!]!;
        if (!Number.isFinite(value)) continue;
        sum += value;
        count++;
      }
      if (count) means[c]![found[c]!++] = sum / count;
    }
    if (breath.due()) await breath.breathe();
  }
  const out: Interval[] = [];
  for (let c = 0; c < columns.length; c++) {
    const finite = means[c]!.subarray(0, found[c]!);
    out.push([await percentile(finite, 2.5, breath), await percentile(finite, 97.5, breath)]);
  }
  return out;
}
