/**
 * What a run's network consists of, declared once: the state table and the modules over it. Pre-training has encoder,
 * n decoder blocks and projectors; fine-tuning has encoder, all decoder blocks and the head.
 */
import { MaclError } from '../errors.js';
import type { DType } from '../graph/types.js';
import type { Conv } from '../nn/layers.js';
import type { Triple } from '../volume.js';
import {
  declareImageProjector,
  declarePixelProjector,
  type ImageProjector,
  type PixelProjector,
} from '../nn/projectors.js';
import { StateBuilder, type MomentName, type StateTable } from '../nn/state.js';
import {
  declareDecoder,
  declareEncoder,
  declareHead,
  filtersAt,
  type DecoderBlock,
  type Encoder,
  type UnetShape,
} from '../nn/unet.js';

export interface ModelConfig extends UnetShape {
  readonly dims: 2 | 3;
  /** Decoder blocks n of the dominant branch; λ is 1 / the product of the deepest n strides. */
  readonly decoderBlocks: number;
  /** Classes with the background, for fine-tuning. */
  readonly classes?: number | undefined;
}

export interface OptimizerConfig {
  readonly name: 'sgd' | 'adam' | 'adamw';
  readonly momentum: number;
  readonly weightDecay: number;
  /** Clip the gradient's global norm to this; 0: never. */
  readonly clip: number;
}

export interface PretrainNetwork {
  readonly model: ModelConfig;
  readonly state: StateTable;
  readonly encoder: Encoder;
  readonly decoder: readonly DecoderBlock[];
  readonly imageDominant: ImageProjector;
  readonly imageAuxiliary: ImageProjector;
  readonly pixel: PixelProjector;
}

export interface SegmentNetwork {
  readonly model: ModelConfig;
  readonly state: StateTable;
  readonly encoder: Encoder;
  readonly decoder: readonly DecoderBlock[];
  readonly head: Conv;
}

/** Which moments an optimiser keeps; null: none (inference). */
function finish(s: StateBuilder, optimizer: OptimizerConfig | null): StateTable {
  const moments: MomentName[] = !optimizer ? [] : optimizer.name === 'sgd' ? ['m'] : ['m', 'v'];
  return s.finish(moments, optimizer !== null && optimizer.name !== 'sgd');
}

export function declarePretrainNetwork(
  model: ModelConfig,
  optimizer: OptimizerConfig | null,
  real: DType,
  linearInit: 'kaiming' | 'pytorch' = 'kaiming',
): PretrainNetwork {
  const s = new StateBuilder(real);
  const encoder = declareEncoder(s, model);
  const decoder = declareDecoder(s, model, model.decoderBlocks);
  const wide = filtersAt(model, model.levels);
  const narrow = filtersAt(model, model.levels - model.decoderBlocks);
  const imageDominant = declareImageProjector(s, 'dominant', narrow, narrow, linearInit);
  const imageAuxiliary = declareImageProjector(s, 'auxiliary', wide, narrow, linearInit);
  const pixel = declarePixelProjector(s, wide, narrow, model.kernels[model.levels] as Triple);
  return { model, state: finish(s, optimizer), encoder, decoder, imageDominant, imageAuxiliary, pixel };
}

export function declareSegmentNetwork(
  model: ModelConfig,
  optimizer: OptimizerConfig | null,
  real: DType,
): SegmentNetwork {
  if (!model.classes || model.classes < 2)
    throw new MaclError(
      'config',
      `model.classes counts the background too, so it is at least 2; found ${model.classes}`,
    );
  const s = new StateBuilder(real);
  const encoder = declareEncoder(s, model);
  const decoder = declareDecoder(s, model, model.levels);
  const head = declareHead(s, model, model.classes);
  return { model, state: finish(s, optimizer), encoder, decoder, head };
}

/** λ of each axis as the integer factor by which the dominant branch's input is smaller. */
export function downsampling(model: ModelConfig): Triple {
  const factor = (axis: number) =>
    model.strides.slice(model.levels - model.decoderBlocks).reduce((p, s) => p * (s[axis] as number), 1);
  return [factor(0), factor(1), factor(2)];
}
