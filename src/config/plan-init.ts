/**
 * What fine-tuning takes from a pre-trained run: levels, strides, kernels, filters, spacing, kinds of normalisation; and
 * what it refuses because a flag says otherwise. Patch and batch are planned anew.
 */
import { MaclError } from '../errors.js';
import type { Fingerprint } from '../settings/fingerprint.js';
import { mergeConfig } from './merge.js';
import type { FinetuneConfigInput, NormalizeKind, ResolvedConfig } from '../settings/types.js';

/** The pre-trained run's own configuration. */
export type InitModel = Pick<ResolvedConfig, 'model' | 'data'>;

const FROM_RUN = ['backbone', 'dims', 'filters', 'levels', 'strides', 'kernels', 'decoderBlocks'] as const;

export interface InitMerge {
  readonly input: FinetuneConfigInput;
  readonly channels: 'same' | 'sum' | 'repeat';
  /** Kinds of normalisation, one a channel of the network, from one a channel of the data. */
  networkKinds(kinds: readonly NormalizeKind[]): readonly NormalizeKind[];
}

export function mergeInit(
  own: FinetuneConfigInput,
  init: InitModel | undefined,
  { channelKinds }: Fingerprint,
  source: string,
): InitMerge {
  const dataChannels = channelKinds.length;
  if (!init) {
    refuse(source, 'model.inChannels', dataChannels, own.model?.inChannels, 'the data set', 'config');
    return { input: own, channels: 'same', networkKinds: (kinds) => kinds };
  }
  for (const key of FROM_RUN)
    refuse(source, `model.${key}`, init.model[key], own.model?.[key], 'the pre-trained run', 'weights');
  refuse(source, 'data.spacingMm', init.data.spacingMm, own.data?.spacingMm, 'the pre-trained run', 'weights');
  const { inChannels } = init.model;
  const channels =
    inChannels === dataChannels ? 'same' : dataChannels === 1 ? (own.init?.channels ?? 'sum') : undefined;
  if (!channels) {
    const words = `the pre-trained run has ${inChannels} input channels, the data ${dataChannels}: only one channel can stand for many`;
    throw new MaclError('weights', `${source}: model.inChannels: ${words}`, {
      field: 'model.inChannels',
      expected: inChannels,
      found: dataChannels,
    });
  }
  const network = channels === 'sum' ? 1 : inChannels;
  refuse(source, 'model.inChannels', network, own.model?.inChannels, 'the pre-trained run', 'weights');
  const kinds = init.data.normalize;
  const fromRun = kinds === 'auto' ? undefined : channels === 'same' ? kinds : [kinds[0] as NormalizeKind];
  const { backbone, dims, filters, levels, strides, kernels, decoderBlocks } = init.model;
  return {
    input: mergeConfig<FinetuneConfigInput>(
      { data: { ...(fromRun ? { normalize: fromRun } : {}), sliceAxis: init.data.sliceAxis } },
      own,
      {
        model: { backbone, dims, filters, levels, strides, kernels, decoderBlocks, inChannels: network },
        data: { spacingMm: init.data.spacingMm },
      },
    ),
    channels,
    networkKinds: (own) =>
      channels === 'repeat' ? Array.from({ length: network }, () => own[0] as NormalizeKind) : own,
  };
}

/** A value that was given beside one that is fixed elsewhere has to be the same. */
function refuse(
  source: string,
  field: string,
  expected: unknown,
  found: unknown,
  whose: string,
  code: 'config' | 'weights',
): void {
  if (found === undefined || JSON.stringify(found) === JSON.stringify(expected)) return;
  const words = `${source}: ${field}: ${whose} has ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`;
  throw new MaclError(code, words, { field, expected, found });
}
