/**
 * The watch for collapse while a run trains: the signs that its method names, and the effective rank of the encoder's
 * levels. It only warns; what it has to remember over a resume goes into the checkpoint's metadata.
 */
import type { Watchdog } from '../methods/watchdog.js';
import { collapsedLevels, collapseWarning, type Representation } from './representation.js';

/** Representations of the first step and of the last that was looked at. */
export interface Represented {
  readonly first: Representation;
  readonly last: Representation;
}

export class Watch {
  private readonly warnedLevels = new Set<string>();
  private first?: Representation;
  private last?: Representation;

  /** @param saved metadata of the checkpoint that a run goes on from */
  constructor(
    private readonly dogs: readonly Watchdog[],
    private readonly warn: (message: string) => void,
    saved: Readonly<Record<string, string>>,
  ) {
    const { firstRepresentation } = saved;
    if (firstRepresentation !== undefined) this.first = JSON.parse(firstRepresentation) as Representation;
  }

  progress(): Record<string, string> {
    const { first } = this;
    return {
      ...Object.assign({}, ...this.dogs.map((dog) => dog.progress())),
      ...(first === undefined ? {} : { firstRepresentation: JSON.stringify(first) }),
    };
  }

  get represented(): Represented | undefined {
    const { first, last } = this;
    return first && last ? { first, last } : undefined;
  }

  /** @param results of a step that was committed */
  look(results: Readonly<Record<string, number>>, step: number): void {
    for (const dog of this.dogs) {
      const words = dog.look(results, step);
      if (words !== null) this.warn(words);
    }
  }

  lookAt(now: Representation, step: number): void {
    this.first ??= now;
    this.last = now;
    for (const name of collapsedLevels(this.first, now)) {
      if (this.warnedLevels.has(name)) continue;
      this.warnedLevels.add(name);
      this.warn(collapseWarning(name, this.first, now, step));
    }
  }
}
