/** MACL's three losses together: L = λ1·L_g + λ2·L_d + λ3·L_ER (arXiv 2309.11876, the total loss). */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import type { PretrainLossConfig } from '../settings/types.js';
import { densesupcon, l1, resize3d, supcon, wsum } from '../ops/index.js';

/** What both branches produced. */
export interface Projections {
  /** Image level, [B, 1, 1, 1, 128]. */
  readonly globalDominant: Tensor;
  readonly globalAuxiliary: Tensor;
  /** Pixel level, [B, d, h, w, 2^(L−n)·f], on the same grid. */
  readonly denseDominant: Tensor;
  readonly denseAuxiliary: Tensor;
  /** Bottlenecks Y (of the downsampled view) and Ỹ (of the full-size one). */
  readonly bottleneckDominant: Tensor;
  readonly bottleneckAuxiliary: Tensor;
}

export interface MaclLosses {
  readonly total: Tensor;
  readonly global: Tensor;
  readonly dense: Tensor;
  readonly er: Tensor;
  /** Mean off-diagonal cosine of the image-level projections: near 1 for long means collapse. */
  readonly cosine: Tensor;
  /** Mean square of Y: falls to nothing where L_ER is met by shrinking. */
  readonly bottleneckMeanSquare: Tensor;
}

/** The factor that the released code puts before its SupCon loss: τ / τ_base. */
export const CODE_BASE_TEMPERATURE = 0.07;

/** @param pos [B, P] float64, positions in 0…1 */
export function maclLosses(b: GraphBuilder, p: Projections, pos: Tensor, o: PretrainLossConfig): MaclLosses {
  const scale = o.temperatureFactor === 'code' ? o.temperature / CODE_BASE_TEMPERATURE : 1;
  const options = { temperature: o.temperature, threshold: o.threshold, scale };
  const global = b.within('loss.global', () => supcon(b, p.globalDominant, p.globalAuxiliary, pos, options));
  const dense = b.within('loss.dense', () => densesupcon(b, p.denseDominant, p.denseAuxiliary, pos, options));
  const er = b.within('loss.er', () => {
    const [, d, h, w] = p.bottleneckDominant.shape;
    return l1(b, p.bottleneckDominant, resize3d(b, p.bottleneckAuxiliary, [d, h, w]), o.er === 'relative');
  });
  const total = b.within('loss', () =>
    wsum(b, [
      { weight: o.weights.global, value: global.loss },
      { weight: o.weights.dense, value: dense.loss },
      { weight: o.weights.er, value: er.loss },
    ]),
  );
  return {
    total,
    global: global.loss,
    dense: dense.loss,
    er: er.loss,
    cosine: global.cosine,
    bottleneckMeanSquare: er.meansq,
  };
}
