// A reader's decisions, each anchored at a voxel, and which lesion takes which when the threshold moves: the highest anchor inside
// of it decides. A lesion without an anchor is new, or a part of one that was decided on at a lower threshold: what was said last of
// the voxels around its peak holds for it too, so that what was taken out does not count again in its parts.
import type { CorrectedLesion, LesionTotal, Verdict, Vessel } from '../../../shared/types';
import { type Area, areaAt, voxelsOf } from './areas';
import type { RegionClass } from './candidates';
import { ADDED, REGION, SET_ASIDE } from './candidates';
import type { Grid, Voxel } from './grid';
import { toIndex } from './grid';
import type { Lesion, LesionRuns } from './lesions';
import { lesionAt } from './lesions';
import { UNASSIGNED } from './scores';

/** What was said of the lesion around a voxel, by the analysis or by the reader. */
export interface Decision {
  /** "L1" of the analysis, "S1" of what it set aside, "R1" of the reader's own. */
  readonly id: string;
  readonly trackingUid: string;
  readonly counted: boolean;
  readonly vessel: Vessel;
  readonly verdict: Verdict;
  readonly reason: string;
  readonly note: string;
  /** The lesion's peak when the decision was made. */
  readonly anchor: Voxel;
  /** Its value; of several anchors in one lesion the highest decides. */
  readonly anchorHu: number;
}

/** A lesion with what holds for it now. */
export interface DecidedLesion extends Lesion {
  readonly id: string;
  readonly counted: boolean;
  readonly vessel: Vessel;
  /** Its own, or as a part of what was decided on before. Null where nobody has decided: then its class does. */
  readonly decision: Decision | null;
}

const PREFIX: Readonly<Record<RegionClass, string>> = { [REGION]: 'L', [SET_ASIDE]: 'S', [ADDED]: 'R' };

/** Whether a lesion counts as long as nobody says otherwise. */
export function countedByDefault(regionClass: RegionClass): boolean {
  return regionClass !== SET_ASIDE;
}

function before(a: Decision, b: Decision): boolean {
  if (a.anchorHu !== b.anchorHu) return a.anchorHu > b.anchorHu;
  if (a.anchor.k !== b.anchor.k) return a.anchor.k < b.anchor.k;
  return a.anchor.j !== b.anchor.j ? a.anchor.j < b.anchor.j : a.anchor.i < b.anchor.i;
}

/** The decision of each lesion: that of the highest anchor inside of it. A decision without a lesion is not lost, only unused. */
export function decisionsByLesion(
  decisions: readonly Decision[], runs: LesionRuns, shape: readonly [number, number, number],
): Map<number, Decision> {
  const chosen = new Map<number, Decision>();
  for (const decision of decisions) {
    const { k, j, i } = decision.anchor;
    const n = lesionAt(runs, k, j * shape[2] + i);
    const other = chosen.get(n);
    if (n >= 0 && (other === undefined || before(decision, other))) chosen.set(n, decision);
  }
  return chosen;
}

/** The voxels of each lesion that has a decision, with what it says. */
export function areasOf(decisions: readonly Decision[], runs: LesionRuns, shape: readonly [number, number, number]): Area[] {
  const chosen = decisionsByLesion(decisions, runs, shape);
  const voxels = voxelsOf(new Set(chosen.keys()), runs, shape);
  return [...chosen].map(([n, decision]) => areaOf(decision, voxels.get(n)!));
}

export function areaOf({ id, counted, vessel, reason, note }: Decision, runs: readonly number[]): Area {
  return { id, counted, vessel, reason, note, runs };
}

/**
 * Lesions with their ids, in the order given; who has no decision of its own gets the next free number of its class.
 *
 * @param areas what was said so far, newest last
 */
export function decide(
  lesions: readonly Lesion[], runs: LesionRuns, decisions: readonly Decision[], shape: readonly [number, number, number],
  areas: readonly Area[] = [],
): DecidedLesion[] {
  const chosen = decisionsByLesion(decisions, runs, shape);
  const highest: Record<string, number> = {};
  for (const { id } of decisions) {
    const prefix = id.charAt(0);
    highest[prefix] = Math.max(highest[prefix] ?? 0, Number.parseInt(id.slice(1), 10) || 0);
  }
  return lesions.map((lesion, n) => {
    const decision = chosen.get(n) ?? null;
    if (decision !== null) return { ...lesion, id: decision.id, counted: decision.counted, vessel: decision.vessel, decision };
    const prefix = PREFIX[lesion.regionClass];
    highest[prefix] = (highest[prefix] ?? 0) + 1;
    const id = `${prefix}${highest[prefix]}`;
    const area = areaAt(areas, lesion.peak, shape);
    if (area === null) return { ...lesion, id, counted: countedByDefault(lesion.regionClass), vessel: UNASSIGNED, decision: null };
    const { counted, vessel } = area;
    return { ...lesion, id, counted, vessel, decision: asPart(lesion, id, area) };
  });
}

/** What holds for a part, as if it had been said of it. */
function asPart({ peak, peakHu }: Lesion, id: string, { counted, vessel, reason, note }: Area): Decision {
  const verdict = counted ? 'modify' : 'reject';
  return { id, trackingUid: '', counted, vessel, verdict, reason, note, anchor: peak, anchorHu: peakHu };
}

/** The next free id for a lesion that the reader adds. */
export function nextAddedId(decisions: readonly Decision[]): string {
  const numbers = decisions.filter(one => one.id.startsWith('R')).map(one => Number.parseInt(one.id.slice(1), 10) || 0);
  return `R${Math.max(0, ...numbers) + 1}`;
}

const VESSEL_CODES: Readonly<Record<string, Vessel>> = {
  // PS3.16 CID 3015.
  '3227004': 'LM', '59438005': 'LAD', '57396003': 'LCx', '13647002': 'RCA',
};

/** How far two centres may be apart, in voxels, to be one lesion's. */
const SAME_PLACE = 0.05;

/**
 * What the analysis decided, anchored in what was found here with the same threshold.
 *
 * @returns decisions, and ids of lesions of the document that were not found at their place, with their volume
 */
export function fromFindings(
  totals: readonly LesionTotal[], lesions: readonly Lesion[], grid: Pick<Grid, 'affine'>,
): { readonly decisions: Decision[]; readonly missing: string[] } {
  const decisions: Decision[] = [];
  const missing: string[] = [];
  const places = lesions.map(lesion => toIndex(grid.affine, lesion.centerMm));
  for (const total of totals) {
    const place = toIndex(grid.affine, total.center_mm);
    const n = lesions.findIndex(
      (lesion, at) =>
        (lesion.regionClass === SET_ASIDE) === (total.counted === false) &&
        Math.abs(lesion.volumeMm3 - total.volume_mm3) <= 1e-6 * Math.max(1, total.volume_mm3) &&
        places[at]!.every((value, axis) => Math.abs(value - place[axis]!) <= SAME_PLACE),
    );
    const lesion = lesions[n];
    if (lesion === undefined) missing.push(total.id);
    else
      decisions.push({
        id: total.id, trackingUid: total.tracking_uid, counted: total.counted !== false,
        vessel: VESSEL_CODES[total.vessel.value] ?? UNASSIGNED, verdict: 'accept', reason: '', note: '',
        anchor: lesion.peak, anchorHu: lesion.peakHu,
      });
  }
  return { decisions, missing };
}

/** A decision as it is sent. */
export function toWire(decision: Decision, sopInstanceUids: readonly string[]): CorrectedLesion {
  return {
    id: decision.id, tracking_uid: decision.trackingUid, verdict: decision.verdict, counted: decision.counted,
    vessel: decision.vessel, reason: decision.reason, note: decision.note,
    anchor: { sop_instance_uid: sopInstanceUids[decision.anchor.k]!, row: decision.anchor.j, column: decision.anchor.i },
  };
}

/**
 * A decision as it was sent once; null when its image is not of this volume.
 *
 * @param valueAt the volume's value at a voxel
 */
export function fromWire(
  sent: CorrectedLesion, grid: Pick<Grid, 'sopInstanceUids' | 'shape'>, valueAt: (voxel: Voxel) => number,
): Decision | null {
  const k = grid.sopInstanceUids.indexOf(sent.anchor.sop_instance_uid);
  const { row: j, column: i } = sent.anchor;
  if (k < 0 || j < 0 || i < 0 || j >= grid.shape[1] || i >= grid.shape[2]) return null;
  const anchor = { k, j, i };
  return {
    id: sent.id, trackingUid: sent.tracking_uid, counted: sent.counted, vessel: sent.vessel, verdict: sent.verdict,
    reason: sent.reason, note: sent.note, anchor, anchorHu: valueAt(anchor),
  };
}
