/** Does this engine run relaxed SIMD? No Node modules. */

/** i8x16.relaxed_swizzle of two splats, the smallest module that has a relaxed instruction. */
const PROBE = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0],
  ...[65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11],
];

export function supportsRelaxedSimd(): boolean {
  return WebAssembly.validate(new Uint8Array(PROBE));
}
