/** macl inspect: devices and why they are or are not used; with --program, what a step compiles to. */
import type { InspectSummary, ProgramSummary } from '../../api/types.js';
import type { DeviceName } from '../../backend/types.js';
import { printJson, type CommandContext } from '../context.js';
import { deviceFlags, text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export const command: Command = {
  name: 'inspect',
  describe: 'devices, instruction sets, threads; or a compiled step',
  flags: {
    program: text('program', 'a configuration with data.patch and train.batch: print what its step compiles to'),
    ...deviceFlags,
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { inspect } = await import('../../api/inspect.js');
    const summary = await inspect({
      program: word(flags, 'program'),
      device: word(flags, 'device') as DeviceName | undefined,
      threads: flags['threads'] as number | undefined,
      signal: context.signal,
    });
    if (isSet(flags, 'json')) return printJson(context, summary);
    if (summary.program) printProgram(context, summary.program);
    else printDevices(context, summary);
  },
};

function printDevices(context: CommandContext, summary: InspectSummary): void {
  const { cpu, used } = summary;
  context.print(`macl ${summary.version}, Node ${summary.node}, ${summary.platform}, ${cpu.model}, ${cpu.cores} cores`);
  for (const device of summary.devices) {
    const mark = device.name === summary.default ? '*' : ' ';
    const isas = device.isas.length > 0 ? ` (${device.isas.join(', ')})` : '';
    context.print(
      `${mark} ${device.name.padEnd(9)} ${device.available ? 'available' : 'not available'}${isas}: ${device.reason}`,
    );
  }
  if (used) context.print(`used: ${used.device}, ${used.isa}, ${used.threads} threads, up to ${mib(used.maxBytes)}`);
}

function printProgram(context: CommandContext, program: ProgramSummary): void {
  context.print(program.text);
  context.print('');
  context.print(
    `kernels ${program.kernels.length}, ${(program.flops / 1e9).toFixed(3)} GFLOP, ${mib(program.trafficBytes)} read and written`,
  );
  context.print(`state ${mib(program.stateBytes)}, input and results ${mib(program.ioBytes)}`);
  context.print(`scratch ${mib(program.scratchBytes)}, without reuse ${mib(program.scratchBytesWithoutReuse)}`);
}
