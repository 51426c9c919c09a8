// What a click outside of both classes adds: the bright part around it, unless it is too large to be a plaque.
import { OUTSIDE } from './candidates';
import type { Grid, Values, Voxel } from './grid';
import { limitFor, pixelSpacingMm, sliceSpacingMm, voxelVolumeMm3 } from './grid';

/** Five millilitres: far more than any plaque, far less than a vertebra. */
export const MOST_MM3 = 5000;
/** A plaque lies within a box of this side; bone leaves it. */
export const MOST_EXTENT_MM = 30;

/** Why a click adds nothing. */
export type Refusal =
  /** Not a voxel of this volume. */
  | 'outside_volume'
  /** Below the threshold. */
  | 'below_threshold'
  /** It belongs to a class already: include its lesion instead. */
  | 'in_region'
  /** Longer than `MOST_EXTENT_MM` along rows, columns or slices; most likely bone. */
  | 'too_long'
  /** Within that, but larger than `MOST_MM3`. */
  | 'too_large'
  /** No island in any slice reaches the least area. */
  | 'too_small';

/** Flat (k, j, i) indices in rising order, or why there are none. */
export type Part = { readonly voxels: Float64Array } | { readonly refused: Refusal };

/**
 * The 26-connected part at or above `low` around a voxel, outside of both classes.
 *
 * @param classes null when everything is region
 */
export function partAround(
  values: Values, classes: Uint8Array | null, grid: Pick<Grid, 'affine' | 'shape'>, at: Voxel, low: number,
): Part {
  const [depth, height, width] = grid.shape;
  const inside = at.k >= 0 && at.k < depth && at.j >= 0 && at.j < height && at.i >= 0 && at.i < width;
  if (!inside || ![at.k, at.j, at.i].every(Number.isInteger)) return { refused: 'outside_volume' };
  const plane = height * width;
  const seed = at.k * plane + at.j * width + at.i;
  if (classes === null || classes[seed] !== OUTSIDE) return { refused: 'in_region' };
  const limit = limitFor(values, low);
  if (!(values[seed]! >= limit)) return { refused: 'below_threshold' };
  const [rowMm, columnMm] = pixelSpacingMm(grid.affine);
  const stepMm: readonly number[] = [sliceSpacingMm(grid.affine), rowMm, columnMm];
  const most = MOST_MM3 / voxelVolumeMm3(grid.affine);
  const seen = new Set<number>([seed]);
  const open = [seed];
  const least = [at.k, at.j, at.i];
  const highest = [at.k, at.j, at.i];
  while (open.length > 0) {
    const flat = open.pop()!;
    const k = Math.floor(flat / plane);
    const j = Math.floor((flat - k * plane) / width);
    const i = flat - k * plane - j * width;
    const place = [k, j, i];
    for (let axis = 0; axis < 3; axis++) {
      least[axis] = Math.min(least[axis]!, place[axis]!);
      highest[axis] = Math.max(highest[axis]!, place[axis]!);
      const extent = (highest[axis]! - least[axis]! + 1) * stepMm[axis]!;
      // A single voxel may be longer than the box where slices are far apart.
      if (highest[axis]! > least[axis]! && extent > MOST_EXTENT_MM + 1e-6) return { refused: 'too_long' };
    }
    for (let dk = -1; dk <= 1; dk++) {
      if (k + dk < 0 || k + dk >= depth) continue;
      for (let dj = -1; dj <= 1; dj++) {
        if (j + dj < 0 || j + dj >= height) continue;
        for (let di = -1; di <= 1; di++) {
          if (i + di < 0 || i + di >= width) continue;
          const next = flat + dk * plane + dj * width + di;
          if (seen.has(next) || classes[next] !== OUTSIDE || !(values[next]! >= limit)) continue;
          seen.add(next);
          open.push(next);
        }
      }
    }
  }
  if (seen.size > most + 1e-6) return { refused: 'too_large' };
  return { voxels: Float64Array.from(seen).sort() };
}

/** The voxels of several parts, each once, in rising order. */
export function union(parts: readonly Float64Array[]): Float64Array {
  if (parts.length === 1) return parts[0]!;
  const all = new Set<number>();
  for (const part of parts) for (const voxel of part) all.add(voxel);
  return Float64Array.from(all).sort();
}
