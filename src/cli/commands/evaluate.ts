/** macl evaluate: predictions against labels → metrics with intervals. */
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'evaluate',
  describe: 'metrics of predictions, per case and class, with intervals',
  flags: {
    pred: { ...text('pred', 'folder of predictions'), demandOption: true },
    labels: { ...text('labels', 'folder of reference labels'), demandOption: true },
    against: text('against', 'other predictions of the same cases: adds the paired difference'),
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { evaluate } = await import('../../api/evaluate.js');
    const progress = await openProgress(context);
    try {
      const document = await evaluate({
        pred: String(flags['pred']),
        labels: String(flags['labels']),
        against: word(flags, 'against'),
        signal: context.signal,
        onEvent: progress.onEvent,
      });
      progress.done();
      if (isSet(flags, 'json')) return printJson(context, document);
      const { evaluationTable } = await import('../../segment/evaluate-table.js');
      context.print(evaluationTable(document));
    } finally {
      progress.done();
    }
  },
};
