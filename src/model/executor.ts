/**
 * Runs compiled programs over one state: loads them into a session, writes inputs and reads results by name. It knows
 * names and shapes, not what they mean.
 */
import type { Backend, LoadedProgram, RunOptions, Session } from '../backend/types.js';
import type { Breather } from '../breathe.js';
import { MaclError } from '../errors.js';
import { sessionSizes, writeConstants, type CompiledProgram, type IoSlot } from '../graph/compile.js';
import { DTYPE_BYTES, type DType } from '../graph/types.js';
import { isArrayOf } from '../realm.js';

type Numbers = ArrayLike<number>;

/** Numbers that are copied at once: well below a millisecond. */
const PART = 1 << 17;

function slotOf(program: CompiledProgram, name: string): IoSlot {
  const slot = program.io.get(name);
  if (!slot) throw new MaclError('program', `the program has no input or result ${name}`);
  return slot;
}

function checkCount(slot: IoSlot, name: string, found: number): void {
  const count = slot.bytes / DTYPE_BYTES[slot.dtype];
  if (found !== count) throw new MaclError('program', `${name}: expected ${count} numbers, found ${found}`);
}

function encode(dtype: DType, values: Numbers): Uint8Array {
  const direct =
    (dtype === 'f32' && isArrayOf(values, 'Float32Array')) ||
    (dtype === 'f64' && isArrayOf(values, 'Float64Array')) ||
    (dtype === 'i32' && isArrayOf(values, 'Int32Array'));
  const typed = direct
    ? values
    : dtype === 'f64'
      ? Float64Array.from(values)
      : dtype === 'i32'
        ? Int32Array.from(values)
        : Float32Array.from(values);
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
}

function decode(dtype: DType, bytes: Uint8Array): Float32Array | Float64Array | Int32Array {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const count = bytes.length / DTYPE_BYTES[dtype];
  if (dtype === 'f64') return new Float64Array(aligned.buffer, aligned.byteOffset, count);
  if (dtype === 'i32') return new Int32Array(aligned.buffer, aligned.byteOffset, count);
  return new Float32Array(aligned.buffer, aligned.byteOffset, count);
}

export class Executor {
  private constructor(
    readonly backend: Backend,
    readonly session: Session,
    private readonly loaded: ReadonlyMap<CompiledProgram, LoadedProgram>,
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
      const loaded = new Map(programs.map((p) => [p, session.load(p.bytes)]));
      session.write('state', 0, state);
      return new Executor(backend, session, loaded, state.length);
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  set(program: CompiledProgram, name: string, values: Numbers): void {
    const slot = slotOf(program, name);
    checkCount(slot, name, values.length);
    this.session.write('io', slot.offset, encode(slot.dtype, values));
  }

  get(program: CompiledProgram, name: string): Float32Array | Float64Array | Int32Array {
    const slot = slotOf(program, name);
    return decode(slot.dtype, this.session.read('io', slot.offset, slot.bytes));
  }

  /** As `set`, part by part: a large input takes longer than the event loop may wait. Nothing may run meanwhile. */
  async setSlowly(program: CompiledProgram, name: string, values: Float32Array, breath: Breather): Promise<void> {
    const slot = slotOf(program, name);
    const size = DTYPE_BYTES[slot.dtype];
    checkCount(slot, name, values.length);
    for (let at = 0; at < values.length; at += PART) {
      this.session.write('io', slot.offset + at * size, encode(slot.dtype, values.subarray(at, at + PART)));
      if (breath.due()) await breath.breathe();
    }
  }

  /** As `get`, part by part, into an array of the caller's. Nothing may run meanwhile. */
  async getSlowly(program: CompiledProgram, name: string, out: Float32Array, breath: Breather): Promise<void> {
    const slot = slotOf(program, name);
    const size = DTYPE_BYTES[slot.dtype];
    checkCount(slot, name, out.length);
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

  /** @returns whether the commit phase ran */
  async run(program: CompiledProgram, options?: RunOptions): Promise<boolean> {
    const loaded = this.loaded.get(program);
    if (!loaded) throw new MaclError('program', 'this program was not loaded into the session');
    writeConstants(this.session, program);
    return (await this.session.run(loaded, options)).committed;
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
