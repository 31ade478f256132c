/**
 * Connected parts of label volumes. Voxels belong together where they touch by a face, an edge or a corner and have one
 * class. It works on runs of equal labels along W, of which there are few, not on voxels.
 */
import type { Breather } from '../breathe.js';
import type { Triple } from '../volume.js';

/** Runs of all lines: a run's line, first voxel, end, class, and the run that it is joined to. */
class Runs {
  starts = new Int32Array(1024);
  ends = new Int32Array(1024);
  classes = new Uint8Array(1024);
  parents = new Int32Array(1024);
  count = 0;

  add(start: number, end: number, label: number): void {
    const n = this.count++;
    if (n === this.starts.length) {
      const grown = <T extends Int32Array | Uint8Array>(old: T, wide: T): T => (wide.set(old), wide);
      this.starts = grown(this.starts, new Int32Array(2 * n));
      this.ends = grown(this.ends, new Int32Array(2 * n));
      this.classes = grown(this.classes, new Uint8Array(2 * n));
      this.parents = grown(this.parents, new Int32Array(2 * n));
    }
    this.starts[n] = start;
    this.ends[n] = end;
    this.classes[n] = label;
    this.parents[n] = n;
  }

  root(n: number): number {
    const { parents } = this;
    while (parents[n] !== n) {
      parents[n] = parents[parents[n]!]!;
      n = parents[n]!;
    }
    return n;
  }

  /** The first run of a part is its root, so that nothing depends on the order of joining. */
  join(a: number, b: number): void {
    const [one, other] = [this.root(a), this.root(b)];
    if (one !== other) this.parents[Math.max(one, other)] = Math.min(one, other);
  }

  /** Joins the runs [a, aEnd) of one line with those [b, bEnd) of a neighbouring one. */
  joinLines(a: number, aEnd: number, b: number, bEnd: number): void {
    const { starts, ends, classes } = this;
    const touch = (one: number, other: number): void => {
      // A corner is enough: ends are exclusive.
      if (starts[one]! <= ends[other]! && starts[other]! <= ends[one]! && classes[one] === classes[other])
        this.join(one, other);
    };
    while (a < aEnd && b < bEnd) {
      touch(a, b);
      // Where both end together, each touches the other's next one by a corner.
      if (ends[a] === ends[b] && a + 1 < aEnd) touch(a + 1, b);
      if (ends[a]! < ends[b]!) a++;
      else b++;
    }
  }
}

/**
 * Keeps of each class but 0 its largest part and sets all others to 0, in place. Of parts of one size the first stays.
 * @returns voxels that were set to 0
 */
export async function keepLargestComponents(
  labels: Uint8Array,
  shape: Triple,
  classes: number,
  breath: Breather,
): Promise<number> {
  const [depth, height, width] = shape;
  const runs = new Runs();
  const lines = new Int32Array(depth * height + 1);
  for (let line = 0; line < depth * height; line++) {
    lines[line] = runs.count;
    const row = labels.subarray(line * width, (line + 1) * width);
    for (let w = 0; w < width;) {
      const label = row[w]!;
      const start = w;
      do w++;
      while (w < width && row[w] === label);
      if (label !== 0) runs.add(start, w, label);
    }
    lines[line + 1] = runs.count;
    const [d, h] = [Math.floor(line / height), line % height];
    const joinWith = (other: number): void =>
      runs.joinLines(lines[line]!, lines[line + 1]!, lines[other]!, lines[other + 1]!);
    if (h > 0) joinWith(line - 1);
    if (d > 0)
      for (let beside = Math.max(0, h - 1); beside <= Math.min(height - 1, h + 1); beside++)
        joinWith((d - 1) * height + beside);
    if (breath.due()) await breath.breathe();
  }
  const sizes = new Float64Array(runs.count);
  for (let n = 0; n < runs.count; n++) {
    const root = runs.root(n);
    sizes[root] = sizes[root]! + runs.ends[n]! - runs.starts[n]!;
  }
  const largest = new Int32Array(classes).fill(-1);
  for (let n = 0; n < runs.count; n++) {
    const label = runs.classes[n]!;
    if (largest[label]! < 0 || sizes[n]! > sizes[largest[label]!]!) largest[label] = n;
  }
  await breath.maybe();
  let removed = 0;
  for (let line = 0; line < depth * height; line++) {
    for (let n = lines[line]!; n < lines[line + 1]!; n++) {
      if (runs.root(n) === largest[runs.classes[n]!]) continue;
      labels.fill(0, line * width + runs.starts[n]!, line * width + runs.ends[n]!);
      removed += runs.ends[n]! - runs.starts[n]!;
    }
    if (breath.due()) await breath.breathe();
  }
  return removed;
}
