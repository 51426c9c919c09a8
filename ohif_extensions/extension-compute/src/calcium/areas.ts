// Which voxels a decision was about: so that it holds for every part that its lesion falls into, not only for the one with the anchor.
import type { Vessel } from '../../../shared/types';
import type { Voxel } from './grid';
import type { LesionRuns } from './lesions';

/** What was said of a lesion, and the voxels that it had at that moment. */
export interface Area {
  /** Of the decision that it was. */
  readonly id: string;
  readonly counted: boolean;
  readonly vessel: Vessel;
  readonly reason: string;
  readonly note: string;
  /** Start, length, start, length ... of indices into the whole volume, ascending and apart from each other. */
  readonly runs: readonly number[];
}

type Shape = readonly [number, number, number];

/** The voxels of some lesions, in one pass over the runs of all. */
export function voxelsOf(wanted: ReadonlySet<number>, runs: LesionRuns, shape: Shape): Map<number, number[]> {
  const plane = shape[1] * shape[2];
  const found = new Map<number, number[]>([...wanted].map(n => [n, []]));
  for (let k = 0; k + 1 < runs.sliceStart.length; k++) {
    for (let at = runs.sliceStart[k]!; at < runs.sliceStart[k + 1]!; at++) {
      found.get(runs.lesion[at]!)?.push(k * plane + runs.start[at]!, runs.stop[at]! - runs.start[at]!);
    }
  }
  return found;
}

/** Place of the last run that begins at `index` or before it, -1 for none. */
function runBefore(runs: readonly number[], index: number): number {
  let [low, high] = [0, runs.length / 2];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[2 * middle]! <= index) low = middle + 1;
    else high = middle;
  }
  return 2 * (low - 1);
}

/** Whether `index` and the `length - 1` after it are in one run. */
function holds(runs: readonly number[], index: number, length = 1): boolean {
  const at = runBefore(runs, index);
  return at >= 0 && index + length <= runs[at]! + runs[at + 1]!;
}

/** What was said last of a voxel. */
export function areaAt(areas: readonly Area[], { k, j, i }: Voxel, shape: Shape): Area | null {
  const index = (k * shape[1] + j) * shape[2] + i;
  return areas.findLast(area => holds(area.runs, index)) ?? null;
}

/** The areas with a newer one; an older one that lies within it has nothing left to say. */
export function withArea(areas: readonly Area[], newer: Area): Area[] {
  const within = ({ runs }: Area) => runs.every((start, at) => at % 2 === 1 || holds(newer.runs, start, runs[at + 1]));
  return [...areas.filter(area => !within(area)), newer];
}
