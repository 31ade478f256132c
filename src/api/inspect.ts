/** What this machine has, what is used and why not the rest; and what a configuration's step compiles to. */
import { availableParallelism, cpus } from 'node:os';
import { reportBackends } from '../backend/choose.js';
import type { Backend } from '../backend/types.js';
import { resolveConfig } from '../config/index.js';
import type { ResolvedConfig } from '../config/types.js';
import { MaclError } from '../errors.js';
import { GraphBuilder } from '../graph/builder.js';
import { compile, type CompiledProgram } from '../graph/compile.js';
import { trafficOf } from '../graph/plan.js';
import { buildPretrainStep } from '../methods/macl.js';
import { declarePretrainNetwork, declareSegmentNetwork } from '../methods/network.js';
import { buildFinetuneStep } from '../methods/segment.js';
import { packageVersion } from '../paths.js';
import { openMachine } from '../train/trainer.js';
import { readConfigFile } from './config-file.js';
import type { InspectOptions, InspectSummary, ProgramSummary } from './types.js';

/** @throws MaclError `device` where a device that was asked for is not there; `config` */
export async function inspect(options: InspectOptions = {}): Promise<InspectSummary> {
  const devices = await reportBackends();
  const automatic = devices.find((d) => d.available && d.name !== 'reference')?.name ?? null;
  const config =
    options.program === undefined
      ? null
      : resolveConfig(await readConfigFile(options.program), { source: options.program });
  const wanted = options.device ?? 'auto';
  const backend = wanted === 'auto' && automatic === null && !config ? null : await openMachine(options);
  try {
    const summary: InspectSummary = {
      version: packageVersion(),
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
      cpu: { model: cpus()[0]?.model.trim() ?? 'unknown', cores: availableParallelism() },
      devices,
      default: automatic,
      used: backend && {
        device: backend.info.name,
        isa: backend.info.isa,
        threads: backend.info.threads,
        maxBytes: backend.info.maxBytes,
      },
    };
    return config && backend
      ? { ...summary, program: describe(compileStep(config, backend, options.program as string)) }
      : summary;
  } finally {
    await backend?.close();
  }
}

/** The training step of a configuration that names its patch. */
export function compileStep(config: ResolvedConfig, backend: Backend, source: string): CompiledProgram {
  const { patch } = config.data;
  if (!patch)
    throw new MaclError('config', `${source}: data.patch: expected a patch, found nothing`, { field: 'data.patch' });
  const { batch } = config.train;
  const { real } = backend.info;
  const b = new GraphBuilder(real);
  const { interpolation } = config.augment;
  if (config.task === 'finetune') {
    const net = declareSegmentNetwork(config.model, config.optimizer, real);
    const samples = { kind: 'volumes', interpolation } as const;
    const graph = buildFinetuneStep(net, { batch, patch, loss: config.loss, optimizer: config.optimizer, samples }, b);
    return compile(graph, backend, net.state, 0);
  }
  const net = declarePretrainNetwork(config.model, config.optimizer, real, config.init.linear);
  const views = { kind: 'volumes', interpolation, identity: config.augment.nonSpatial === 'identity' } as const;
  const positionAxes = config.data.position === 'slice' ? 1 : 3;
  const step = { batch, patch, positionAxes, loss: config.loss, optimizer: config.optimizer, views };
  return compile(buildPretrainStep(net, step, b), backend, net.state, 0);
}

function describe(program: CompiledProgram): ProgramSummary {
  const kernels = program.costs();
  return {
    text: program.text(),
    kernels,
    flops: kernels.reduce((sum, k) => sum + k.flops, 0),
    trafficBytes: program.graph.nodes.reduce((sum, node) => sum + trafficOf(node), 0),
    stateBytes: program.sizes.state,
    scratchBytes: program.sizes.scratch,
    scratchBytesWithoutReuse: program.scratchBytesWithoutReuse,
    ioBytes: program.sizes.io,
  };
}
