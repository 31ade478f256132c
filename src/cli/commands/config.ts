/** macl config: the published schema, or a configuration with everything filled in. */
import { printJson } from '../context.js';
import { choice, text, toggle, usage } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'config',
  describe: 'the JSON schema of configurations; or one with its defaults',
  flags: {
    schema: toggle('print the JSON schema'),
    config: text('config', 'configuration file to check and fill in'),
    preset: choice('preset', 'named values below the configuration', ['default', 'paper-2d', 'code-2d']),
    task: choice('task', 'task, where no file names it', ['pretrain', 'finetune']),
  },
  async run(flags, context) {
    if (isSet(flags, 'schema')) {
      const { configSchema } = await import('../../config/schema.js');
      return printJson(context, configSchema);
    }
    const file = word(flags, 'config');
    const task = word(flags, 'task');
    const preset = word(flags, 'preset');
    if (file === undefined && task === undefined && preset === undefined)
      throw usage('config: give --schema, --config FILE, --task or --preset');
    const { resolveConfig } = await import('../../config/resolve.js');
    const { readConfigFile } = await import('../../model/config-file.js');
    const given = file === undefined ? {} : await readConfigFile(file);
    const base: object = {
      task: task ?? 'pretrain',
      ...(task === 'finetune' && file === undefined ? { model: { classes: 2 } } : {}),
    };
    const input: unknown =
      typeof given === 'object' && given !== null && !Array.isArray(given)
        ? { ...base, ...given, ...(preset ? { preset } : {}) }
        : given;
    const config = resolveConfig(input, { source: file ?? 'flags' });
    const { presetLacks } = await import('../../config/presets.js');
    for (const line of presetLacks(config.preset)) context.say(`preset ${config.preset} still lacks: ${line}`);
    printJson(context, config);
  },
};
