/**
 * Rows of averaged logits, one after the other along D, turned to labels on another grid: linear interpolation of the
 * logits, then the largest. Two rows are held. Samples beyond the first or last voxel's centre take the edge's value.
 */
import { type Breather } from '../breathe.js';
import { type Triple } from '../volume.js';

/** Where output voxel o lies on the input's axis: o·scale + offset, in voxels. */
export interface AxisMap {
  readonly scale: number;
  readonly offset: number;
}

export const AXIS_MAP_IDENTITY: AxisMap = { scale: 1, offset: 0 };

/**
 * The map between two grids of one axis with other spacings that share an origin: `centres` where the first voxels'
 * centres coincide, `edges` where the grids' outer edges do.
 */
export function spacingMap(
  outSpacingMm: number,
  inSpacingMm: number,
  shared: 'centres' | 'edges' = 'centres',
): AxisMap {
  const scale = outSpacingMm / inSpacingMm;
  return { scale, offset: shared === 'centres' ? 0 : (scale - 1) / 2 };
}

/** For each output voxel the lower input voxel, and the upper one's share. */
interface AxisTable {
  lower: Int32Array;
  upper: Int32Array;
  share: Float64Array;
  identity: boolean;
}

function axisTable(out: number, length: number, map: AxisMap): AxisTable {
  const lower = new Int32Array(out);
  const upper = new Int32Array(out);
  const share = new Float64Array(out);
  let identity = out === length;
  for (let o = 0; o < out; o++) {
    const at = Math.min(Math.max(o * map.scale + map.offset, 0), length - 1);
    lower[o] = Math.min(Math.floor(at), length - 1);
    upper[o] = Math.min(lower[o]! + 1, length - 1);
    share[o] = at - lower[o]!;
    if (lower[o] !== o || share[o] !== 0) identity = false;
  }
  return { lower, upper, share, identity };
}

/** out = a + (b − a)·share, element by element. */
function mix(out: Float32Array, a: Float32Array, b: Float32Array, share: number): void {
  if (share === 0) {
    out.set(a);
    return;
  }
  for (let i = 0; i < out.length; i++) out[i] = a[i]! + (b[i]! - a[i]!) * share;
}

export interface RowResamplerOptions {
  shape: Triple;
  outShape: Triple;
  classes: number;
  maps: readonly [AxisMap, AxisMap, AxisMap];
  /** Filled, [D, H, W] of the output. */
  labels: Uint8Array;
  onProbabilities?: (d: number, probabilities: Float32Array) => void | Promise<void>;
}

export class RowResampler {
  private readonly tables: readonly [AxisTable, AxisTable, AxisTable];
  private previous: Float32Array;
  private current: Float32Array;
  /** One output row of D on the input's H and W; one line of it on the input's W; one line of the output. */
  private readonly plane: Float32Array;
  private readonly line: Float32Array;
  private readonly outLine: Float32Array;
  private readonly probabilities: Float32Array | undefined;
  private nextOut = 0;

  constructor(private readonly options: RowResamplerOptions) {
    const { shape, outShape, classes, maps } = options;
    this.tables = [0, 1, 2].map((axis) => axisTable(outShape[axis]!, shape[axis]!, maps[axis]!)) as [
      AxisTable,
      AxisTable,
      AxisTable,
    ];
    const plane = shape[1] * shape[2] * classes;
    // Rows are used as they come where D is not resampled.
    const held = this.tables[0].identity ? 0 : plane;
    this.previous = new Float32Array(held);
    this.current = new Float32Array(held);
    this.plane = new Float32Array(held);
    this.line = new Float32Array(shape[2] * classes);
    this.outLine = new Float32Array(outShape[2] * classes);
    this.probabilities = options.onProbabilities && new Float32Array(outShape[1] * outShape[2] * classes);
  }

  /** The most bytes that a resampler of these sizes holds. */
  static bytes(shape: Triple, outShape: Triple, classes: number, probabilities: boolean): number {
    const floats = 3 * shape[1] * shape[2] + shape[2] + outShape[2] + (probabilities ? outShape[1] * outShape[2] : 0);
    return floats * classes * Float32Array.BYTES_PER_ELEMENT;
  }

  get allocatedBytes(): number {
    const arrays = [this.previous, this.current, this.plane, this.line, this.outLine, this.probabilities];
    return arrays.reduce((total, array) => total + (array?.byteLength ?? 0), 0);
  }

  /** Takes row `d` (rows come in order) and writes every output row that it completes. */
  async push(d: number, averages: Float32Array, breath: Breather): Promise<void> {
    const table = this.tables[0];
    if (table.identity) {
      this.nextOut = d + 1;
      return this.writeRow(d, averages, breath);
    }
    [this.previous, this.current] = [this.current, this.previous];
    this.current.set(averages);
    for (; this.nextOut < this.options.outShape[0]; this.nextOut++) {
      const o = this.nextOut;
      const needed = table.share[o] === 0 ? table.lower[o]! : table.upper[o]!;
      if (needed > d) return;
      // Maps rise, so what is needed is never older than the row before.
      const lower = table.lower[o] === d ? this.current : this.previous;
      await this.mixPlane(lower, table.lower[o] === d ? 0 : table.share[o]!, breath);
      await this.writeRow(o, this.plane, breath);
    }
  }

  /** `plane` = between `lower` and the current row, line by line. */
  private async mixPlane(lower: Float32Array, share: number, breath: Breather): Promise<void> {
    const { shape, classes } = this.options;
    const width = shape[2] * classes;
    for (let at = 0; at < shape[1] * width; at += width) {
      const end = at + width;
      mix(this.plane.subarray(at, end), lower.subarray(at, end), this.current.subarray(at, end), share);
      if (breath.due()) await breath.breathe();
    }
  }

  private async writeRow(o: number, plane: Float32Array, breath: Breather): Promise<void> {
    const { shape, outShape, classes, labels, onProbabilities } = this.options;
    const [, tableH, tableW] = this.tables;
    const width = shape[2] * classes;
    for (let h = 0; h < outShape[1]; h++) {
      const lower = plane.subarray(tableH.lower[h]! * width, (tableH.lower[h]! + 1) * width);
      let line = lower;
      if (tableH.share[h] !== 0) {
        const upper = plane.subarray(tableH.upper[h]! * width, (tableH.upper[h]! + 1) * width);
        mix(this.line, lower, upper, tableH.share[h]!);
        line = this.line;
      }
      if (!tableW.identity) line = this.resampleLine(line, tableW);
      const at = (o * outShape[1] + h) * outShape[2];
      for (let w = 0; w < outShape[2]; w++) labels[at + w] = largest(line, w * classes, classes);
      if (this.probabilities) softmaxLine(line, this.probabilities, h * outShape[2] * classes, classes);
      if (breath.due()) await breath.breathe();
    }
    if (this.probabilities) await onProbabilities?.(o, this.probabilities);
  }

  private resampleLine(line: Float32Array, table: AxisTable): Float32Array {
    const { classes } = this.options;
    const { outLine } = this;
    for (let w = 0; w < table.lower.length; w++) {
      const lower = table.lower[w]! * classes;
      const upper = table.upper[w]! * classes;
      const share = table.share[w]!;
      for (let k = 0; k < classes; k++) {
        const a = line[lower + k]!;
        outLine[w * classes + k] = a + (line[upper + k]! - a) * share;
      }
    }
    return outLine;
  }
}

function largest(values: Float32Array, start: number, count: number): number {
  let best = 0;
  let most = values[start]!;
  for (let k = 1; k < count; k++) {
    const value = values[start + k]!;
    if (value > most) {
      most = value;
      best = k;
    }
  }
  return best;
}

function softmaxLine(logits: Float32Array, out: Float32Array, start: number, classes: number): void {
  for (let at = 0; at < logits.length; at += classes) {
    let most = -Infinity;
    for (let k = 0; k < classes; k++) most = Math.max(most, logits[at + k]!);
    let sum = 0;
    for (let k = 0; k < classes; k++) {
      const value = Math.exp(logits[at + k]! - most);
      out[start + at + k] = value;
      sum += value;
    }
    for (let k = 0; k < classes; k++) out[start + at + k]! /= sum;
  }
}
