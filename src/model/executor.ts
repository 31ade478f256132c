/**
 * Runs compiled programs over one state: loads them into a session, takes inputs and gives results by name. It knows names
 * and shapes, not what they mean. Input is gathered on the host and written when its program runs, in one piece, and results
 * are read in one piece then: the next step's input can be given while one runs.
 */
import type { Backend, LoadedProgram, RunOptions, Session } from '../backend/types.js';
import type { Breather } from '../breathe.js';
import { MaclError } from '../errors.js';
import { checkCount, decode, encode, encodeInto, type Numbers, type Values } from '../graph/codec.js';
import { sessionSizes, type CompiledProgram, type IoSlot } from '../graph/compile.js';
import { DTYPE_BYTES } from '../graph/types.js';
import { isSmall, Staging, type PlacedBytes } from './staging.js';

/** Numbers that are copied at once: well below a millisecond. */
const PART = 1 << 17;

interface Loaded {
  readonly program: LoadedProgram;
  readonly staging: Staging;
}

export class Executor {
  private constructor(
    readonly backend: Backend,
    readonly session: Session,
    private readonly loaded: ReadonlyMap<CompiledProgram, Loaded>,
    private readonly stateBytes: number,
  ) {}

  /** Takes the memory that all programs need together, known before any is taken. */
  static async open(
    backend: Backend,
    programs: readonly CompiledProgram[],
    state: Uint8Array,
    storeBytes = 0,
  ): Promise<Executor> {
    const sizes = sessionSizes(programs);
    const session = await backend.createSession({ ...sizes, store: Math.max(sizes.store, storeBytes) });
    try {
      const loaded = new Map(programs.map((p) => [p, { program: session.load(p.bytes), staging: new Staging(p) }]));
      session.write('state', 0, state);
      for (const { setUp } of programs) if (setUp) await session.run(session.load(setUp));
      return new Executor(backend, session, loaded, state.length);
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  private of(program: CompiledProgram): Loaded {
    const loaded = this.loaded.get(program);
    if (!loaded) throw new MaclError('program', 'this program was not loaded into the session');
    return loaded;
  }

  /**
   * An input of the program's next runs, encoded as the program has it. Something may run meanwhile: what runs has its input
   * already. An input of more than 1 MiB is held here until another takes its place; `setSlowly` holds none.
   */
  set(program: CompiledProgram, name: string, values: Numbers): void {
    const { staging } = this.of(program);
    const slot = inputOf(staging, name);
    checkCount(slot.dtype, slot.bytes, values.length, name);
    encodeInto(staging.inputBytes(name, slot), slot.dtype, values, name);
  }

  /**
   * Bytes that the store holds when the program runs, in place of those given before. They are not copied: until the next
   * run of the program has begun they stay as they are.
   */
  setStore(program: CompiledProgram, bytes: readonly PlacedBytes[]): void {
    this.of(program).staging.store = bytes;
  }

  /**
   * A result of the program's last run, or an input as it was given.
   * @throws MaclError `state` where the program has not run, or a result of more than 1 MiB is gone because another ran since
   */
  get(program: CompiledProgram, name: string): Values {
    const { staging } = this.of(program);
    const slot = staging.slot(name);
    if (slot.role === 'result' && isSmall(slot)) return decode(slot.dtype, staging.resultBytes(name, slot));
    const given = slot.role === 'input' ? staging.givenBytes(name, slot) : null;
    if (given) return decode(slot.dtype, given.slice());
    staging.mustLieInIo(name, slot);
    return decode(slot.dtype, this.session.read('io', slot.offset, slot.bytes));
  }

  /**
   * As `set`, part by part: a large input takes longer than the event loop may wait, and goes into the session at once, so
   * that it lies nowhere twice. Nothing may run meanwhile, and no other program before its own.
   */
  async setSlowly(program: CompiledProgram, name: string, values: Float32Array, breath: Breather): Promise<void> {
    const { staging } = this.of(program);
    const slot = inputOf(staging, name);
    if (isSmall(slot)) return this.set(program, name, values);
    checkCount(slot.dtype, slot.bytes, values.length, name);
    const size = DTYPE_BYTES[slot.dtype];
    for (let at = 0; at < values.length; at += PART) {
      const part = encode(slot.dtype, values.subarray(at, at + PART), name);
      this.session.write('io', slot.offset + at * size, part);
      if (at === 0) {
        // The session took it: what was there is no more.
        this.displaceOthers(staging);
        staging.directBegins(name);
      }
      if (breath.due()) await breath.breathe();
    }
    staging.directEnds(name);
  }

  /** As `get`, part by part, into an array of the caller's. Nothing may run meanwhile. */
  async getSlowly(program: CompiledProgram, name: string, out: Float32Array, breath: Breather): Promise<void> {
    const { staging } = this.of(program);
    const slot = staging.slot(name);
    checkCount(slot.dtype, slot.bytes, out.length, name);
    if (isSmall(slot)) return out.set(this.get(program, name));
    staging.mustLieInIo(name, slot);
    const size = DTYPE_BYTES[slot.dtype];
    for (let at = 0; at < out.length; at += PART) {
      const count = Math.min(PART, out.length - at);
      out.set(decode(slot.dtype, this.session.read('io', slot.offset + at * size, count * size)), at);
      if (breath.due()) await breath.breathe();
    }
  }

  scalar(program: CompiledProgram, name: string): number {
    return this.get(program, name)[0] as number;
  }

  /** Scratch that the program keeps: gradients. */
  kept(program: CompiledProgram, name: string): Uint8Array {
    const slot = program.kept.get(name);
    if (!slot) throw new MaclError('program', `the program keeps no ${name}`);
    return this.session.read('scratch', slot.offset, slot.bytes);
  }

  /**
   * Writes the program's input, runs it, reads its results. What is set after the call, before it has ended, is input of the
   * next run.
   * @returns whether the commit phase ran
   */
  async run(program: CompiledProgram, options?: RunOptions): Promise<boolean> {
    const { program: loaded, staging } = this.of(program);
    for (const { offset, bytes } of staging.toWrite()) this.session.write('io', offset, bytes);
    for (const { offset, bytes } of staging.store) this.session.write('store', offset, bytes);
    this.displaceOthers(staging);
    staging.began();
    const { committed } = await this.session.run(loaded, options);
    staging.ended(staging.resultStretches.map(({ offset, bytes }) => this.session.read('io', offset, bytes)));
    return committed;
  }

  /** Programs share io. */
  private displaceOthers(staging: Staging): void {
    for (const other of this.loaded.values()) if (other.staging !== staging) other.staging.displaced();
  }

  /** Bytes of the state from where the session keeps it. */
  readStateAt(offset: number, bytes: number): Uint8Array {
    return this.session.read('state', offset, bytes);
  }

  /** The whole state, copied: for small networks. */
  readState(): Uint8Array {
    return this.session.read('state', 0, this.stateBytes);
  }

  writeState(state: Uint8Array): void {
    this.session.write('state', 0, state);
  }

  close(): Promise<void> {
    return this.session.close();
  }
}

function inputOf(staging: Staging, name: string): IoSlot {
  const slot = staging.slot(name);
  if (slot.role === 'input') return slot;
  throw new MaclError('program', `${name} is a ${slot.role} of the program, no input`, { field: name });
}
