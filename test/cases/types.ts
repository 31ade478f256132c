/** Types of the case lists. */
export type Triple = readonly [number, number, number];
/** [N, D, H, W, C] */
export type Shape = readonly [number, number, number, number, number];
