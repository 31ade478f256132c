/** DICOM among a dataset's files: not read yet, so it is recognised and its converter named. Node only. */
import { withFile } from '../files.js';
import { type DatasetFolder } from './folder.js';

/** Files without a telling name that are looked into; a series has hundreds that are alike. */
const LOOKED_INTO = 32;

export const DICOM_NAME = /(\.(dcm|ima)|(^|\/)DICOMDIR)$/i;

/** What to do with it, in one line. */
export const DICOM_ADVICE = 'DICOM: convert it first, for example with dcm2niix -z y -o NIFTI_FOLDER DICOM_FOLDER';

/** "DICM" after 128 bytes. */
async function isDicom(file: string): Promise<boolean> {
  return withFile(file, async (handle, bytes) => {
    if (bytes < 132) return false;
    const { buffer } = await handle.read(new Uint8Array(4), 0, 4, 128);
    return new TextDecoder('latin1').decode(buffer) === 'DICM';
  });
}

/** Leaves out what is DICOM by name, and files without an ending that begin as DICOM does. @returns how many. */
export async function leaveOutDicom(
  folder: DatasetFolder,
  files: readonly { path: string; name: string }[],
): Promise<number> {
  const nameless = files.filter(({ name }) => !DICOM_NAME.test(name));
  let found = files.filter(({ name }) => DICOM_NAME.test(name));
  for (const { path } of nameless.slice(0, LOOKED_INTO)) {
    // A file that cannot be read is no volume that is missed here: its reader will name it.
    if (!(await isDicom(path).catch(() => false))) continue;
    found = [...found, ...nameless];
    break;
  }
  for (const { path } of found) folder.leaveOut(DICOM_ADVICE, path);
  return found.length;
}
