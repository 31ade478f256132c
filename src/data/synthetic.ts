/**
 * Labelled synthetic volumes for `macl quickstart`: a torso-like phantom with nested structures that keep their places
 * from case to case, smooth deformation, anisotropic voxels, noise and a bias field. It stands for no real anatomy, and
 * figures on it say nothing about real data. No files: writing a dataset is `synthetic-dataset.ts`.
 *
 * Classes: 0 background (air, body and an unlabelled organ that looks like the labelled ones), 1 organ, 2 its core,
 * 3 a curved duct on the other side. Intensities overlap, so that place and shape count, not brightness alone.
 */
import { Breather } from '../breathe.js';
import { Draws, PURPOSE } from '../philox.js';
import { type Triple } from '../volume.js';

export interface SyntheticCase {
  /** [D, H, W], W fastest. */
  voxels: Int16Array;
  labels: Uint8Array;
  shape: Triple;
  spacingMm: Triple;
}

/** Names of the labels, by value. */
export const SYNTHETIC_CLASSES = ['background', 'organ', 'core', 'duct'] as const;

/** Mean intensity of each tissue; noise and texture have deviations of about 70 together. */
const INTENSITY = { air: 60, body: 400, organ: 550, core: 350, duct: 590, decoy: 545 } as const;
const NOISE = 55;
const TEXTURE = 40;
/** Deviation of the bias field and of the deformation's displacement (mm, per axis). */
const BIAS = 0.12;
const WARP_MM = 2.4;
/** Half the width of the transition between tissues, in mm (partial volume). */
const EDGE_MM = 0.9;

type Vector = [number, number, number];

/** Where a position in 0 … 1 lies between `knots` knots: the lower one, and the share of the next (smoothstep). */
function knot(position: number, knots: number): { lower: number; share: number } {
  const scaled = position * (knots - 1);
  const lower = Math.min(Math.floor(scaled), knots - 2);
  const t = scaled - lower;
  // The first derivative is continuous over the knots.
  return { lower, share: t * t * (3 - 2 * t) };
}

/**
 * A smooth random field over a volume: normal values on a coarse grid, read voxel by voxel. The axes are resolved one
 * by one (plane, then row, then voxel), as each is shared by many voxels.
 */
class SmoothField {
  private readonly values: Float64Array;
  private readonly plane: Float64Array;
  private readonly row: Float64Array;
  private readonly knots: number;
  private readonly lowerW: Int32Array;
  private readonly shareW: Float64Array;

  constructor(
    draws: Draws,
    knots: number,
    private readonly shape: Triple,
  ) {
    this.knots = knots;
    // Rare large values would tear notches into the body.
    this.values = Float64Array.from({ length: knots ** 3 }, () => Math.min(Math.max(draws.normal(), -2), 2));
    this.plane = new Float64Array(knots ** 2);
    this.row = new Float64Array(knots);
    const places = Array.from({ length: shape[2] }, (_, w) => knot((w + 0.5) / shape[2], knots));
    this.lowerW = Int32Array.from(places, ({ lower }) => lower);
    this.shareW = Float64Array.from(places, ({ share }) => share);
  }

  private static mix(out: Float64Array, from: Float64Array, position: number, knots: number): void {
    const { lower, share } = knot(position, knots);
    const n = out.length;
    for (let i = 0; i < n; i++) out[i] = from[lower * n + i]! * (1 - share) + from[(lower + 1) * n + i]! * share;
  }

  setD(d: number): void {
    SmoothField.mix(this.plane, this.values, (d + 0.5) / this.shape[0], this.knots);
  }

  /** After `setD`. */
  setH(h: number): void {
    SmoothField.mix(this.row, this.plane, (h + 0.5) / this.shape[1], this.knots);
  }

  /** After `setH`. */
  at(w: number): number {
    const lower = this.lowerW[w]!;
    const share = this.shareW[w]!;
    return this.row[lower]! * (1 - share) + this.row[lower + 1]! * share;
  }
}

/** About the signed distance in mm to an ellipsoid, negative inside. */
function ellipsoid(p: Vector, centre: Readonly<Vector>, radii: Readonly<Vector>): number {
  let sum = 0;
  for (let axis = 0; axis < 3; axis++) sum += ((p[axis]! - centre[axis]!) / radii[axis]!) ** 2;
  return (Math.sqrt(sum) - 1) * Math.min(...radii);
}

/** Distance in mm to a tube around an arc that bends in the plane of D and H, negative inside. */
function tube(p: Vector, centre: Readonly<Vector>, arcRadius: number, halfAngle: number, radius: number): number {
  const d = p[0] - centre[0];
  const h = p[1] - centre[1];
  const angle = Math.min(Math.max(Math.atan2(d, h), -halfAngle), halfAngle);
  const away = Math.hypot(d - arcRadius * Math.sin(angle), h - arcRadius * Math.cos(angle), p[2] - centre[2]);
  return away - radius;
}

/** How much of a voxel a shape takes, from its distance. */
function cover(distanceMm: number): number {
  if (distanceMm > 8 * EDGE_MM) return 0;
  if (distanceMm < -8 * EDGE_MM) return 1;
  return 1 / (1 + Math.exp((2 * distanceMm) / EDGE_MM));
}

/** A rotation about the three axes (D, H, W), row-major. */
function rotation(a: number, b: number, c: number): number[] {
  const [ca, sa, cb, sb, cc, sc] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b), Math.cos(c), Math.sin(c)];
  return [
    cb * cc,
    sa * sb * cc - ca * sc,
    ca * sb * cc + sa * sc,
    cb * sc,
    sa * sb * sc + ca * cc,
    ca * sb * sc - sa * cc,
    -sb,
    sa * cb,
    ca * cb,
  ];
}

/** What differs between two people: sizes, tilt, and where inside the body things lie. In mm. */
interface Anatomy {
  body: Vector;
  organ: { centre: Vector; radii: Vector };
  core: { centre: Vector; radii: Vector };
  duct: { centre: Vector; arcRadius: number; halfAngle: number; radius: number };
  decoy: { centre: Vector; radii: Vector };
  turn: number[];
  shift: Vector;
}

function drawAnatomy(draws: Draws): Anatomy {
  const about = (value: number, spread: number): number => value * (1 + draws.range(-spread, spread));
  const near = (centre: Readonly<Vector>, mm: number): Vector =>
    centre.map((value) => value + draws.range(-mm, mm)) as Vector;
  const size = draws.range(0.9, 1.1);
  const radii = (values: Readonly<Vector>, spread: number): Vector =>
    values.map((value) => about(value, spread) * size) as Vector;
  const organ = { centre: near([-3, -5, -12], 2.5), radii: radii([19, 15, 13], 0.15) };
  const core = { centre: near(organ.centre, 1.5), radii: radii([12, 9, 8], 0.15) };
  const duct = {
    centre: near([0, -5, 15], 2.5),
    arcRadius: about(13, 0.15) * size,
    halfAngle: about(1.25, 0.15),
    radius: about(6, 0.15) * size,
  };
  const decoy = { centre: near([-4, 18, 3], 3), radii: radii([10, 7, 9], 0.2) };
  const tilt = (): number => draws.normal() * 0.09;
  return {
    body: radii([48, 31, 34], 0.06),
    organ,
    core,
    duct,
    decoy,
    turn: rotation(tilt(), tilt(), tilt()),
    shift: near([0, 0, 0], 2.5),
  };
}

/** Noise that needs no logarithm: the sum of the four bytes of a word, scaled to deviation 1. */
function byteNoise(word: number): number {
  const sum = (word & 255) + ((word >>> 8) & 255) + ((word >>> 16) & 255) + (word >>> 24);
  return (sum - 510) / 147.8;
}

/** Fills a case row of D by row of D, so that the caller can give the event loop its turns. */
function* makeCase(seed: number | bigint, index: number): Generator<void, SyntheticCase, void> {
  const draws = new Draws(seed, 0, index, PURPOSE.synthetic);
  const noise = new Draws(seed, 1, index, PURPOSE.synthetic);
  const spacingMm: Triple = [[1.8, 2.0, 2.2][draws.int(3)]!, [1.2, 1.3][draws.int(2)]!, [1.2, 1.3][draws.int(2)]!];
  const shape: Triple = [40 + draws.int(5), 44 + draws.int(9), 46 + draws.int(11)];
  const { body, organ, core, duct, decoy, turn, shift } = drawAnatomy(draws);
  const warps = [0, 1, 2].map(() => new SmoothField(draws, 4, shape));
  const texture = new SmoothField(draws, 17, shape);
  const bias = new SmoothField(draws, 3, shape);
  const fields = [...warps, texture, bias];
  const gain = draws.range(0.85, 1.15);

  const voxels = new Int16Array(shape[0] * shape[1] * shape[2]);
  const labels = new Uint8Array(voxels.length);
  const middle: Vector = [0, 0, 0];
  const mm: Vector = [0, 0, 0];
  const p: Vector = [0, 0, 0];
  const place = (n: number, axis: 0 | 1 | 2): void => {
    mm[axis] = (n + 0.5 - shape[axis] / 2) * spacingMm[axis] - shift[axis];
  };
  let at = 0;
  for (let d = 0; d < shape[0]; d++) {
    place(d, 0);
    for (const field of fields) field.setD(d);
    for (let h = 0; h < shape[1]; h++) {
      place(h, 1);
      for (const field of fields) field.setH(h);
      for (let w = 0; w < shape[2]; w++, at++) {
        place(w, 2);
        for (let axis = 0; axis < 3; axis++) {
          const turned = turn[3 * axis]! * mm[0] + turn[3 * axis + 1]! * mm[1] + turn[3 * axis + 2]! * mm[2];
          p[axis] = turned + WARP_MM * warps[axis]!.at(w);
        }
        const toBody = ellipsoid(p, middle, body);
        const toOrgan = ellipsoid(p, organ.centre, organ.radii);
        // The core lies in the organ, whatever the draws say.
        const toCore = Math.max(ellipsoid(p, core.centre, core.radii), toOrgan + 1);
        const toDuct = tube(p, duct.centre, duct.arcRadius, duct.halfAngle, duct.radius);
        const toDecoy = ellipsoid(p, decoy.centre, decoy.radii);
        labels[at] = toCore < 0 ? 2 : toOrgan < 0 ? 1 : toDuct < 0 ? 3 : 0;
        const inside = cover(toBody);
        let value = INTENSITY.air + (INTENSITY.body - INTENSITY.air) * inside;
        value += (INTENSITY.decoy - value) * cover(toDecoy);
        value += (INTENSITY.duct - value) * cover(toDuct);
        value += (INTENSITY.organ - value) * cover(toOrgan);
        value += (INTENSITY.core - value) * cover(toCore);
        value += TEXTURE * inside * texture.at(w);
        value *= gain * (1 + BIAS * bias.at(w));
        value += NOISE * byteNoise(noise.word());
        voxels[at] = Math.max(0, Math.round(value));
      }
    }
    yield;
  }
  return { voxels, labels, shape, spacingMm };
}

/**
 * Case `index` of the phantom population `seed`: the same arguments give the same voxels. About 40 to 56 voxels an
 * axis, 1.2 to 2.2 mm. Takes a few tens of milliseconds at once; `makeSyntheticCase` gives the event loop its turns.
 */
export function syntheticCase(seed: number | bigint, index: number): SyntheticCase {
  const steps = makeCase(seed, index);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** As `syntheticCase`, giving the event loop its turns. Throws MaclError `aborted`. */
export async function makeSyntheticCase(
  seed: number | bigint,
  index: number,
  breath: Breather = new Breather(),
): Promise<SyntheticCase> {
  const steps = makeCase(seed, index);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (breath.due()) await breath.breathe();
  }
}
