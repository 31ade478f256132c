/** Learning rates by step. Pure functions of the step, so that nothing has to be saved. */
import type { OptimizerConfig } from '../settings/types.js';

/** Formulas and sources: docs/training.md. */
export interface Schedule {
  readonly name: OptimizerConfig['schedule'];
  readonly lr: number;
  /** Where a cosine or polynomial ends, or the floor below which `cosine-floor` never goes (the released code's form). */
  readonly lrFinal: number;
  readonly steps: number;
  /** Share of the steps over which the rate first rises to `lr`, evenly; in a sawtooth in each part. */
  readonly warmup?: number | undefined;
  /** Of poly and sawtooth. */
  readonly power?: number | undefined;
  /** Share of the steps that the first part of a sawtooth takes. */
  readonly sawtooth?: number | undefined;
}

export function scheduleOf(
  { schedule, lr, lrFinal, warmup, power, sawtooth }: OptimizerConfig,
  steps: number,
): Schedule {
  return { name: schedule, lr, lrFinal, steps, warmup, power, sawtooth };
}

const POWER = 0.9;

/** Steps of a sawtooth's first part: at least one, and one is left for the second. 0 of every other schedule. */
export function firstPart({ name, steps, sawtooth = 0 }: Pick<Schedule, 'name' | 'steps' | 'sawtooth'>): number {
  if (name !== 'sawtooth') return 0;
  return Math.min(Math.max(1, Math.round(sawtooth * steps)), Math.max(0, steps - 1));
}

/** Learning rate of step `step` (0 … steps − 1). */
export function learningRate(s: Schedule, step: number): number {
  const rising = Math.round((s.warmup ?? 0) * s.steps);
  if (s.name === 'sawtooth') {
    const first = firstPart(s);
    // As published: the short part rises over half of it at most.
    if (step < first) return poly(s, step, first, Math.min(rising, Math.floor(first / 2)));
    return poly(s, step - first, s.steps - first, Math.min(rising, s.steps - first));
  }
  if (s.name === 'poly') return poly(s, step, s.steps, rising);
  if (step < rising) return (s.lr * (step + 1)) / rising;
  if (s.name === 'constant') return s.lr;
  const cosine = 0.5 * (1 + Math.cos((Math.PI * (step - rising)) / Math.max(1, s.steps - rising)));
  if (s.name === 'cosine-floor') return Math.max(s.lr * cosine, s.lrFinal);
  return s.lrFinal + (s.lr - s.lrFinal) * cosine;
}

/** Rises over `rising` of `steps`, then falls to `lrFinal` as (1 − share of the rest) ^ power. */
function poly({ lr, lrFinal, power = POWER }: Schedule, step: number, steps: number, rising: number): number {
  if (step < rising) return (lr * (step + 1)) / rising;
  const left = 1 - (step - rising) / Math.max(1, steps - rising);
  return lrFinal + (lr - lrFinal) * left ** power;
}
