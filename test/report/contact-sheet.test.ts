import { PNG } from 'pngjs';
import { describe, expect, it } from 'vitest';
import { contactSheet, type SheetRow } from '../../src/report/contact-sheet.js';
import { drawText, GLYPH_WIDTH } from '../../src/report/bitmap-font.js';

const SHAPE = [4, 10, 20] as const;

function row(change: Partial<SheetRow> = {}): SheetRow {
  const labels = (shift: number) =>
    Uint8Array.from({ length: 800 }, (_, i) => {
      const w = i % 20;
      const h = Math.floor(i / 20) % 10;
      return w >= 4 + shift && w < 12 + shift && h >= 2 && h < 7 ? 1 : 0;
    });
  const image = Int16Array.from({ length: 800 }, (_, i) => (i * 37) % 500);
  return {
    title: 'one',
    image,
    shape: SHAPE,
    spacingMm: [3, 2, 1],
    reference: labels(0),
    prediction: labels(3),
    ...change,
  };
}

function count(png: PNG, [r, g, b]: readonly [number, number, number]): number {
  let found = 0;
  for (let i = 0; i < png.data.length; i += 4) {
    if (png.data[i] === r && png.data[i + 1] === g && png.data[i + 2] === b) found++;
  }
  return found;
}

const REFERENCE = [64, 180, 255] as const;
const PREDICTION = [255, 150, 20] as const;
/** Pixels of the legend's swatch. */
const SWATCH = 63;

describe('contact sheet', () => {
  it('is a PNG with outlines in two colours', async () => {
    const png = PNG.sync.read(Buffer.from(await contactSheet([row(), row({ title: 'two' })], { columns: 3 })));
    expect(count(png, REFERENCE)).toBeGreaterThan(SWATCH + 500);
    expect(count(png, PREDICTION)).toBeGreaterThan(SWATCH + 500);
  });

  it('keeps the aspect of millimetres, and repeats no slice', async () => {
    // 20 × 20 mm in a cell of 100 pixels; 4 slices although 9 columns are asked for.
    const png = PNG.sync.read(Buffer.from(await contactSheet([row()], { columns: 9, cellPixels: 100 })));
    expect(png.width).toBe(6 + 9 * 106);
    const flat = PNG.sync.read(
      Buffer.from(await contactSheet([row({ spacingMm: [3, 1, 1] })], { columns: 9, cellPixels: 100 })),
    );
    expect(png.height - flat.height).toBe(50);
  });

  it('draws no outline where there are no labels', async () => {
    const { reference: _r, prediction: _p, ...bare } = row();
    const png = PNG.sync.read(Buffer.from(await contactSheet([bare])));
    expect(count(png, REFERENCE)).toBe(SWATCH);
    expect(count(png, PREDICTION)).toBe(SWATCH);
  });

  it('shows equal masks in the third colour alone', async () => {
    const { reference } = row();
    const png = PNG.sync.read(Buffer.from(await contactSheet([row({ prediction: reference! })])));
    expect(count(png, REFERENCE)).toBe(SWATCH);
    expect(count(png, [255, 255, 255])).toBeGreaterThan(SWATCH + 500);
  });

  it('refuses arrays that do not fit, and stops when aborted', async () => {
    await expect(contactSheet([row({ prediction: new Uint8Array(7) })])).rejects.toMatchObject({
      code: 'geometry',
      details: { field: 'prediction', expected: 800, found: 7 },
    });
    await expect(contactSheet([row()], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' });
  });
});

describe('font', () => {
  function picture(text: string): string[] {
    const lines = Array.from({ length: 8 }, () => Array<string>(text.length * GLYPH_WIDTH).fill(' '));
    drawText(text, (x, y) => (lines[y]![x] = '#'));
    return lines.map((line) => line.join('').trimEnd());
  }

  it('draws letters, and a question mark for what it lacks', () => {
    expect(picture('T')).toEqual(['#####', '# # #', '  #', '  #', '  #', '  #', '  #', '']);
    expect(picture('~')).not.toEqual(picture('?'));
    expect(picture('é')).toEqual(picture('?'));
    expect(picture(' ').join('')).toBe('');
  });
});
