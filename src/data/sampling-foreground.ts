/**
 * Where a case's foreground lies, thinned to a fixed number of voxels a class, so that a patch can be centred on one:
 * first a class that is there, each as often as any other, then one of its voxels.
 */
import { Breather } from './breathe.js';
import type { Triple } from './volume.js';

const VOXELS_A_CLASS = 4096;
const BLOCK = 1 << 16;
const IGNORED = 255;

export class ForegroundVoxels {
  private constructor(
    private readonly shape: Triple,
    /** One list a class that is there, in the order of the classes. */
    private readonly lists: readonly Uint32Array[],
  ) {}

  /** @param labels [D, H, W] class indices; 0 is background, 255 ignored */
  static async of(labels: Uint8Array, shape: Triple, signal?: AbortSignal): Promise<ForegroundVoxels> {
    const breath = new Breather(signal);
    const counts = new Float64Array(256);
    for (let start = 0; start < labels.length; start += BLOCK) {
      const end = Math.min(labels.length, start + BLOCK);
      for (let i = start; i < end; i++) counts[labels[i]!]!++;
      if (breath.due()) await breath.breathe();
    }
    // The n-th voxel of a class is kept where floor(n · kept / count) steps up: evenly spread, no draw.
    const lists = Array.from(counts, (n) => new Uint32Array(Math.min(n, VOXELS_A_CLASS)));
    const seen = new Float64Array(256);
    const filled = new Uint32Array(256);
    for (let start = 0; start < labels.length; start += BLOCK) {
      const end = Math.min(labels.length, start + BLOCK);
      for (let i = start; i < end; i++) {
        const label = labels[i]!;
        if (label === 0 || label === IGNORED) continue;
        const list = lists[label]!;
        const n = seen[label]!++;
        if (Math.floor((n * list.length) / counts[label]!) >= filled[label]!) list[filled[label]!++] = i;
      }
      if (breath.due()) await breath.breathe();
    }
    return new ForegroundVoxels(
      shape,
      lists.filter((list, label) => label !== 0 && label !== IGNORED && list.length > 0),
    );
  }

  get isEmpty(): boolean {
    return this.lists.length === 0;
  }

  /** @param u, v uniform in [0, 1): the class, and the voxel */
  pick(u: number, v: number): Triple | null {
    const list = this.lists[Math.floor(u * this.lists.length)];
    if (!list) return null;
    const index = list[Math.floor(v * list.length)]!;
    const [, h, w] = this.shape;
    return [Math.floor(index / (h * w)), Math.floor(index / w) % h, index % w];
  }
}
