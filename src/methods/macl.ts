/**
 * MACL (arXiv 2309.11876; docs/architecture.md shows the flow): four encoder passes with one set of weights, a partial
 * decoder in the dominant branch only, which sees the patch at λ; contrast of images and of pixels between the branches,
 * and equivariance of the bottlenecks.
 */
import type { Decoder, Encoder } from '../backbones/index.js';
import { NO_INTENSITY, type View } from '../data/sampling/view.js';
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { maclLosses } from '../losses/contrastive.js';
import type { PassMode } from '../nn/layers.js';
import {
  declareImageProjector,
  declarePixelProjector,
  projectImage,
  projectPixels,
  type ImageProjector,
  type PixelProjector,
} from '../nn/projectors.js';
import { resize3d, type PassStatistics } from '../ops/index.js';
import { number, object, oneOf, positive } from '../settings/json-schema.js';
import { lambdaOf } from '../settings/lambda.js';
import type { PretrainConfig, PretrainLossConfig } from '../settings/types.js';
import type { Triple } from '../volume.js';
import { alikeWatch, checkContrast, checkThreshold, positionInput, THRESHOLD } from './contrast.js';
import type { Method } from './types.js';
import { fallsBelow } from './watchdog.js';

interface MaclModules {
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  readonly imageDominant: ImageProjector;
  readonly imageAuxiliary: ImageProjector;
  readonly pixel: PixelProjector;
}

/** Mean square against its beginning: a norm below a hundredth. */
const COLLAPSE_BOTTLENECK = 1e-4;

export const macl: Method<PretrainConfig, MaclModules> = {
  name: 'macl',
  task: 'pretrain',
  describe:
    'multi-level asymmetric contrastive learning: image, pixel and feature level, a partial decoder in one branch',
  source: 'arXiv 2309.11876',

  lossSchema: object('The loss of MACL.', {
    temperature: positive('τ'),
    threshold: THRESHOLD,
    weights: object('Weights of the three parts.', {
      global: number(0, 1e6, 'λ1, of the image-level loss'),
      dense: number(0, 1e6, 'λ2, of the pixel-level loss'),
      er: number(0, 1e6, 'λ3, of the equivariance loss'),
    }),
    temperatureFactor: oneOf(
      'code: τ / 0.07 before the contrastive losses, as released; none: as published',
      'none',
      'code',
    ),
    er: oneOf("the equivariance loss as published, or relative to the bottlenecks' own size", 'absolute', 'relative'),
  }),
  resolveLoss(input) {
    const loss = input as Partial<PretrainLossConfig>;
    return {
      temperature: loss.temperature ?? 0.1,
      threshold: loss.threshold ?? 0.1,
      weights: { global: 1, dense: 0.5, er: 1, ...loss.weights },
      temperatureFactor: loss.temperatureFactor ?? 'none',
      er: loss.er ?? 'absolute',
    };
  },
  presets: {
    'paper-2d': { loss: { temperatureFactor: 'none', er: 'absolute' } },
    'code-2d': { loss: { temperatureFactor: 'code', er: 'absolute' } },
  },
  check(config, input, refuse) {
    const { train, augment } = config;
    checkThreshold(config, input, refuse);
    checkContrast(train, refuse);
    const { brightness, contrast } = augment.intensity;
    if (augment.nonSpatial !== 'identity' && brightness === 0 && contrast === 0) {
      const expected = `brightness or contrast above 0, because augment.nonSpatial is ${augment.nonSpatial}`;
      refuse('augment.intensity', expected, JSON.stringify(augment.intensity));
    }
  },
  describeLoss: ({ loss }) => `τ = ${loss.temperature}, weights ${Object.values(loss.weights).join(', ')}`,
  couples: () => ['image and pixel contrast'],

  threshold: (loss) => loss?.threshold ?? 0.1,
  shrinks: true,
  decoderBlocks: (model) => model.decoderBlocks,
  passes: { full: 2, small: 2, decoded: 'small' },

  patches: 1,
  foreground: false,
  views({ augment }) {
    const { intensity, nonSpatial } = augment;
    const still = nonSpatial === 'identity' ? NO_INTENSITY : { ...intensity, noise: 0 };
    const moved = nonSpatial === 'code' ? { ...NO_INTENSITY, noise: intensity.noise } : intensity;
    const image = (name: string, spatial: boolean): View => {
      return { name, kind: 'image', patch: 0, spatial, intensity: spatial ? moved : still };
    };
    // The paper's non-spatial views are the patch itself: one warp serves both.
    const i2: View = nonSpatial === 'identity' ? { name: 'i2', kind: 'same', of: 'i1' } : image('i2', false);
    return [image('v1', true), image('v2', true), image('i1', false), i2];
  },
  inputs: ({ data }) => [positionInput(data.position)],

  declare(s, backbone, { model, init }) {
    const encoder = backbone.declareEncoder(s, model);
    const decoder = backbone.declareDecoder(s, model, model.decoderBlocks);
    const wide = backbone.wide(model);
    const narrow = backbone.narrow(model, model.decoderBlocks);
    const imageDominant = declareImageProjector(s, 'dominant', narrow, narrow, init.linear);
    const imageAuxiliary = declareImageProjector(s, 'auxiliary', wide, narrow, init.linear);
    const pixel = declarePixelProjector(s, wide, narrow, model.kernels[model.levels] as Triple);
    return { encoder, decoder, imageDominant, imageAuxiliary, pixel };
  },

  build(b, net, { i1, i2, v1, v2, pos }, { model, loss }) {
    if (!i1 || !i2 || !v1 || !v2 || !pos) throw new MaclError('program', 'macl needs i1, i2, v1, v2 and pos');
    const shrink = downsampler(b, i1, lambdaOf(model));
    const statistics: PassStatistics[] = [];
    const train: PassMode = { kind: 'train', statistics };
    const { encoder, decoder } = net;

    // The order in which running statistics see the passes: i2, down(i1), v2, down(v1); in the decoder i1, then v1.
    const atI2 = b.within('i2', () => encoder.encode(b, i2, train));
    const atI1 = b.within('i1', () => encoder.encode(b, shrink(i1), train));
    const atV2 = b.within('v2', () => encoder.encode(b, v2, train));
    const atV1 = b.within('v1', () => encoder.encode(b, shrink(v1), train));
    const denseDominant = b.within('i1', () => decoder.decode(b, atI1, train));
    const v1Decoded = b.within('v1', () => decoder.decode(b, atV1, train));

    const losses = maclLosses(
      b,
      {
        globalDominant: b.within('v1', () => projectImage(b, net.imageDominant, v1Decoded)),
        globalAuxiliary: b.within('v2', () => projectImage(b, net.imageAuxiliary, atV2.bottleneck)),
        denseDominant,
        denseAuxiliary: b.within('i2', () => projectPixels(b, net.pixel, atI2.bottleneck, train)),
        bottleneckDominant: atI1.bottleneck,
        bottleneckAuxiliary: atI2.bottleneck,
      },
      pos,
      loss,
    );
    const results = {
      'loss.global': losses.global,
      'loss.dense': losses.dense,
      'loss.er': losses.er,
      cosine: losses.cosine,
      bottleneck: losses.bottleneckMeanSquare,
    };
    return { loss: losses.total, results, statistics };
  },
  results: () => ['loss', 'loss.global', 'loss.dense', 'loss.er', 'cosine', 'bottleneck'],

  watchdogs: (_config, saved) => [
    alikeWatch(),
    fallsBelow(
      'bottleneck',
      COLLAPSE_BOTTLENECK,
      'firstBottleneck',
      saved,
      (step) =>
        `collapse: the bottleneck's norm is below a hundredth of what it began with (step ${step}): L_ER is met by ` +
        `shrinking it, which loss.er=relative rules out. Volumes that show nothing do this too.`,
    ),
  ],
};

/** What brings a view to the dominant branch's size, 1/λ times smaller. */
function downsampler(b: GraphBuilder, view: Tensor, lambda: Triple): (t: Tensor) => Tensor {
  const [, ...patch] = view.shape.slice(0, 4) as [number, number, number, number];
  const small = patch.map((s, a) => {
    const factor = Math.round(1 / (lambda[a] as number));
    if (s % factor !== 0) {
      const all = lambda.map((l) => Math.round(1 / l)).join('×');
      throw new MaclError('config', `patch ${patch.join('×')} is not divisible by 1/λ = ${all}`);
    }
    return s / factor;
  }) as [number, number, number];
  return (t) => b.within('down', () => resize3d(b, t, small));
}
