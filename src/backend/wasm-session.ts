/**
 * A session in WebAssembly: one shared memory of its own (at most 4 GiB), and as many workers as threads, which sleep
 * inside the module between runs. This thread never waits: the end of a run arrives through Atomics.waitAsync.
 *
 * The memory: [the module's stack and data | a stack and thread-local block a worker | session | the four segments |
 * programs, and more scratch for the threads where one asks for it, appended as they are loaded].
 */
import { MaclError, memoryError } from '../errors.js';
import type { SegmentSizes } from '../graph/types.js';
import { SEGMENT_ORDER } from './records.js';
import { BaseSession, totalBytes, type Outcome } from './session.js';
import { instantiate, MAX_PAGES, PAGE_BYTES, takeMemory, textAt, type WasmExports } from './wasm-exports.js';
import type { WasmPlatform, WasmWorker } from './wasm-platform.js';

/** Of segments, programs and buffers: a cache line, and what vectors of any width want. */
export const ALIGNMENT = 64;
const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
/** Kernels take at most 64 KiB (native/kernels/README.md). */
const WORKER_STACK_BYTES = 256 * 1024;
/** Stack, static data, worker stacks, and room for programs, for saying what fits before there is a memory. */
const OVERHEAD_BYTES = (threads: number): number => (16 << 20) + threads * (WORKER_STACK_BYTES + PAGE_BYTES);

type WaitAsync = (
  words: Int32Array<ArrayBufferLike>,
  index: number,
  value: number,
) => { async: false; value: string } | { async: true; value: Promise<string> };

/** Sessions of fewer bytes are left to the engine. */
const WORTH_BYTES = 64 * 2 ** 20;
const NUDGE_BYTES = 2 ** 30;
const MOST_NUDGES = 8;
const collected = new FinalizationRegistry<() => void>((resolve) => resolve());

/**
 * Engines collect by what lies on their own heap, where a wasm memory is a few bytes: gigabytes of closed sessions would stay.
 * A large ArrayBuffer, of which no page is touched, counts, and makes them look.
 */
async function untilReturned(returned: Promise<void>): Promise<void> {
  let done = false;
  void returned.then(() => (done = true));
  for (let n = 0; n < MOST_NUDGES && !done; n++) {
    try {
      new ArrayBuffer(NUDGE_BYTES);
    } catch {
      return; // No room even for that: the engine has just collected what it could.
    }
    await new Promise<void>((resolve) => setTimeout(resolve, 0));
  }
}

/** Bytes that the segments of one session may take together. */
export function maxSegmentBytes(platform: WasmPlatform, threads: number): number {
  return Math.max(0, Math.min(MAX_PAGES * PAGE_BYTES, platform.freeBytes()) - OVERHEAD_BYTES(threads));
}

export class WasmSession extends BaseSession {
  /** Dropped on close, because each of the two alone would keep the memory. */
  private machine: { exports: WasmExports; memory: WebAssembly.Memory } | null;
  private readonly session: number;
  private readonly doneWord: number;
  private readonly segments: readonly number[];
  private readonly workers: WasmWorker[] = [];
  private readonly programs: number[] = [];
  private top: number;
  private scratchStride = 0;
  private lost: MaclError | null = null;
  private onLost: (error: MaclError) => void = () => {};

  /** Takes the memory and starts the workers, or throws `memory` or `device` with nothing left behind. */
  static async create(
    module: WebAssembly.Module,
    table: number,
    threads: number,
    sizes: SegmentSizes,
    platform: WasmPlatform,
    onClose: (session: WasmSession) => void,
  ): Promise<WasmSession> {
    const needed = totalBytes(sizes);
    const free = maxSegmentBytes(platform, threads);
    if (needed > free) throw memoryError('a wasm session (WebAssembly reaches 4 GiB)', needed, free);
    const pages = Math.ceil((needed + OVERHEAD_BYTES(threads)) / PAGE_BYTES);
    const memory = takeMemory('a wasm session', Math.min(pages, MAX_PAGES), MAX_PAGES, platform.freeBytes());
    const session = new WasmSession(module, memory, table, threads, sizes, onClose);
    try {
      await session.startWorkers(module, memory, threads, platform);
    } catch (error) {
      await session.close();
      throw error;
    }
    return session;
  }

  private constructor(
    module: WebAssembly.Module,
    memory: WebAssembly.Memory,
    table: number,
    private readonly threads: number,
    sizes: SegmentSizes,
    private readonly onClose: (session: WasmSession) => void,
  ) {
    super(sizes);
    this.machine = { exports: instantiate(module, memory), memory };
    this.session = this.stackBase + threads * this.stackBytes;
    this.exports.macl_session_init(this.session, table, threads);
    this.top = align(this.session + this.exports.macl_session_bytes());
    this.segments = SEGMENT_ORDER.map((name, i) => {
      const at = this.top;
      this.exports.macl_session_segment(this.session, i, at, sizes[name]);
      this.top = align(at + sizes[name]);
      return at;
    });
    this.doneWord = this.exports.macl_done_word(this.session) >>> 2;
  }

  override get scratchBytes(): number {
    return this.scratchStride * this.threads;
  }

  private get exports(): WasmExports {
    return this.live.exports;
  }
  private get memory(): WebAssembly.Memory {
    return this.live.memory;
  }
  private get live(): { exports: WasmExports; memory: WebAssembly.Memory } {
    if (!this.machine) throw new MaclError('state', 'the session is closed');
    return this.machine;
  }
  private get stackBase(): number {
    return align(Number(this.exports.__heap_base.value));
  }
  private get stackBytes(): number {
    return align(WORKER_STACK_BYTES + Number(this.exports.__tls_size.value) + ALIGNMENT);
  }

  private async startWorkers(
    module: WebAssembly.Module,
    memory: WebAssembly.Memory,
    threads: number,
    platform: WasmPlatform,
  ): Promise<void> {
    const ready: Promise<void>[] = [];
    for (let thread = 0; thread < threads; thread++) {
      const base = this.stackBase + thread * this.stackBytes;
      // The stack grows down from where the thread-local block begins.
      const stackTop = base + WORKER_STACK_BYTES;
      ready.push(
        new Promise((resolve, reject) => {
          const lost = (reason: string): void => {
            const error = new MaclError('state', `wasm: worker ${thread} was lost: ${reason}`);
            this.lose(error);
            reject(error);
          };
          const start = { module, memory, session: this.session, thread, stackTop, tls: stackTop };
          this.workers.push(platform.startWorker(start, { ready: resolve, lost }));
        }),
      );
    }
    await Promise.all(ready);
    for (const worker of this.workers) worker.keepAlive(false);
  }

  /** A worker is gone: the others are freed from wherever they wait, and nothing runs here again. */
  private lose(error: MaclError): void {
    if (this.lost) return;
    this.lost = error;
    if (this.machine) this.exports.macl_kill(this.session);
    this.onLost(error);
  }

  protected override broken(): MaclError | null {
    return this.lost && new MaclError('state', `the session is over: ${this.lost.message}`, {}, { cause: this.lost });
  }

  private bytes(at: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, at, length);
  }

  /** Makes sure that the memory reaches `end`. */
  private grow(end: number): void {
    const { memory } = this;
    const missing = Math.ceil((end - memory.buffer.byteLength) / PAGE_BYTES);
    if (missing <= 0) return;
    const free = MAX_PAGES * PAGE_BYTES - this.top;
    try {
      memory.grow(missing);
    } catch (error) {
      throw memoryError('a program that does not fit any more', end - this.top, free, {}, error);
    }
  }

  protected override loadProgram(bytes: Uint8Array): number {
    const problem = this.top;
    const source = align(problem + this.exports.macl_problem_bytes());
    const arena = align(source + bytes.length);
    this.grow(arena);
    this.bytes(source, bytes.length).set(bytes);
    const need = this.exports.macl_arena_bytes(source, bytes.length, problem);
    if (need < 0) throw new MaclError('program', this.text(this.exports.macl_problem_text(problem)));
    this.grow(arena + need);
    const program = this.exports.macl_load(this.session, source, bytes.length, arena, need, problem) >>> 0;
    if (program === 0) throw new MaclError('program', this.text(this.exports.macl_problem_text(problem)));
    const end = align(arena + need);
    const stride = this.exports.macl_scratch_stride(program);
    const scratch = stride > this.scratchStride ? stride * this.threads : 0;
    this.grow(end + scratch);
    if (scratch > 0) {
      this.exports.macl_session_scratch(this.session, end, stride);
      this.scratchStride = stride;
    }
    this.top = end + scratch;
    return this.programs.push(program) - 1;
  }

  private text(address: number): string {
    return textAt(this.memory, address);
  }

  protected override copyIn(segment: number, offset: number, bytes: Uint8Array): void {
    this.bytes((this.segments[segment] as number) + offset, bytes.length).set(bytes);
  }

  protected override copyOut(segment: number, offset: number, bytes: number): Uint8Array {
    return new Uint8Array(this.bytes((this.segments[segment] as number) + offset, bytes));
  }

  protected override async start(id: number): Promise<Outcome> {
    const words = new Int32Array(this.memory.buffer);
    const before = Atomics.load(words, this.doneWord);
    const lost = new Promise<never>((_, reject) => (this.onLost = reject));
    lost.catch(() => undefined); // heard by the race below, if it is still on
    const [first] = this.workers;
    first?.keepAlive(true);
    try {
      this.exports.macl_run(this.session, this.programs[id] as number);
      const waitAsync = (Atomics as unknown as { waitAsync: WaitAsync }).waitAsync;
      while (Atomics.load(words, this.doneWord) === before) {
        const wait = waitAsync(words, this.doneWord, before);
        if (wait.async) await Promise.race([wait.value, lost]);
      }
    } finally {
      this.onLost = () => {};
      first?.keepAlive(false);
    }
    const { exports, session } = this;
    const status = exports.macl_status(session);
    const failed = status !== 0;
    return {
      stop: exports.macl_stop(session),
      status,
      instruction: exports.macl_failed_instruction(session),
      kernel: failed ? this.text(exports.macl_failed_kernel(session)) : '',
      reason: failed ? this.text(exports.macl_status_text(status)) : '',
    };
  }

  protected override stop(): void {
    this.exports.macl_abort(this.session);
  }

  protected override async free(): Promise<void> {
    this.exports.macl_quit(this.session);
    await Promise.all(this.workers.map((w) => w.terminate()));
    this.workers.length = 0;
    const bytes = this.memory.buffer.byteLength;
    const returned = new Promise<void>((resolve) => collected.register(this.memory, resolve));
    this.machine = null;
    this.onClose(this);
    if (bytes >= WORTH_BYTES) await untilReturned(returned);
  }
}
