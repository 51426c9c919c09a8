/** Colours of vessels, told apart by people who see fewer of them (Okabe and Ito), the same in table and image. */

import { SET_ASIDE } from '../../../extension-compute/src/calcium/candidates';
import type { DecidedLesion } from '../../../extension-compute/src/calcium/decisions';
import type { Color } from '../../../extension-compute/src/overlay';
import type { Vessel } from '../../../shared/types';

export const VESSEL_COLORS: Readonly<Record<Vessel, Color>> = {
  LM: [240, 228, 66],
  LAD: [86, 180, 233],
  LCx: [230, 159, 0],
  RCA: [0, 200, 140],
  unassigned: [255, 80, 80],
};

/** Of what the AI set aside and nobody has taken in. */
export const ASIDE_COLOR: Color = [170, 170, 190];

/** The colour of a lesion. */
export function lookOf({ counted, vessel, regionClass }: Pick<DecidedLesion, 'counted' | 'vessel' | 'regionClass'>): Color {
  return !counted && regionClass === SET_ASIDE ? ASIDE_COLOR : VESSEL_COLORS[vessel];
}

export function cssColor([red, green, blue]: Color): string {
  return `rgb(${red} ${green} ${blue})`;
}
