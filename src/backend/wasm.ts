/** The `wasm` backend: the kernels as WebAssembly with threads, where there is no addon. No Node modules. */
import { MaclError } from '../errors.js';
import type { SegmentSizes } from '../graph/types.js';
import { encodeTensorInfos } from './records.js';
import { supportsRelaxedSimd } from './relaxed-simd.js';
import { threadsOf } from './threads.js';
import {
  FUSIONS,
  type Backend,
  type BackendInfo,
  type BackendName,
  type BackendOptions,
  type BackendReport,
  type Fusion,
  type KernelInfo,
  type Session,
  type TensorInfo,
} from './types.js';
import { instantiate, takeMemory, textAt, type WasmExports } from './wasm-exports.js';
import type { WasmPlatform } from './wasm-platform.js';
import { ALIGNMENT, maxSegmentBytes, WasmSession } from './wasm-session.js';
import { counted } from '../words.js';
import { precisionsOf } from '../precision.js';

/** Instruction set → its module, and its table there (native/wasm/exports.cc). */
const ISAS = {
  'relaxed-simd': { module: 'relaxed', table: 0 },
  simd128: { module: 'simd', table: 0 },
  plain: { module: 'simd', table: 1 },
  ref64: { module: 'simd', table: 2 },
} as const;
type Isa = keyof typeof ISAS;
/** Of the memory in which the module is asked about kernels. */
const ASKING_PAGES = 64;

/** Best first, without the reference. */
function isasHere(): Isa[] {
  return supportsRelaxedSimd() ? ['relaxed-simd', 'simd128', 'plain'] : ['simd128', 'plain'];
}

async function compileModule(platform: WasmPlatform, isa: Isa): Promise<WebAssembly.Module> {
  if (typeof SharedArrayBuffer === 'undefined') throw new MaclError('device', 'wasm: there is no shared memory here');
  if (!('waitAsync' in Atomics)) throw new MaclError('device', 'wasm: there is no Atomics.waitAsync here');
  const bytes = await platform.moduleBytes(ISAS[isa].module);
  try {
    return await WebAssembly.compile(bytes);
  } catch (error) {
    throw new MaclError('device', `wasm: this engine does not take ${isa} with threads`, {}, { cause: error });
  }
}

class WasmBackend implements Backend {
  readonly info: BackendInfo;
  private readonly sessions = new Set<WasmSession>();
  private readonly kernelIndex: ReadonlyMap<string, number>;
  private closed = false;

  static async open(
    name: BackendName,
    isa: Isa,
    threads: number,
    fusions: ReadonlySet<Fusion>,
    platform: WasmPlatform,
  ): Promise<WasmBackend> {
    return new WasmBackend(name, isa, threads, fusions, platform, await compileModule(platform, isa));
  }

  /** An instance of its own, in a small memory, that is asked about kernels. */
  private readonly memory: WebAssembly.Memory;
  private readonly exports: WasmExports;
  private readonly table: number;

  private constructor(
    name: BackendName,
    isa: Isa,
    threads: number,
    fusions: ReadonlySet<Fusion>,
    private readonly platform: WasmPlatform,
    private readonly module: WebAssembly.Module,
  ) {
    this.table = ISAS[isa].table;
    this.memory = takeMemory('the wasm backend', ASKING_PAGES, ASKING_PAGES, platform.freeBytes());
    this.exports = instantiate(module, this.memory);
    const kernels = this.kernels();
    this.kernelIndex = new Map(kernels.map((k, i) => [k.name, i]));
    this.info = {
      name,
      real: isa === 'ref64' ? 'f64' : 'f32',
      precisions: precisionsOf(isa),
      isa,
      threads,
      alignment: ALIGNMENT,
      fusions,
      kernels,
      get maxBytes() {
        return maxSegmentBytes(platform, threads);
      },
      get hostFreeBytes() {
        return platform.freeBytes();
      },
    };
  }

  private kernels(): KernelInfo[] {
    const { exports: e, table, memory } = this;
    return Array.from({ length: e.macl_kernel_count(table) }, (_, k) => ({
      name: textAt(memory, e.macl_kernel_name(table, k)),
      tensors: textAt(memory, e.macl_kernel_tensors(table, k)),
      attrs: textAt(memory, e.macl_kernel_attrs(table, k)),
      phases: e.macl_kernel_phases(table, k),
    }));
  }

  opaqueBytes(kernel: string, tensors: readonly (TensorInfo | null)[], attrs: Uint8Array, index: number): number {
    const { exports: e, memory } = this;
    const k = this.kernelIndex.get(kernel);
    if (k === undefined) throw new MaclError('program', `${this.info.isa} has no kernel ${kernel}`);
    const records = encodeTensorInfos(tensors);
    const problem = Math.ceil(Number(e.__heap_base.value) / 64) * 64;
    const at = problem + Math.ceil(e.macl_problem_bytes() / 64) * 64;
    const room = new Uint8Array(memory.buffer, at);
    if (records.length + attrs.length > room.length) throw new MaclError('program', `${kernel}: too many tensors`);
    room.set(records);
    room.set(attrs, records.length);
    const attrsAt = at + records.length;
    const bytes = e.macl_opaque_bytes(this.table, k, at, tensors.length, attrsAt, attrs.length, index, problem);
    if (bytes < 0) throw new MaclError('program', textAt(memory, e.macl_problem_text(problem)));
    return bytes;
  }

  async createSession(sizes: SegmentSizes): Promise<Session> {
    if (this.closed) throw new MaclError('state', `the ${this.info.name} backend is closed`);
    const { module, table, platform } = this;
    const session = await WasmSession.create(module, table, this.info.threads, { ...sizes }, platform, (s) =>
      this.sessions.delete(s),
    );
    this.sessions.add(session);
    return session;
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.sessions].map((s) => s.close()));
  }
}

/** Throws `device` with the reason. */
export async function openWasm(platform: WasmPlatform, options: BackendOptions = {}): Promise<Backend> {
  const isas = isasHere();
  const isa = options.isa === undefined ? isas[0] : isas.find((i) => i === options.isa);
  if (isa === undefined) {
    const why =
      options.isa === 'relaxed-simd' ? 'this engine does not have it switched on' : 'there is none of that name';
    throw new MaclError('device', `wasm: instruction set ${options.isa}: ${why} (there are ${isas.join(', ')})`, {
      field: 'isa',
      expected: isas,
      found: options.isa,
    });
  }
  const threads = threadsOf(options.threads, () => platform.availableThreads());
  return WasmBackend.open('wasm', isa, threads, new Set(options.fusions ?? FUSIONS), platform);
}

/** The float64 reference in WebAssembly, where there is no addon. */
export async function openWasmReference(platform: WasmPlatform, options: BackendOptions = {}): Promise<Backend> {
  const threads = threadsOf(options.threads, () => platform.availableThreads());
  return WasmBackend.open('reference', 'ref64', threads, new Set(options.fusions ?? []), platform);
}

export async function reportWasm(platform: WasmPlatform): Promise<BackendReport> {
  const isas = isasHere();
  try {
    await compileModule(platform, isas[0] as Isa);
    const note =
      isas[0] === 'simd128' ? 'relaxed SIMD is not switched on in this engine' : (platform.relaxedSimdNote?.() ?? '');
    const more = note === '' ? '' : `; ${note}`;
    const reason = `WebAssembly, ${isas[0]}, ${counted(platform.availableThreads(), 'thread')}, at most 4 GiB a session${more}`;
    return { name: 'wasm', available: true, isas, reason };
  } catch (error) {
    if (!(error instanceof MaclError)) throw error;
    return { name: 'wasm', available: false, isas: [], reason: error.message.replace(/^wasm: /, '') };
  }
}
