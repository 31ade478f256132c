/**
 * What every session does the same way, whatever the machine: one run at a time, abort, typed errors, closing. The
 * machine's part are the abstract methods. No Node modules.
 */
import { MaclError } from '../errors.js';
import type { SegmentName, SegmentSizes } from '../graph/types.js';
import { SEGMENT_ORDER } from './records.js';
import type { LoadedProgram, RunOptions, RunResult, Session } from './types.js';

/**
 * How a run ended: the numbers of `Stop` and `Status` in native/engine/walk.h and native/ops/types.h, and kBroken of
 * native/engine/session.h.
 */
export interface Outcome {
  readonly stop: number;
  readonly status: number;
  readonly instruction: number;
  readonly kernel: string;
  readonly reason: string;
}

const STOP = { done: 0, skipped: 1, aborted: 2, failed: 3, broken: 4 } as const;
const BAD_LABEL = 5;

function resultOf(outcome: Outcome): RunResult {
  switch (outcome.stop) {
    case STOP.done:
      return { committed: true };
    case STOP.skipped:
      return { committed: false };
    case STOP.aborted:
      throw new MaclError('aborted', 'the run was aborted');
    case STOP.broken:
      throw new MaclError('device', `the device failed: ${outcome.reason}`, { found: outcome.reason });
    default:
      throw new MaclError(
        outcome.status === BAD_LABEL ? 'label' : 'program',
        `instruction ${outcome.instruction} (${outcome.kernel}): ${outcome.reason}`,
        { field: outcome.kernel, found: outcome.reason },
      );
  }
}

/** Sum of the segments, after looking at each. */
export function totalBytes(sizes: SegmentSizes): number {
  return SEGMENT_ORDER.reduce((sum, name) => {
    const bytes = sizes[name];
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new MaclError('state', `segment ${name}: ${bytes} bytes`, { field: name, found: bytes });
    }
    return sum + bytes;
  }, 0);
}

export abstract class BaseSession implements Session {
  private readonly loaded = new Map<LoadedProgram, number>();
  private running: Promise<unknown> | null = null;
  private closing: Promise<void> | null = null;

  constructor(readonly sizes: SegmentSizes) {}

  abstract get scratchBytes(): number;
  /** The program's number; throws `program`, or `memory` for the scratch of its threads. */
  protected abstract loadProgram(bytes: Uint8Array): number;
  protected abstract copyIn(segment: number, offset: number, bytes: Uint8Array): void;
  protected abstract copyOut(segment: number, offset: number, bytes: number): Uint8Array;
  protected abstract start(program: number): Promise<Outcome>;
  /** Asks a run in progress to stop. */
  protected abstract stop(): void;
  /** After the last run. */
  protected abstract free(): Promise<void> | void;
  /** Why nothing may run here any more, if so. */
  protected broken(): MaclError | null {
    return null;
  }

  times(): Float64Array {
    return new Float64Array();
  }

  load(program: Uint8Array): LoadedProgram {
    this.mustBeIdle();
    const id = this.loadProgram(program);
    const handle: LoadedProgram = Object.freeze({ id });
    this.loaded.set(handle, id);
    return handle;
  }

  write(segment: SegmentName, offset: number, bytes: Uint8Array): void {
    this.mustBeIdle();
    this.mustLieInside(segment, offset, bytes.length);
    this.copyIn(SEGMENT_ORDER.indexOf(segment), offset, bytes);
  }

  read(segment: SegmentName, offset: number, bytes: number): Uint8Array {
    this.mustBeIdle();
    this.mustLieInside(segment, offset, bytes);
    return this.copyOut(SEGMENT_ORDER.indexOf(segment), offset, bytes);
  }

  async run(program: LoadedProgram, options: RunOptions = {}): Promise<RunResult> {
    this.mustBeIdle();
    const id = this.loaded.get(program);
    if (id === undefined) throw new MaclError('state', 'this program was not loaded in this session');
    const { signal } = options;
    if (signal?.aborted)
      throw new MaclError('aborted', 'the run was aborted before it began', {}, { cause: signal.reason });
    const onAbort = () => this.stop();
    // First what may throw: nothing runs yet that would have to be undone.
    signal?.addEventListener('abort', onAbort);
    try {
      this.running = this.start(id);
      return resultOf((await this.running) as Outcome);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.running = null;
    }
  }

  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    if (this.running) {
      this.stop();
      await this.running.catch(() => undefined);
    }
    this.loaded.clear();
    await this.free();
  }

  private mustBeIdle(): void {
    if (this.closing) throw new MaclError('state', 'the session is closed');
    const broken = this.broken();
    if (broken) throw broken;
    if (this.running) throw new MaclError('state', 'a program is running in this session');
  }

  private mustLieInside(segment: SegmentName, offset: number, bytes: number): void {
    const size = this.sizes[segment];
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes) && offset >= 0 && bytes >= 0;
    if (size === undefined || !whole || offset + bytes > size) {
      throw new MaclError('state', `[${offset}, +${bytes}) lies outside segment ${segment} of ${size} bytes`, {
        field: segment,
        expected: size,
        found: offset + bytes,
      });
    }
  }
}
