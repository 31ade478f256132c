/**
 * What a fuzzer is: a name, and one execution for a number. An execution is right if it ends, soon, and either succeeds
 * or is refused with a MaclError; anything else (a TypeError, a RangeError, a hang, a wrong result that it checks itself)
 * is a finding. Executions depend on their number alone, so a finding is repeated by `--from NUMBER --count 1`.
 */
import { MaclError } from '../src/errors.js';

export interface Target {
  readonly name: string;
  /** What is fed with what. */
  readonly describe: string;
  /** Before the first execution; `folder` is empty and the target's own. */
  setUp?(folder: string): Promise<void> | void;
  run(number: number): Promise<void> | void;
  tearDown?(): Promise<void> | void;
}

export interface Outcome {
  readonly accepted: number;
  readonly refused: number;
  readonly findings: readonly { readonly number: number; readonly error: unknown }[];
}

export interface RunOptions {
  readonly from?: number;
  readonly count?: number;
  /** Date.now() after which no execution begins. */
  readonly until?: number;
  /** Longer than this is a finding. */
  readonly mostSeconds?: number;
  readonly onFinding?: (number: number, error: unknown) => void;
}

export async function fuzz(target: Target, folder: string, options: RunOptions = {}): Promise<Outcome> {
  const { from = 0, count = Infinity, until = Infinity, mostSeconds = 20 } = options;
  let [accepted, refused] = [0, 0];
  const findings: { number: number; error: unknown }[] = [];
  const found = (number: number, error: unknown): void => {
    findings.push({ number, error });
    options.onFinding?.(number, error);
  };
  await target.setUp?.(folder);
  try {
    for (let number = from; number < from + count && Date.now() < until; number++) {
      const start = performance.now();
      try {
        await target.run(number);
        accepted++;
      } catch (error) {
        if (error instanceof MaclError) refused++;
        else found(number, error);
      }
      const seconds = (performance.now() - start) / 1000;
      if (seconds > mostSeconds) found(number, new Error(`took ${seconds.toFixed(1)} s`));
    }
  } finally {
    await target.tearDown?.();
  }
  return { accepted, refused, findings };
}
