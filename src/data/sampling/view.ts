/**
 * A view: what a method sees of a sample's patch. Methods list the views that they want; the sampler draws each one's warp,
 * the program computes it (`warp3d`). Where two views show the same anatomy is known from their affines alone.
 */
import type { WarpParams } from '../../ops/warp3d.js';
import type { IntensityConfig } from '../../settings/types.js';
import type { Triple } from '../../volume.js';

export const NO_INTENSITY: IntensityConfig = { brightness: 0, contrast: 0, noise: 0 };

export type View =
  | {
      readonly name: string;
      readonly kind: 'image';
      /** Which of the sample's patches it shows. */
      readonly patch: number;
      /** Rotated, scaled, mirrored and shifted as `augment` says; or as it lies. */
      readonly spatial: boolean;
      /** Ranges that its changes of intensity are drawn from. */
      readonly intensity: IntensityConfig;
    }
  /** The view of another name once more: the same voxels (`image`), or the labels at its place (`labels`). */
  | { readonly name: string; readonly kind: 'same' | 'labels'; readonly of: string };

/** What is drawn for one sample. */
export interface Sample {
  /** Index in the sampler's cases, and the first voxel: one a patch. */
  readonly patches: readonly { readonly caseIndex: number; readonly start: Triple }[];
  /** Normalised position of the first patch: 3 numbers, or 1 (`data.position`). */
  readonly position: readonly number[];
  /** By the view's name; a view of kind `same` has none of its own. */
  readonly warps: ReadonlyMap<string, { readonly patch: number; readonly warp: WarpParams }>;
}
