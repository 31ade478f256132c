/** A configuration with what is asked for beside it. */
import type { ResolvedConfig, TrainConfig } from './types.js';

export type TrainOver = { readonly [K in 'precision' | 'arithmetic']?: TrainConfig[K] | undefined };

export function withTrain(config: ResolvedConfig, { precision, arithmetic }: TrainOver): ResolvedConfig {
  const over = { ...(precision && { precision }), ...(arithmetic && { arithmetic }) };
  return { ...config, train: { ...config.train, ...over } };
}
