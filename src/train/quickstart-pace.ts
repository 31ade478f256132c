/**
 * How long a quickstart will take on this machine, and how many steps fit: pure arithmetic over step times that were
 * measured. The measuring itself is `quickstart.ts`.
 */
import type { QuickstartSizes } from './quickstart-settings.js';

/** Seconds that one step takes. */
export interface Pace {
  readonly pretrainSeconds: number;
  readonly finetuneSeconds: number;
}

export interface StepsPlan {
  readonly pretrainSteps: number;
  readonly finetuneSteps: number;
  /** Of everything that is still to come. */
  readonly estimateSeconds: number;
  /** Fewer steps than the sizes say, because this machine is slow. */
  readonly shortened: boolean;
}

/** Most seconds in all; what is promised is five minutes on `cpu`, a quarter of an hour elsewhere. */
export const LIMIT_SECONDS = { cpu: 255, other: 810 } as const;

const LEAST_STEPS = 10;
/** Tiles of a case under half-overlapping windows, and what a tile costs against a sample of a training step. */
const TILES_A_CASE = 12;
const TILE_SHARE = 0.45;
/** Reading, resampling, metrics and the picture, by case and model. */
const SECONDS_A_CASE = 0.15;

/** Predicting and evaluating all test cases with both models. */
export function judgeSeconds(sizes: QuickstartSizes, pace: Pace): number {
  const tile = (TILE_SHARE * pace.finetuneSeconds) / sizes.finetuneBatch;
  return 2 * sizes.testCases * (TILES_A_CASE * tile + SECONDS_A_CASE);
}

const fit = (wanted: number, share: number): number =>
  Math.min(wanted, Math.max(Math.min(LEAST_STEPS, wanted), Math.floor(wanted * share)));

/** All steps, or as large a share of them as fits into `secondsLeft`. */
export function planSteps(sizes: QuickstartSizes, pace: Pace, secondsLeft: number): StepsPlan {
  const judge = judgeSeconds(sizes, pace);
  const training = (pretrain: number, finetune: number): number =>
    pretrain * pace.pretrainSeconds + 2 * finetune * pace.finetuneSeconds;
  const wanted = training(sizes.pretrainSteps, sizes.finetuneSteps);
  const share = wanted > 0 ? Math.max(0, (secondsLeft - judge) / wanted) : 1;
  const pretrainSteps = fit(sizes.pretrainSteps, share);
  const finetuneSteps = fit(sizes.finetuneSteps, share);
  return {
    pretrainSteps,
    finetuneSteps,
    estimateSeconds: training(pretrainSteps, finetuneSteps) + judge,
    shortened: pretrainSteps < sizes.pretrainSteps || finetuneSteps < sizes.finetuneSteps,
  };
}

/** After pre-training: fine-tuning steps that still fit, where the machine turned out slower than it began. */
export function replanFinetune(sizes: QuickstartSizes, pace: Pace, planned: number, secondsLeft: number): number {
  const room = (secondsLeft - judgeSeconds(sizes, pace)) / (2 * pace.finetuneSeconds);
  return fit(planned, room / planned);
}

/** `about 2 min`, `about 40 s`. */
export function roughly(seconds: number): string {
  if (seconds < 55) return `about ${Math.max(5, 5 * Math.round(seconds / 5))} s`;
  const halves = Math.max(2, Math.round(seconds / 30));
  return `about ${halves / 2} min`;
}
