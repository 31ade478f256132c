/**
 * NIfTI-1 and NIfTI-2 headers: checks first, parsing after. nifti-reader-js names the fields; everything it leaves
 * unchecked (sizes, offsets, types, the affine, the extension chain) is checked here before anything is allocated.
 * Bytes only, no files.
 */
import { NIFTI1, NIFTI2 } from 'nifti-reader-js';
import { fileError, MaclError } from '../../errors.js';
import { showValue } from '../../options.js';
import { type ArrayKind, arrayKind, typedArrayKind } from '../../realm.js';
import { type AffineSource, chooseAffine } from './affine.js';
import { type Triple, type VoxelArray } from '../../volume.js';

export type NiftiDatatype =
  'uint8' | 'int8' | 'int16' | 'uint16' | 'int32' | 'uint32' | 'int64' | 'uint64' | 'float32' | 'float64';

const DATATYPES: ReadonlyMap<number, { name: NiftiDatatype; bytes: number }> = new Map([
  [2, { name: 'uint8', bytes: 1 }],
  [4, { name: 'int16', bytes: 2 }],
  [8, { name: 'int32', bytes: 4 }],
  [16, { name: 'float32', bytes: 4 }],
  [64, { name: 'float64', bytes: 8 }],
  [256, { name: 'int8', bytes: 1 }],
  [512, { name: 'uint16', bytes: 2 }],
  [768, { name: 'uint32', bytes: 4 }],
  [1024, { name: 'int64', bytes: 8 }],
  [1280, { name: 'uint64', bytes: 8 }],
]);

/** Types that the standard knows and a segmentation has no use for. */
const OTHER_DATATYPES: ReadonlyMap<number, string> = new Map([
  [1, 'binary'],
  [32, 'complex64'],
  [128, 'RGB24'],
  [1536, 'float128'],
  [1792, 'complex128'],
  [2048, 'complex256'],
  [2304, 'RGBA32'],
]);

export function datatypeCode(datatype: NiftiDatatype): { code: number; bytes: number } {
  for (const [code, { name, bytes }] of DATATYPES) if (name === datatype) return { code, bytes };
  throw new MaclError('config', `unknown voxel type ${String(datatype)}`, { field: 'datatype', found: datatype });
}

const DATATYPE_OF: Readonly<Record<ArrayKind, NiftiDatatype>> = {
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Int8Array: 'int8',
  Int16Array: 'int16',
  Uint16Array: 'uint16',
  Int32Array: 'int32',
  Uint32Array: 'uint32',
  Float32Array: 'float32',
  Float64Array: 'float64',
};

/** Voxels of one array type as NIfTI names it. */
export function datatypeOf(voxels: VoxelArray): NiftiDatatype {
  const kind = arrayKind(voxels);
  if (kind !== undefined) return DATATYPE_OF[kind];
  throw new MaclError('geometry', `voxels: expected a typed array of numbers, found ${showValue(voxels)}`, {
    field: 'voxels',
    expected: Object.keys(DATATYPE_OF),
    found: typedArrayKind(voxels) ?? typeof voxels,
  });
}

export interface NiftiHeader {
  file: string;
  version: 1 | 2;
  littleEndian: boolean;
  /** Voxels along i, j, k, in the file's own order (i is fastest in the file). */
  shape: Triple;
  /** The product of dimensions 4 to 7. */
  channels: number;
  datatype: NiftiDatatype;
  bytesPerVoxel: number;
  /** Stored value × slope + intercept; 1 and 0 where the file asks for no scaling (slope 0 or not finite). */
  slope: number;
  intercept: number;
  /** First byte of the voxels. */
  voxOffset: number;
  /** Bytes of all voxels. */
  voxelBytes: number;
  /** 4×4 row-major, (i, j, k, 1) → RAS millimetres. */
  affine: Float64Array;
  /** `pixdim`: neither form has a code, and nothing says where the volume lies. */
  affineSource: AffineSource;
  /** xyzt_units' code of length; 0: not said, taken for millimetres. */
  lengthUnit: number;
  qformCode: number;
  sformCode: number;
  /** The header's own bytes: 348 or 540. */
  raw: Uint8Array;
  /** Things that were put right while reading. */
  warnings: string[];
}

/** Bytes of the fixed header, and the least voxel offset of a single file. */
export const HEADER_BYTES = { 1: 348, 2: 540 } as const;
export const LEAST_OFFSET = { 1: 352, 2: 544 } as const;

/** The most bytes between header and voxels that are read. */
const MAX_EXTENSION_BYTES = 64 * 1024 * 1024;

/** A header's first four bytes say version and byte order. Throws MaclError `file`. */
function sniffNifti(first: Uint8Array, file: string): { version: 1 | 2; littleEndian: boolean } {
  if (first.length < HEADER_BYTES[1]) {
    throw fileError(file, 'header', `${first.length} bytes, a NIfTI header has at least ${HEADER_BYTES[1]}`);
  }
  const view = new DataView(first.buffer, first.byteOffset, first.length);
  for (const littleEndian of [true, false]) {
    const size = view.getInt32(0, littleEndian);
    if (size === 348) return { version: 1, littleEndian };
    if (size === 540) return { version: 2, littleEndian };
  }
  throw fileError(file, 'sizeof_hdr', `expected 348 or 540, found ${view.getInt32(0, true)}: not a NIfTI file`);
}

function readInt64(view: DataView, at: number, littleEndian: boolean, file: string, field: string): number {
  const value = view.getBigInt64(at, littleEndian);
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER)) {
    throw fileError(file, field, `${value} is beyond 2^53`);
  }
  return Number(value);
}

/** The dimensions that the header itself gives, dim[1] to dim[rank]: a trailing 1 and a missing axis are kept apart. */
export function storedDims({ raw, version, littleEndian, file }: NiftiHeader): number[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const [rank, ...dims] = readDims(view, version, littleEndian, file);
  return dims.slice(0, rank);
}

/** Millimetres in the header's unit of length: metres (1) and micrometres (3) count, anything else is millimetres. */
export function millimetresPerUnit(units: number): number {
  const unit = units & 7;
  return unit === 1 ? 1000 : unit === 3 ? 0.001 : 1;
}

/** dim[0..7], each checked: dim[0] in 1..7, used dimensions positive, the product below 2^53. */
function readDims(view: DataView, version: 1 | 2, littleEndian: boolean, file: string): number[] {
  const dim = (n: number): number =>
    version === 1
      ? view.getInt16(40 + 2 * n, littleEndian)
      : readInt64(view, 16 + 8 * n, littleEndian, file, `dim[${n}]`);
  const rank = dim(0);
  if (rank < 1 || rank > 7) throw fileError(file, 'dim[0]', `expected 1 to 7, found ${rank}`);
  const dims: number[] = [rank];
  for (let n = 1; n <= 7; n++) {
    const size = n <= rank ? dim(n) : 1;
    if (size < 1) throw fileError(file, `dim[${n}]`, `expected at least 1, found ${size}`);
    dims.push(size);
  }
  return dims;
}

/** The rows of the sform, straight from the bytes: nifti-reader-js overwrites them where the qform's code is larger. */
function sformAffine(view: DataView, version: 1 | 2, littleEndian: boolean): Float64Array {
  const out = new Float64Array(16);
  for (let n = 0; n < 12; n++) {
    out[n] = version === 1 ? view.getFloat32(280 + 4 * n, littleEndian) : view.getFloat64(400 + 8 * n, littleEndian);
  }
  out[15] = 1;
  return out;
}

/**
 * Parses the header and checks every field that sizes, places or types depend on. `first` are the file's first bytes
 * (decompressed), at least 540 of them where the version is 2. Throws MaclError `file` with file and field.
 */
export function parseNiftiHeader(first: Uint8Array, file: string): NiftiHeader {
  const { version, littleEndian } = sniffNifti(first, file);
  const size = HEADER_BYTES[version];
  if (first.length < size) throw fileError(file, 'header', `${first.length} bytes, NIfTI-${version} needs ${size}`);
  // A copy of its own, whatever `first` is a view of: a Buffer's slice would share its memory.
  const raw = new Uint8Array(size);
  raw.set(first.subarray(0, size));
  const view = new DataView(raw.buffer);
  const warnings: string[] = [];

  const magicAt = version === 1 ? 344 : 4;
  const magic = String.fromCharCode(...raw.subarray(magicAt, magicAt + 3));
  if (magic === (version === 1 ? 'ni1' : 'ni2')) {
    throw fileError(file, 'magic', `${magic}: voxels in a separate .img file are not read; expected n+${version}`);
  }
  if (magic !== `n+${version}` || raw[magicAt + 3] !== 0) {
    throw fileError(file, 'magic', `expected n+${version}, found ${JSON.stringify(magic)}`);
  }

  const dims = readDims(view, version, littleEndian, file);
  const rank = dims[0]!;
  const shape: Triple = [dims[1]!, dims[2]!, dims[3]!];
  const channels = dims[4]! * dims[5]! * dims[6]! * dims[7]!;

  // The library reads the names; given exactly the header it cannot walk into extensions.
  const parsed = version === 1 ? new NIFTI1() : new NIFTI2();
  parsed.readHeader(raw.buffer);

  const code = parsed.datatypeCode;
  const type = DATATYPES.get(code);
  if (!type) {
    const other = OTHER_DATATYPES.get(code);
    throw fileError(file, 'datatype', other ? `${other} (${code}) is not supported` : `unknown type ${code}`);
  }
  if (parsed.numBitsPerVoxel !== type.bytes * 8) {
    throw fileError(file, 'bitpix', `expected ${type.bytes * 8} for ${type.name}, found ${parsed.numBitsPerVoxel}`);
  }
  const voxelBytes = dims.slice(1).reduce((product, n) => product * n, type.bytes);
  if (!Number.isSafeInteger(voxelBytes)) {
    throw fileError(file, 'dim', `[${dims.slice(1, rank + 1).join(', ')}] × ${type.bytes} bytes is beyond 2^53`);
  }

  let voxOffset =
    version === 1 ? view.getFloat32(108, littleEndian) : readInt64(view, 168, littleEndian, file, 'vox_offset');
  if (voxOffset === 0) {
    voxOffset = LEAST_OFFSET[version];
    warnings.push(`vox_offset is 0, read as ${voxOffset}`);
  }
  if (!Number.isSafeInteger(voxOffset) || voxOffset < LEAST_OFFSET[version]) {
    throw fileError(file, 'vox_offset', `expected a whole number from ${LEAST_OFFSET[version]}, found ${voxOffset}`);
  }
  if (voxOffset - size > MAX_EXTENSION_BYTES) {
    throw fileError(file, 'vox_offset', `${voxOffset}: more than ${MAX_EXTENSION_BYTES} bytes before the voxels`);
  }

  const pixdim = [1, 2, 3].map((n) => (n <= rank ? parsed.pixDims[n]! : 1)) as unknown as Triple;
  const chosen = chooseAffine({
    file,
    shape,
    pixdim,
    sformCode: parsed.sform_code,
    sform: sformAffine(view, version, littleEndian),
    qformCode: parsed.qform_code,
    qfac: parsed.pixDims[0]!,
    quaternion: [parsed.quatern_b, parsed.quatern_c, parsed.quatern_d],
    offset: [parsed.qoffset_x, parsed.qoffset_y, parsed.qoffset_z],
  });
  const { affine, source: affineSource } = chosen;
  warnings.push(...chosen.warnings);
  const factor = millimetresPerUnit(parsed.xyzt_units);
  if (factor !== 1) {
    for (let n = 0; n < 12; n++) affine[n] = affine[n]! * factor;
    warnings.push(`spacing is in ${factor > 1 ? 'metres' : 'micrometres'}, read as millimetres`);
  }

  const scaled = Number.isFinite(parsed.scl_slope) && parsed.scl_slope !== 0;
  const slope = scaled ? parsed.scl_slope : 1;
  const intercept = scaled && Number.isFinite(parsed.scl_inter) ? parsed.scl_inter : 0;
  return {
    file,
    version,
    littleEndian,
    shape,
    channels,
    datatype: type.name,
    bytesPerVoxel: type.bytes,
    slope,
    intercept,
    voxOffset,
    voxelBytes,
    affine,
    affineSource,
    lengthUnit: parsed.xyzt_units & 7,
    qformCode: parsed.qform_code,
    sformCode: parsed.sform_code,
    raw,
    warnings,
  };
}

/**
 * Checks the chain of extensions in the bytes between header and voxels (the four bytes of the extender included).
 * A size that is 0, negative, no multiple of 16, or past the voxels is refused.
 */
export function checkExtensions(header: NiftiHeader, between: Uint8Array): void {
  if (between.length < 4 || between[0] === 0) return;
  const view = new DataView(between.buffer, between.byteOffset, between.length);
  let at = 4;
  for (let n = 0; at < between.length; n++) {
    const left = between.length - at;
    if (left < 8)
      throw fileError(header.file, `extension ${n}`, `${left} bytes are left before the voxels, 8 are needed`);
    const size = view.getInt32(at, header.littleEndian);
    if (size < 16 || size % 16 !== 0) {
      throw fileError(
        header.file,
        `extension ${n}`,
        `expected a size that is a positive multiple of 16, found ${size}`,
      );
    }
    if (size > left)
      throw fileError(header.file, `extension ${n}`, `size ${size}, but ${left} bytes are left before the voxels`);
    at += size;
  }
}
