/** The error for a folder in which no layout finds a volume: what is there, and the layouts that would do, by example. */
import { MaclError } from '../../errors.js';
import { DICOM_ADVICE } from './dicom.js';
import { type DatasetFolder } from './folder.js';
import { counted, shownNames } from './names.js';

const LAYOUTS = [
  'expected one of these layouts:',
  "  the Decathlon's:     dataset.json, imagesTr/liver_1.nii.gz, labelsTr/liver_1.nii.gz",
  "  nnU-Net's:           dataset.json, imagesTr/liver_1_0000.nii.gz (a file a channel), labelsTr/liver_1.nii.gz",
  '  a folder a patient:  patient1/ct.nii.gz, patient1/ct_seg.nii.gz (masks by name: seg, mask, label, gt)',
  "or be told: --image-glob '*/ct.nii.gz' --label-glob '*/organ.nii.gz', or --data cases.csv with columns image,label,patient",
].join('\n');

export function nothingFits(folder: DatasetFolder, masks: readonly { path: string }[] = []): MaclError {
  const left = folder.notTaken();
  const dicom = left.filter(({ why }) => why === DICOM_ADVICE);
  const others = left.filter(({ why }) => why !== DICOM_ADVICE);
  const there = [
    ...(masks.length
      ? [`${counted(masks.length, 'mask')} (${shownNames(masks.map(({ path }) => folder.shown(path)))})`]
      : []),
    ...(dicom.length
      ? [`${counted(dicom.length, 'file')} of DICOM (${shownNames(dicom.slice(0, 1).map(({ path }) => path))})`]
      : []),
    ...(others.length
      ? [`${counted(others.length, 'other file')} (${shownNames(others.map(({ path }) => path))})`]
      : []),
  ];
  const found = there.length ? `found ${there.join(', ')}` : 'found none';
  const advice = dicom.length ? `\n${DICOM_ADVICE}` : '';
  const words = `${folder.root}: imagesTr: expected volumes (*.nii, *.nii.gz), ${found}${advice}\n${LAYOUTS}`;
  return new MaclError('dataset', words, { file: folder.root, field: 'imagesTr' });
}
