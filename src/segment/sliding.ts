/**
 * Sliding-window prediction over a volume of any size, streamed along D: tiles are visited slab by slab, their logits
 * averaged with Gaussian weights, finished rows of the average resampled to the output's grid and turned to labels.
 * Only one tile's depth of averages is ever held. It knows neither network nor files: `runTile` gives the logits.
 */
import { Breather, throwIfAborted } from '../breathe.js';
import { type Triple } from '../volume.js';
import { MaclError } from '../errors.js';
import { mirrorSets, tileStarts } from './sliding-geometry.js';
import { AXIS_MAP_IDENTITY, type AxisMap, RowResampler } from './sliding-resample.js';
import { SlabAccumulator } from './sliding-accumulator.js';

export { mirrorSets, tileStarts } from './sliding-geometry.js';
export { SlabAccumulator } from './sliding-accumulator.js';
export { type AxisMap, spacingMap } from './sliding-resample.js';

export interface PredictVolumeOptions {
  /** The grid that the network sees, [D, H, W]. */
  shape: Triple;
  tile: Triple;
  /** Number of classes, the background included. */
  classes: number;
  /** Axes (0 D, 1 H, 2 W) along which mirrored tiles are averaged too; all combinations. Default none. */
  mirrorAxes?: readonly number[];
  /**
   * Logits [d, h, w, class] of the tile whose first voxel is `start` (negative where the volume is padded), seen by the
   * network mirrored along the axes in `mirrored`; returned as the network gives them, still mirrored. They are copied before the next
   * tile is asked for, so the array may be used again; that tile runs while these are averaged. Never two at a time.
   */
  runTile: (start: Triple, mirrored: readonly number[]) => Promise<Float32Array>;
  /** The output's grid; `shape` where missing. */
  outShape?: Triple;
  /** Where an output voxel lies on the network's grid, per axis; the identity where missing. */
  mapOutToIn?: readonly [AxisMap, AxisMap, AxisMap];
  /** Called for each output row of D in order, with softmax probabilities [H, W, class]; the array is reused. */
  onProbabilities?: (d: number, probabilities: Float32Array) => void | Promise<void>;
  /** Called after each run of the network. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** Bytes that `predictVolume` holds itself at its peak (neither input nor network), known before it starts. */
export function predictVolumeBytes(
  options: Pick<PredictVolumeOptions, 'shape' | 'tile' | 'classes' | 'outShape' | 'onProbabilities'>,
): number {
  const { shape, tile, classes } = options;
  const out = options.outShape ?? shape;
  return (
    SlabAccumulator.bytes(shape, tile, classes) +
    RowResampler.bytes(shape, out, classes, options.onProbabilities !== undefined) +
    out[0] * out[1] * out[2]
  );
}

function check(options: PredictVolumeOptions): void {
  const { shape, tile, classes } = options;
  const out = options.outShape ?? shape;
  for (const [field, triple] of [
    ['shape', shape],
    ['tile', tile],
    ['outShape', out],
  ] as const) {
    if (triple.every((n) => Number.isInteger(n) && n > 0)) continue;
    const words = `${field}: expected three positive whole numbers, found [${triple.join(', ')}]`;
    throw new MaclError('config', words, { field, found: triple });
  }
  if (!(Number.isInteger(classes) && classes >= 1 && classes <= 256)) {
    throw new MaclError('config', `classes: expected 1 to 256, found ${classes}`, { field: 'classes', found: classes });
  }
  if (!options.mapOutToIn && !out.every((n, axis) => n === shape[axis])) {
    throw new MaclError('config', 'mapOutToIn: is needed where outShape differs from shape', { field: 'mapOutToIn' });
  }
  const mirrors = options.mirrorAxes ?? [];
  if (!mirrors.every((axis) => axis === 0 || axis === 1 || axis === 2) || new Set(mirrors).size !== mirrors.length) {
    throw new MaclError('config', `mirrorAxes: expected axes out of 0, 1, 2, found [${mirrors.join(', ')}]`, {
      field: 'mirrorAxes',
      found: mirrors,
    });
  }
}

/** What is not finite has no largest class: it would be background, and nothing said. */
function checkFinite(row: number, averages: Float32Array): void {
  let sum = 0;
  for (let i = 0; i < averages.length; i++) sum += averages[i]! - averages[i]!;
  if (sum === 0) return;
  throw new MaclError('nonfinite', `the network's output is not finite in row ${row}`, { field: 'logits', found: row });
}

/**
 * Class indices on the output's grid, [D, H, W]: logits averaged over tiles and mirrors, interpolated linearly to the
 * output's grid, then the largest (the first of equal ones). Throws MaclError `config`, `state` (logits of a wrong
 * length) or `aborted`, the latter within one tile.
 */
export async function predictVolume(options: PredictVolumeOptions): Promise<Uint8Array> {
  check(options);
  const { shape, tile, classes, runTile, signal } = options;
  const outShape = options.outShape ?? shape;
  const breath = new Breather(signal);
  const [startsD, startsH, startsW] = [0, 1, 2].map((axis) => tileStarts(shape[axis]!, tile[axis]!)) as [
    number[],
    number[],
    number[],
  ];
  const mirrors = mirrorSets(options.mirrorAxes ?? []);
  const accumulator = new SlabAccumulator(shape, tile, classes);
  const labels = new Uint8Array(outShape[0] * outShape[1] * outShape[2]);
  const resampler = new RowResampler({
    shape,
    outShape,
    classes,
    maps: options.mapOutToIn ?? [AXIS_MAP_IDENTITY, AXIS_MAP_IDENTITY, AXIS_MAP_IDENTITY],
    labels,
    ...(options.onProbabilities ? { onProbabilities: options.onProbabilities } : {}),
  });
  const total = startsD.length * startsH.length * startsW.length * mirrors.length;
  const tiles = tilesOf(startsD, startsH, startsW, mirrors);
  const ask = (): { readonly tile: Tile; readonly logits: Promise<Float32Array> } | null => {
    const { value: tile, done: over } = tiles.next();
    if (over) return null;
    throwIfAborted(signal);
    const logits = runTile(tile.start, tile.mirrored);
    // Handled where it is waited for, which an error may keep from happening.
    logits.catch(() => undefined);
    return { tile, logits };
  };
  const held = new Float32Array(tile[0] * tile[1] * tile[2] * classes);
  let done = 0;
  let asked = ask();
  try {
    while (asked) {
      const { tile: own, logits } = asked;
      const found = await logits;
      const fits = found.length === held.length;
      if (fits) held.set(found);
      asked = fits ? ask() : null;
      const { start, mirrored, row } = own;
      await accumulator.add(start, fits ? held : found, { mirrored, share: 1 / mirrors.length, breath });
      options.onProgress?.(++done, total);
      if (!own.lastOfRow) continue;
      await accumulator.release(
        startsD[row + 1] ?? shape[0],
        (d, averages) => {
          checkFinite(d, averages);
          return resampler.push(d, averages, breath);
        },
        breath,
      );
    }
  } finally {
    await asked?.logits.catch(() => undefined);
  }
  return labels;
}

interface Tile {
  readonly start: Triple;
  readonly mirrored: readonly number[];
  /** Of tiles along D, and whether it is the last of them: no later one touches the rows before the next's start. */
  readonly row: number;
  readonly lastOfRow: boolean;
}

/** In order of D, then H, then W. */
function* tilesOf(
  startsD: readonly number[],
  startsH: readonly number[],
  startsW: readonly number[],
  mirrors: readonly (readonly number[])[],
): Generator<Tile, undefined> {
  const inRow = startsH.length * startsW.length * mirrors.length;
  for (const [row, d] of startsD.entries()) {
    let n = 0;
    for (const h of startsH)
      for (const w of startsW)
        for (const mirrored of mirrors) yield { start: [d, h, w], mirrored, row, lastOfRow: ++n === inRow };
  }
}
