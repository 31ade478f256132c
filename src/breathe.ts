/**
 * Lets long synchronous work on the main thread give the event loop a turn. It measures time, not items, so a caller
 * asks often and pays little. It is not a scheduler: order and number of turns carry no meaning.
 */
import { MaclError } from './errors.js';

/** Milliseconds of work between two turns of the event loop. */
const SLICE_MS = 5;

/** A macrotask: `setImmediate` in Node; a browser has only the timer, which waits up to 4 ms. */
function turn(): Promise<void> {
  if (typeof setImmediate === 'function') return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** The error of an aborted call; the signal's own reason is kept as its cause. */
export function abortedError(signal?: AbortSignal): MaclError {
  const reason: unknown = signal?.reason;
  if (reason instanceof MaclError && reason.code === 'aborted') return reason;
  return new MaclError('aborted', 'aborted', {}, reason === undefined ? undefined : { cause: reason });
}

/** Throws MaclError `aborted` where the signal is aborted. */
export function throwIfAborted(signal?: AbortSignal): void {
  if (signal?.aborted) throw abortedError(signal);
}

/**
 * `const breath = new Breather(signal)`, then in the loop `if (breath.due()) await breath.breathe()` (no promise when
 * it is not due) or, where a microtask does not matter, `await breath.maybe()`.
 */
export class Breather {
  private readonly signal: AbortSignal | undefined;
  private readonly sliceMs: number;
  private since: number;

  constructor(signal?: AbortSignal, sliceMs: number = SLICE_MS) {
    this.signal = signal;
    this.sliceMs = sliceMs;
    this.since = performance.now();
    throwIfAborted(signal);
  }

  /** True when this slice of time is used up, or the signal is aborted. */
  due(): boolean {
    return performance.now() - this.since >= this.sliceMs || this.signal?.aborted === true;
  }

  /** Gives the event loop a turn now. Throws MaclError `aborted`. */
  async breathe(): Promise<void> {
    throwIfAborted(this.signal);
    await turn();
    throwIfAborted(this.signal);
    this.since = performance.now();
  }

  /** Gives the event loop a turn where one is due. Throws MaclError `aborted`. */
  async maybe(): Promise<void> {
    if (this.due()) await this.breathe();
  }
}
