/** macl inspect: devices and why they are or are not used; with --program, what a step compiles to. */
import type { DeviceName } from '../../backend/types.js';
import type { InspectReport, ProgramReport } from '../../step/inspect.js';
import type { Arithmetic } from '../../arithmetic.js';
import type { Precision } from '../../precision.js';
import { printJson, type CommandContext } from '../context.js';
import { deviceFlags, stepFlags, text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';
import { counted } from '../../words.js';

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export const command: Command = {
  name: 'inspect',
  describe: 'devices, instruction sets, threads; or a compiled step',
  flags: {
    program: text('program', 'a configuration with data.patch and train.batch: print what its step compiles to'),
    ...deviceFlags,
    ...stepFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { inspect, inspectProgram } = await import('../../step/inspect.js');
    const device = word(flags, 'device') as DeviceName | undefined;
    const threads = flags['threads'] as number | undefined;
    const config = word(flags, 'program');
    const precision = word(flags, 'precision') as Precision | undefined;
    const arithmetic = word(flags, 'arithmetic') as Arithmetic | undefined;
    if (config !== undefined) {
      const program = await inspectProgram({ config, device, threads, precision, arithmetic });
      if (isSet(flags, 'json')) printJson(context, program);
      else printProgram(context, program);
      return;
    }
    const report = await inspect({ device, threads });
    const machine = await machineOf();
    if (isSet(flags, 'json')) printJson(context, { ...machine, ...report });
    else printDevices(context, machine, report);
  },
};

interface Machine {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly cpu: { readonly model: string; readonly cores: number };
}

async function machineOf(): Promise<Machine> {
  const { availableParallelism, cpus } = await import('node:os');
  const { packageVersion } = await import('../../paths.js');
  const cpu = { model: cpus()[0]?.model.trim() ?? 'unknown', cores: availableParallelism() };
  return { version: packageVersion(), node: process.version, platform: `${process.platform} ${process.arch}`, cpu };
}

function printDevices(context: CommandContext, machine: Machine, report: InspectReport): void {
  const { version, node, platform, cpu } = machine;
  context.print(`macl ${version}, Node ${node}, ${platform}, ${cpu.model}, ${counted(cpu.cores, 'core')}`);
  for (const { name, available, isas, reason } of report.backends) {
    const mark = name === report.default ? '*' : ' ';
    const sets = isas.length > 0 ? ` (${isas.join(', ')})` : '';
    context.print(`${mark} ${name.padEnd(9)} ${available ? 'available' : 'not available'}${sets}: ${reason}`);
  }
  if (report.default === null) context.print('used: none');
  else {
    const free = report.freeBytes === null ? '' : `, up to ${mib(report.freeBytes)}`;
    context.print(`used: ${report.default}, ${report.isa}, ${counted(report.threads ?? 0, 'thread')}${free}`);
  }
}

function printProgram(context: CommandContext, program: ProgramReport): void {
  context.print(program.text);
  context.print('');
  const work = `${(program.flops / 1e9).toFixed(3)} GFLOP, ${mib(program.bytes)} read and written`;
  context.print(`${program.device} (${program.isa}): ${program.kernels.length} kernels, ${work}`);
  context.print(`fused: ${program.fusions.join(', ') || 'nothing'}; parameters ${program.parameters}`);
  context.print(`state ${mib(program.stateBytes)}, input and results ${mib(program.ioBytes)}`);
  const { scratchBytesRecomputed: less, scratchBytesKept: more } = program;
  context.print(`scratch with recomputation (model.recompute=blocks) ${mib(less)}, without it ${mib(more)}`);
  context.print(`scratch ${mib(program.scratchBytes)}, without reuse ${mib(program.scratchBytesWithoutReuse)}`);
}
