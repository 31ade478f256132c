/**
 * How long a quickstart will take on this machine: pure arithmetic over step times that were measured. It changes nothing
 * of what is trained, so that equal seeds give equal results however slow or busy a machine is.
 */
import type { QuickstartSizes } from './settings.js';

/** Seconds that one step takes. */
export interface Pace {
  readonly pretrainSeconds: number;
  readonly finetuneSeconds: number;
}

/** Models that are judged. */
const MODELS = 3;
/** Tiles of a case under half-overlapping windows, and what a tile costs against a sample of a training step. */
const TILES_A_CASE = 12;
const TILE_SHARE = 0.45;
/** Reading, resampling, metrics and the picture, by case and model. */
const SECONDS_A_CASE = 0.15;

/** Of all trainings, predictions and evaluations. */
export function estimateSeconds(sizes: QuickstartSizes, pace: Pace): number {
  const { pretrainSteps, finetuneSteps, longerSteps, testCases, finetuneBatch } = sizes;
  const tile = (TILE_SHARE * pace.finetuneSeconds) / finetuneBatch;
  return (
    pretrainSteps * pace.pretrainSeconds +
    (2 * finetuneSteps + longerSteps) * pace.finetuneSeconds +
    MODELS * testCases * (TILES_A_CASE * tile + SECONDS_A_CASE)
  );
}

/** `about 2 min`, `about 40 s`. */
export function roughly(seconds: number): string {
  if (seconds < 55) return `about ${Math.max(5, 5 * Math.round(seconds / 5))} s`;
  const halves = Math.max(2, Math.round(seconds / 30));
  return `about ${halves / 2} min`;
}
