/** From the precision that is asked for to a builder of graphs on a backend that has it. */
import type { BackendInfo } from '../backend/types.js';
import { MaclError } from '../errors.js';
import { GraphBuilder } from '../graph/builder.js';
import { PRECISION_FIELD, type Precision } from '../precision.js';

/** @throws MaclError `device` where the backend does not have it */
export function checkPrecision(precision: Precision, info: Pick<BackendInfo, 'name' | 'isa' | 'precisions'>): void {
  const { name, isa, precisions } = info;
  if (precisions.includes(precision)) return;
  const where = name === 'cpu' || name === 'wasm' ? `${name} with the instruction set ${isa}` : name;
  const words = `expected ${precisions.join(' or ')} on ${where}, found ${precision}, which cpu, wasm and reference have`;
  throw new MaclError('device', `${PRECISION_FIELD}: ${words}`, {
    field: PRECISION_FIELD,
    expected: precisions,
    found: precision,
  });
}

/** @throws MaclError `device` where the backend does not have the precision */
export function builderFor(
  precision: Precision,
  info: Pick<BackendInfo, 'name' | 'isa' | 'precisions' | 'real'>,
): GraphBuilder {
  checkPrecision(precision, info);
  return new GraphBuilder(info.real, precision === 'bf16' ? 'bf16' : info.real);
}
