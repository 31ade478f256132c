/**
 * Averages of overlapping tiles' logits, held for one tile's depth only. Tiles come in order of D; rows that no later
 * tile touches are released in order and their memory is used again (a ring along D).
 */
import { Breather } from '../breathe.js';
import { type Triple } from '../volume.js';
import { MaclError } from '../errors.js';
import { axisWeights } from './gaussian.js';
import { tileStarts } from './sliding-geometry.js';

export interface AddTileOptions {
  /** Axes along which the logits are mirrored; they are turned back. */
  mirrored?: readonly number[];
  /** This run's share of the tile, 1 over the number of mirrored runs. */
  share?: number;
  breath?: Breather;
}

/** Lines of a tile, where they lie in the logits and in the ring: `stepFrom` and `stepTo` numbers from one to the next. */
interface Lines {
  readonly count: number;
  /** Numbers of a line, and the weight of each but for the line's own. */
  readonly width: number;
  readonly along: Float64Array;
  /** Of each line. */
  readonly weights: Float64Array;
  from: number;
  readonly stepFrom: number;
  to: number;
  readonly stepTo: number;
}

/** ring += weight · along · logits. A function of its own, without an `await`: so the engine makes a tight loop of it. */
function addLines(ring: Float32Array, logits: Float32Array, lines: Lines): void {
  const { count, width, along, weights, stepFrom, stepTo } = lines;
  for (let n = 0, { from, to } = lines; n < count; n++, from += stepFrom, to += stepTo) {
    const weight = weights[n]!;
    for (let i = 0; i < width; i++) ring[to + i]! += weight * along[i]! * logits[from + i]!;
  }
}

/** The same where voxels lie the other way round along W. */
function addMirrored(ring: Float32Array, logits: Float32Array, classes: number, lines: Lines): void {
  const { count, width, along, weights, stepFrom, stepTo } = lines;
  for (let n = 0, { from, to } = lines; n < count; n++, from += stepFrom, to += stepTo) {
    const weight = weights[n]!;
    for (let i = 0; i < width; i += classes) {
      const at = weight * along[i]!;
      for (let k = 0; k < classes; k++) ring[to + i + k]! += at * logits[from - i + k]!;
    }
  }
}

export class SlabAccumulator {
  private readonly ring: Float32Array;
  private readonly depth: number;
  /** Per axis: tile start → weights of the tile's voxels, which add up to 1 over all tiles. */
  private readonly weights: readonly ReadonlyMap<number, Float64Array>[];
  private readonly lines = new Map<number, Float64Array>();
  /** The first row that is not released. */
  private floor = 0;

  /** `classes` counts the background; the tiles are those of `tileStarts` on each axis. */
  constructor(
    private readonly shape: Triple,
    private readonly tile: Triple,
    private readonly classes: number,
  ) {
    this.depth = Math.min(tile[0], shape[0]);
    this.ring = new Float32Array(this.depth * shape[1] * shape[2] * classes);
    this.weights = [0, 1, 2].map((axis) => {
      const starts = tileStarts(shape[axis]!, tile[axis]!);
      const weights = axisWeights(starts, tile[axis]!, shape[axis]!);
      return new Map(starts.map((start, n) => [start, weights[n]!]));
    });
  }

  /** Bytes that an accumulator of these sizes holds, however deep the volume is. */
  static bytes(shape: Triple, tile: Triple, classes: number): number {
    return Math.min(tile[0], shape[0]) * shape[1] * shape[2] * classes * Float32Array.BYTES_PER_ELEMENT;
  }

  get allocatedBytes(): number {
    return this.ring.byteLength;
  }

  private axisWeight(axis: number, start: number): Float64Array {
    const found = this.weights[axis]!.get(start);
    if (found) return found;
    throw new MaclError('state', `start: ${start} is no tile's on axis ${axis}`, { field: 'start', found: start });
  }

  /** Adds a tile's logits [d, h, w, class]. Throws MaclError `state` where tile or length cannot be. */
  async add(start: Triple, logits: Float32Array, options: AddTileOptions = {}): Promise<void> {
    const { tile, shape, classes, ring } = this;
    const expected = tile[0] * tile[1] * tile[2] * classes;
    if (logits.length !== expected) {
      const words = `logits: expected ${expected} values for a tile of [${tile.join(', ')}] and ${classes} classes, found ${logits.length}`;
      throw new MaclError('state', words, { field: 'logits', expected, found: logits.length });
    }
    if (start[0] < this.floor && this.floor > 0) {
      throw new MaclError('state', `start: row ${start[0]} is released already`, { field: 'start', found: start[0] });
    }
    const breath = options.breath ?? new Breather();
    const share = options.share ?? 1;
    const mirrored = [0, 1, 2].map((axis) => options.mirrored?.includes(axis) ?? false);
    const [weightsD, weightsH] = [0, 1].map((axis) => this.axisWeight(axis, start[axis]!)) as [
      Float64Array,
      Float64Array,
    ];
    const first = start.map((n) => Math.max(0, -n)) as [number, number, number];
    const last = start.map((n, axis) => Math.min(tile[axis]!, shape[axis]! - n)) as [number, number, number];
    const fromH = mirrored[1] ? tile[1] - 1 - first[1] : first[1];
    const fromW = mirrored[2] ? tile[2] - 1 - first[2] : first[2];
    const count = last[1] - first[1];
    const width = (last[2] - first[2]) * classes;
    const along = this.lineWeights(start[2], first[2], width);
    const stepFrom = (mirrored[1] ? -1 : 1) * tile[2] * classes;
    const weights = new Float64Array(count);
    const lines: Lines = { count, width, along, weights, from: 0, stepFrom, to: 0, stepTo: shape[2] * classes };
    for (let d = first[0]; d < last[0]; d++) {
      const fromD = mirrored[0] ? tile[0] - 1 - d : d;
      const row = ((start[0] + d) % this.depth) * shape[1];
      for (let n = 0; n < count; n++) weights[n] = share * weightsD[d]! * weightsH[first[1] + n]!;
      lines.from = ((fromD * tile[1] + fromH) * tile[2] + fromW) * classes;
      lines.to = ((row + start[1] + first[1]) * shape[2] + start[2] + first[2]) * classes;
      if (mirrored[2]) addMirrored(ring, logits, classes, lines);
      else addLines(ring, logits, lines);
      if (breath.due()) await breath.breathe();
    }
  }

  /** Weights along W from voxel `first` of a tile on, one for each number of a line: a loop over voxels and classes is slow. */
  private lineWeights(start: number, first: number, width: number): Float64Array {
    const known = this.lines.get(start);
    if (known) return known;
    const weights = this.axisWeight(2, start);
    const line = new Float64Array(width).map((_, i) => weights[first + Math.floor(i / this.classes)]!);
    this.lines.set(start, line);
    return line;
  }

  /**
   * Gives the rows before `until` that were not given yet, in order, as averages [H, W, class]: a view that holds until
   * the callback's promise resolves. Later tiles must start at `until` or behind it.
   */
  async release(
    until: number,
    onRow: (d: number, averages: Float32Array) => void | Promise<void>,
    breath: Breather = new Breather(),
  ): Promise<void> {
    const length = this.shape[1] * this.shape[2] * this.classes;
    for (; this.floor < Math.min(until, this.shape[0]); this.floor++) {
      const at = (this.floor % this.depth) * length;
      const averages = this.ring.subarray(at, at + length);
      await onRow(this.floor, averages);
      averages.fill(0);
      if (breath.due()) await breath.breathe();
    }
  }
}
