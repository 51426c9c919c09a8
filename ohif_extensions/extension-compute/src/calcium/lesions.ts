// Islands that touch from slice to slice, as lesions with their measures; of one region class each.
import type { RegionClass } from './candidates';
import type { Grid, Point, Voxel } from './grid';
import { pixelAreaMm2, toPatientMm, voxelVolumeMm3 } from './grid';
import type { Islands } from './islands';
import { densityWeight, exactSum } from './scores';

/** One island of a lesion. */
export interface IslandOfLesion {
  readonly k: number;
  /** Centre, in pixels from the centre of the first one. */
  readonly row: number;
  readonly column: number;
  readonly areaPx: number;
  readonly areaMm2: number;
  readonly peakHu: number;
  readonly weight: number;
  readonly score: number;
}

export interface Lesion {
  readonly regionClass: RegionClass;
  /** Made of the peak's place: the same lesion at another threshold keeps it. */
  readonly key: string;
  readonly centerMm: Point;
  readonly voxels: number;
  readonly volumeMm3: number;
  readonly peakHu: number;
  /** The highest voxel; of equal ones the lowest slice, there the first in row-major order. */
  readonly peak: Voxel;
  readonly totalHu: number;
  /** Not corrected for slice spacing. */
  readonly score: number;
  readonly slices: readonly IslandOfLesion[];
}

/** Counted or not, runs of all lesions: `lesion` is an index into the list of lesions they came with. */
export interface LesionRuns {
  /** Those of slice k are `sliceStart[k]` .. `sliceStart[k + 1]`, by rising start. */
  readonly sliceStart: Uint32Array;
  readonly start: Uint32Array;
  readonly stop: Uint32Array;
  readonly lesion: Int32Array;
}

/** The lesion of each group of islands, in the order of groups. */
export function lesionsOf(
  islands: Islands, grid: Pick<Grid, 'affine' | 'shape'>, stepsHu: readonly number[], regionClass: RegionClass,
): Lesion[] {
  const members: number[][] = Array.from({ length: islands.groups }, () => []);
  for (let n = 0; n < islands.count; n++) members[islands.group[n]!]!.push(n);
  return members.map(own => lesionOf(islands, own, grid, stepsHu, regionClass));
}

function lesionOf(
  islands: Islands, own: readonly number[], grid: Pick<Grid, 'affine' | 'shape'>, stepsHu: readonly number[], regionClass: RegionClass,
): Lesion {
  const areaOfPixel = pixelAreaMm2(grid.affine);
  const slices = own.map((n): IslandOfLesion => {
    const areaMm2 = islands.areaPx[n]! * areaOfPixel;
    const weight = densityWeight(islands.peak[n]!, stepsHu);
    return {
      k: islands.k[n]!, row: islands.row[n]!, column: islands.column[n]!, areaPx: islands.areaPx[n]!, areaMm2,
      peakHu: islands.peak[n]!, weight, score: areaMm2 * weight,
    };
  });
  let [voxels, k, j, i] = [0, 0, 0, 0];
  let top = own[0]!;
  for (const n of own) {
    const pixels = islands.areaPx[n]!;
    voxels += pixels;
    k += pixels * islands.k[n]!;
    j += pixels * islands.row[n]!;
    i += pixels * islands.column[n]!;
    const higher = islands.peak[n]! - islands.peak[top]!;
    if (higher > 0 || (higher === 0 && islands.k[n] === islands.k[top] && islands.peakAt[n]! < islands.peakAt[top]!)) top = n;
  }
  const width = grid.shape[2];
  const at = islands.peakAt[top]!;
  const peak: Voxel = { k: islands.k[top]!, j: Math.floor(at / width), i: at % width };
  return {
    regionClass,
    key: `${regionClass}:${peak.k}:${peak.j}:${peak.i}`,
    centerMm: toPatientMm(grid.affine, k / voxels, j / voxels, i / voxels),
    voxels,
    volumeMm3: voxels * voxelVolumeMm3(grid.affine),
    peakHu: islands.peak[top]!,
    peak,
    totalHu: exactSum(own.map(n => islands.total[n]!)),
    score: exactSum(slices.map(part => part.score)),
    slices,
  };
}

/** By falling score, then volume, then place (z, y, x): the order in which the server names them. */
export function inOrder(a: Lesion, b: Lesion): number {
  return (
    a.regionClass - b.regionClass ||
    b.score - a.score ||
    b.volumeMm3 - a.volumeMm3 ||
    a.centerMm[2] - b.centerMm[2] ||
    a.centerMm[1] - b.centerMm[1] ||
    a.centerMm[0] - b.centerMm[0]
  );
}

/** Lesions of several classes in one order, and the runs of all of them. */
export function together(
  parts: readonly { readonly islands: Islands; readonly lesions: readonly Lesion[] }[], slices: number,
): { readonly lesions: readonly Lesion[]; readonly runs: LesionRuns } {
  const lesions = parts.flatMap(part => part.lesions).sort(inOrder);
  const place = new Map(lesions.map((lesion, n) => [lesion, n]));
  const count = parts.reduce((sum, part) => sum + part.islands.runs.start.length, 0);
  const sliceStart = new Uint32Array(slices + 1);
  const start = new Uint32Array(count);
  const stop = new Uint32Array(count);
  const lesion = new Int32Array(count);
  const numbers = parts.map(part => {
    const ofGroup = Int32Array.from(part.lesions, each => place.get(each)!);
    return part.islands.group.map(group => ofGroup[group]!);
  });
  let n = 0;
  for (let k = 0; k < slices; k++) {
    const next = parts.map(part => part.islands.runs.sliceStart[k]!);
    const ends = parts.map(part => part.islands.runs.sliceStart[k + 1]!);
    for (;;) {
      let first = -1;
      for (let p = 0; p < parts.length; p++) {
        if (next[p]! >= ends[p]!) continue;
        if (first < 0 || parts[p]!.islands.runs.start[next[p]!]! < parts[first]!.islands.runs.start[next[first]!]!) first = p;
      }
      if (first < 0) break;
      const { runs } = parts[first]!.islands;
      const at = next[first]!++;
      start[n] = runs.start[at]!;
      stop[n] = runs.stop[at]!;
      lesion[n++] = numbers[first]![runs.island[at]!]!;
    }
    sliceStart[k + 1] = n;
  }
  return { lesions, runs: { sliceStart, start, stop, lesion } };
}

/** Index of the lesion that a voxel is in, -1 for none. */
export function lesionAt(runs: LesionRuns, k: number, at: number): number {
  if (k < 0 || k + 1 >= runs.sliceStart.length) return -1;
  let low = runs.sliceStart[k]!;
  let high = runs.sliceStart[k + 1]!;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs.stop[middle]! <= at) low = middle + 1;
    else high = middle;
  }
  return low < runs.sliceStart[k + 1]! && runs.start[low]! <= at ? runs.lesion[low]! : -1;
}
