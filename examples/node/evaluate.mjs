// @ts-check
// Metrics of predictions: node examples/node/evaluate.mjs PRED LABELS [OTHER_PRED]
// With OTHER_PRED the paired difference with its 95% interval too.
import { evaluate, evaluateVolumes, evaluationTable } from 'macl';

const [pred, labels, against] = process.argv.slice(2);
if (!pred || !labels) throw new Error('expected PRED and LABELS, two folders of label volumes');

// Folders of NIfTI files, matched by name.
const { document, notes } = await evaluate({ pred, labels, ...(against ? { against } : {}) });
for (const note of notes) console.warn(note);
console.log(evaluationTable(document));
console.log(`mean Dice ${document.mean.all?.dice?.toFixed(3)}, 95% ${JSON.stringify(document.ci95.all?.dice)}`);

// Typed arrays: one case of 1 × 4 × 4 voxels with a class 1 that is three voxels against four.
const ref = Uint8Array.of(0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0);
const guess = ref.with(10, 0);
const small = await evaluateVolumes({
  cases: [{ id: 'small', pred: guess, ref, shape: [1, 4, 4], spacingMm: [3, 1, 1] }],
  classes: [{ value: 1, name: 'square' }],
});
console.log(`in memory: Dice ${small.mean['1']?.dice?.toFixed(3)}`);
