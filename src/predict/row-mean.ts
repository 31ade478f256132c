/**
 * The mean of what several models say of one volume, row by row: each gives its rows in order and waits until all have
 * given that row, so that no more than one row of each is held. Sums are in the order of the models, whoever came first.
 */
export class RowMean {
  private given: (Float32Array | undefined)[];
  private waiting: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  private readonly mean: Float32Array;

  /** @param onRow gets the mean of each row; the array is reused */
  constructor(
    private readonly models: number,
    length: number,
    private readonly onRow: (row: number, mean: Float32Array) => void | Promise<void>,
  ) {
    this.given = new Array<Float32Array | undefined>(models).fill(undefined);
    this.mean = new Float32Array(length);
  }

  /** Resolves when the row of all models is through; until then `values` must stay as they are. */
  give(model: number, row: number, values: Float32Array): Promise<void> {
    this.given[model] = values;
    const through = new Promise<void>((resolve, reject) => this.waiting.push({ resolve, reject }));
    if (this.waiting.length === this.models) void this.pass(row);
    return through;
  }

  private async pass(row: number): Promise<void> {
    const waiting = this.waiting;
    const rows = this.given as Float32Array[];
    try {
      const { mean, models } = this;
      for (let i = 0; i < mean.length; i++) {
        let sum = 0;
        for (let m = 0; m < models; m++) sum += rows[m]![i]!;
        mean[i] = sum / models;
      }
      await this.onRow(row, mean);
      this.waiting = [];
      for (const { resolve } of waiting) resolve();
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
  }
}

/** The index of the largest of each voxel's values (the first of equal ones). */
export function largestOf(values: Float32Array, classes: number, out: Uint8Array, at: number): void {
  for (let v = 0, i = 0; i < values.length; v++, i += classes) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (values[i + k]! > values[i + best]!) best = k;
    out[at + v] = best;
  }
}
