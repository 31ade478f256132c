/**
 * A contact sheet: one PNG with slices of several cases, the image in grey, outlines of reference and prediction over
 * it. A picture to look at; it measures nothing. Axial slices (across D), anterior up, the patient's left on the left.
 */
import { PNG } from 'pngjs';
import { Breather } from '../breathe.js';
import { writeFileAtomic } from '../data/files.js';
import { type Triple, type VoxelArray } from '../volume.js';
import { MaclError } from '../errors.js';
import { drawText, GLYPH_HEIGHT, GLYPH_WIDTH } from './bitmap-font.js';

/** One row of the sheet. All arrays are [D, H, W] of a volume turned to RAS. */
export interface SheetRow {
  title: string;
  /** One channel. */
  image: VoxelArray;
  shape: Triple;
  spacingMm: Triple;
  /** Class indices or label values, 0 is background. */
  reference?: VoxelArray;
  prediction?: VoxelArray;
}

export interface ContactSheetOptions {
  title?: string;
  /** Slices a row; default 6. */
  columns?: number;
  /** Pixels for the longest side of the largest slice; default 168. */
  cellPixels?: number;
  signal?: AbortSignal;
}

type Colour = readonly [number, number, number];

const PAPER: Colour = [18, 18, 20];
const INK: Colour = [230, 230, 230];
/** Told apart by people with any colour vision, and from grey. */
const REFERENCE: Colour = [64, 180, 255];
const PREDICTION: Colour = [255, 150, 20];
const BOTH: Colour = [255, 255, 255];
/** The image stays darker than the outlines. */
const BRIGHTEST = 190;
const GAP = 6;
const TEXT_HEIGHT = GLYPH_HEIGHT + 5;

class Canvas {
  readonly png: PNG;
  constructor(width: number, height: number) {
    this.png = new PNG({ width, height });
    for (let i = 0; i < width * height; i++) this.png.data.set([...PAPER, 255], 4 * i);
  }

  set(x: number, y: number, colour: Colour): void {
    const { width, height, data } = this.png;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    data.set(colour, 4 * (y * width + x));
  }

  text(x: number, y: number, text: string, colour: Colour = INK): void {
    drawText(text, (dx, dy) => this.set(x + dx, y + dy, colour));
  }
}

function checkRow(row: SheetRow): void {
  const expected = row.shape[0] * row.shape[1] * row.shape[2];
  for (const field of ['image', 'reference', 'prediction'] as const) {
    const found = row[field]?.length;
    if (found === undefined || found === expected) continue;
    const words = `${row.title}: ${field}: expected ${expected} voxels for [${row.shape.join(', ')}], found ${found}`;
    throw new MaclError('geometry', words, { field, expected, found });
  }
}

/** Grey levels between the 1st and the 99th percentile, from a sample of the voxels. */
function windowOf(image: VoxelArray): [number, number] {
  const step = Math.max(1, Math.floor(image.length / 20000));
  const sample = new Float64Array(Math.ceil(image.length / step));
  for (let i = 0; i < sample.length; i++) sample[i] = image[i * step]!;
  sample.sort();
  const low = sample[Math.floor(0.01 * (sample.length - 1))]!;
  const high = sample[Math.ceil(0.99 * (sample.length - 1))]!;
  return [low, high > low ? high : low + 1];
}

/**
 * Slices spread over the part where the reference has labels, so that rows of one case show the same slices; where it has
 * none, where the prediction has; else over the middle of the volume.
 */
function slicesOf(row: SheetRow, count: number): number[] {
  const [depth, height, width] = row.shape;
  const plane = height * width;
  let first = depth;
  let last = -1;
  for (const labels of [row.reference, row.prediction]) {
    if (!labels || last >= 0) continue;
    for (let d = 0; d < depth; d++) {
      for (let i = d * plane; i < (d + 1) * plane; i++) {
        if (labels[i] === 0) continue;
        first = Math.min(first, d);
        last = Math.max(last, d);
        break;
      }
    }
  }
  if (last < 0) [first, last] = [Math.floor(depth * 0.2), Math.ceil(depth * 0.8) - 1];
  const slices = Array.from({ length: count }, (_, n) =>
    Math.round(first + ((n + 0.5) / count) * (last - first + 1) - 0.5),
  );
  return [...new Set(slices.map((d) => Math.min(Math.max(d, 0), depth - 1)))];
}

/** One slice at a scale of pixels per mm. */
function drawSlice(
  canvas: Canvas,
  left: number,
  top: number,
  row: SheetRow,
  d: number,
  grey: readonly [number, number],
  pixelsPerMm: number,
): void {
  const [, height, width] = row.shape;
  const pixelsWide = Math.max(1, Math.round(width * row.spacingMm[2] * pixelsPerMm));
  const pixelsHigh = Math.max(1, Math.round(height * row.spacingMm[1] * pixelsPerMm));
  const voxelAt = (x: number, y: number): number => {
    const w = Math.floor(((x + 0.5) / pixelsWide) * width);
    // Anterior, the far end of H, is up.
    const h = height - 1 - Math.floor(((y + 0.5) / pixelsHigh) * height);
    return (d * height + h) * width + w;
  };
  const onEdge = (labels: VoxelArray | undefined, x: number, y: number): boolean => {
    const here = labels?.[voxelAt(x, y)];
    if (!labels || !here) return false;
    return (
      (x > 0 && labels[voxelAt(x - 1, y)] !== here) ||
      (x < pixelsWide - 1 && labels[voxelAt(x + 1, y)] !== here) ||
      (y > 0 && labels[voxelAt(x, y - 1)] !== here) ||
      (y < pixelsHigh - 1 && labels[voxelAt(x, y + 1)] !== here)
    );
  };
  for (let y = 0; y < pixelsHigh; y++) {
    for (let x = 0; x < pixelsWide; x++) {
      const level = (row.image[voxelAt(x, y)]! - grey[0]) / (grey[1] - grey[0]);
      const shade = Math.round(Math.min(Math.max(level, 0), 1) * BRIGHTEST);
      const reference = onEdge(row.reference, x, y);
      const prediction = onEdge(row.prediction, x, y);
      const colour: Colour =
        reference && prediction ? BOTH : reference ? REFERENCE : prediction ? PREDICTION : [shade, shade, shade];
      canvas.set(left + x, top + y, colour);
    }
  }
  canvas.text(left + 2, top + 2, `D ${d}`, INK);
}

/** Text cut to a width in pixels. */
function fit(text: string, pixels: number): string {
  const most = Math.max(1, Math.floor(pixels / GLYPH_WIDTH));
  return text.length <= most ? text : `${text.slice(0, most - 2)}..`;
}

/** Compressed outside the event loop's thread; pngjs's stream is an old one, without an async iterator. */
function packed(png: PNG): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    const stream = png.pack();
    stream.on('data', (chunk: Uint8Array) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks)));
    stream.on('error', reject);
  });
}

/** The sheet as PNG bytes. Throws MaclError `geometry` (an array that does not fit its shape) or `aborted`. */
export async function contactSheet(rows: readonly SheetRow[], options: ContactSheetOptions = {}): Promise<Uint8Array> {
  const columns = options.columns ?? 6;
  const cellPixels = options.cellPixels ?? 168;
  const breath = new Breather(options.signal);
  rows.forEach(checkRow);
  const side = (row: SheetRow, axis: 1 | 2): number => row.shape[axis] * row.spacingMm[axis];
  const largestMm = Math.max(1e-6, ...rows.map((row) => Math.max(side(row, 1), side(row, 2))));
  const pixelsPerMm = cellPixels / largestMm;
  const cellWidth = Math.ceil(Math.max(1, ...rows.map((row) => side(row, 2) * pixelsPerMm)));
  const heights = rows.map((row) => Math.ceil(side(row, 1) * pixelsPerMm) + TEXT_HEIGHT + GAP);
  const width = Math.max(GAP + columns * (cellWidth + GAP), 360);
  const head = GAP + (options.title === undefined ? 1 : 2) * TEXT_HEIGHT;
  const canvas = new Canvas(width, head + heights.reduce((sum, height) => sum + height, 0));

  let top = GAP;
  if (options.title !== undefined) {
    canvas.text(GAP, top, fit(options.title, width - 2 * GAP));
    top += TEXT_HEIGHT;
  }
  let left = GAP;
  for (const [text, colour] of [
    ['reference', REFERENCE],
    ['prediction', PREDICTION],
    ['both', BOTH],
  ] as const) {
    for (let i = 0; i < 63; i++) canvas.set(left + (i % 9), top + Math.floor(i / 9), colour);
    canvas.text(left + 13, top, text);
    left += 13 + (text.length + 3) * GLYPH_WIDTH;
  }
  top += TEXT_HEIGHT;
  for (const [n, row] of rows.entries()) {
    canvas.text(GAP, top, fit(row.title, width - 2 * GAP));
    const grey = windowOf(row.image);
    for (const [column, d] of slicesOf(row, columns).entries()) {
      drawSlice(canvas, GAP + column * (cellWidth + GAP), top + TEXT_HEIGHT - 2, row, d, grey, pixelsPerMm);
      if (breath.due()) await breath.breathe();
    }
    top += heights[n]!;
  }
  return packed(canvas.png);
}

/** Writes the sheet to `file`, whole or not at all. Throws MaclError `file` too. */
export async function writeContactSheet(
  file: string,
  rows: readonly SheetRow[],
  options: ContactSheetOptions = {},
): Promise<void> {
  const bytes = await contactSheet(rows, options);
  await writeFileAtomic(file, bytes, options.signal ? { signal: options.signal } : {});
}
