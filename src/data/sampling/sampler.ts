/**
 * What is drawn for a step: which cases, where the patch lies, how the views change. Everything is a pure function of
 * (seed, step), so that a resumed run needs nothing saved. It moves no voxels: `warp3d` does, from these parameters.
 *
 * Cases are taken without replacement within an epoch: the n-th sample of a run takes place n mod C of the epoch's order.
 */
import { MaclError } from '../../errors.js';
import { samplesOf, type IntensityConfig, type ResolvedConfig } from '../../settings/types.js';
import type { WarpParams } from '../../ops/warp3d.js';
import { Draws, PURPOSE } from '../../philox.js';
import type { Sample, View } from './view.js';
import { NO_CHANGE, patchAffine, type SpatialChange } from './affine.js';
import type { Triple } from '../../volume.js';

export interface SamplerCase {
  /** Voxels as they will be read (resampled, slice axis first). */
  readonly shape: Triple;
  readonly spacingMm: Triple;
}

export interface Sampler {
  /** The batch of a step, 0 … steps − 1. */
  draw(step: number): Sample[];
}

/** What a method wants of each sample. */
export interface Wanted {
  /** Patches a sample, each from a case of its own. */
  readonly patches: number;
  /** In the order in which they are drawn. */
  readonly views: readonly View[];
  /** Patches are centred on foreground as often as `data.foreground` says. */
  readonly foreground: boolean;
}

export interface SamplerOptions {
  /** A voxel of a case's foreground from two uniform numbers; null where it has none. */
  readonly foreground?: (caseIndex: number, u: number, v: number) => Triple | null;
  /** What lies outside a volume. Images are normalised, so 0 is their mean. */
  readonly fill?: number;
  /** The class of what lies outside: the background, or 255, which no loss counts. */
  readonly labelFill?: number;
}

type Config = Pick<ResolvedConfig, 'data' | 'train' | 'augment' | 'model'>;

/** Sample number that stands for the order of an epoch, where `step` is the epoch. */
const ORDER = 0xffffffff;
/** Angles are given in degrees. */
const DEGREE = Math.PI / 180;

/** A sample's later patches are drawn with numbers of their own. */
const PATCH_STREAM = 2 ** 20;

export function samplerFor(
  config: Config,
  wanted: Wanted,
  cases: readonly SamplerCase[],
  options: SamplerOptions = {},
): Sampler {
  const draw = new Drawing(config, wanted, cases, options);
  const samples = samplesOf(config.train);
  return { draw: (step) => Array.from({ length: samples }, (_, n) => draw.sample(step, n)) };
}

class Drawing {
  private readonly orders = new Map<number, readonly number[]>();
  private readonly patch: Triple;

  constructor(
    private readonly config: Config,
    private readonly wanted: Wanted,
    private readonly cases: readonly SamplerCase[],
    private readonly options: SamplerOptions,
  ) {
    if (!config.data.patch || cases.length === 0) throw new RangeError('a sampler needs a patch and at least one case');
    this.patch = config.data.patch;
  }

  sample(step: number, n: number): Sample {
    const { data, train, model } = this.config;
    const patches = Array.from({ length: this.wanted.patches }, (_, p) => this.placed(step, n, p));
    const draws = new Draws(train.seed, step, n, PURPOSE.augment);
    const warps = new Map<string, { patch: number; warp: WarpParams }>();
    for (const view of this.wanted.views) {
      if (view.kind !== 'image') {
        if (view.kind === 'same') continue;
        const of = warps.get(view.of);
        if (!of) throw new MaclError('program', `view ${view.name}: there is no view ${view.of} before it`);
        warps.set(view.name, { patch: of.patch, warp: this.labels(of.warp) });
        continue;
      }
      const place = patches[view.patch]!;
      const change = this.change(draws);
      const { spacingMm } = this.cases[place.caseIndex]!;
      const affine = patchAffine(this.patch, place.start, spacingMm, view.spatial ? change : NO_CHANGE);
      warps.set(view.name, { patch: view.patch, warp: { affine, ...this.intensity(draws, view.intensity) } });
    }
    const [first] = patches;
    const { shape } = this.cases[first!.caseIndex]!;
    const position = positionOf(first!.start, this.patch, shape, data.position, model.dims);
    return { patches, position, warps };
  }

  /** Case and first voxel of a patch. */
  private placed(step: number, n: number, patch: number): { caseIndex: number; start: Triple } {
    const { data, train } = this.config;
    const caseIndex = this.caseAt(step, n, patch);
    const item = this.cases[caseIndex]!;
    const places = new Draws(train.seed, step, n + patch * PATCH_STREAM, PURPOSE.sampling);
    const anywhere = this.anywhere(item, places);
    if (!this.wanted.foreground) return { caseIndex, start: anywhere };
    const wanted = places.uniform() < data.foreground;
    const voxel = wanted ? this.options.foreground?.(caseIndex, places.uniform(), places.uniform()) : null;
    return { caseIndex, start: voxel ? this.around(item, voxel) : anywhere };
  }

  /** At a view's place, without any change of intensity. */
  private labels({ affine }: WarpParams): WarpParams {
    return { affine, gain: 1, bias: 0, noiseSd: 0, noiseSeed: [0, 0], fill: this.options.labelFill ?? 0 };
  }

  private caseAt(step: number, n: number, patch: number): number {
    const { seed } = this.config.train;
    const index = (step * samplesOf(this.config.train) + n) * this.wanted.patches + patch;
    const epoch = Math.floor(index / this.cases.length);
    let order = this.orders.get(epoch);
    if (!order) {
      // Two epochs can meet in a batch; what is forgotten is drawn again.
      if (this.orders.size > 4) this.orders.clear();
      order = new Draws(seed, epoch, ORDER, PURPOSE.sampling).shuffled(this.cases.map((_, i) => i));
      this.orders.set(epoch, order);
    }
    return order[index % this.cases.length]!;
  }

  /** First voxel of a patch anywhere within the volume; a volume that is smaller lies in the patch's middle. */
  private anywhere({ shape }: SamplerCase, draws: Draws): Triple {
    const along = (axis: 0 | 1 | 2): number => {
      const u = draws.uniform();
      const room = shape[axis] - this.patch[axis];
      return room > 0 ? Math.floor(u * (room + 1)) : Math.floor(room / 2);
    };
    return [along(0), along(1), along(2)];
  }

  /** The patch centred on a voxel, moved back into the volume where it would reach out. */
  private around({ shape }: SamplerCase, voxel: Triple): Triple {
    const along = (axis: 0 | 1 | 2): number => {
      const room = shape[axis] - this.patch[axis];
      if (room <= 0) return Math.floor(room / 2);
      return Math.min(room, Math.max(0, voxel[axis] - Math.floor(this.patch[axis] / 2)));
    };
    return [along(0), along(1), along(2)];
  }

  /** Always draws as many numbers, so that one option does not change what another one draws. */
  private change(draws: Draws): SpatialChange {
    const { rotation, scale, mirror, translation, probability } = this.config.augment;
    const flat = this.config.model.dims === 2;
    const angle = (axis: 0 | 1 | 2) => draws.range(-rotation[axis], rotation[axis]) * DEGREE;
    const angles: Triple = [angle(0), angle(1), angle(2)];
    const turned = draws.uniform() < probability;
    const factor = Math.exp(draws.range(Math.log(scale[0]), Math.log(scale[1])));
    const scaled = draws.uniform() < probability;
    const flip = (axis: 0 | 1 | 2) => draws.uniform() < 0.5 && mirror[axis];
    const mirrored: [boolean, boolean, boolean] = [flip(0), flip(1), flip(2)];
    const move = (axis: 0 | 1 | 2) => {
      const by = draws.range(-translation, translation) * this.patch[axis];
      return flat && axis === 0 ? 0 : by;
    };
    const shift: Triple = [move(0), move(1), move(2)];
    return { rotation: turned ? angles : [0, 0, 0], scale: scaled ? factor : 1, mirror: mirrored, shift };
  }

  private intensity(draws: Draws, range: IntensityConfig): Omit<WarpParams, 'affine'> {
    const bias = draws.range(-range.brightness, range.brightness);
    const gain = draws.range(1 - range.contrast, 1 + range.contrast);
    const noiseSd = range.noise * draws.uniform();
    return { gain, bias, noiseSd, noiseSeed: [draws.word(), draws.word()], fill: this.options.fill ?? 0 };
  }
}

/** A patch's normalised position: its centre over the volume's size, each axis; or (i + 1) / n of a slice. */
export function positionOf(
  start: Triple,
  patch: Triple,
  shape: Triple,
  kind: 'centre' | 'slice',
  dims: 2 | 3,
): readonly number[] {
  const centre = (axis: 0 | 1 | 2) =>
    patch[axis] >= shape[axis] ? 0.5 : (start[axis] + patch[axis] / 2) / shape[axis];
  if (kind === 'centre') return [centre(0), centre(1), centre(2)];
  return [dims === 2 ? (start[0] + 1) / shape[0] : centre(0)];
}
