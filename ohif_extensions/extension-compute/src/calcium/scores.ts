// What lesions add up to: Agatston, by spacing, volume, mass, per vessel, and the categories made for 130 HU.
import type { Code, ServerScores, Vessel, VesselScore } from '../../../shared/types';
import type { Grid } from './grid';
import { sliceSpacingMm } from './grid';

/** Where the weights 1, 2, 3 and 4 begin, in HU (Agatston 1990, Methods). */
export const STEPS_HU: readonly [number, number, number, number] = [130, 200, 300, 400];
/** A lesion's least area in a slice (Agatston 1990, Methods). */
export const MIN_AREA_MM2 = 1.0;
/** Contiguous 3 mm slices are what the score was made for (Agatston 1990, Methods). */
export const STANDARD_SPACING_MM = 3.0;
/** The only threshold that has categories, in HU. */
export const STANDARD_HU = 130;

export const VESSELS: readonly Vessel[] = ['LM', 'LAD', 'LCx', 'RCA'];
export const UNASSIGNED: Vessel = 'unassigned';

/** The weights' steps when the first one is moved; the others stay. */
export function stepsFor(thresholdHu: number, steps: readonly number[] = STEPS_HU): readonly number[] {
  return [thresholdHu, ...steps.slice(1)];
}

/** 1 to 4 by a lesion's peak in a slice; 0 below the first step. With a first step T the weight 1 spans T to 199 HU. */
export function densityWeight(peakHu: number, stepsHu: readonly number[]): number {
  if (!(peakHu >= stepsHu[0]!)) return 0;
  return 1 + stepsHu.slice(1).filter(step => peakHu >= step).length;
}

/** The fewest pixels that reach an area; 100 of 0.01 mm2 reach 1 mm2, whatever floats say. */
export function leastPixels(minAreaMm2: number, pixelAreaMm2: number): number {
  return Math.max(1, Math.ceil(minAreaMm2 / pixelAreaMm2 - 1e-6));
}

/**
 * The sum as if it were rounded once, so that it does not depend on the order.
 *
 * Shewchuk JR. Discrete Comput Geom 1997;18:305-363; as Python's math.fsum, which the server uses.
 */
export function exactSum(numbers: Iterable<number>): number {
  const partials: number[] = [];
  for (let x of numbers) {
    let kept = 0;
    for (let y of partials) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y;
      const low = y - (high - x);
      if (low !== 0) partials[kept++] = low;
      x = high;
    }
    partials.length = kept;
    partials.push(x);
  }
  let n = partials.length;
  if (n === 0) return 0;
  let high = partials[--n]!;
  let low = 0;
  while (n > 0) {
    const x = high;
    const y = partials[--n]!;
    high = x + y;
    low = y - (high - x);
    if (low !== 0) break;
  }
  // Half way between two numbers, the rest decides.
  if (n > 0 && ((low < 0 && partials[n - 1]! < 0) || (low > 0 && partials[n - 1]! > 0))) {
    const twice = 2 * low;
    const x = high + twice;
    if (twice === x - high) high = x;
  }
  return high;
}

/** What a score needs to know of a lesion. */
export interface Scored {
  readonly counted: boolean;
  readonly vessel: Vessel;
  readonly volumeMm3: number;
  /** Sum of HU over its voxels. */
  readonly totalHu: number;
  readonly slices: readonly { readonly score: number }[];
}

function vesselScore(lesions: readonly Scored[]): VesselScore {
  return {
    agatston: exactSum(lesions.flatMap(lesion => lesion.slices.map(part => part.score))),
    volume_mm3: exactSum(lesions.map(lesion => lesion.volumeMm3)),
    lesions: lesions.length,
  };
}

/** mg of hydroxyapatite: factor times HU times volume (McCollough 2007 Radiology 243:527, Materials and Methods). */
function massMg(lesions: readonly Scored[], voxelMm3: number, factor: number | null): number | null {
  return factor === null ? null : factor * exactSum(lesions.map(lesion => lesion.totalHu)) * voxelMm3;
}

/**
 * The scores of the counted lesions, named as on the wire.
 *
 * @param massFactor mg per mm3 and HU; null when there is none, then neither is a mass
 * @param categories whether the region is one that categories are made for: a heart, not the whole volume
 */
export function scoresOf(
  lesions: readonly Scored[],
  grid: Pick<Grid, 'affine'>,
  thresholdHu: number,
  massFactor: number | null,
  voxelMm3: number,
  categories = true,
): ServerScores {
  const counted = lesions.filter(lesion => lesion.counted);
  const total = vesselScore(counted);
  const bySpacing = (total.agatston * sliceSpacingMm(grid.affine)) / STANDARD_SPACING_MM;
  const vessels: Partial<Record<Vessel, VesselScore>> = {};
  for (const vessel of [...VESSELS, UNASSIGNED]) {
    const own = counted.filter(lesion => lesion.vessel === vessel);
    if (own.length > 0) vessels[vessel] = vesselScore(own);
  }
  const named = categories && thresholdHu === STANDARD_HU;
  return {
    threshold_hu: thresholdHu,
    agatston: total.agatston,
    agatston_by_spacing: bySpacing,
    volume_mm3: total.volume_mm3,
    mass_mg: massMg(counted, voxelMm3, massFactor),
    lesions: total.lesions,
    cac_drs: named ? cacDrs(bySpacing, vesselsWithCalcium(vessels)) : null,
    rumberger: named ? rumberger(bySpacing) : null,
    vessels,
  };
}

/** How many of the four arteries have calcium; null while a lesion is unassigned. */
export function vesselsWithCalcium(vessels: Partial<Record<Vessel, VesselScore>>): number | null {
  return UNASSIGNED in vessels ? null : VESSELS.filter(vessel => vessel in vessels).length;
}

const PRIVATE = '99RADLOOP';

/**
 * A0 to A3, with the number of vessels where it is known. Between whole numbers the next limit decides.
 *
 * Hecht HS et al. CAC-DRS. J Cardiovasc Comput Tomogr 2018;12:185-191, table 3.
 */
export function cacDrs(score: number, vessels: number | null): Code {
  if (score <= 0) return { value: 'A0', scheme: PRIVATE, meaning: 'A0: score 0' };
  const [grade, span] = score >= 300 ? ['A3', '300 or more'] : score >= 100 ? ['A2', '100 to 299'] : ['A1', '1 to 99'];
  if (vessels === null) return { value: grade, scheme: PRIVATE, meaning: `${grade}: score ${span}` };
  const known = `${grade}/N${vessels}`;
  return { value: known, scheme: PRIVATE, meaning: `${known}: score ${span} in ${vessels} of 4 vessels` };
}

/**
 * 0, 1-10, 11-100, 101-400 or above 400; what exceeds a limit is in the next group.
 *
 * Rumberger JA et al. Mayo Clin Proc 1999;74:243-252, table 4.
 */
export function rumberger(score: number): Code {
  const [value, words] =
    score <= 0 ? ['0', 'no identifiable plaque']
    : score <= 10 ? ['1-10', 'minimal plaque burden']
    : score <= 100 ? ['11-100', 'mild plaque burden']
    : score <= 400 ? ['101-400', 'moderate plaque burden']
    : ['>400', 'extensive plaque burden'];
  return { value, scheme: PRIVATE, meaning: `${value}: ${words}` };
}
