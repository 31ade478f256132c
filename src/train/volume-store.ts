/**
 * Prepared volumes in a session's store segment. Where all fit they are resident; where they do not, each sample's box
 * is read from disk for the step: into the host's memory first, which may be while another step runs, and from there into a
 * slot of its own when the step begins. The program cannot tell the difference: it sees descriptors.
 */
import type { Session } from '../backend/types.js';
import type { AugmentConfig } from '../settings/types.js';
import { STORED } from '../data/prepare/entry.js';
import type { PreparedCase } from '../data/prepare/prepared-case.js';
import { boxOf, TAPS } from '../data/sampling/affine.js';
import type { Triple } from '../volume.js';
import { MaclError, memoryError } from '../errors.js';
import { alignUp } from '../graph/plan.js';
import { DTYPE_BYTES } from '../graph/types.js';
import type { PlacedBytes } from '../model/staging.js';
import type { VolumeDescriptor } from '../ops/index.js';

/** Where one sample's volume (or box of it) lies for this step. */
export interface Placement {
  image(channel: number): VolumeDescriptor;
  readonly labels: VolumeDescriptor | null;
  /** Voxel of the volume that is voxel (0, 0, 0) of what lies in the store. */
  readonly origin: Triple;
}

export interface StorePlan {
  readonly resident: boolean;
  readonly bytes: number;
  /** Bytes of one slot, where boxes are read for each step. */
  readonly slotBytes: number;
}

export interface StoreOptions {
  /** Samples a step. */
  readonly slots: number;
  /** The largest box that a sample's views can need, in voxels of a case with that spacing. */
  readonly boxVoxels: (spacingMm: Triple) => Triple;
  readonly budgetBytes: number;
}

/** Volumes begin on a cache line; warp3d reads them number by number. */
const align = (bytes: number): number => alignUp(bytes, 64);

const volumeBytes = (shape: Triple, c: PreparedCase): { image: number; labels: number } => {
  const voxels = shape[0] * shape[1] * shape[2];
  const image = align(voxels * c.channels * DTYPE_BYTES[STORED[c.dtype]]);
  return { image, labels: c.hasLabels ? align(voxels) : 0 };
};

/** Decides between resident and boxes, before anything is taken. */
export function planStore(cases: readonly PreparedCase[], options: StoreOptions): StorePlan {
  const total = cases.reduce((sum, c) => sum + volumeBytes(c.shape, c).image + volumeBytes(c.shape, c).labels, 0);
  if (total <= options.budgetBytes) return { resident: true, bytes: total, slotBytes: 0 };
  const slotBytes = Math.max(
    ...cases.map((c) => {
      const most = options.boxVoxels(c.spacingMm);
      const box = c.shape.map((s, a) => Math.min(s, most[a] as number)) as unknown as Triple;
      const { image, labels } = volumeBytes(box, c);
      return image + labels;
    }),
  );
  return { resident: false, bytes: slotBytes * options.slots, slotBytes };
}

/** Memory of the host in which one step's boxes are gathered, a slot a sample as in the store; none where all are resident. */
export class StepBoxes {
  private readonly memory: Uint8Array;
  private readonly taken = new Map<number, number>();

  /** Takes the memory at once. Throws MaclError `memory`. */
  constructor(
    private readonly slotBytes: number,
    bytes: number,
    freeBytes: number,
  ) {
    const what = "a step's boxes, which are read ahead (a smaller --batch or --patch needs less)";
    if (bytes > freeBytes) throw memoryError(what, bytes, freeBytes);
    try {
      this.memory = new Uint8Array(bytes);
    } catch (cause) {
      throw memoryError(what, bytes, freeBytes, {}, cause);
    }
  }

  /** The memory of a slot's first `bytes`, to be filled. */
  take(slot: number, bytes: number): Uint8Array {
    const at = slot * this.slotBytes;
    if (bytes > this.slotBytes || at + bytes > this.memory.length)
      throw new MaclError('program', `slot ${slot}: ${bytes} bytes, it has ${this.slotBytes}`);
    this.taken.set(slot, bytes);
    return this.memory.subarray(at, at + bytes);
  }

  /** What was filled, as it has to lie in the store. */
  get filled(): PlacedBytes[] {
    return [...this.taken].map(([slot, bytes]) => {
      const offset = slot * this.slotBytes;
      return { offset, bytes: this.memory.subarray(offset, offset + bytes) };
    });
  }
}

export class VolumeStore {
  private readonly bases: number[] = [];

  private constructor(
    private readonly cases: readonly PreparedCase[],
    private readonly plan: StorePlan,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** Loads resident volumes into the session. An abort of `signal` stops reading then and later. */
  static async open(
    session: Session,
    cases: readonly PreparedCase[],
    plan: StorePlan,
    signal?: AbortSignal,
  ): Promise<VolumeStore> {
    const store = new VolumeStore(cases, plan, signal);
    if (!plan.resident) return store;
    let at = 0;
    for (const c of cases) {
      store.bases.push(at);
      const { image, labels } = await c.load(signal);
      const bytes = volumeBytes(c.shape, c);
      session.write('store', at, new Uint8Array(image.buffer, image.byteOffset, image.byteLength));
      if (labels) session.write('store', at + bytes.image, labels);
      at += bytes.image + bytes.labels;
    }
    return store;
  }

  /** What a step's boxes are gathered in. @param freeBytes of the host */
  boxes(freeBytes: number): StepBoxes {
    return new StepBoxes(this.plan.slotBytes, this.plan.resident ? 0 : this.plan.bytes, freeBytes);
  }

  /**
   * Makes sure that the part of a case that some views sample is in the store, or in `boxes` for it. Touches no session.
   * @param affines 3×4 row-major, output voxel → voxel of the volume, one a view
   */
  async place(
    boxes: StepBoxes,
    slot: number,
    caseIndex: number,
    affines: readonly (readonly number[])[],
    patch: Triple,
  ): Promise<Placement> {
    const c = this.cases[caseIndex];
    if (!c) throw new MaclError('program', `there is no case ${caseIndex}`);
    if (this.plan.resident) return placement(c, this.bases[caseIndex] as number, c.shape, [0, 0, 0]);
    const { slotBytes } = this.plan;
    const { start, size } = boxOfAll(affines, patch, c.shape);
    const bytes = volumeBytes(size, c);
    if (bytes.image + bytes.labels > slotBytes)
      throw new MaclError(
        'program',
        `${c.id}: a sample needs ${bytes.image + bytes.labels} bytes, its slot has ${slotBytes}`,
      );
    const voxels = size[0] * size[1] * size[2];
    const memory = boxes.take(slot, bytes.image + bytes.labels);
    await c.readBox(start, size, this.signal, {
      image: memory.subarray(0, voxels * c.channels * DTYPE_BYTES[STORED[c.dtype]]),
      ...(c.hasLabels ? { labels: memory.subarray(bytes.image, bytes.image + voxels) } : {}),
    });
    return placement(c, slot * slotBytes, size, start);
  }
}

function placement(c: PreparedCase, base: number, shape: Triple, origin: Triple): Placement {
  const [d, h, w] = shape;
  const dtype = STORED[c.dtype];
  const voxels = d * h * w;
  const strides = [h * w, w, 1] as const;
  const common = { shape, strides, offset: 0 };
  const { image } = volumeBytes(shape, c);
  return {
    image(channel) {
      // One channel serves a network of several (`init.channels: repeat`).
      const at = c.channels === 1 ? 0 : channel;
      if (at >= c.channels) throw new MaclError('program', `${c.id} has ${c.channels} channels, not ${channel + 1}`);
      return { ...common, base: base + at * voxels * DTYPE_BYTES[dtype], dtype, scale: c.scale };
    },
    labels: c.hasLabels ? { ...common, base: base + image, dtype: 'u8', scale: 1 } : null,
    origin,
  };
}

/** The smallest box that holds what all of a sample's views read. */
function boxOfAll(
  affines: readonly (readonly number[])[],
  patch: Triple,
  shape: Triple,
): { start: Triple; size: Triple } {
  const boxes = affines.map((m) => boxOf(m, patch, shape, TAPS.cubic));
  const start = shape.map((_, a) => Math.min(...boxes.map((b) => b.start[a as 0])));
  const end = shape.map((_, a) => Math.max(...boxes.map((b) => b.start[a as 0] + b.shape[a as 0])));
  return { start: start as unknown as Triple, size: end.map((e, a) => e - (start[a] as number)) as unknown as Triple };
}

/** The largest box that the views of a patch can need: any rotation that is allowed, the smallest scale, every shift. */
export function largestBox(
  patch: Triple,
  augment: Pick<AugmentConfig, 'rotation' | 'scale' | 'translation'>,
  spacingMm: Triple,
): Triple {
  const lengthMm = patch.map((n, a) => (n - 1) * (spacingMm[a] as number));
  const turned = [0, 1, 2].filter((a) => (augment.rotation[a] as number) > 0);
  const side = (axis: number): number => {
    // About one axis alone, that axis stays and the other two mix; lengths mix in mm, not in voxels.
    const still = turned.length === 0 || (turned.length === 1 && turned[0] === axis);
    const mixed = turned.length > 1 ? [0, 1, 2] : [0, 1, 2].filter((a) => a !== turned[0]);
    const mm = still ? (lengthMm[axis] as number) : Math.hypot(...mixed.map((a) => lengthMm[a] as number));
    const voxels = (mm / (spacingMm[axis] as number)) * Math.max(1, 1 / augment.scale[0]);
    const shift = augment.translation * (patch[axis] as number);
    return Math.ceil(voxels + 2 * shift) + 2 * TAPS.cubic + 3;
  };
  return [side(0), side(1), side(2)];
}
