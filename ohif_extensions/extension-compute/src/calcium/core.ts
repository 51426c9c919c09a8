// The calcium of one volume at any threshold: the same code in the worker and, where there is none, in the page.
import type { Candidates, Listed, RegionClass } from './candidates';
import { ADDED, HIGHEST_HU, LOWEST_HU, REGION, SET_ASIDE, collect, listed } from './candidates';
import type { Refusal } from './added';
import { partAround, union } from './added';
import type { Grid, Values, Voxel } from './grid';
import { pixelAreaMm2 } from './grid';
import type { Islands } from './islands';
import { findIslands } from './islands';
import type { Lesion, LesionRuns } from './lesions';
import { lesionsOf, together } from './lesions';
import { MIN_AREA_MM2, STEPS_HU, leastPixels, stepsFor } from './scores';

/** A CT in HU with what the analysis said of its voxels; `classes` null when everything is region. */
export interface ClassedVolume {
  readonly values: Values;
  readonly classes: Uint8Array | null;
  readonly grid: Grid;
}

/** How lesions are told from noise; from the findings' `scoring`, or the standard. */
export interface Rule {
  readonly minAreaMm2: number;
  readonly stepsHu: readonly number[];
}

export const STANDARD_RULE: Rule = { minAreaMm2: MIN_AREA_MM2, stepsHu: STEPS_HU };

export interface CalciumRequest {
  readonly thresholdHu: number;
  /** Peaks of lesions that the reader added outside of both classes. */
  readonly added: readonly Voxel[];
  /** Answered first, so that the picture follows the slider; none when undefined. */
  readonly currentSlice?: number;
}

/** Kept islands of one slice, before it is known which lesions they belong to. */
export interface SliceMask {
  readonly k: number;
  readonly thresholdHu: number;
  readonly start: Uint32Array;
  readonly stop: Uint32Array;
  readonly regionClass: Uint8Array;
}

export interface CalciumResult {
  readonly thresholdHu: number;
  /** Of all classes, in the server's order. */
  readonly lesions: readonly Lesion[];
  readonly runs: LesionRuns;
  /** Added lesions that cannot be had at this threshold, by their place in `added`. */
  readonly refused: readonly { readonly index: number; readonly why: Refusal }[];
  readonly millis: number;
}

/** A lesion that a click would add: its highest voxel, or why there is none. */
export type AddedLesion = { readonly peak: Voxel; readonly peakHu: number } | { readonly refused: Refusal };

/** Below the lowest threshold no voxel is listed, so an answer there would be wrong. */
function requireListed(thresholdHu: number): void {
  if (!(thresholdHu >= LOWEST_HU && thresholdHu <= HIGHEST_HU)) throw new RangeError('threshold');
}

function plainListing(volume: ClassedVolume): Listed {
  return collect(volume.values, volume.classes, volume.grid.shape, LOWEST_HU);
}

export class CalciumCore {
  private readonly region: Candidates;
  private readonly setAside: Candidates;
  private readonly leastPx: number;
  /** Milliseconds that listing the candidates took. */
  readonly listingMillis: number;

  constructor(
    private readonly volume: ClassedVolume,
    private readonly rule: Rule = STANDARD_RULE,
    list: (volume: ClassedVolume) => Listed = plainListing,
  ) {
    const started = performance.now();
    const { region, setAside } = list(volume);
    this.region = region;
    this.setAside = setAside;
    this.leastPx = leastPixels(rule.minAreaMm2, pixelAreaMm2(volume.grid.affine));
    this.listingMillis = performance.now() - started;
  }

  /** Voxels that are listed, of both classes. */
  get listed(): number {
    return this.region.at.length + this.setAside.at.length;
  }

  /** What counts and what is set aside in one slice. */
  slice(k: number, thresholdHu: number): SliceMask {
    requireListed(thresholdHu);
    const [, height, width] = this.volume.grid.shape;
    const parts = [this.region, this.setAside].map(all => {
      const own = { starts: all.starts.subarray(k, k + 2), at: all.at, values: all.values };
      return findIslands(own, [1, height, width], thresholdHu, this.leastPx).runs;
    });
    const [region, setAside] = [parts[0]!, parts[1]!];
    const count = region.start.length;
    const start = new Uint32Array(count + setAside.start.length);
    const stop = new Uint32Array(start.length);
    const regionClass = new Uint8Array(start.length).fill(REGION, 0, count).fill(SET_ASIDE, count);
    start.set(region.start);
    start.set(setAside.start, count);
    stop.set(region.stop);
    stop.set(setAside.stop, count);
    return { k, thresholdHu, start, stop, regionClass };
  }

  /** All lesions; throws `Superseded` as soon as `stale` says so. */
  compute(request: CalciumRequest, stale: () => boolean = () => false): CalciumResult {
    requireListed(request.thresholdHu);
    const started = performance.now();
    const { grid } = this.volume;
    const steps = stepsFor(request.thresholdHu, this.rule.stepsHu);
    const find = (candidates: Candidates): Islands => findIslands(candidates, grid.shape, request.thresholdHu, this.leastPx, stale);
    const { candidates, refused } = this.addedAt(request.added, request.thresholdHu);
    const classed: [Candidates, RegionClass][] = [[this.region, REGION], [this.setAside, SET_ASIDE]];
    if (candidates !== null) classed.push([candidates, ADDED]);
    const found = classed.map(([own, regionClass]) => {
      const islands = find(own);
      return { islands, lesions: lesionsOf(islands, grid, steps, regionClass) };
    });
    const all = together(found, grid.shape[0]);
    return { thresholdHu: request.thresholdHu, ...all, refused, millis: performance.now() - started };
  }

  private addedAt(
    added: readonly Voxel[], thresholdHu: number,
  ): { candidates: Candidates | null; refused: { index: number; why: Refusal }[] } {
    const { values, classes, grid } = this.volume;
    const refused: { index: number; why: Refusal }[] = [];
    const parts: Float64Array[] = [];
    added.forEach((voxel, index) => {
      const part = partAround(values, classes, grid, voxel, thresholdHu);
      if ('refused' in part) refused.push({ index, why: part.refused });
      else parts.push(part.voxels);
    });
    return { candidates: parts.length > 0 ? listed(values, union(parts), grid.shape) : null, refused };
  }

  /** What a click on a voxel would add. */
  add(voxel: Voxel, thresholdHu: number): AddedLesion {
    requireListed(thresholdHu);
    const { candidates, refused } = this.addedAt([voxel], thresholdHu);
    if (candidates === null) return { refused: refused[0]!.why };
    const { grid } = this.volume;
    const islands = findIslands(candidates, grid.shape, thresholdHu, this.leastPx);
    const steps = stepsFor(thresholdHu, this.rule.stepsHu);
    const lesions = lesionsOf(islands, grid, steps, ADDED);
    if (lesions.length === 0) return { refused: 'too_small' };
    // The part may fall into several lesions where small islands are left out: the anchor is the highest of all.
    const best = lesions.reduce((a, b) => (b.peakHu > a.peakHu ? b : a));
    return { peak: best.peak, peakHu: best.peakHu };
  }

  /** Values in HU; NaN outside of the volume. */
  valuesAt(voxels: readonly Voxel[]): number[] {
    const [depth, height, width] = this.volume.grid.shape;
    return voxels.map(({ k, j, i }) =>
      k >= 0 && k < depth && j >= 0 && j < height && i >= 0 && i < width
        ? this.volume.values[(k * height + j) * width + i]!
        : Number.NaN,
    );
  }
}
