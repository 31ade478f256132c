/** The number of threads that an option asks for. */
import { MaclError } from '../errors.js';

/** A whole number of threads, or what the machine offers. */
export function threadsOf(asked: number | undefined, available: () => number): number {
  if (asked === undefined) return available();
  if (!Number.isInteger(asked) || asked < 1 || asked > 1024) {
    throw new MaclError('device', `threads: ${asked}, expected 1 to 1024`, { field: 'threads', found: asked });
  }
  return asked;
}
