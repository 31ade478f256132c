/** The registry of backbones: `model.backbone` → its object. A new one is a file beside this and a line here. */
import { MaclError } from '../errors.js';
import { didYouMean } from '../suggest.js';
import { nnunetPlain } from './nnunet-plain.js';
import type { Backbone } from './types.js';
import { unet } from './unet.js';

const BACKBONES: readonly Backbone[] = [unet, nnunetPlain];

export const BACKBONE_NAMES: readonly string[] = BACKBONES.map(({ name }) => name);

export function backboneOf({ backbone }: { readonly backbone: string }): Backbone {
  const found = BACKBONES.find(({ name }) => name === backbone);
  if (found) return found;
  const words = `model.backbone: expected ${BACKBONE_NAMES.join(' or ')}, found ${backbone}${didYouMean(backbone, BACKBONE_NAMES)}`;
  throw new MaclError('config', words, { field: 'model.backbone', expected: BACKBONE_NAMES, found: backbone });
}

export type { Backbone, Decoder, Encoded, Encoder, Head, Part } from './types.js';
