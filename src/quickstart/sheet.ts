/**
 * The quickstart's picture: three unseen cases (lowest, middle and highest Dice of the pre-trained model), each segmented
 * by all models. Choosing and reading them; drawing is `report/contact-sheet.ts`.
 */
import { join } from 'node:path';
import { readVolume } from '../data/case-io.js';
import type { Volume } from '../volume.js';
import { writeContactSheet, type SheetRow } from '../report/contact-sheet.js';
import type { EvaluationDocument } from '../segment/evaluate.js';
import type { RowName } from './report.js';

/** A case's Dice over its classes; NaN where none is defined. */
function diceOf(document: EvaluationDocument, id: string): number {
  const values = Object.values(document.cases[id] ?? {}).flatMap(({ dice }) => (dice === null ? [] : [dice]));
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Lowest, middle and highest; fewer where there are fewer. */
function examples(ids: readonly string[], document: EvaluationDocument): string[] {
  const sorted = [...ids].sort((a, b) => (diceOf(document, a) || 0) - (diceOf(document, b) || 0));
  return [...new Set([0, Math.floor((sorted.length - 1) / 2), sorted.length - 1])].map((n) => sorted[n]!);
}

export async function writeQuickstartSheet(
  file: string,
  data: string,
  ids: readonly string[],
  folders: Readonly<Record<RowName, string>>,
  documents: Readonly<Record<RowName, EvaluationDocument>>,
  options: { signal?: AbortSignal },
): Promise<void> {
  const read = async (path: string): Promise<Volume> => (await readVolume(path, options)).volume;
  const rows: SheetRow[] = [];
  for (const id of examples(ids, documents['pre-trained'])) {
    const name = `${id}.nii.gz`;
    const image = await read(join(data, 'imagesTs', name));
    const reference = await read(join(data, 'labelsTs', name));
    for (const model of ['scratch', 'scratch+', 'pre-trained'] as const) {
      const prediction = await read(join(folders[model], name));
      rows.push({
        title: `${id}  ${model}  mean Dice ${diceOf(documents[model], id).toFixed(3)}`,
        image: image.voxels,
        shape: image.grid.shape,
        spacingMm: image.grid.spacingMm,
        reference: reference.voxels,
        prediction: prediction.voxels,
      });
    }
  }
  const title = 'Unseen synthetic volumes: lowest, middle and highest Dice of the pre-trained model';
  await writeContactSheet(file, rows, { title, ...options });
}
