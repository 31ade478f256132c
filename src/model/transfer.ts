/**
 * Weights from an earlier run into a new network: encoder and the decoder blocks that were pre-trained are taken, the
 * rest stays fresh. Says which is which.
 */
import { asFloat64, rawTensor, type RawTensor } from '../data/safetensors.js';
import { MaclError } from '../errors.js';
import { backboneOf } from '../backbones/index.js';
import { methodOf } from '../methods/index.js';
import { MODEL_ROLES, type StateEntry, type StateTable } from '../nn/state.js';
import type { LoadedModel } from './description.js';
import { isIgnoredName, setEntry } from './network-state.js';
import { counted } from '../words.js';

export interface Transfer {
  /** Names that were taken. */
  readonly taken: readonly string[];
  /** Names of the new network that stay fresh. */
  readonly fresh: readonly string[];
  /** Names in the file that the new network has no place for. */
  readonly unused: readonly string[];
  /** The first convolution was summed over its inputs: one channel now, many before. */
  readonly summedInputs: boolean;
}

interface TakenTensors {
  /** As they go into the new network, by name. */
  readonly tensors: ReadonlyMap<string, RawTensor>;
}

const isWeight = (e: StateEntry): boolean => MODEL_ROLES.includes(e.role);

/** Whether that run had trained it: the encoder, what lies between, and decoder blocks 0 (the deepest) … n − 1. */
function wasTrained(name: string, config: LoadedModel['config']): boolean {
  const part = backboneOf(config.model).partOf(name);
  if (part?.part === 'decoder') return part.block < methodOf(config).decoderBlocks(config.model);
  return part?.part === 'encoder' || part?.part === 'skip';
}

/**
 * What of an earlier run fits a network, by name: nothing is copied.
 * @throws MaclError `weights` listing every encoder or decoder tensor that is missing or does not fit
 */
export function planTransfer(table: Pick<StateTable, 'entries'>, from: LoadedModel): Transfer & TakenTensors {
  const tensors = new Map<string, RawTensor>();
  const fresh: string[] = [];
  const wrong: string[] = [];
  let summedInputs = false;
  const { partOf, firstConvolution } = backboneOf(from.config.model);
  for (const entry of table.entries.filter(isWeight)) {
    const { name } = entry;
    let found = from.tensors.get(name);
    if (!found) {
      if (wasTrained(name, from.config)) wrong.push(`${name}: expected [${entry.shape.join(', ')}], found nothing`);
      fresh.push(name);
      continue;
    }
    if (name === `${firstConvolution}.weight` && entry.shape[1] === 1 && (found.shape[1] ?? 1) > 1) {
      found = sumInputs(found, name);
      summedInputs = true;
    }
    if (found.shape.join() === entry.shape.join()) {
      tensors.set(name, found);
    } else if (partOf(name)?.part === 'head') fresh.push(name);
    else wrong.push(`${name}: expected [${entry.shape.join(', ')}], found [${found.shape.join(', ')}]`);
  }
  if (wrong.length > 0)
    throw new MaclError(
      'weights',
      `${from.file}: ${counted(wrong.length, 'tensor')} that ${wrong.length === 1 ? 'does' : 'do'} not fit the model:\n  ${wrong.join('\n  ')}`,
      {
        file: from.file,
        tensors: wrong.map((w) => w.slice(0, w.indexOf(':'))),
      },
    );
  const names = new Set(table.entries.map((e) => e.name));
  const unused = [...from.tensors.keys()].filter((n) => !names.has(n) && !isIgnoredName(n)).sort();
  return { taken: [...tensors.keys()], fresh, unused, summedInputs, tensors };
}

/** Copies what fits into a new network's state. @throws as `planTransfer` */
export function transferWeights(table: StateTable, state: Uint8Array, from: LoadedModel): Transfer {
  const { tensors, ...transfer } = planTransfer(table, from);
  for (const entry of table.entries) {
    const tensor = tensors.get(entry.name);
    if (tensor) setEntry(table, state, entry, tensor);
  }
  return transfer;
}

/** [O, I, …] → [O, 1, …]: what a network does that sees one channel repeated I times. */
function sumInputs(t: RawTensor, name: string): RawTensor {
  const values = asFloat64(t, name);
  const [o = 1, i = 1, ...kernel] = t.shape;
  const taps = kernel.reduce((p, s) => p * s, 1);
  const out = new Float64Array(o * taps);
  for (let a = 0; a < o; a++)
    for (let c = 0; c < i; c++)
      for (let k = 0; k < taps; k++)
        out[a * taps + k] = (out[a * taps + k] as number) + (values[(a * i + c) * taps + k] as number);
  return rawTensor(out, [o, 1, ...kernel]);
}

/** The lines that people see: tensors by module, not one by one. */
export function describeTransfer(t: Transfer, file: string): string[] {
  const modules = (names: readonly string[]) => {
    const counts = new Map<string, number>();
    for (const n of names) {
      const key =
        /^(encoder|decoder)\.([a-z]+\.\d+|centre)|^projector\.(image|pixel)|^pretext|^heads?\b/.exec(n)?.[0] ?? n;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts.size === 0 ? 'none' : [...counts].map(([k, c]) => `${k} (${c})`).join(', ');
  };
  return [
    `taken from ${file}: ${modules(t.taken)}`,
    `fresh: ${modules(t.fresh)}`,
    `not used: ${modules(t.unused)}`,
    ...(t.summedInputs
      ? ['the first convolution was summed over its inputs: one channel now, several in pre-training']
      : []),
  ];
}
