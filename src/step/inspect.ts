/** `macl inspect`: what this machine offers, and what a configuration compiles to. */
import { reportBackends } from '../backend/choose.js';
import type { BackendReport } from '../backend/types.js';
import { resolveConfig } from '../config/index.js';
import type { ResolvedConfig } from '../settings/types.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { GraphBuilder } from '../graph/builder.js';
import { compile, type CompiledProgram } from '../graph/compile.js';
import type { KernelCost } from '../graph/program.js';
import { buildPretrainStep } from '../methods/macl.js';
import { declarePretrainNetwork, declareSegmentNetwork } from '../methods/network.js';
import { buildFinetuneStep } from '../methods/segment.js';
import { readConfigFile } from '../model/config-file.js';
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from '../backend/machine.js';

export interface InspectReport {
  readonly backends: readonly BackendReport[];
  /** The backend that `auto` takes; null where none works. */
  readonly default: string | null;
  readonly isa: string | null;
  readonly threads: number | null;
  readonly freeBytes: number | null;
}

/** A device that is asked for by name must be there: else its reason is thrown. It is not thereby the default. */
export async function inspect(options: MachineOptions = {}): Promise<InspectReport> {
  checkOptions('inspect', options, MACHINE_OPTIONS);
  if (options.device !== undefined && options.device !== 'auto') await (await openMachine(options)).close();
  const backends = await reportBackends();
  try {
    const backend = await openMachine({ ...options, device: 'auto' });
    const { name, isa, threads, maxBytes } = backend.info;
    await backend.close();
    return { backends, default: name, isa, threads, freeBytes: maxBytes };
  } catch (error) {
    if (!(error instanceof MaclError) || error.code !== 'device') throw error;
    return { backends, default: null, isa: null, threads: null, freeBytes: null };
  }
}

export interface ProgramReport {
  readonly device: string;
  readonly isa: string;
  readonly fusions: readonly string[];
  /** One line a kernel. */
  readonly text: string;
  readonly kernels: readonly KernelCost[];
  readonly flops: number;
  readonly bytes: number;
  readonly stateBytes: number;
  readonly ioBytes: number;
  readonly scratchBytes: number;
  readonly scratchBytesWithoutReuse: number;
  readonly parameters: number;
}

export interface InspectProgramOptions extends MachineOptions {
  /** A JSON file or the configuration; needs `data.patch` and uses `train.batch`. */
  readonly config: string | object;
  /** Compile without the fusions that the backend asks for. */
  readonly unfused?: boolean | undefined;
}

const PROGRAM_OPTIONS: OptionKinds<InspectProgramOptions> = {
  ...MACHINE_OPTIONS,
  config: 'text or object',
  unfused: 'flag',
};

/** Compiles one training step and says what came out; nothing is run. */
export async function inspectProgram(options: InspectProgramOptions): Promise<ProgramReport> {
  checkOptions('inspectProgram', options, PROGRAM_OPTIONS, ['config']);
  const source = typeof options.config === 'string' ? options.config : 'configuration';
  const config = resolveConfig(await readConfigFile(options.config), { source });
  const backend = await openMachine(options);
  try {
    const fusions = options.unfused ? new Set<never>() : backend.info.fusions;
    const { program, parameters } = stepProgram(config, backend, fusions, source);
    const kernels = program.costs();
    const sum = (f: (k: KernelCost) => number) => kernels.reduce((total, k) => total + f(k), 0);
    return {
      device: backend.info.name,
      isa: backend.info.isa,
      fusions: [...fusions],
      text: program.text(),
      kernels,
      flops: sum((k) => k.flops),
      bytes: sum((k) => k.bytes),
      stateBytes: program.sizes.state,
      ioBytes: program.sizes.io,
      scratchBytes: program.sizes.scratch,
      scratchBytesWithoutReuse: program.scratchBytesWithoutReuse,
      parameters,
    };
  } finally {
    await backend.close();
  }
}

function stepProgram(
  config: ResolvedConfig,
  backend: Parameters<typeof compile>[1],
  fusions: NonNullable<Parameters<typeof compile>[4]>,
  source: string,
): { program: CompiledProgram; parameters: number } {
  const { patch } = config.data;
  if (!patch)
    throw new MaclError('config', `${source}: data.patch: a program needs the sizes of a patch`, {
      field: 'data.patch',
    });
  const { real } = backend.info;
  const b = new GraphBuilder(real);
  const { batch } = config.train;
  const { interpolation } = config.augment;
  if (config.task === 'pretrain') {
    const net = declarePretrainNetwork(config.model, config.optimizer, real, config.init.linear);
    const identity = config.augment.nonSpatial === 'identity';
    const views = { kind: 'volumes', interpolation, identity } as const;
    const positionAxes = config.data.position === 'slice' ? 1 : 3;
    const graph = buildPretrainStep(
      net,
      { batch, patch, positionAxes, loss: config.loss, optimizer: config.optimizer, views },
      b,
    );
    return { program: compile(graph, backend, net.state, 0, fusions), parameters: net.state.parameterCount };
  }
  const net = declareSegmentNetwork(config.model, config.optimizer, real);
  const samples = { kind: 'volumes', interpolation } as const;
  const graph = buildFinetuneStep(net, { batch, patch, loss: config.loss, optimizer: config.optimizer, samples }, b);
  return { program: compile(graph, backend, net.state, 0, fusions), parameters: net.state.parameterCount };
}
