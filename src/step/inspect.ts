/** `macl inspect`: what this machine offers, and what a configuration compiles to. */
import { reportBackends } from '../backend/choose.js';
import type { BackendReport } from '../backend/types.js';
import { resolveConfig } from '../config/index.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import type { KernelCost } from '../graph/program.js';
import { declareNetwork } from '../methods/network.js';
import { ARITHMETICS, type Arithmetic } from '../arithmetic.js';
import { withTrain } from '../settings/with-train.js';
import { PRECISIONS, type Precision } from '../precision.js';
import { compileStep, sizesOf } from '../methods/step.js';
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
  /** With and without `model.recompute`, whatever the configuration says. */
  readonly scratchBytesRecomputed: number;
  readonly scratchBytesKept: number;
  readonly parameters: number;
}

export interface InspectProgramOptions extends MachineOptions {
  /** A JSON file or the configuration; needs `data.patch` and uses `train.batch`. */
  readonly config: string | object;
  /** Compile without the fusions that the backend asks for. */
  readonly unfused?: boolean | undefined;
  /** Over the configuration's `train.precision`. */
  readonly precision?: Precision | undefined;
  /** Over the configuration's `train.arithmetic`. */
  readonly arithmetic?: Arithmetic | undefined;
}

const PROGRAM_OPTIONS: OptionKinds<InspectProgramOptions> = {
  ...MACHINE_OPTIONS,
  config: 'text or object',
  unfused: 'flag',
  precision: PRECISIONS,
  arithmetic: ARITHMETICS,
};

/** Compiles one training step and says what came out; nothing is run. */
export async function inspectProgram(options: InspectProgramOptions): Promise<ProgramReport> {
  checkOptions('inspectProgram', options, PROGRAM_OPTIONS, ['config']);
  const source = typeof options.config === 'string' ? options.config : 'configuration';
  const config = withTrain(resolveConfig(await readConfigFile(options.config), { source }), options);
  const backend = await openMachine(options);
  try {
    const fusions = options.unfused ? new Set<never>() : backend.info.fusions;
    const net = declareNetwork(config, backend.info, 'training');
    const compiling = { sizes: sizesOf(net, source), fusions };
    const program = compileStep(net, backend, compiling);
    const other = config.model.recompute === 'blocks' ? 'none' : 'blocks';
    const otherScratch = compileStep(net, backend, { ...compiling, recompute: other }).sizes.scratch;
    const scratch = { [config.model.recompute]: program.sizes.scratch, [other]: otherScratch };
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
      scratchBytesRecomputed: scratch['blocks'] as number,
      scratchBytesKept: scratch['none'] as number,
      parameters: net.state.parameterCount,
    };
  } finally {
    await backend.close();
  }
}
