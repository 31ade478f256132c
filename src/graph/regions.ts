/**
 * Which elements of a buffer a tensor touches, as rows of equal length at equal distances: whether two overlap, and what
 * a set of them leaves uncovered. Pure arithmetic; exact for dense parts and for slices of one stride, which is all that
 * views make. A part of another stride counts as everything from its first to its last element.
 */
import { placeOf, sizeOf } from './shape.js';
import type { Tensor } from './types.js';

export interface Region {
  /** Elements from the start of the tensor that owns the memory. */
  readonly start: number;
  readonly rows: number;
  /** Elements of a row. */
  readonly length: number;
  /** Elements from one row to the next; `length` where dense. */
  readonly ld: number;
}

export function regionOf(t: Tensor): Region {
  const { offset, ld } = placeOf(t);
  const size = sizeOf(t.shape);
  const [length, rows] = [t.shape[4], size / t.shape[4]];
  if (ld === length || rows === 1) return { start: offset, rows: 1, length: size, ld: size };
  return { start: offset, rows, length, ld };
}

const endOf = (r: Region): number => r.start + (r.rows - 1) * r.ld + r.length;

/** Rows [row, row + rows) and columns [column, column + columns) of a buffer seen as rows of one stride. */
interface Rectangle {
  readonly row: number;
  readonly rows: number;
  readonly column: number;
  readonly columns: number;
}

/** A region in rows of `ld`: one rectangle, or up to three for a dense one that begins or ends within a row. */
function rectangles(r: Region, ld: number): Rectangle[] {
  const column = r.start % ld;
  const row = (r.start - column) / ld;
  if (r.rows > 1 && r.ld === ld && column + r.length <= ld) return [{ row, rows: r.rows, column, columns: r.length }];
  const end = endOf(r);
  const lastRow = Math.floor((end - 1) / ld);
  if (lastRow === row) return [{ row, rows: 1, column, columns: end - r.start }];
  const tail = end - lastRow * ld;
  const [from, to] = [column === 0 ? row : row + 1, tail === ld ? lastRow + 1 : lastRow];
  return [
    ...(column === 0 ? [] : [{ row, rows: 1, column, columns: ld - column }]),
    ...(to > from ? [{ row: from, rows: to - from, column: 0, columns: ld }] : []),
    ...(tail === ld ? [] : [{ row: lastRow, rows: 1, column: 0, columns: tail }]),
  ];
}

/** The stride in which all of these are rectangles: that of the first with several rows, or all in one row. */
function strideOf(regions: readonly Region[]): number {
  return regions.find((r) => r.rows > 1)?.ld ?? Math.max(...regions.map(endOf));
}

function overlap(a: Rectangle, b: Rectangle): boolean {
  return (
    a.row < b.row + b.rows &&
    b.row < a.row + a.rows &&
    a.column < b.column + b.columns &&
    b.column < a.column + a.columns
  );
}

/** Whether two parts of one buffer share an element. */
export function regionsOverlap(a: Region, b: Region): boolean {
  if (a.start >= endOf(b) || b.start >= endOf(a)) return false;
  const ld = strideOf([a, b]);
  const others = rectangles(b, ld);
  return rectangles(a, ld).some((r) => others.some((s) => overlap(r, s)));
}

/** Whether two tensors share an element. */
export function tensorsOverlap(a: Tensor, b: Tensor): boolean {
  if (a === b) return true;
  if (placeOf(a).root !== placeOf(b).root) return false;
  return a.opaque || b.opaque || regionsOverlap(regionOf(a), regionOf(b));
}

/** What of `whole` no part covers. */
export function uncovered(whole: Region, parts: readonly Region[]): Region[] {
  const ld = strideOf([whole, ...parts]);
  const covers = parts.flatMap((p) => rectangles(p, ld));
  const out: Region[] = [];
  for (const w of rectangles(whole, ld)) {
    const near = covers.filter((c) => overlap(w, c));
    const cuts = new Set([w.row, w.row + w.rows]);
    for (const c of near) for (const at of [c.row, c.row + c.rows]) if (at > w.row && at < w.row + w.rows) cuts.add(at);
    const rows = [...cuts].sort((x, y) => x - y);
    for (const [i, row] of rows.slice(0, -1).entries()) {
      const next = rows[i + 1] as number;
      const here = near.filter((c) => c.row <= row && next <= c.row + c.rows).sort((x, y) => x.column - y.column);
      let at = w.column;
      const gap = (to: number): void => {
        if (to > at) out.push(regionFrom(row, next - row, at, to - at, ld));
      };
      for (const c of here) {
        gap(Math.min(c.column, w.column + w.columns));
        at = Math.max(at, c.column + c.columns);
      }
      gap(w.column + w.columns);
    }
  }
  return out;
}

function regionFrom(row: number, rows: number, column: number, columns: number, ld: number): Region {
  const start = row * ld + column;
  if (rows === 1 || columns === ld) return { start, rows: 1, length: rows * columns, ld: rows * columns };
  return { start, rows, length: columns, ld };
}
