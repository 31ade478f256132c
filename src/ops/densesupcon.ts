/** densesupcon: supcon at every position of a grid separately, averaged, in one kernel (MACL's L_d). */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { supconAt, type SupconOptions, type SupconResult } from './supcon.js';

/** z1 and z2 are [B, D, H, W, C] on the same grid. */
export function densesupcon(
  b: GraphBuilder,
  z1: Tensor,
  z2: Tensor,
  pos: Tensor,
  options: SupconOptions,
): SupconResult {
  return supconAt(b, z1, z2, pos, options);
}
