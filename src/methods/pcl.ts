/**
 * PCL (Zeng et al., MICCAI 2021, arXiv 2106.09157): samples of near positions are positives, of whatever case they are. It
 * is MACL's image level alone, with both branches at full size and one projector.
 */
import { object, oneOf, positive } from '../settings/json-schema.js';
import type { PretrainConfig, PretrainLossConfig } from '../settings/types.js';
import { CODE_BASE_TEMPERATURE } from '../losses/contrastive.js';
import { MaclError } from '../errors.js';
import { checkThreshold, positionInput, THRESHOLD } from './contrast.js';
import { buildPair, checkPair, declarePair, PAIR, type PairModules } from './pair.js';
import type { Method } from './types.js';

type PclLossConfig = Pick<PretrainLossConfig, 'temperature' | 'threshold' | 'temperatureFactor'>;

/** Width of the projection. */
const WIDTH = 512;

export const pcl: Method<PretrainConfig<PclLossConfig>, PairModules> = {
  ...PAIR,
  name: 'pcl',
  describe: 'positional contrastive learning: samples of near positions are positives, of all cases',
  source: 'arXiv 2106.09157',

  lossSchema: object('The loss of PCL.', {
    temperature: positive('τ'),
    threshold: THRESHOLD,
    temperatureFactor: oneOf('code: τ / 0.07 before the loss, as released; none: as published', 'none', 'code'),
  }),
  resolveLoss({ temperature, threshold, temperatureFactor }: Partial<PclLossConfig>) {
    return {
      temperature: temperature ?? 0.1,
      threshold: threshold ?? 0.1,
      temperatureFactor: temperatureFactor ?? 'none',
    };
  },
  presets: { 'code-2d': { loss: { temperatureFactor: 'code' } } },
  check(config, input, refuse) {
    checkThreshold(config, input, refuse);
    checkPair(config, refuse);
  },
  describeLoss: ({ loss }) => `τ = ${loss.temperature}`,
  threshold: (loss) => loss?.threshold ?? 0.1,
  inputs: ({ data }) => [positionInput(data.position)],

  declare: (s, backbone, config) => declarePair(s, backbone, config, WIDTH),
  build(b, net, { v1, v2, pos }, { loss }) {
    if (!pos) throw new MaclError('program', 'pcl needs pos');
    const { temperature, threshold, temperatureFactor } = loss;
    const scale = temperatureFactor === 'code' ? temperature / CODE_BASE_TEMPERATURE : 1;
    return buildPair(b, net, { v1, v2 }, pos, { temperature, threshold, scale });
  },
};
