// The counted voxels as runs of flat pixel indices for each image and vessel: how a reader's mask is sent and read back.
import type { MaskOfImage, Vessel } from '../../../shared/types';
import type { LesionRuns } from './lesions';
import { UNASSIGNED, VESSELS } from './scores';

/** Runs of what counts: by slice, then by vessel in the order of `VESSELS`, unassigned last; neighbours are one run. */
export function maskRuns(
  runs: LesionRuns, lesions: readonly { readonly counted: boolean; readonly vessel: Vessel }[], sopInstanceUids: readonly string[],
): MaskOfImage[] {
  const mask: MaskOfImage[] = [];
  for (let k = 0; k + 1 < runs.sliceStart.length; k++) {
    const ofVessel = new Map<Vessel, number[]>();
    for (let n = runs.sliceStart[k]!; n < runs.sliceStart[k + 1]!; n++) {
      const lesion = lesions[runs.lesion[n]!]!;
      if (!lesion.counted) continue;
      let own = ofVessel.get(lesion.vessel);
      if (own === undefined) ofVessel.set(lesion.vessel, (own = []));
      const length = runs.stop[n]! - runs.start[n]!;
      if (own.length > 0 && own[own.length - 2]! + own[own.length - 1]! === runs.start[n]!) own[own.length - 1]! += length;
      else own.push(runs.start[n]!, length);
    }
    for (const vessel of [...VESSELS, UNASSIGNED]) {
      const own = ofVessel.get(vessel);
      if (own !== undefined) mask.push({ sop_instance_uid: sopInstanceUids[k]!, vessel, runs: own });
    }
  }
  return mask;
}

/** Why runs cannot be read. */
export class BadRuns extends Error {
  constructor(readonly code: 'runs_odd' | 'runs_not_whole' | 'runs_order' | 'runs_outside') {
    super(code);
  }
}

/** The pixels of runs, each from 0 to `pixels` - 1; throws `BadRuns` for any that are not ascending, disjoint and inside. */
export function pixelsOf(runs: readonly number[], pixels: number): Uint32Array {
  if (runs.length % 2 !== 0) throw new BadRuns('runs_odd');
  let end = -1;
  let count = 0;
  for (let n = 0; n < runs.length; n += 2) {
    const start = runs[n]!;
    const length = runs[n + 1]!;
    if (!Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 1) throw new BadRuns('runs_not_whole');
    if (start < end) throw new BadRuns('runs_order');
    end = start + length;
    if (end > pixels) throw new BadRuns('runs_outside');
    count += length;
  }
  const found = new Uint32Array(count);
  let at = 0;
  for (let n = 0; n < runs.length; n += 2) {
    for (let p = 0; p < runs[n + 1]!; p++) found[at++] = runs[n]! + p;
  }
  return found;
}
