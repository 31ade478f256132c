/** A plan in words, one line a matter: what the commands print before they train. */
import { describeGroups } from '../methods/groups.js';
import { methodOf } from '../methods/index.js';
import { declareNetwork, type Network } from '../methods/network.js';
import { percent, type Plan } from './plan.js';
import { DEFAULT_BACKBONE } from './resolve.js';
import { presetLacks } from './presets.js';
import type { Triple } from '../settings/types.js';
import { counted } from '../words.js';

const by = (t: Triple): string => t.join('×');
/** 'all 2', or a list by level. */
const perLevel = (list: readonly Triple[]): string => {
  const first = by(list[0] as Triple);
  return list.every((t) => by(t) === first) ? first : list.map(by).join(', ');
};
const axes = (t: Triple): string => (t[0] === t[1] && t[1] === t[2] ? String(t[0]) : t.join(', '));
const fraction = (x: number): string => (x === 1 ? '1' : `1/${Math.round(1 / x)}`);
const mib = (bytes: number): string =>
  bytes < 2 ** 30 ? `${Math.ceil(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** Parameters are counted: how they would lie does not matter. */
const ANY_BACKEND = { real: 'f32', alignment: 64 } as const;

/** @param loaded names of the tensors that come from another run */
export function describePlan(plan: Plan, loaded: readonly string[] = []): string[] {
  const { config, lambda } = plan;
  const { model, data, train, optimizer, augment } = config;
  const method = methodOf(config);
  const lines: string[] = [];
  const preset = config.preset === 'default' ? '' : `, preset ${config.preset}`;
  lines.push(
    `${config.task === 'pretrain' ? `pre-training with ${config.method}` : 'fine-tuning'}, ${model.dims}-D${preset}`,
  );
  const spacing = data.spacingMm ? `resampled to ${by(data.spacingMm)} mm` : 'at their own spacing';
  lines.push(
    `data: ${counted(plan.cases, 'case')} of ${by(plan.smallestShape)} to ${by(plan.largestShape)} voxels, ${spacing}, normalised ${data.normalize.join(', ')}`,
  );
  lines.push(
    `network: ${model.backbone === DEFAULT_BACKBONE ? '' : `${model.backbone}, `}${counted(model.levels, 'level')} of ${model.filters} filters up, strides ${perLevel(model.strides)}, kernels ${perLevel(model.kernels)}, ` +
      `${counted(model.inChannels, 'channel')}${config.task === 'finetune' ? `, ${config.model.classes} classes` : ''}`,
  );
  if (method.shrinks) {
    const same = lambda.every((x) => x === lambda[0]);
    const l = same ? fraction(lambda[0]) : lambda.map(fraction).join(', ');
    lines.push(
      `dominant branch: n = ${model.decoderBlocks} decoder block${model.decoderBlocks === 1 ? '' : 's'}, λ = ${l}`,
    );
  }
  lines.push(
    `patch ${by(data.patch)}, batch ${train.batch}, ${counted(train.steps, 'step')}, about ${mib(plan.estimatedBytes)}`,
  );
  if (plan.positiveShare !== null) {
    const threshold = String(method.threshold?.(config.loss)).replaceAll(',', ', ');
    lines.push(
      `positive pairs: ${percent(plan.positiveShare)} of all, threshold ${threshold} on the ${data.position === 'slice' ? "slice's place" : "patch's centre"}`,
    );
  } else if (plan.channels !== 'same') {
    lines.push(
      plan.channels === 'sum'
        ? 'the first convolution is summed over its input channels: the data has one'
        : "the data's one channel is repeated for each of the network's",
    );
  }
  lines.push(`loss: ${method.describeLoss(config)}`);
  const { name, lr, schedule, lrFinal, warmup, power, sawtooth, weightDecay } = optimizer;
  const rising = warmup > 0 ? ` after a warm-up of ${percent(warmup)} of the steps` : '';
  const falls = schedule === 'poly' || schedule === 'sawtooth' ? `${schedule} of power ${power}` : schedule;
  const rate = (schedule === 'constant' ? `${lr}` : `${lr}, ${falls} to ${lrFinal}`) + rising;
  lines.push(`optimiser: ${name}, learning rate ${rate}${weightDecay > 0 ? `, weight decay ${weightDecay}` : ''}`);
  if (schedule === 'sawtooth')
    lines.push(`sawtooth: the first ${percent(sawtooth)} of the steps train only what was not loaded, then everything`);
  const net = declareNetwork(config, ANY_BACKEND, 'training', loaded);
  lines.push(...describeGroups(config.optimizer, net.state, net.grouping), ...describeAccumulation(net));
  const turn = model.dims === 2 ? String(augment.rotation[0]) : axes(augment.rotation);
  const mirrored = ['D', 'H', 'W'].filter((_, axis) => augment.mirror[axis as 0]);
  lines.push(
    `views: rotation ±${turn}°, scale ${augment.scale.join('–')}${mirrored.length > 0 ? `, mirrored along ${mirrored.join(', ')}` : ''}, ${augment.interpolation}`,
  );
  const lacks = presetLacks(config.preset);
  if (lacks.length > 0) lines.push(`preset ${config.preset} still lacks: ${lacks.join('; ')}`);
  return lines;
}

/** What batches that are averaged into a step share, and what they do not. */
function describeAccumulation({ config, method, state }: Network): string[] {
  const { batch, accumulate } = config.train;
  if (accumulate === 1) return [];
  const within = [
    ...(state.entries.some(({ role }) => role === 'statistic') ? ["the norms' batch statistics"] : []),
    ...(method.couples?.(config) ?? []),
  ];
  const coupled =
    within.length > 0 ? `${within.join(', ')} see one batch at a time` : 'nothing couples the samples of a batch';
  return [
    `accumulation: a step is ${accumulate} batches of ${batch} in the memory of one; gradients and losses are their means; ${coupled}`,
  ];
}
