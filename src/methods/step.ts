/**
 * A training step as a program: the one way from a declared network to something that a backend runs. The views come from
 * volumes (`warp3d`, by descriptors under the views' names) or are given; the method says what happens to them; gradients,
 * guard, running statistics and optimiser follow.
 */
import type { Fusion } from '../backend/types.js';
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { compile, type CompiledProgram, type Describe } from '../graph/compile.js';
import { recompute } from '../graph/recompute.js';
import type { Graph, Shape, Tensor } from '../graph/types.js';
import { rows, scale, warp3d, warpInput, wsum } from '../ops/index.js';
import { samplesOf, type ModelConfig } from '../settings/types.js';
import type { Triple } from '../volume.js';
import type { Network } from './network.js';
import type { RunPart } from './groups.js';
import { builderFor } from './precision.js';
import type { Batch, BatchResult } from './types.js';
import { addGradients, appendUpdate, frozenState, gradientsOf } from './update.js';

/** Of a step: samples in all, the patch, and rows of number inputs where they are not the configuration's (`macl step`). */
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

/**
 * Inputs are the views and number inputs by name, and `lr`; results those of the method, `gradnorm` and `guard`.
 *
 * With `train.accumulate` N the samples are N batches one after the other: each is warped, computed and differentiated by
 * itself, so that a step takes the memory of one; gradients, losses and what else is reported are means over them.
 */
export function buildStep(
  net: Network,
  sizes: StepSizes,
  source: StepSource,
  b: GraphBuilder,
  part: RunPart = 'all',
): Graph {
  const { method, modules, config } = net;
  const { accumulate } = config.train;
  const batch = perBatch(sizes.batch, accumulate);
  b.frozen = frozenState(net, part);
  const inputs = makeInputs(b, net, sizes, source);
  const gradients = gradientsOf(b, net, part);
  const batches: BatchResult[] = [];
  const means = new Means(b, accumulate);
  for (let k = 0; k < accumulate; k++) {
    const build = () => {
      const from = b.nodes.length;
      b.forgetOnce();
      const views = takeBatch(b, net, inputs, { ...sizes, batch }, accumulate > 1 ? k : null);
      const built = method.build(b, modules, views, config);
      const { loss, results } = built;
      batches.push(built);
      const share = accumulate > 1 ? b.within('loss', () => scale(b, loss, 1 / accumulate)) : loss;
      means.add({ loss, ...results });
      addGradients(b, gradients, { loss: share, from, written: k > 0 });
    };
    if (accumulate > 1) b.within(`batch${k}`, build);
    else build();
  }
  const results = means.results();
  for (const [name, t] of results) b.output(t, name);
  const statistics = batches.flatMap((built) => built.statistics);
  appendUpdate(b, net, part, gradients, results.get('loss') as Tensor, statistics, config.optimizer);
  b.within('commit', () => method.commit?.(b, modules, batches));
  return b.finish();
}

/** Samples of one batch. */
function perBatch(samples: number, accumulate: number): number {
  if (samples % accumulate === 0) return samples / accumulate;
  const expected = `a multiple of train.accumulate = ${accumulate}`;
  throw new MaclError('config', `batch: expected ${expected} samples, found ${samples}`, {
    field: 'train.accumulate',
    expected,
    found: samples,
  });
}

/** Means of float64 scalars over the batches of a step; of one batch the scalars themselves. */
class Means {
  private readonly sums = new Map<string, Tensor>();
  constructor(
    private readonly b: GraphBuilder,
    private readonly count: number,
  ) {}

  add(scalars: Readonly<Record<string, Tensor>>): void {
    for (const [name, value] of Object.entries(scalars)) {
      const sum = this.sums.get(name);
      const term = { weight: 1 / this.count, value };
      const terms = sum ? [{ weight: 1, value: sum }, term] : [term];
      this.sums.set(name, this.count === 1 ? value : this.b.within('mean', () => wsum(this.b, terms)));
    }
  }

  results(): ReadonlyMap<string, Tensor> {
    return this.sums;
  }
}

/** The scopes that `model.recompute` names: levels of the encoder and blocks of the decoder, as far as they are computed. */
function blocksOf({ backbone, config, state }: Network, { nodes }: Graph): string[] {
  const decoder = state.entries.flatMap(({ name }) => /^decoder\.blocks\.\d+/.exec(name)?.[0] ?? []);
  const names = [...new Set([...backbone.levelNames(config.model), ...decoder])];
  return names.filter((name) => nodes.some((n) => !n.commit && !n.forward && `.${n.scope}.`.includes(`.${name}.`)));
}

export interface CompileOptions {
  readonly source?: StepSource;
  readonly sizes?: StepSizes;
  /** Others than the backend asks for. */
  readonly fusions?: ReadonlySet<Fusion>;
  /** Another `model.recompute` than the configuration's, or the scopes themselves (src/graph/recompute.ts). */
  readonly recompute?: ModelConfig['recompute'] | readonly string[];
  /** Of a sawtooth: the part of the run that the step belongs to. */
  readonly part?: RunPart;
}

/** The program of a network's training step; the store's size only bounds descriptors, which kernels check themselves. */
export function compileStep(net: Network, backend: Describe, options: CompileOptions = {}): CompiledProgram {
  const { source = 'volumes', sizes = sizesOf(net), fusions, part } = options;
  const graph = buildStep(net, sizes, source, builderFor(net.config.train.precision, backend.info), part);
  const { recompute: wanted = net.config.model.recompute } = options;
  const scopes = wanted === 'blocks' ? blocksOf(net, graph) : wanted === 'none' ? [] : wanted;
  return compile(recompute(graph, scopes), backend, net.state, 0, { fusions, arithmetic: net.config.train.arithmetic });
}

/** What a step is given, of all samples: views or their descriptors, and number inputs. */
function makeInputs(b: GraphBuilder, net: Network, { batch, patch, rows }: StepSizes, source: StepSource) {
  const { method, config } = net;
  const { inChannels } = config.model;
  const views = new Map<string, { readonly t: Tensor; readonly warped: boolean }>();
  for (const view of method.views(config)) {
    const { name, kind } = view;
    const channels = kind === 'labels' ? 1 : inChannels;
    if (source === 'given') {
      const t = b.input(name, [batch, ...patch, channels], kind === 'labels' ? 'i32' : b.activation);
      views.set(name, { t, warped: false });
    } else if (kind !== 'same') views.set(name, { t: warpInput(b, name, batch, channels), warped: true });
  }
  const numbers = new Map<string, Tensor>();
  for (const { name, dtype, sizes } of method.inputs(config)) {
    const [p = 1, q = 1, r = 1, s = 1] = rows?.[name] ?? sizes;
    numbers.set(name, b.input(name, [batch, p, q, r, s], dtype));
  }
  return { views, numbers };
}

/** Views and numbers of one batch. @param k its number, or null where there is only one */
function takeBatch(
  b: GraphBuilder,
  { method, config }: Network,
  { views, numbers }: ReturnType<typeof makeInputs>,
  { batch, patch }: StepSizes,
  k: number | null,
): Batch {
  const ours = (t: Tensor): Tensor => (k === null ? t : rows(b, t, k * batch, batch));
  const out: Record<string, Tensor> = {};
  for (const view of method.views(config)) {
    const { name, kind } = view;
    const { t, warped } = views.get(name) ?? {};
    if (!t) out[name] = out[(view as { of: string }).of] as Tensor;
    else if (!warped) out[name] = ours(t);
    else {
      const labels = kind === 'labels';
      const shape: Shape = [batch, ...patch, labels ? 1 : config.model.inChannels];
      out[name] = b.within('views', () =>
        warp3d(
          b,
          name,
          shape,
          labels ? 'nearest' : config.augment.interpolation,
          labels ? 'i32' : b.activation,
          ours(t),
        ),
      );
    }
  }
  for (const [name, t] of numbers) out[name] = ours(t);
  return out;
}
