/**
 * A program's input and results on the host's side. What is small lies in copies of whole stretches of `io`, so that a run
 * takes one write before and one read after it; a tensor beyond `STAGED_BYTES` (an image, logits) is moved by itself, and has
 * a copy here only where it was given ahead of its run. It knows bytes, not sessions.
 */
import { MaclError } from '../errors.js';
import type { CompiledProgram, IoSlot } from '../graph/compile.js';

/** The most bytes of a tensor that is copied whole: well below a millisecond, and too few to count in a plan. */
const STAGED_BYTES = 1 << 20;

/** A piece of the `io` segment. */
export interface Stretch {
  readonly offset: number;
  readonly bytes: number;
}

/** Bytes and where they lie in their segment. */
export interface PlacedBytes {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface Large extends PlacedBytes {
  /** Not written yet. */
  fresh: boolean;
}

/** Slots that lie one after the other, as few stretches as can be: nothing else lies between two of one stretch. */
function stretchesOf(slots: readonly IoSlot[], others: readonly IoSlot[]): Stretch[] {
  const sorted = [...slots].sort((a, b) => a.offset - b.offset);
  const out: { offset: number; bytes: number }[] = [];
  for (const { offset, bytes } of sorted) {
    const last = out.at(-1);
    const between = last && others.some((o) => o.offset >= last.offset && o.offset < offset);
    if (last && !between) last.bytes = offset + bytes - last.offset;
    else out.push({ offset, bytes });
  }
  return out;
}

const within = ({ offset, bytes }: Stretch, slot: IoSlot): boolean =>
  slot.offset >= offset && slot.offset + slot.bytes <= offset + bytes;

/** Whether it is copied whole with its neighbours. */
export const isSmall = (slot: IoSlot): boolean => slot.bytes <= STAGED_BYTES;

export class Staging {
  /** What is read after each run: the results that are small. */
  readonly resultStretches: readonly Stretch[];
  /** What the store holds while the program runs. */
  store: readonly PlacedBytes[] = [];
  private readonly stretches: readonly PlacedBytes[];
  /** Constants too large to lie in a stretch: the program's own bytes. */
  private readonly constants: readonly PlacedBytes[];
  private readonly large = new Map<string, Large>();
  /** Inputs that lie in io and nowhere else; and those that are not whole there, or that another program wrote over. */
  private readonly direct = new Set<string>();
  private readonly lost = new Set<string>();
  /** Of the last run that ended, as `resultStretches`; null before it and while there is none. */
  private results: readonly Uint8Array[] | null = null;
  /** Whether this is the program that ran last, so that io is its. */
  private current = false;

  constructor(private readonly program: CompiledProgram) {
    const slots = [...program.io.values()];
    const small = slots.filter(isSmall);
    const stretches = (chosen: readonly IoSlot[]): Stretch[] =>
      stretchesOf(
        chosen,
        slots.filter((slot) => !chosen.includes(slot)),
      );
    this.resultStretches = stretches(small.filter((slot) => slot.role === 'result'));
    this.stretches = stretches(small.filter((slot) => slot.role !== 'result')).map(({ offset, bytes }) => ({
      offset,
      bytes: new Uint8Array(bytes),
    }));
    const constants: PlacedBytes[] = [];
    for (const [name, bytes] of program.constants) {
      const slot = this.slot(name);
      if (isSmall(slot)) this.inputBytes(name, slot).set(bytes);
      else constants.push({ offset: slot.offset, bytes });
    }
    this.constants = constants;
  }

  slot(name: string): IoSlot {
    const slot = this.program.io.get(name);
    if (!slot) throw new MaclError('program', `the program has no input or result ${name}`, { field: name });
    return slot;
  }

  /** Bytes held here. */
  get heldBytes(): number {
    const inputs = [...this.stretches, ...this.large.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
    return inputs + this.resultStretches.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The memory that an input is encoded into, from where it is written when the program runs. */
  inputBytes(name: string, slot: IoSlot): Uint8Array {
    if (isSmall(slot)) {
      const part = this.stretches.find(({ offset, bytes }) => within({ offset, bytes: bytes.length }, slot))!;
      return part.bytes.subarray(slot.offset - part.offset, slot.offset - part.offset + slot.bytes);
    }
    const large = this.large.get(name) ?? { offset: slot.offset, bytes: new Uint8Array(slot.bytes), fresh: true };
    large.fresh = true;
    this.large.set(name, large);
    this.direct.delete(name);
    this.lost.delete(name);
    return large.bytes;
  }

  /** An input as it was given; null where it has no copy here. */
  givenBytes(name: string, slot: IoSlot): Uint8Array | null {
    return isSmall(slot) ? this.inputBytes(name, slot) : (this.large.get(name)?.bytes ?? null);
  }

  /** A large input goes to io itself: it has no copy here any more, and is none before all of it is there. */
  directBegins(name: string): void {
    this.large.delete(name);
    this.lost.add(name);
  }

  directEnds(name: string): void {
    this.lost.delete(name);
    this.direct.add(name);
  }

  /** A result that is small. @throws MaclError `state` where no run has ended */
  resultBytes(name: string, slot: IoSlot): Uint8Array {
    this.mustHaveRun(name);
    const n = this.resultStretches.findIndex((stretch) => within(stretch, slot));
    const at = slot.offset - this.resultStretches[n]!.offset;
    return this.results![n]!.subarray(at, at + slot.bytes);
  }

  /** Before anything large is read from io. @throws MaclError `state` where it is not there */
  mustLieInIo(name: string, slot: IoSlot): void {
    if (slot.role === 'result') this.mustHaveRun(name);
    const lost = slot.role === 'result' ? !this.current : this.lost.has(name);
    if (lost) throw writtenOver(name);
  }

  private mustHaveRun(name: string): void {
    if (this.results) return;
    throw new MaclError('state', `${name}: the program has not run, or its last run did not end`, { field: name });
  }

  /** What has to be written to io now for a run. @throws MaclError `state` where an input is lost */
  toWrite(): PlacedBytes[] {
    const [lost] = this.lost;
    if (lost !== undefined) throw writtenOver(lost);
    const large = [...this.large.values()].filter(({ fresh }) => fresh || !this.current);
    return [...this.stretches, ...this.constants, ...large];
  }

  /** Its input is in io, and it runs. */
  began(): void {
    this.results = null;
    this.current = true;
    for (const large of this.large.values()) large.fresh = false;
  }

  ended(results: readonly Uint8Array[]): void {
    this.results = results;
  }

  /** Another program's input was written to io. */
  displaced(): void {
    this.current = false;
    for (const name of this.direct) this.lost.add(name);
    this.direct.clear();
  }
}

const writtenOver = (name: string): MaclError =>
  new MaclError('state', `${name}: is not whole in io: another program's input or run came between`, { field: name });
