/** Numbers as the bytes of a dtype, for constants that a program carries. A number that does not fit is refused. */
import { MaclError } from '../errors.js';
import { DTYPE_BYTES, type DType } from './types.js';

const INTEGERS = { i32: [-(2 ** 31), 2 ** 31 - 1], i16: [-(2 ** 15), 2 ** 15 - 1], u8: [0, 255] } as const;

/** @param name for the message */
export function encodeValues(name: string, values: ArrayLike<number>, dtype: DType): Uint8Array {
  const bytes = new Uint8Array(values.length * DTYPE_BYTES[dtype]);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) {
    const v = values[i] as number;
    if (dtype === 'f64') view.setFloat64(i * 8, v, true);
    else if (dtype === 'f32') view.setFloat32(i * 4, v, true);
    else if (dtype === 'f16' || dtype === 'bf16')
      throw new MaclError('program', `${name}: constants are f64, f32, i32, i16 or u8, not ${dtype}`);
    else {
      const [least, most] = INTEGERS[dtype];
      if (!Number.isInteger(v) || v < least || v > most)
        throw new MaclError('program', `${name}: ${v} at ${i} is no ${dtype}`, { field: name, found: v });
      if (dtype === 'i32') view.setInt32(i * 4, v, true);
      else if (dtype === 'i16') view.setInt16(i * 2, v, true);
      else view.setUint8(i, v);
    }
  }
  return bytes;
}
