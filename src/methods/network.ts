/** A run's network, declared once: its method's modules over its backbone, and the state table below them. */
import { backboneOf, type Backbone } from '../backbones/index.js';
import type { Held } from '../backend/types.js';
import { StateBuilder, type MomentName, type StateTable } from '../nn/state.js';
import type { OptimizerConfig, ResolvedConfig } from '../settings/types.js';
import { groupingOf, type Grouping } from './groups.js';
import { methodOf, type Method, type Modules } from './index.js';
import type { SegmentationModules } from './segmentation.js';

export interface Network<M extends Modules = Modules> {
  readonly config: ResolvedConfig;
  readonly method: Method;
  readonly backbone: Backbone;
  readonly modules: M;
  readonly state: StateTable;
  /** Which parameters train alike. */
  readonly grouping: Grouping;
}

/** Fine-tuning's network: what inference runs. */
export type SegmentationNetwork = Network<SegmentationModules>;

/** What each optimiser keeps beside the weights. */
const KEPT: Readonly<Record<OptimizerConfig['name'], { moments: readonly MomentName[]; counter: boolean }>> = {
  sgd: { moments: ['m'], counter: false },
  adam: { moments: ['m', 'v'], counter: true },
  adamw: { moments: ['m', 'v'], counter: true },
};

/** What is not trained has no groups. */
const UNGROUPED = { groups: [], schedule: 'constant' } as const;

/**
 * @param held what weights are held in, and how they lie
 * @param use `inference` keeps no moments
 * @param loaded names of the tensors that come from another run: what groups of parameters may go by
 */
export function declareNetwork(
  config: ResolvedConfig,
  held: Held,
  use: 'training' | 'inference',
  loaded: readonly string[] = [],
): Network {
  const method = methodOf(config);
  const backbone = backboneOf(config.model);
  const s = new StateBuilder(held);
  const modules = method.declare(s, backbone, config);
  const { moments, counter } = use === 'training' ? KEPT[config.optimizer.name] : { moments: [], counter: false };
  const trained = use === 'training' ? config.optimizer : UNGROUPED;
  const grouping = groupingOf(trained, backbone, s.entries, loaded);
  return { config, method, backbone, modules, state: s.finish(moments, counter, grouping), grouping };
}

/** The network of a fine-tuning, or of a model that segments. */
export function declareSegmentation(
  config: ResolvedConfig & { readonly task: 'finetune' },
  held: Held,
  use: 'training' | 'inference',
  loaded: readonly string[] = [],
): SegmentationNetwork {
  return declareNetwork(config, held, use, loaded) as SegmentationNetwork;
}
