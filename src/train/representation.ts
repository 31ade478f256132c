/**
 * How many directions the encoder's features use: the effective rank of each level (participation ratio of the channels'
 * covariance) and the share of units in the centre that are zero everywhere. Arithmetic on sums that a probe program
 * made, words for people, and the watch for a dimensional collapse.
 */
import type { ProbedLevel } from '../methods/probe.js';

/** Steps between looks, the first before step 1; the last step is looked at as well. */
export const REPRESENTATION_EVERY = 50;
/** A level below this share of the rank that it began with is warned about. */
const COLLAPSE_SHARE = 0.25;
/** Variance below this share of the mean square is what rounding of float32 sums leaves: nothing varies. */
const LEAST_VARIANCE = 1e-6;

/** What is logged, by the level's name. */
export interface Representation {
  /** From 0 (nothing varies) over 1 (all channels are one) to the number of channels. */
  readonly effectiveRank: Readonly<Record<string, number>>;
  /** Share of the centre's units that are 0 at every voxel of every sample. */
  readonly deadUnits: number;
}

/** Sums of one level: Σ x xᵀ [C, C] and Σ x [C] over `count` vectors. */
export interface LevelSums extends ProbedLevel {
  readonly products: ArrayLike<number>;
  readonly sums: ArrayLike<number>;
}

/**
 * Participation ratio of the channels' covariance, (Σ λ)² / Σ λ² over its eigenvalues λ: trace² over the sum of all squared
 * entries, so that no eigenvalue is needed. 0 where nothing varies; NaN where the sums are not finite.
 */
export function effectiveRank({ channels, count, products, sums }: LevelSums): number {
  let trace = 0;
  let squares = 0;
  let size = 0;
  for (let i = 0; i < channels; i++) {
    const mean = (sums[i] as number) / count;
    size += (products[i * channels + i] as number) / count;
    for (let j = 0; j < channels; j++) {
      const covariance = (products[i * channels + j] as number) / count - (mean * (sums[j] as number)) / count;
      squares += covariance * covariance;
      if (i === j) trace += covariance;
    }
  }
  return trace <= LEAST_VARIANCE * size ? 0 : (trace * trace) / squares;
}

/** Share of channels whose squares sum to nothing. */
export function deadShare({ channels, products }: LevelSums): number {
  let dead = 0;
  for (let i = 0; i < channels; i++) if (products[i * channels + i] === 0) dead++;
  return dead / channels;
}

export function representationOf(levels: readonly LevelSums[]): Representation {
  const centre = levels.at(-1);
  return {
    effectiveRank: Object.fromEntries(levels.map((level) => [level.name, rounded(effectiveRank(level))])),
    deadUnits: rounded(centre ? deadShare(centre) : NaN),
  };
}

const rounded = (x: number): number => Number(x.toPrecision(4));

/** Levels below a quarter of the rank that they began with. */
export function collapsedLevels(first: Representation, now: Representation): string[] {
  return Object.entries(now.effectiveRank).flatMap(([name, rank]) =>
    rank < COLLAPSE_SHARE * (first.effectiveRank[name] ?? 0) ? [name] : [],
  );
}

export function collapseWarning(name: string, first: Representation, now: Representation, step: number): string {
  const [began, rank] = [first.effectiveRank[name] as number, now.effectiveRank[name] as number];
  return (
    `collapse of dimensions: the effective rank of ${name} is ${show(rank)}, below a quarter of the ${show(began)} that it ` +
    `began with (step ${step}): its channels repeat each other. A lower optimizer.lr or fewer steps may help.`
  );
}

/** The line at a run's end: each level from its first to its last rank, and the dead units. */
export function describeRepresentation(first: Representation, last: Representation): string {
  const levels = Object.entries(last.effectiveRank).map(
    ([name, rank]) => `${name} ${show(first.effectiveRank[name] ?? NaN)} → ${show(rank)}`,
  );
  const percent = (share: number): string => `${Math.round(100 * share)}%`;
  return (
    `effective rank, first → last: ${levels.join(', ')}; ` +
    `dead units in the centre: ${percent(first.deadUnits)} → ${percent(last.deadUnits)}`
  );
}

const show = (rank: number): string => rank.toFixed(1);
