/** The whole path on built-in synthetic volumes. */
import { MaclError } from '../errors.js';
import type { QuickstartOptions, QuickstartSummary } from './types.js';

export function quickstart(_options: QuickstartOptions = {}): Promise<QuickstartSummary> {
  return Promise.reject(new MaclError('state', 'quickstart: not built yet'));
}
