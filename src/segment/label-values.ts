/** Label values: which ones a volume holds, which ones it may hold, and the array type that they fit. No files. */
import { type Breather } from '../breathe.js';
import { MaclError, type MaclErrorDetails } from '../errors.js';

export type LabelArray = Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;
interface LabelArrayType {
  new (length: number): LabelArray;
  from(values: readonly number[]): LabelArray;
}

/** The first that fits is taken: narrow ones first, signed before unsigned, which more programs read. */
const TYPES: readonly (readonly [low: number, high: number, type: LabelArrayType])[] = [
  [0, 255, Uint8Array],
  [-32768, 32767, Int16Array],
  [0, 65535, Uint16Array],
  [-2147483648, 2147483647, Int32Array],
  [0, 4294967295, Uint32Array],
];
/** Voxels between two looks at the clock. */
const BLOCK = 1 << 16;

/** The array type for the label values of a dataset. Throws MaclError `label` where none holds them all. */
export function labelArrayType(values: readonly number[], details: MaclErrorDetails = {}): LabelArrayType {
  const where = details.file === undefined ? '' : `${details.file}: `;
  const found = { ...details, found: values };
  if (!values.every(Number.isInteger))
    throw new MaclError('label', `${where}label values must be whole numbers: ${values.join(', ')}`, found);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const fits = TYPES.find(([least, most]) => low >= least && high <= most);
  if (fits) return fits[2];
  const words = `${where}label values from ${low} to ${high} fit neither int32 nor uint32 and cannot be written`;
  throw new MaclError('label', words, found);
}

/** Class indices as the dataset's own label values. */
export async function labelValues(
  indices: Uint8Array,
  values: readonly number[],
  breath: Breather,
): Promise<LabelArray> {
  const type = labelArrayType(values);
  const table = type.from(values);
  const out = new type(indices.length);
  for (let start = 0; start < indices.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, indices.length);
    for (let i = start; i < end; i++) out[i] = table[indices[i]!]!;
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/** More distinct values than this are an image, whatever it is called. */
const MOST_VALUES = 65_536;

/** Every value that occurs. Throws MaclError `label` for one that is not a whole number, or for more than `most` values. */
export async function valuesIn(
  voxels: ArrayLike<number>,
  what: string,
  breath: Breather,
  details: MaclErrorDetails = {},
  most = MOST_VALUES,
): Promise<Set<number>> {
  const found = new Set<number>();
  let last: number | undefined;
  for (let i = 0; i < voxels.length; i++) {
    const value = voxels[i]!;
    if (value !== last) {
      if (!Number.isInteger(value)) {
        const words = `${what}: expected whole label values, found ${String(value)}`;
        throw new MaclError('label', words, { ...details, found: value });
      }
      found.add(value);
      last = value;
      if (found.size > most) {
        const words = `${what}: more than ${most} distinct values: not a label volume`;
        throw new MaclError('label', words, { ...details, expected: most });
      }
    }
    if (i % BLOCK === 0 && breath.due()) await breath.breathe();
  }
  return found;
}

/** Values in a message; more are counted. */
const VALUES_SHOWN = 10;

/** Throws MaclError `label` for values that are not among the known ones. */
export function checkValues(
  values: ReadonlySet<number>,
  known: ReadonlySet<number>,
  what: string,
  details: MaclErrorDetails = {},
): void {
  const outside = [...values].filter((value) => !known.has(value)).sort((a, b) => a - b);
  if (!outside.length) return;
  const expected = [...known].sort((a, b) => a - b);
  const more = outside.length - VALUES_SHOWN;
  const shown = outside.slice(0, VALUES_SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '');
  const words = `${what}: label ${shown} is not among the classes ${expected.join(', ')}`;
  throw new MaclError('label', words, { ...details, expected, found: outside });
}
