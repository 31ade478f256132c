/**
 * One at a time, in the order of asking. Calls that ask again for every piece of their work take turns by that: a small one
 * never waits for all of a large one.
 */
import { abortedError, throwIfAborted } from '../breathe.js';

export class Turns {
  private taken = false;
  private readonly waiting: (() => void)[] = [];

  /** Runs `use` when its turn has come. One that is aborted while it waits rejects at once and takes no turn. */
  async take<T>(signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    if (this.taken) await this.turn(signal);
    this.taken = true;
    try {
      return await use();
    } finally {
      const next = this.waiting.shift();
      // The turn is handed on, not given up: nobody comes between.
      if (next) next();
      else this.taken = false;
    }
  }

  private turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        this.waiting.splice(this.waiting.indexOf(start), 1);
        reject(abortedError(signal));
      };
      const start = (): void => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      signal?.addEventListener('abort', stop, { once: true });
      this.waiting.push(start);
    });
  }
}

/** What the promise gives, or a rejection as soon as the signal is aborted. */
export async function untilAborted<T>(promise: PromiseLike<T>, signal: AbortSignal): Promise<T> {
  throwIfAborted(signal);
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => (stop = () => reject(abortedError(signal))));
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
