/** A backend over the native addon with one of its kernel tables: what `cpu` and `reference` share. */
import { MaclError, memoryError } from '../errors.js';
import type { SegmentSizes } from '../graph/types.js';
import { fromAddon, type Addon, type AddonSession, type AddonTable } from './addon.js';
import { freeBytes } from './limits-node.js';
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

export class NativeBackend implements Backend {
  readonly info: BackendInfo;
  private readonly sessions = new Set<NativeSession>();
  private closed = false;

  constructor(
    name: BackendName,
    private readonly addon: Addon,
    private readonly table: AddonTable,
    threads: number,
    fusions: ReadonlySet<Fusion>,
  ) {
    this.info = {
      name,
      real: table.isa === 'ref64' ? 'f64' : 'f32',
      isa: table.isa,
      threads,
      fusions,
      kernels: table.kernels,
      get maxBytes() {
        return freeBytes();
      },
    };
  }

  opaqueBytes(kernel: string, tensors: readonly (TensorInfo | null)[], attrs: Uint8Array, index: number): number {
    return typed(() => this.addon.opaqueBytes(this.table.isa, kernel, encodeTensorInfos(tensors), attrs, index));
  }

  async createSession(sizes: SegmentSizes): Promise<Session> {
    if (this.closed) throw new MaclError('state', `the ${this.info.name} backend is closed`);
    const needed = totalBytes(sizes);
    const free = freeBytes();
    if (needed > free) throw memoryError(`a session on ${this.info.name}`, needed, free);
    const order = SEGMENT_ORDER.map((name) => sizes[name]);
    let native: AddonSession;
    try {
      native = new this.addon.Session(this.table.isa, order, this.info.threads);
    } catch (error) {
      const known = fromAddon(error);
      if (known instanceof MaclError && known.code === 'memory')
        throw memoryError(`a session on ${this.info.name} (${known.message})`, needed, freeBytes(), {}, error);
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
