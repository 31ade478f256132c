/**
 * `model.safetensors` and what its metadata says: everything that determines the weights' meaning (configuration,
 * normalisation, classes, format), and nothing else: no time, path, host or thread count, so equal runs write equal bytes.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { meaningOf } from '../config/index.js';
import type { ChannelNormalization, FinetuneConfig, Planned, ResolvedConfig } from '../config/types.js';
import { readSafetensorsFile } from '../data/files.js';
import type { RawTensor } from '../data/safetensors.js';
import { fileError, MaclError } from '../errors.js';

const FORMAT = '1';

/** A class of the dataset: the value in label files, and its name. Index 0 is the background. */
export interface ModelClass {
  readonly value: number;
  readonly name: string;
}

export interface ModelDescription<C extends ResolvedConfig = ResolvedConfig> {
  readonly config: Planned<C>;
  /** One rule a channel. */
  readonly normalization: readonly ChannelNormalization[];
  /** Empty for a pre-trained network. */
  readonly classes: readonly ModelClass[];
  readonly channelNames: readonly string[];
}

export interface LoadedModel<C extends ResolvedConfig = ResolvedConfig> extends ModelDescription<C> {
  readonly file: string;
  readonly tensors: ReadonlyMap<string, RawTensor>;
}

export function modelMetadata<C extends ResolvedConfig>(model: ModelDescription<C>): Record<string, string> {
  return {
    format: 'pt',
    'macl.format': FORMAT,
    'macl.task': model.config.task,
    'macl.config': JSON.stringify(meaningOf(model.config)),
    'macl.normalization': JSON.stringify(model.normalization),
    'macl.classes': JSON.stringify(model.classes),
    'macl.channels': JSON.stringify(model.channelNames),
  };
}

/** Parses the metadata of a model or checkpoint. */
export function describeModel(metadata: Readonly<Record<string, string>>, file: string): ModelDescription {
  if (metadata['macl.format'] !== FORMAT)
    throw fileError(
      file,
      'macl.format',
      `expected ${FORMAT}, found ${metadata['macl.format'] ?? 'nothing'}: not a model of this software`,
    );
  const parse = <T>(key: string): T => {
    try {
      return JSON.parse(metadata[key] ?? '') as T;
    } catch (cause) {
      throw fileError(file, key, 'is not JSON', cause);
    }
  };
  const config = parse<Planned>('macl.config');
  return {
    config: { ...config, train: { ...config.train, valEvery: 0, checkpointEvery: 0, threads: null } },
    normalization: parse('macl.normalization'),
    classes: parse('macl.classes'),
    channelNames: parse('macl.channels'),
  };
}

/** @param path a run folder or a model file */
export async function modelFile(path: string): Promise<string> {
  const info = await stat(path).catch(() => null);
  if (!info) throw new MaclError('file', `${path}: no such file or folder`, { file: path });
  if (!info.isDirectory()) return path;
  const file = join(path, 'model.safetensors');
  if (!(await stat(file).catch(() => null)))
    throw new MaclError(
      'file',
      `${path}: has no model.safetensors: the run is not finished (--resume goes on with it)`,
      { file },
    );
  return file;
}

export async function loadModel(path: string): Promise<LoadedModel> {
  const file = await modelFile(path);
  const { tensors, metadata } = await readSafetensorsFile(file);
  return { file, tensors, ...describeModel(metadata, file) };
}

export async function loadSegmentModel(path: string): Promise<LoadedModel<FinetuneConfig>> {
  const model = await loadModel(path);
  if (model.config.task !== 'finetune')
    throw new MaclError(
      'weights',
      `${model.file}: is a pre-trained network without a segmentation head: fine-tune it first`,
      { file: model.file },
    );
  return model as LoadedModel<FinetuneConfig>;
}
