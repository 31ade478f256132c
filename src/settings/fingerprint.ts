/**
 * What the planner needs to know about a dataset, and nothing else: grids, kinds of channel, intensities, classes. It is
 * measured by `src/data`; here are its types and the arithmetic on grids. Axes are D, H, W with the slice axis already
 * brought to D.
 */
import type { Triple } from './types.js';

/** What the dataset says of a channel: CT, an order how to normalise it, or nothing that matters. */
export type ChannelKind = 'ct' | 'other' | 'case' | 'unit' | 'none';

export interface CaseFingerprint {
  readonly id: string;
  /** Voxels as stored. */
  readonly shape: Triple;
  readonly spacingMm: Triple;
  readonly channels: number;
  readonly labelled: boolean;
}

/**
 * One channel's intensities over the foreground of all cases (over all voxels where there are no labels). `p005` and
 * `p995` are the 0.5 and 99.5 percentiles.
 */
export interface IntensityFingerprint {
  readonly mean: number;
  readonly sd: number;
  readonly p005: number;
  readonly p995: number;
  readonly min: number;
  readonly max: number;
}

export interface Fingerprint {
  readonly cases: readonly CaseFingerprint[];
  readonly channelKinds: readonly ChannelKind[];
  /** One a channel. May be empty where no channel is CT: nothing else is normalised over the data set. */
  readonly intensity: readonly IntensityFingerprint[];
  /** Classes with the background, in the order of the network's outputs; empty without labels. */
  readonly classes: readonly { readonly value: number; readonly name: string }[];
}

/** The value at a share (0 … 1) of the sorted list, by linear interpolation. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const first = sorted[low] ?? NaN;
  return first + ((sorted[low + 1] ?? first) - first) * (at - low);
}

export const mapTriple = <T>(f: (axis: 0 | 1 | 2) => T): readonly [T, T, T] => [f(0), f(1), f(2)];

/**
 * The spacing that cases are resampled to: the median of each axis, except where one axis is more than three times as
 * coarse as the finest one: there the 10th percentile, so that the fine cases keep their slices.
 */
export function targetSpacingMm(cases: readonly CaseFingerprint[]): Triple {
  const along = (axis: 0 | 1 | 2, share: number) =>
    quantile(
      cases.map((c) => c.spacingMm[axis]),
      share,
    );
  const median = mapTriple((axis) => along(axis, 0.5));
  const finest = Math.min(...median);
  return mapTriple((axis) => round(median[axis] > 3 * finest ? along(axis, 0.1) : median[axis]));
}

/** Spacings are float32 in most files; their last digits mean nothing. */
const round = (x: number): number => Number(x.toPrecision(6));

/** A case's shape once it is resampled; at least one voxel an axis. */
export function shapeAt(item: CaseFingerprint, spacingMm: Triple | null): Triple {
  if (!spacingMm) return item.shape;
  return mapTriple((axis) => Math.max(1, Math.round((item.shape[axis] * item.spacingMm[axis]) / spacingMm[axis])));
}
