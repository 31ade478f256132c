/**
 * The U-Net of MACL (arXiv 2309.11876): L encoder levels of two (convolution → BatchNorm → leaky ReLU) with max-pooling, a
 * centre of two convolutions with ReLU and no norm, decoder blocks with transposed convolutions and skips (upsampled half
 * first), a 1×1×1 head. Level l has filters · 2^l channels. 2-D is the case where axis D has stride 1 and kernel 1
 * everywhere.
 */
import { concat, maxpool3d } from '../ops/index.js';
import {
  applyBlock,
  applyConv,
  applyConvRelu,
  applyUpconv,
  declareBlock,
  declareConv,
  declareUpconv,
} from '../nn/layers.js';
import type { ModelConfig } from '../settings/types.js';
import type { Triple } from '../volume.js';
import { partByPrefix, type Backbone } from './types.js';

const filtersAt = (model: ModelConfig, level: number): number => model.filters * 2 ** level;
const levelName = (l: number): string => `encoder.blocks.${l}`;
const CENTRE = 'encoder.centre';

export const unet: Backbone = {
  name: 'unet',
  describe: "MACL's U-Net: BatchNorm, max-pooling, a bare centre",
  source: 'arXiv 2309.11876',
  firstConvolution: 'encoder.blocks.0.conv1',
  filters: (dims) => (dims === 2 ? 32 : 16),
  // The centre has no norm.
  bottleneck: { per: 'batch', least: 1, wanted: () => 1 },
  wide: (model) => filtersAt(model, model.levels),
  narrow: (model, blocks) => filtersAt(model, model.levels - blocks),
  levelNames: (model) => [...Array.from({ length: model.levels }, (_, l) => levelName(l)), CENTRE],
  partOf: partByPrefix,

  declareEncoder(s, model) {
    const kernel = (l: number) => model.kernels[l] as Triple;
    const blocks = Array.from({ length: model.levels }, (_, l) => {
      const inputs = l === 0 ? model.inChannels : filtersAt(model, l - 1);
      return declareBlock(s, levelName(l), inputs, filtersAt(model, l), kernel(l));
    });
    const wide = filtersAt(model, model.levels);
    const centre = [
      declareConv(s, `${CENTRE}.conv1`, filtersAt(model, model.levels - 1), wide, kernel(model.levels)),
      declareConv(s, `${CENTRE}.conv2`, wide, wide, kernel(model.levels)),
    ];
    return {
      encode(b, x, mode) {
        let y = x;
        const skips = blocks.map((block, l) => {
          const skip = applyBlock(b, block, y, mode);
          y = b.within(levelName(l), () => maxpool3d(b, skip, model.strides[l] as Triple));
          return skip;
        });
        for (const conv of centre) y = applyConvRelu(b, conv, y, mode);
        return { bottleneck: y, skips };
      },
    };
  },

  declareDecoder(s, model, count) {
    const blocks = Array.from({ length: count }, (_, i) => {
      const level = model.levels - 1 - i;
      const [inputs, outputs] = [filtersAt(model, level + 1), filtersAt(model, level)];
      const name = `decoder.blocks.${i}`;
      return {
        name,
        up: declareUpconv(s, `${name}.up`, inputs, outputs, model.strides[level] as Triple),
        block: declareBlock(s, name, 2 * outputs, outputs, model.kernels[level] as Triple),
      };
    });
    return {
      blocks: count,
      decode(b, { bottleneck, skips }, mode) {
        let y = bottleneck;
        blocks.forEach(({ name, up, block }, i) => {
          const skip = skips[skips.length - 1 - i];
          const upsampled = applyUpconv(b, up, y);
          const joined = b.within(name, () => concat(b, upsampled, skip!));
          y = applyBlock(b, block, joined, mode);
        });
        return y;
      },
    };
  },

  declareHead(s, model, outputs) {
    const head = declareConv(s, 'head', model.filters, outputs, [1, 1, 1]);
    return { apply: (b, x) => applyConv(b, head, x) };
  },
};
