/** macl evaluate: predictions against labels → metrics with intervals. */
import { printJson } from '../context.js';
import { openProgress } from '../progress.js';
import { text, toggle } from '../flags.js';
import { isSet, word, type Command } from './types.js';

export const command: Command = {
  name: 'evaluate',
  describe: 'metrics of predictions, per case and class, with intervals',
  flags: {
    pred: { ...text('pred', 'folder of predictions, or one of them'), demandOption: true },
    labels: { ...text('labels', 'folder of reference labels, or one of them'), demandOption: true },
    against: text('against', 'other predictions of the same cases: adds the paired difference'),
    cases: text('cases', 'only these: FILE.json#KEY, a text file, a comma list, or a fraction'),
    csv: toggle('print a row a case and class'),
    json: toggle('print one JSON document'),
  },
  async run(flags, context) {
    const { evaluateFolders } = await import('../../predict/evaluate-files.js');
    const progress = await openProgress(context);
    try {
      const against = word(flags, 'against');
      const cases = word(flags, 'cases');
      const { document, notes } = await evaluateFolders({
        pred: String(flags['pred']),
        labels: String(flags['labels']),
        ...(against === undefined ? {} : { against }),
        ...(cases === undefined ? {} : { cases }),
        signal: context.signal,
        onProgress: (done, total, id) => progress.onEvent({ kind: 'evaluate', done, total, id }),
      });
      progress.done();
      for (const note of notes) context.say(note);
      if (isSet(flags, 'json')) return printJson(context, document);
      const { evaluationCsv, evaluationTable } = await import('../../segment/evaluate-table.js');
      if (isSet(flags, 'csv')) return context.print(evaluationCsv(document));
      context.print(evaluationTable(document));
    } finally {
      progress.done();
    }
  },
};
