/** A configuration with the precision that is asked for beside it. */
import type { Precision } from '../precision.js';
import type { ResolvedConfig } from './types.js';

export function withPrecision(config: ResolvedConfig, precision: Precision | undefined): ResolvedConfig {
  return precision === undefined ? config : { ...config, train: { ...config.train, precision } };
}
