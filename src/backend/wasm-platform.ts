/** What the wasm backend needs of its surroundings, so that it runs in Node and in a browser. No Node modules. */

/** Everything that a worker needs to join a session. */
export interface WorkerStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Address of the session in the memory. */
  readonly session: number;
  readonly thread: number;
  readonly stackTop: number;
  readonly tls: number;
}

export interface WorkerEvents {
  /** It is in the session's loop, or will be within microseconds. */
  ready(): void;
  /** It trapped, could not start or was terminated, and not by us. Called once. */
  lost(reason: string): void;
}

export interface WasmWorker {
  /** Whether it keeps the process alive. */
  keepAlive(on: boolean): void;
  terminate(): Promise<void>;
}

export interface WasmPlatform {
  /** The module's bytes; throws MaclError('device') with the reason. */
  moduleBytes(name: 'simd' | 'relaxed'): Promise<Uint8Array<ArrayBuffer>>;
  startWorker(start: WorkerStart, events: WorkerEvents): WasmWorker;
  availableThreads(): number;
  freeBytes(): number;
  /** What has to be known of relaxed SIMD here, where that differs from other programs on this engine; else empty. */
  relaxedSimdNote?(): string;
}

/**
 * The body of a worker, as plain JavaScript text: `join(start)` runs until the session ends. A text, because it must work
 * from TypeScript sources, from either bundle and in a browser alike.
 */
export const WORKER_BODY = `
function join(start, ready) {
  const { exports } = new WebAssembly.Instance(start.module, { env: { memory: start.memory } });
  exports.__stack_pointer.value = start.stackTop;
  exports.__wasm_init_tls(start.tls);
  ready();
  exports.macl_worker(start.session, start.thread);
}
`;
