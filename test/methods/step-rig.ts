/** Steps of a configuration on given samples, from fixed weights: for tests of what a step does beside its method. */
import type { Backend } from '../../src/backend/types.js';
import { resolveConfig } from '../../src/config/index.js';
import { compileStep, type CompileOptions } from '../../src/methods/step.js';
import { declareNetwork, type Network } from '../../src/methods/network.js';
import { GRADIENTS } from '../../src/methods/update.js';
import { Executor } from '../../src/model/executor.js';
import { initialState, viewOfEntry } from '../../src/model/network-state.js';
import { addressOfEntry } from '../../src/nn/state.js';
import { Draws } from '../../src/philox.js';
import type { CompiledProgram } from '../../src/graph/compile.js';
import type { ConfigInput, Triple } from '../../src/settings/types.js';

export const PATCH: Triple = [4, 8, 8];
export const model = {
  filters: 2,
  levels: 2,
  decoderBlocks: 1,
  strides: [
    [1, 2, 2],
    [2, 2, 2],
  ],
} as const;

export const netOf = (config: ConfigInput, loaded: readonly string[] = [], real: 'f32' | 'f64' = 'f64'): Network =>
  declareNetwork(
    resolveConfig({
      ...config,
      model: { ...model, ...(config.task === 'finetune' ? { classes: 3 } : {}), ...config.model },
      data: { patch: PATCH, ...config.data },
    }),
    { real, alignment: 64 },
    'training',
    loaded,
  );

type Samples = Readonly<Record<string, ArrayLike<number>>>;

/** Random inputs of samples `first` … of a step that sees `count` of them. */
export function samplesOf({ method, config }: Network, first: number, count: number): Samples {
  const voxels = PATCH[0] * PATCH[1] * PATCH[2];
  const out: Record<string, number[]> = {};
  for (let n = first; n < first + count; n++) {
    method.views(config).forEach(({ name, kind }, v) => {
      const draws = new Draws(11, n, v, 0);
      const value = () => (kind === 'labels' ? draws.int(3) : draws.normal());
      (out[name] ??= []).push(...Array.from({ length: voxels }, value));
    });
    method.inputs(config).forEach(({ name, sizes }, v) => {
      const draws = new Draws(12, n, v, 0);
      const length = sizes.reduce((a, s) => a * s, 1);
      (out[name] ??= []).push(...Array.from({ length }, () => draws.uniform()));
    });
  }
  return out;
}

export interface Stepped {
  readonly program: CompiledProgram;
  readonly results: Readonly<Record<string, number>>;
  /** Of trained parameters, and every entry of the state after the step. */
  readonly gradients: ReadonlyMap<string, Float64Array>;
  readonly before: ReadonlyMap<string, Float64Array>;
  readonly after: ReadonlyMap<string, Float64Array>;
  readonly state: Uint8Array;
}

/** One step. @param begin the state that it begins with, else that of seed 3 with statistics that differ */
export async function stepOn(
  backend: Backend,
  net: Network,
  samples: number,
  options: CompileOptions & { readonly first?: number; readonly lr?: number; readonly begin?: Uint8Array } = {},
): Promise<Stepped> {
  const { first = 0, lr = 0.1, begin, ...compiling } = options;
  const { state } = net;
  const program = compileStep(net, backend, { source: 'given', sizes: { batch: samples, patch: PATCH }, ...compiling });
  const initial = begin?.slice() ?? initialState(state, 3, backend.info);
  const read = (bytes: Uint8Array) =>
    new Map(state.entries.map((e) => [e.name, Float64Array.from(viewOfEntry(state, e, bytes))]));
  if (!begin)
    for (const entry of state.entries)
      if (entry.role === 'statistic') {
        const view = viewOfEntry(state, entry, initial);
        for (let i = 0; i < view.length; i++) view[i] = (entry.name.endsWith('var') ? 1.5 : 0.1) + 0.05 * i;
      }
  const executor = await Executor.open(backend, [program], initial);
  try {
    for (const [name, values] of Object.entries(samplesOf(net, first, samples))) executor.set(program, name, values);
    executor.set(program, 'lr', [lr]);
    if (!(await executor.run(program))) throw new Error('the step was skipped');
    const flat = executor.kept(program, GRADIENTS);
    const gradients = new Map<string, Float64Array>();
    for (const entry of state.entries) {
      const at = addressOfEntry(state, entry);
      if (entry.role !== 'parameter') continue;
      const offset = (entry.tensor.view?.offset ?? 0) * 8;
      if (offset + at.bytes <= flat.length)
        gradients.set(entry.name, new Float64Array(flat.slice(offset, offset + at.bytes).buffer));
    }
    const results = Object.fromEntries(
      [...net.method.results(net.config), 'gradnorm'].map((name) => [name, executor.scalar(program, name)]),
    );
    const after = executor.readState();
    return { program, results, gradients, before: read(initial), after: read(after), state: after };
  } finally {
    await executor.close();
  }
}
