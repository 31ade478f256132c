/**
 * Signs of collapse, judged by what a step reports beside its loss: a contrastive loss falls where everything becomes alike
 * too. A watch warns once; what it has to remember over a resume goes into the checkpoint's metadata.
 */
export interface Watchdog {
  /** A sentence where something is wrong that has not been said yet. Skipped steps are not looked at. */
  look(results: Readonly<Record<string, number>>, step: number): string | null;
  /** What a checkpoint has to remember. */
  progress(): Readonly<Record<string, string>>;
}

const NOTHING: Readonly<Record<string, string>> = {};

/** Warns where a result stays above `limit` for `steps` committed steps. */
export function staysAbove(result: string, limit: number, steps: number, words: (step: number) => string): Watchdog {
  let close = 0;
  let warned = false;
  return {
    look(results, step) {
      const value = results[result];
      if (value === undefined) return null;
      close = value > limit ? close + 1 : 0;
      if (close < steps || warned) return null;
      warned = true;
      return words(step);
    },
    progress: () => NOTHING,
  };
}

/** Warns where a result falls to `share` of what it began with, kept in the checkpoint as `key`. */
export function fallsBelow(
  result: string,
  share: number,
  key: string,
  saved: Readonly<Record<string, string>>,
  words: (step: number) => string,
): Watchdog {
  let first = saved[key] === undefined ? undefined : Number(saved[key]);
  let warned = false;
  return {
    look(results, step) {
      const value = results[result];
      if (value === undefined) return null;
      first ??= value;
      // Exactly 0 from the beginning: the volumes show nothing.
      if (value > share * first || warned) return null;
      warned = true;
      return words(step);
    },
    progress: () => (first === undefined ? NOTHING : { [key]: String(first) }),
  };
}
