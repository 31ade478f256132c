/** Learning rates by step. Pure functions of the step, so that nothing has to be saved. */

export interface Schedule {
  readonly name: 'cosine' | 'cosine-floor' | 'constant';
  readonly lr: number;
  /** Where a cosine ends, or the floor below which `cosine-floor` never goes (the released code's form). */
  readonly lrFinal: number;
  readonly steps: number;
  /** Share of the steps over which the rate first rises to `lr`, evenly. */
  readonly warmup?: number | undefined;
}

/** Learning rate of step `step` (0 … steps − 1). */
export function learningRate(s: Schedule, step: number): number {
  const rising = Math.round((s.warmup ?? 0) * s.steps);
  if (step < rising) return (s.lr * (step + 1)) / rising;
  if (s.name === 'constant') return s.lr;
  const cosine = 0.5 * (1 + Math.cos((Math.PI * (step - rising)) / Math.max(1, s.steps - rising)));
  if (s.name === 'cosine-floor') return Math.max(s.lr * cosine, s.lrFinal);
  return s.lrFinal + (s.lr - s.lrFinal) * cosine;
}
