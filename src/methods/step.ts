/**
 * A training step as a program: the one way from a declared network to something that a backend runs. The views come from
 * volumes (`warp3d`, by descriptors under the views' names) or are given; the method says what happens to them; gradients,
 * guard, running statistics and optimiser follow.
 */
import type { Fusion } from '../backend/types.js';
import { MaclError } from '../errors.js';
import { GraphBuilder } from '../graph/builder.js';
import { compile, type CompiledProgram, type Describe } from '../graph/compile.js';
import { recompute } from '../graph/recompute.js';
import type { Graph, Shape, Tensor } from '../graph/types.js';
import { warp3d, type PassStatistics } from '../ops/index.js';
import { samplesOf } from '../settings/types.js';
import type { Triple } from '../volume.js';
import type { Network } from './network.js';
import type { Batch } from './types.js';
import { appendUpdate } from './update.js';

/** Of a step: samples, the patch, and rows of number inputs where they are not the configuration's (`macl step`). */
export interface StepSizes {
  readonly batch: number;
  readonly patch: Triple;
  readonly rows?: Readonly<Record<string, readonly number[]>>;
}

export type StepSource = 'volumes' | 'given';

/** The sizes that the configuration asks for. @throws MaclError `config` where no patch is planned yet */
export function sizesOf({ config }: Network, source = 'configuration'): StepSizes {
  const { patch } = config.data;
  if (!patch) {
    const details = { field: 'data.patch' };
    throw new MaclError('config', `${source}: data.patch: a program needs the sizes of a patch`, details);
  }
  return { batch: samplesOf(config.train), patch };
}

/** Inputs are the views and number inputs by name, and `lr`; results those of the method, `gradnorm` and `guard`. */
export function buildStep(net: Network, sizes: StepSizes, source: StepSource, b: GraphBuilder): Graph {
  const { method, modules, config, state } = net;
  const batch = { ...makeViews(b, net, sizes, source), ...makeNumbers(b, net, sizes) };
  const built = method.build(b, modules, batch, config);
  const { loss, results, statistics } = built;
  b.output(loss, 'loss');
  for (const [name, t] of Object.entries(results)) b.output(t, name);
  appendUpdate(b, state, loss, statistics as PassStatistics[], config.optimizer);
  b.within('commit', () => method.commit?.(b, modules, [built]));
  return b.finish();
}

export interface CompileOptions {
  readonly source?: StepSource;
  readonly sizes?: StepSizes;
  /** Others than the backend asks for. */
  readonly fusions?: ReadonlySet<Fusion>;
  /** Scopes that are computed again in the backward pass, so that they take less memory (src/graph/recompute.ts). */
  readonly recompute?: readonly string[];
}

/** The program of a network's training step; the store's size only bounds descriptors, which kernels check themselves. */
export function compileStep(net: Network, backend: Describe, options: CompileOptions = {}): CompiledProgram {
  const { source = 'volumes', sizes = sizesOf(net), fusions } = options;
  const graph = buildStep(net, sizes, source, new GraphBuilder(backend.info.real));
  return compile(recompute(graph, options.recompute ?? []), backend, net.state, 0, fusions);
}

function makeViews(b: GraphBuilder, { method, config }: Network, sizes: StepSizes, source: StepSource): Batch {
  const { batch, patch } = sizes;
  const shape = (channels: number): Shape => [batch, ...patch, channels];
  const { interpolation } = config.augment;
  const views: Record<string, Tensor> = {};
  for (const view of method.views(config)) {
    const { name, kind } = view;
    const image = shape(config.model.inChannels);
    if (source === 'given') views[name] = kind === 'labels' ? b.input(name, shape(1), 'i32') : b.input(name, image);
    else if (kind === 'same') views[name] = views[view.of] as Tensor;
    else
      views[name] = b.within('views', () =>
        kind === 'labels' ? warp3d(b, name, shape(1), 'nearest', 'i32') : warp3d(b, name, image, interpolation),
      );
  }
  return views;
}

function makeNumbers(b: GraphBuilder, { method, config }: Network, { batch, rows }: StepSizes): Batch {
  return Object.fromEntries(
    method.inputs(config).map(({ name, dtype, sizes }) => {
      const [p = 1, q = 1, r = 1, s = 1] = rows?.[name] ?? sizes;
      return [name, b.input(name, [batch, p, q, r, s], dtype)];
    }),
  );
}
