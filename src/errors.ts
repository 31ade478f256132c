/**
 * Every error that macl throws on purpose. `code` is stable and meant for programs; `message` is meant for people and
 * names what was expected and what was found. The command line exits with `exitCode`.
 */
export type MaclErrorCode =
  | 'usage' // a flag that cannot be read (exit code 2)
  | 'config' // a configuration or combination that cannot be
  | 'file' // a file that is missing, damaged, or not what it says it is
  | 'dataset' // a dataset that does not hold together
  | 'geometry' // a grid, affine or spacing that cannot be
  | 'label' // a label value outside the classes
  | 'weights' // weights that do not fit the model
  | 'memory' // not enough memory, known before it is taken
  | 'device' // a backend that is not there or does not have what is asked
  | 'program' // a program that a backend refuses (a defect of ours)
  | 'state' // a session or run that cannot go on
  | 'locked' // another process holds the run folder
  | 'busy' // as many calls are pending as may be
  | 'nonfinite' // losses or gradients that stay non-finite
  | 'aborted'; // an AbortSignal, or a signal of the operating system

/** Where an error happened, for programs: any of these may be missing. */
export interface MaclErrorDetails {
  file?: string;
  field?: string;
  expected?: unknown;
  found?: unknown;
  /** Bytes that were needed and that were free, for `memory`. */
  neededBytes?: number;
  freeBytes?: number;
  /** Tensor names, for `weights`. */
  tensors?: string[];
}

/** What every copy of this class knows the others by: the package is built twice, as ESM and as CommonJS. */
const BRAND = Symbol.for('macl.MaclError');

export class MaclError extends Error {
  /** `AbortError` where `code` is `aborted`, as everywhere in JavaScript. */
  override readonly name: string;
  readonly code: MaclErrorCode;
  readonly details: MaclErrorDetails;
  constructor(code: MaclErrorCode, message: string, details: MaclErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = code === 'aborted' ? 'AbortError' : 'MaclError';
    this.code = code;
    this.details = details;
  }
  /** True for an error of any copy of the package in this process. */
  static override [Symbol.hasInstance](value: unknown): value is MaclError {
    return typeof value === 'object' && value !== null && BRAND in value;
  }
  /** 2 for wrong flags, 1 for everything else that is wrong. */
  get exitCode(): number {
    return this.code === 'usage' ? 2 : 1;
  }
}

// On the prototype and not declared, so that the types of both builds are one.
Object.defineProperty(MaclError.prototype, BRAND, { value: true });

const amount = (bytes: number): string => `${bytes} bytes (${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 3 : 0)} MiB)`;

/** Memory that is known to be too little before it is taken. `what` needs it. */
export function memoryError(
  what: string,
  neededBytes: number,
  freeBytes: number,
  more: Pick<MaclErrorDetails, 'file' | 'field'> = {},
  cause?: unknown,
): MaclError {
  return new MaclError(
    'memory',
    `${what}: not enough memory: ${amount(neededBytes)} needed, ${amount(freeBytes)} free`,
    { ...more, neededBytes, freeBytes },
    cause === undefined ? undefined : { cause },
  );
}

/** A file that is damaged or not what it says: names the file and the field. */
export function fileError(file: string, field: string, message: string, cause?: unknown): MaclError {
  return new MaclError(
    'file',
    `${file}: ${field}: ${message}`,
    { file, field },
    cause === undefined ? undefined : { cause },
  );
}
