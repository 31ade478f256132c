/**
 * A program's input and results on the host's side. What is small lies in copies of whole stretches of `io`, so that a run
 * takes one write before and one read after it; a tensor beyond `STAGED_BYTES` (an image, logits) has no copy and is moved
 * by itself. It knows bytes, not sessions.
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

/** Bytes that lie in the session's store while the program runs. */
export interface StoreBytes {
  readonly offset: number;
  readonly bytes: Uint8Array;
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

export class Staging {
  /** What is written before each run: constants, and inputs as they were given. */
  readonly input: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  /** What is read after each run. */
  readonly resultStretches: readonly Stretch[];
  store: readonly StoreBytes[] = [];
  /** Of the last run that ended, as `resultStretches`; null before it and while there is none. */
  private results: readonly Uint8Array[] | null = null;

  constructor(private readonly program: CompiledProgram) {
    const slots = [...program.io.values()];
    const staged = slots.filter((slot) => this.isStaged(slot));
    const others = slots.filter((slot) => !this.isStaged(slot));
    const given = stretchesOf(
      staged.filter((slot) => slot.role !== 'result'),
      [...others, ...staged.filter((slot) => slot.role === 'result')],
    ).map(({ offset, bytes }) => ({ offset, bytes: new Uint8Array(bytes) }));
    this.input = given;
    const large: { offset: number; bytes: Uint8Array }[] = [];
    for (const [name, bytes] of program.constants) {
      const slot = this.slot(name);
      if (this.isStaged(slot)) this.inputBytes(slot).set(bytes);
      else large.push({ offset: slot.offset, bytes });
    }
    this.input = [...given, ...large];
    this.resultStretches = stretchesOf(
      staged.filter((slot) => slot.role === 'result'),
      [...others, ...staged.filter((slot) => slot.role !== 'result')],
    );
  }

  slot(name: string): IoSlot {
    const slot = this.program.io.get(name);
    if (!slot) throw new MaclError('program', `the program has no input or result ${name}`, { field: name });
    return slot;
  }

  /** Whether a copy of it is held here. */
  isStaged(slot: IoSlot): boolean {
    return slot.bytes <= STAGED_BYTES;
  }

  /** The bytes of an input that is held here. */
  inputBytes(slot: IoSlot): Uint8Array {
    const part = this.input.find(({ offset, bytes }) => within({ offset, bytes: bytes.length }, slot))!;
    return part.bytes.subarray(slot.offset - part.offset, slot.offset - part.offset + slot.bytes);
  }

  /** The bytes of a result that is held here. @throws MaclError `state` where no run has ended */
  resultBytes(slot: IoSlot, name: string): Uint8Array {
    this.mustHaveRun(name);
    const n = this.resultStretches.findIndex((stretch) => within(stretch, slot));
    const at = slot.offset - this.resultStretches[n]!.offset;
    return this.results![n]!.subarray(at, at + slot.bytes);
  }

  /** @throws MaclError `state` where no run has ended */
  mustHaveRun(name: string): void {
    if (this.results) return;
    throw new MaclError('state', `${name}: the program has not run, or its last run did not end`, { field: name });
  }

  began(): void {
    this.results = null;
  }

  ended(results: readonly Uint8Array[]): void {
    this.results = results;
  }
}
