/** The order of lesions in a table. */

import type { DecidedLesion } from '../../../extension-compute/src/calcium/decisions';

export type SortBy = 'id' | 'slice' | 'area' | 'peak' | 'score' | 'vessel' | 'counted';

const VESSELS = ['LM', 'LAD', 'LCx', 'RCA', 'unassigned'];

const KEYS: Readonly<Record<SortBy, (lesion: DecidedLesion) => number>> = {
  id: (lesion) => lesion.id.charCodeAt(0) * 1e6 + (Number.parseInt(lesion.id.slice(1), 10) || 0),
  slice: (lesion) => lesion.peak.k,
  area: (lesion) => lesion.slices.reduce((sum, part) => sum + part.areaMm2, 0),
  peak: (lesion) => lesion.peakHu,
  score: (lesion) => lesion.score,
  vessel: (lesion) => VESSELS.indexOf(lesion.vessel),
  counted: (lesion) => (lesion.counted ? 0 : 1),
};

/** Lesions by one column; equal ones by id, so that rows do not jump about. */
export function sortLesions(lesions: readonly DecidedLesion[], by: SortBy, down: boolean): DecidedLesion[] {
  const key = KEYS[by];
  return [...lesions].sort((a, b) => (down ? key(b) - key(a) : key(a) - key(b)) || KEYS.id(a) - KEYS.id(b));
}
