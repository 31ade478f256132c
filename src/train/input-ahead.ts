/**
 * The input of a step, made ready while the step before runs. One at a time, so that it takes the memory of one step. It
 * knows neither where the input comes from nor what runs.
 */
export class InputAhead {
  private pending: { readonly step: number; readonly ready: Promise<void> } | null = null;

  /** @param prepare makes a step's input ready; calls never overlap */
  constructor(private readonly prepare: (step: number) => void | Promise<void>) {}

  /** Begins with a step's input. It throws nothing: what goes wrong is thrown by `ready`, when the step's turn has come. */
  begin(step: number): void {
    if (this.pending) throw new RangeError(`the input of step ${this.pending.step} has not been taken`);
    const ready = (async () => this.prepare(step))();
    ready.catch(() => undefined);
    this.pending = { step, ready };
  }

  /** Waits for a step's input, and begins with it where that has not happened. Rejects with what `prepare` did. */
  async ready(step: number): Promise<void> {
    if (this.pending && this.pending.step !== step) await this.settle();
    if (!this.pending) this.begin(step);
    try {
      await this.pending!.ready;
    } finally {
      this.pending = null;
    }
  }

  /** Waits until nothing is under way any more, whatever becomes of it. */
  async settle(): Promise<void> {
    await this.pending?.ready.catch(() => undefined);
    this.pending = null;
  }
}
