/**
 * The plain U-Net of nnU-Net (PlainConvUNet of MIC-DKFZ/dynamic-network-architectures): a stage a grid of two (convolution →
 * InstanceNorm → leaky ReLU), of which the first has the stride; decoder blocks with transposed convolutions (upsampled half
 * first) and two such units; a 1×1×1 head. Stage t has filters · 2^t channels, at most 320 (512 in 2-D). There are no
 * running statistics, so that training and evaluation are one computation. Without deep supervision the last head alone
 * is there.
 */
import { applyConv, applyUnits, applyUpconv, declareConv, declareUnits, declareUpconv } from '../nn/layers.js';
import { concat } from '../ops/index.js';
import type { ModelConfig } from '../settings/types.js';
import type { Triple } from '../volume.js';
import { partByPrefix, type Backbone } from './types.js';

const MOST_CHANNELS = { 2: 512, 3: 320 } as const;
const channelsAt = ({ filters, dims }: ModelConfig, stage: number): number =>
  Math.min(filters * 2 ** stage, MOST_CHANNELS[dims]);
const stageName = (t: number): string => `encoder.stages.${t}`;
const ONE: Triple = [1, 1, 1];

export const nnunetPlain: Backbone = {
  name: 'nnunet-plain',
  describe: "nnU-Net's plain U-Net: InstanceNorm, strided convolutions",
  source: 'Isensee et al., Nature Methods 2021; MIC-DKFZ/dynamic-network-architectures',
  filters: () => 32,
  firstConvolution: 'encoder.stages.0.conv1',
  // One voxel of a sample is its own mean: nothing of it would pass a norm.
  bottleneck: { per: 'sample', least: 2, wanted: (dims) => (dims === 3 ? 8 : 16) },
  wide: (model) => channelsAt(model, model.levels),
  narrow: (model, blocks) => channelsAt(model, model.levels - blocks),
  levelNames: (model) => Array.from({ length: model.levels + 1 }, (_, t) => stageName(t)),
  partOf: partByPrefix,

  declareEncoder(s, model) {
    const stages = Array.from({ length: model.levels + 1 }, (_, t) => {
      const inputs = t === 0 ? model.inChannels : channelsAt(model, t - 1);
      const stride = t === 0 ? ONE : (model.strides[t - 1] as Triple);
      return declareUnits(s, stageName(t), inputs, channelsAt(model, t), model.kernels[t] as Triple, stride);
    });
    return {
      encode(b, x) {
        const features = [];
        let y = x;
        for (const stage of stages) features.push((y = applyUnits(b, stage, y)));
        return { bottleneck: y, skips: features.slice(0, -1) };
      },
    };
  },

  declareDecoder(s, model, count) {
    const blocks = Array.from({ length: count }, (_, i) => {
      const stage = model.levels - 1 - i;
      const [inputs, outputs] = [channelsAt(model, stage + 1), channelsAt(model, stage)];
      const name = `decoder.blocks.${i}`;
      return {
        name,
        up: declareUpconv(s, `${name}.up`, inputs, outputs, model.strides[stage] as Triple),
        units: declareUnits(s, name, 2 * outputs, outputs, model.kernels[stage] as Triple, ONE),
      };
    });
    return {
      blocks: count,
      decode(b, { bottleneck, skips }) {
        let y = bottleneck;
        blocks.forEach(({ name, up, units }, i) => {
          const skip = skips[skips.length - 1 - i];
          const upsampled = applyUpconv(b, up, y);
          const joined = b.within(name, () => concat(b, upsampled, skip!));
          y = applyUnits(b, units, joined);
        });
        return y;
      },
    };
  },

  declareHead(s, model, outputs) {
    const head = declareConv(s, `heads.${model.levels - 1}`, channelsAt(model, 0), outputs, ONE);
    return { apply: (b, x) => applyConv(b, head, x) };
  },
};
