// @ts-check
// Pre-trains, then fine-tunes with a few labels: node examples/node/train.mjs DATA OUT [STEPS]
// Ctrl-C stops and saves; the same command goes on where it stopped.
import { finetune, MaclError, pretrain } from 'macl';

const [data, out, steps = '200'] = process.argv.slice(2);
if (!data || !out) throw new Error('expected DATA (a dataset in the Decathlon or nnU-Net layout) and OUT');

const controller = new AbortController();
process.once('SIGINT', () => controller.abort());

/** @type {import('macl').OnEvent} */
const onEvent = (event) => {
  if (event.kind === 'step' && (event.step % 10 === 0 || event.step === event.steps))
    console.log(
      `step ${event.step}/${event.steps}  loss ${event.results.loss?.toFixed(4)}  ${event.etaSeconds.toFixed(0)} s left`,
    );
  if (event.kind === 'warning') console.warn(event.message);
};

// What is not given here is planned from the data.
const config = { train: { steps: Number(steps) }, model: { filters: 8 } };
const common = { data, config, resume: true, signal: controller.signal, onEvent };
try {
  const first = await pretrain({ ...common, out: `${out}/pretrain` });
  // A tenth of the labelled cases, drawn with the seed of the configuration.
  const second = await finetune({ ...common, out: `${out}/finetune`, init: first.out, labels: '0.1' });
  console.log(second.model);
} catch (error) {
  if (!(error instanceof MaclError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = error.exitCode;
}
