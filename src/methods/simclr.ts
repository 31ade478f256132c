/**
 * SimCLR (arXiv 2002.05709): a sample's two views are positives, everything else in the batch is told apart (NT-Xent). It
 * is the position-aware loss at threshold 0, where no other sample is near enough.
 */
import { object, positive } from '../settings/json-schema.js';
import type { PretrainConfig } from '../settings/types.js';
import { buildPair, checkPair, declarePair, PAIR, type PairModules } from './pair.js';
import type { Method } from './types.js';

interface SimclrLossConfig {
  readonly temperature: number;
}

/** Width of the projection. */
const WIDTH = 128;
/** Few rows tell less apart: a softer τ below this many. */
const MANY_ROWS = 32;

export const simclr: Method<PretrainConfig<SimclrLossConfig>, PairModules> = {
  ...PAIR,
  name: 'simclr',
  describe: "contrast of two views of each sample with the batch's other samples (NT-Xent)",
  source: 'arXiv 2002.05709; projector and τ for small batches of volumes',

  lossSchema: object('The loss of SimCLR.', { temperature: positive('τ; 0.1 from 32 rows (16 samples) on, else 0.5') }),
  resolveLoss({ temperature }: Partial<SimclrLossConfig>, { batch }) {
    return { temperature: temperature ?? (2 * batch >= MANY_ROWS ? 0.1 : 0.5) };
  },
  check: (config, _input, refuse) => checkPair(config, refuse),
  describeLoss: ({ loss }) => `NT-Xent, τ = ${loss.temperature}`,
  inputs: () => [],

  declare: (s, backbone, config) => declarePair(s, backbone, config, WIDTH),
  build(b, net, { v1, v2 }, { loss: { temperature } }) {
    // Nowhere nearer than 0 to each other, wherever they lie.
    const samples = v1?.shape[0] ?? 0;
    const pos = b.constant('pos', new Float64Array(samples), 'f64', [samples, 1, 1, 1, 1]);
    return buildPair(b, net, { v1, v2 }, pos, { temperature, threshold: 0 });
  },
};
