/** Cases of sgd, adam, adamw and of the gradient norm with clipping: n elements, three steps each. */
export interface OptimCase {
  readonly name: string;
  readonly kind: 'sgd' | 'adam' | 'adamw';
  readonly n: number;
  readonly lr: number;
  readonly momentum: number;
  readonly weightDecay: number;
  /** 0: no clipping. */
  readonly maxNorm: number;
}

export const cases: readonly OptimCase[] = [
  { name: 'sgd', kind: 'sgd', n: 37, lr: 0.1, momentum: 0.9, weightDecay: 0.01, maxNorm: 0 },
  { name: 'sgdPlain', kind: 'sgd', n: 16, lr: 0.03, momentum: 0, weightDecay: 0, maxNorm: 0 },
  { name: 'sgdClipped', kind: 'sgd', n: 37, lr: 0.1, momentum: 0.9, weightDecay: 0.00001, maxNorm: 1.5 },
  { name: 'adam', kind: 'adam', n: 37, lr: 0.0005, momentum: 0, weightDecay: 0, maxNorm: 0 },
  { name: 'adamDecay', kind: 'adam', n: 21, lr: 0.001, momentum: 0, weightDecay: 0.1, maxNorm: 100 },
  { name: 'adamw', kind: 'adamw', n: 37, lr: 0.002, momentum: 0, weightDecay: 0.05, maxNorm: 2 },
];
