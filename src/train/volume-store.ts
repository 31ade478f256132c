/**
 * Prepared volumes in a session's store segment. Where all fit they are resident; where they do not, each sample's box
 * is read from disk into a slot of its own for the step. The program cannot tell the difference: it sees descriptors.
 */
import type { Session } from '../backend/types.js';
import type { AugmentConfig } from '../settings/types.js';
import type { LoadedCase, PreparedCase } from '../data/prepare/prepared-case.js';
import { boxOf, TAPS } from '../data/sampling/affine.js';
import type { Triple } from '../volume.js';
import { MaclError } from '../errors.js';
import { align } from '../graph/plan.js';
import { DTYPE_BYTES, type DType } from '../graph/types.js';
import type { VolumeDescriptor } from '../ops/index.js';

const STORED: Readonly<Record<LoadedCase['dtype'], DType>> = { fp16: 'f16', fp32: 'f32', int16: 'i16' };
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

export class VolumeStore {
  private readonly bases: number[] = [];

  private constructor(
    private readonly session: Session,
    private readonly cases: readonly PreparedCase[],
    private readonly plan: StorePlan,
  ) {}

  /** Loads resident volumes into the session. */
  static async open(
    session: Session,
    cases: readonly PreparedCase[],
    plan: StorePlan,
    signal?: AbortSignal,
  ): Promise<VolumeStore> {
    const store = new VolumeStore(session, cases, plan);
    if (!plan.resident) return store;
    let at = 0;
    for (const c of cases) {
      store.bases.push(at);
      const loaded = await c.load(signal);
      const bytes = volumeBytes(c.shape, c);
      store.write(at, loaded, bytes.image);
      at += bytes.image + bytes.labels;
    }
    return store;
  }

  private write(at: number, loaded: LoadedCase, imageBytes: number): void {
    const { image, labels } = loaded;
    this.session.write('store', at, new Uint8Array(image.buffer, image.byteOffset, image.byteLength));
    if (labels) this.session.write('store', at + imageBytes, labels);
  }

  /**
   * Makes sure that the part of a case that some views sample lies in the store.
   * @param affines 3×4 row-major, output voxel → voxel of the volume, one a view
   */
  async place(
    slot: number,
    caseIndex: number,
    affines: readonly (readonly number[])[],
    patch: Triple,
  ): Promise<Placement> {
    const c = this.cases[caseIndex];
    if (!c) throw new MaclError('program', `there is no case ${caseIndex}`);
    if (this.plan.resident) return placement(c, this.bases[caseIndex] as number, c.shape, [0, 0, 0]);
    const { start, size } = boxOfAll(affines, patch, c.shape);
    const bytes = volumeBytes(size, c);
    if (bytes.image + bytes.labels > this.plan.slotBytes)
      throw new MaclError(
        'program',
        `${c.id}: a sample needs ${bytes.image + bytes.labels} bytes, its slot has ${this.plan.slotBytes}`,
      );
    const at = slot * this.plan.slotBytes;
    this.write(at, await c.readBox(start, size), bytes.image);
    return placement(c, at, size, start);
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
