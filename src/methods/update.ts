/**
 * The end of every training step: gradients of all trained parameters into one flat buffer, the test for non-finite values,
 * and the commit phase (optimiser, running statistics).
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { differentiate } from '../graph/differentiate.js';
import type { Tensor } from '../graph/types.js';
import type { StateRange, StateTable } from '../nn/state.js';
import { adam, gradnorm, scale, sgd, updateRunning, type PassStatistics } from '../ops/index.js';
import type { OptimizerConfig } from '../settings/types.js';
import { isFrozen, type Grouping, type RangeRule, type RunPart } from './groups.js';

const RUNNING_MOMENTUM = 0.1;
/**
 * Name of the kept tensor that holds all gradients, in the order and layout of the parameters; those that are frozen lie
 * last and have none.
 */
export const GRADIENTS = 'gradients';

/** The gradients of a step's trained parameters. */
export interface StepGradients {
  /** All of them, flat. */
  readonly flat: Tensor;
  /** By parameter. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
}

interface Trained {
  readonly state: StateTable;
  readonly grouping: Grouping;
}

const ruleOf = ({ rules }: Grouping, { name }: StateRange): RangeRule => {
  const rule = rules.find((r) => r.name === name);
  if (!rule) throw new MaclError('program', `the range ${name} has no rule`);
  return rule;
};

const trainedRanges = ({ state, grouping }: Trained, part: RunPart): readonly StateRange[] =>
  state.ranges.filter((range) => !isFrozen(ruleOf(grouping, range), part));

/** What holds still in a part of the run: parameters, and the running statistics of norms. */
export function frozenState({ state, grouping }: Trained, part: RunPart): ReadonlySet<Tensor> {
  const still = state.entries.filter((entry) => {
    if (entry.role !== 'parameter' && entry.role !== 'statistic') return false;
    const rule = grouping.rules[grouping.rangeOf(entry)];
    return rule !== undefined && isFrozen(rule, part);
  });
  return new Set(still.map(({ tensor }) => tensor));
}

export function gradientsOf(b: GraphBuilder, net: Trained, part: RunPart): StepGradients {
  // Trained ranges come first.
  const count = trainedRanges(net, part).reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  const flat = b.tensor(GRADIENTS, [count, 1, 1, 1, 1], b.real, { keep: true });
  const targets = new Map<Tensor, Tensor>();
  for (const { name, role, tensor } of net.state.entries) {
    if (role !== 'parameter' || b.frozen.has(tensor)) continue;
    const view = { of: flat, offset: tensor.view?.offset ?? 0, dense: true };
    targets.set(tensor, b.tensor(`grad.${name}`, tensor.shape, b.real, { view }));
  }
  return { flat, targets };
}

/** A batch's part of the step: where its nodes begin, its loss as it counts, whether gradients lie there already. */
export interface BatchLoss {
  readonly loss: Tensor;
  readonly from: number;
  readonly written: boolean;
}

export function addGradients(b: GraphBuilder, { targets }: StepGradients, { loss, from, written }: BatchLoss): void {
  differentiate(b, loss, targets, { from, written });
}

/**
 * @param statistics in the order in which running statistics see the passes
 * Makes the input `lr` and the results `gradnorm` and `guard`.
 */
export function appendUpdate(
  b: GraphBuilder,
  net: Trained,
  part: RunPart,
  gradients: StepGradients,
  loss: Tensor,
  statistics: readonly PassStatistics[],
  optimizer: OptimizerConfig,
): void {
  for (const { norm } of statistics)
    if (norm.runningMean && b.frozen.has(norm.runningMean))
      throw new MaclError('program', `${norm.runningMean.name} is frozen, and a pass took statistics of its batch`);
  b.within('update', () => {
    const { norm, clip, guard } = gradnorm(b, gradients.flat, loss, optimizer.clip);
    b.output(norm, 'gradnorm');
    b.guard = b.output(guard, 'guard');
    updateRunning(b, statistics, net.state.running, RUNNING_MOMENTUM);
    const lr = b.input('lr', [1, 1, 1, 1, 1], 'f64');
    for (const range of trainedRanges(net, part)) {
      const rule = ruleOf(net.grouping, range);
      const rate = rule.lr === 1 ? lr : scale(b, lr, rule.lr);
      const update = { g: gradientsIn(b, gradients.flat, range), lr: rate, clip, w: range.weights };
      const { m, v } = range.moments;
      const weightDecay = rule.weightDecay ? optimizer.weightDecay : 0;
      if (optimizer.name === 'sgd') sgd(b, update, kept(m), { momentum: optimizer.momentum, weightDecay });
      else {
        const options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay, decoupled: optimizer.name === 'adamw' };
        adam(b, update, kept(m), kept(v), kept(range.steps), options);
      }
    }
  });
}

/** A range's gradients. */
function gradientsIn(b: GraphBuilder, flat: Tensor, { name, offset, parameterCount }: StateRange): Tensor {
  if (parameterCount === flat.shape[0]) return flat;
  const view = { of: flat, offset, dense: true };
  return b.tensor(`${flat.name}.${name}`, [parameterCount, 1, 1, 1, 1], b.real, { view });
}

function kept(t: Tensor | undefined): Tensor {
  if (!t) throw new MaclError('program', 'the state was declared for another optimiser');
  return t;
}
