/**
 * The end of every training step: gradients of all parameters into one flat buffer, the test for non-finite values,
 * and the commit phase (optimiser, running statistics).
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { differentiate } from '../graph/differentiate.js';
import type { Tensor } from '../graph/types.js';
import type { StateTable } from '../nn/state.js';
import { adam, gradnorm, sgd, updateRunning, type PassStatistics } from '../ops/index.js';
import type { OptimizerConfig } from '../settings/types.js';

const RUNNING_MOMENTUM = 0.1;
/** Name of the kept tensor that holds all gradients, in the order and layout of the parameters. */
export const GRADIENTS = 'gradients';

/**
 * @param statistics in the order in which running statistics see the passes
 * Makes the input `lr` and the results `gradnorm` and `guard`.
 */
export function appendUpdate(
  b: GraphBuilder,
  state: StateTable,
  loss: Tensor,
  statistics: readonly PassStatistics[],
  optimizer: OptimizerConfig,
): void {
  const g = b.tensor(GRADIENTS, state.weights.shape, b.real, { keep: true });
  const targets = new Map<Tensor, Tensor>();
  for (const entry of state.entries) {
    if (entry.role !== 'parameter') continue;
    const { tensor } = entry;
    const view = { of: g, offset: tensor.view?.offset ?? 0, dense: true };
    targets.set(tensor, b.tensor(`grad.${entry.name}`, tensor.shape, b.real, { view }));
  }
  differentiate(b, loss, targets);

  b.within('update', () => {
    const { norm, clip, guard } = gradnorm(b, g, loss, optimizer.clip);
    b.output(norm, 'gradnorm');
    b.guard = b.output(guard, 'guard');
    updateRunning(b, statistics, state.running, RUNNING_MOMENTUM);
    const update = { g, lr: b.input('lr', [1, 1, 1, 1, 1], 'f64'), clip, w: state.weights };
    const { m, v } = state.moments;
    const { weightDecay, momentum } = optimizer;
    if (optimizer.name === 'sgd') sgd(b, update, moment(m), { momentum, weightDecay });
    else {
      const options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay, decoupled: optimizer.name === 'adamw' };
      adam(b, update, moment(m), moment(v), moment(state.steps), options);
    }
  });
}

function moment(t: Tensor | undefined): Tensor {
  if (!t) throw new MaclError('program', 'the state was declared for another optimiser');
  return t;
}
