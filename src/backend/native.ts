/** A backend over a native addon with one of its kernel tables: what `cpu`, `reference` and `cuda` share. */
import { MaclError, memoryError } from '../errors.js';
import type { SegmentSizes } from '../graph/types.js';
import { precisionsOf } from '../precision.js';
import { fromAddon, type Addon, type AddonSession, type AddonTable } from './addon.js';
import { encodeTensorInfos, SEGMENT_ORDER } from './records.js';
import { BaseSession, totalBytes, type Outcome } from './session.js';
import type { Backend, BackendInfo, BackendName, Fusion, Session, TensorInfo } from './types.js';

class NativeSession extends BaseSession {
  constructor(
    sizes: SegmentSizes,
    private readonly native: AddonSession,
    private readonly onClose: (session: NativeSession) => void,
  ) {
    super(sizes);
  }
  override get scratchBytes(): number {
    return typed(() => this.native.scratchBytes());
  }
  override times(): Float64Array {
    return typed(() => this.native.times());
  }
  protected override loadProgram(bytes: Uint8Array): number {
    return typed(() => this.native.load(bytes));
  }
  protected override copyIn(segment: number, offset: number, bytes: Uint8Array): void {
    typed(() => this.native.write(segment, offset, bytes));
  }
  protected override copyOut(segment: number, offset: number, bytes: number): Uint8Array {
    return typed(() => this.native.read(segment, offset, bytes));
  }
  protected override async start(program: number): Promise<Outcome> {
    try {
      return await this.native.run(program);
    } catch (error) {
      throw fromAddon(error);
    }
  }
  protected override stop(): void {
    this.native.abort();
  }
  protected override free(): void {
    this.native.close();
    this.onClose(this);
  }
}

function typed<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromAddon(error);
  }
}

export interface NativeOptions {
  readonly name: BackendName;
  /** The card, in words, where there may be several. */
  readonly device?: string;
  readonly addon: Addon;
  readonly table: AddonTable;
  readonly threads: number;
  /** What a session is opened with: threads, or the index of a device. */
  readonly unit: number;
  readonly fusions: ReadonlySet<Fusion>;
  /** Of the memory that sessions lie in. */
  readonly freeBytes: () => number;
  /** Of this machine's own memory; as `freeBytes` where sessions lie there. */
  readonly hostFreeBytes?: () => number;
}

export class NativeBackend implements Backend {
  readonly info: BackendInfo;
  private readonly sessions = new Set<NativeSession>();
  private closed = false;
  private readonly addon: Addon;
  private readonly table: AddonTable;

  constructor(private readonly options: NativeOptions) {
    const { name, device, table, threads, fusions, freeBytes, hostFreeBytes = freeBytes } = options;
    this.addon = options.addon;
    this.table = table;
    this.info = {
      name,
      ...(device === undefined ? {} : { device }),
      real: table.isa === 'ref64' ? 'f64' : 'f32',
      precisions: precisionsOf(table.isa),
      isa: table.isa,
      threads,
      alignment: this.addon.describe().alignment,
      fusions,
      kernels: table.kernels,
      get maxBytes() {
        return freeBytes();
      },
      get hostFreeBytes() {
        return hostFreeBytes();
      },
    };
  }

  opaqueBytes(kernel: string, tensors: readonly (TensorInfo | null)[], attrs: Uint8Array, index: number): number {
    return typed(() => this.addon.opaqueBytes(this.table.isa, kernel, encodeTensorInfos(tensors), attrs, index));
  }

  async createSession(sizes: SegmentSizes): Promise<Session> {
    if (this.closed) throw new MaclError('state', `the ${this.info.name} backend is closed`);
    const needed = totalBytes(sizes);
    const free = this.options.freeBytes();
    if (needed > free) throw memoryError(`a session on ${this.info.name}`, needed, free);
    const order = SEGMENT_ORDER.map((name) => sizes[name]);
    let native: AddonSession;
    try {
      native = new this.addon.Session(this.table.isa, order, this.options.unit);
    } catch (error) {
      const known = fromAddon(error);
      if (known instanceof MaclError && known.code === 'memory')
        throw memoryError(
          `a session on ${this.info.name} (${known.message})`,
          needed,
          known.details.freeBytes ?? this.options.freeBytes(),
          {},
          error,
        );
      throw known;
    }
    const session = new NativeSession({ ...sizes }, native, (s) => this.sessions.delete(s));
    this.sessions.add(session);
    return session;
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.sessions].map((s) => s.close()));
  }
}
