/**
 * Which of a NIfTI header's three answers says where the voxels lie: sform, qform or pixdim, and what to do where two of
 * them contradict each other (docs/geometry.md). Numbers only: whoever parses the header gives them.
 */
import { fileError } from '../../errors.js';
import { affineFault, columnLengths, determinant3 } from '../orientation.js';
import { type Triple } from '../../volume.js';

export interface Forms {
  file: string;
  /** Voxels along i, j, k. */
  shape: Triple;
  /** pixdim[1…3] as stored, 1 for an axis that the file does not have. */
  pixdim: Triple;
  sformCode: number;
  /** 4×4, as stored. */
  sform: Float64Array;
  qformCode: number;
  qfac: number;
  /** quatern_b, quatern_c, quatern_d. */
  quaternion: Triple;
  /** qoffset_x, qoffset_y, qoffset_z. */
  offset: Triple;
}

export type AffineSource = 'sform' | 'qform' | 'pixdim';

export interface ChosenAffine {
  affine: Float64Array;
  source: AffineSource;
  warnings: string[];
}

/** A sform's scale may be off pixdim by this much, in millimetres and as a share, before it is doubted. */
const SCALE_MM = 1e-3;
const SCALE_SHARE = 0.01;
/** Directions are orthogonal, and of length 1, within this: headers hold float32. */
const UNIT = 1e-3;

const show = (numbers: readonly number[]): string => `[${numbers.map((n) => Number(n.toPrecision(6))).join(', ')}]`;

/** Why something is no form. */
interface Fault {
  affine?: undefined;
  fault: string;
  field: string;
}
type Form = { affine: Float64Array; fault?: undefined } | Fault;

const isPositive = (mm: number): boolean => mm > 0 && Number.isFinite(mm);

function checked(affine: Float64Array, field: string): Form {
  if (!affine.every(Number.isFinite)) return { fault: 'the affine has values that are not finite', field };
  const fault = affineFault(affine);
  return fault === undefined ? { affine } : { fault, field };
}

function pixdimFault({ pixdim }: Forms): Fault | undefined {
  const bad = pixdim.findIndex((mm) => !isPositive(mm));
  if (bad < 0) return undefined;
  return { fault: `expected a positive spacing, found ${pixdim[bad]}`, field: `pixdim[${bad + 1}]` };
}

function qformOf(forms: Forms): Form {
  const fault = pixdimFault(forms);
  if (fault) return fault;
  const [b, c, d] = forms.quaternion;
  const rest = 1 - (b * b + c * c + d * d);
  // Rounding in float32 may leave the square slightly below zero: a half turn.
  if (!(rest > -1e-5)) return { fault: `[${b}, ${c}, ${d}] is no rotation`, field: 'quatern_b, quatern_c, quatern_d' };
  const length = rest < 0 ? Math.sqrt(b * b + c * c + d * d) : 1;
  const [x, y, z] = [b / length, c / length, d / length];
  const a = Math.sqrt(Math.max(0, rest));
  // The standard: pixdim[0] below 0 means that the third axis runs the other way; anything else counts as 1.
  const [si, sj, sk] = [forms.pixdim[0], forms.pixdim[1], forms.pixdim[2] * (forms.qfac < 0 ? -1 : 1)];
  const [ox, oy, oz] = forms.offset;
  // prettier-ignore
  const affine = Float64Array.of(
    (a * a + x * x - y * y - z * z) * si, 2 * (x * y - a * z) * sj, 2 * (x * z + a * y) * sk, ox,
    2 * (x * y + a * z) * si, (a * a + y * y - x * x - z * z) * sj, 2 * (y * z - a * x) * sk, oy,
    2 * (x * z - a * y) * si, 2 * (y * z + a * x) * sj, (a * a + z * z - x * x - y * y) * sk, oz,
    0, 0, 0, 1,
  );
  return checked(affine, 'qform');
}

/** The lengths of the sform's columns contradict pixdim; an axis without a positive pixdim says nothing. */
function scaleIsDoubtful(lengths: Triple, { pixdim }: Forms): boolean {
  return pixdim.some((mm, n) => {
    const off = Math.abs(lengths[n]! - mm);
    return isPositive(mm) && off > SCALE_MM && off > SCALE_SHARE * mm;
  });
}

/** Columns of length 1 at right angles: directions that nobody has scaled. */
function isUnscaled(affine: Float64Array, lengths: Triple): boolean {
  return lengths.every((mm) => Math.abs(mm - 1) < UNIT) && Math.abs(Math.abs(determinant3(affine)) - 1) < UNIT;
}

/** The directions of an affine with other lengths; the first voxel's place stays. */
function rescaled(affine: Float64Array, lengths: Triple, mm: Triple): Float64Array {
  return affine.map((value, n) => (n < 12 && n % 4 < 3 ? (value / lengths[n % 4]!) * mm[n % 4]! : value));
}

/** How many voxels of `a` the farthest corner of the volume is elsewhere in `b`. */
function voxelsApart(a: Float64Array, b: Float64Array, shape: Triple): number {
  const lengths = columnLengths(a);
  let worst = 0;
  for (let corner = 0; corner < 8; corner++) {
    const at = [0, 1, 2].map((axis) => ((corner >> axis) & 1 ? shape[axis]! - 1 : 0));
    const off = [0, 1, 2].map((row) =>
      [0, 1, 2].reduce(
        (sum, n) => sum + (a[4 * row + n]! - b[4 * row + n]!) * at[n]!,
        a[4 * row + 3]! - b[4 * row + 3]!,
      ),
    );
    worst = Math.max(worst, Math.hypot(...off) / Math.min(...lengths));
  }
  return worst;
}

/** Throws MaclError `file` where no form is good and pixdim cannot stand in. */
export function chooseAffine(forms: Forms): ChosenAffine {
  const { file, pixdim, shape } = forms;
  const warnings: string[] = [];
  const sform = forms.sformCode > 0 ? checked(forms.sform, 'sform') : undefined;
  const qform = forms.qformCode > 0 ? qformOf(forms) : undefined;
  const spacing = pixdimFault(forms);
  const taken = (affine: Float64Array, source: AffineSource): ChosenAffine => {
    if (spacing)
      warnings.push(
        `${spacing.field}: ${spacing.fault}; the ${source} is good and was taken: ${show(columnLengths(affine))}`,
      );
    return { affine, source, warnings };
  };
  if (sform?.affine) {
    const { affine } = sform;
    const lengths = columnLengths(affine);
    if (scaleIsDoubtful(lengths, forms)) {
      const words = `the sform's voxels measure ${show(lengths)}, pixdim says ${show(pixdim)}`;
      if (qform?.affine) {
        warnings.push(`${words}: the qform was taken, which has pixdim's`);
        return { affine: qform.affine, source: 'qform', warnings };
      }
      if (isUnscaled(affine, lengths)) {
        const mm = pixdim.map((value, n) => (isPositive(value) ? value : lengths[n]!)) as unknown as Triple;
        warnings.push(`${words}: the sform's directions were taken with pixdim's lengths`);
        return { affine: rescaled(affine, lengths, mm), source: 'sform', warnings };
      }
      warnings.push(`${words}: the sform was taken`);
      return { affine, source: 'sform', warnings };
    }
    if (qform?.fault !== undefined && qform.field !== spacing?.field)
      warnings.push(`${qform.field}: ${qform.fault}; the sform was taken`);
    else if (qform?.affine) {
      const apart = voxelsApart(affine, qform.affine, shape);
      if (apart > 0.5)
        warnings.push(
          `sform (code ${forms.sformCode}) and qform (code ${forms.qformCode}) place its corners up to ` +
            `${Number(apart.toPrecision(3))} voxels apart: the sform was taken`,
        );
    }
    return taken(affine, 'sform');
  }
  if (qform?.affine) {
    if (sform?.fault !== undefined) warnings.push(`${sform.field}: ${sform.fault}; the qform was taken`);
    return taken(qform.affine, 'qform');
  }
  const fault = sform ?? qform ?? spacing;
  if (fault?.fault !== undefined) throw fileError(file, fault.field, fault.fault);
  const [si, sj, sk] = pixdim;
  return { affine: Float64Array.of(si, 0, 0, 0, 0, sj, 0, 0, 0, 0, sk, 0, 0, 0, 0, 1), source: 'pixdim', warnings };
}
