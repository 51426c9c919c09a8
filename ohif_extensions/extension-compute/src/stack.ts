// Images of one series in the order the server puts them: along the normal of row and column, evenly spaced.
import type { Affine, Grid, Point } from './calcium/grid';

/** Where one image lies, from its headers. */
export interface Plane {
  readonly imageId: string;
  readonly sopInstanceUid: string;
  readonly frameUid: string;
  readonly rows: number;
  readonly columns: number;
  /** Direction along a row, then along a column. */
  readonly orientation: readonly number[];
  readonly positionMm: readonly number[];
  /** Between rows, then between columns. */
  readonly spacingMm: readonly number[];
}

export type VolumeCode =
  | 'no_images'
  | 'no_geometry'
  | 'mixed_frames'
  | 'mixed_size'
  | 'mixed_spacing'
  | 'mixed_orientation'
  | 'slice_gap'
  | 'slice_spacing_irregular'
  | 'slices_shifted'
  | 'single_slice'
  | 'not_hounsfield'
  | 'image_failed'
  | 'too_large'
  | 'grid_differs';

/** Why a volume cannot be made; facts are numbers only. */
export class VolumeProblem extends Error {
  constructor(
    readonly code: VolumeCode,
    readonly facts: Readonly<Record<string, number>> = {},
  ) {
    super(code);
    this.name = 'VolumeProblem';
  }
}

// As dicom_services/dicom/stack.py.
const SAME_DIRECTION = 5e-4;
const SAME_PLACE_MM = 1e-2;
const SAME_SPACING = 1e-3;
const STEP_SHARE = 0.01;
const STEP_MM = 0.02;
const PLACE_SHARE = 0.1;
const PLACE_MM = 0.05;

const subtract = (a: readonly number[], b: readonly number[]): Point => [a[0]! - b[0]!, a[1]! - b[1]!, a[2]! - b[2]!];
const dot = (a: readonly number[], b: readonly number[]): number => a[0]! * b[0]! + a[1]! * b[1]! + a[2]! * b[2]!;
const unit = (a: Point): Point => {
  const length = Math.sqrt(dot(a, a));
  return [a[0] / length, a[1] / length, a[2] / length];
};

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The grid of images and their ids by k; of images at one place the first stays. Throws `VolumeProblem`. */
export function stackOf(planes: readonly Plane[]): { readonly grid: Grid; readonly imageIds: readonly string[] } {
  const first = planes[0];
  if (first === undefined) throw new VolumeProblem('no_images');
  for (const one of planes) checkAgainst(one, first);
  const [x, y] = [first.orientation.slice(0, 3), first.orientation.slice(3, 6)];
  const across = unit([
    x[1]! * y[2]! - x[2]! * y[1]!, x[2]! * y[0]! - x[0]! * y[2]!, x[0]! * y[1]! - x[1]! * y[0]!,
  ]);
  const sorted = [...planes].sort((a, b) => dot(a.positionMm, across) - dot(b.positionMm, across));
  const ordered = sorted.filter((one, n) => n === 0 || dot(subtract(one.positionMm, sorted[n - 1]!.positionMm), across) >= SAME_PLACE_MM);
  if (ordered.length < 2) throw new VolumeProblem('single_slice');
  const step = stepOf(ordered, across);
  const base = ordered[0]!;
  const affine: Affine = [0, 1, 2]
    .map(n => [step[n]!, y[n]! * base.spacingMm[0]!, x[n]! * base.spacingMm[1]!, base.positionMm[n]!])
    .concat([[0, 0, 0, 1]]);
  return {
    grid: {
      shape: [ordered.length, base.rows, base.columns], affine, frameUid: base.frameUid,
      sopInstanceUids: ordered.map(one => one.sopInstanceUid),
    },
    imageIds: ordered.map(one => one.imageId),
  };
}

function checkAgainst(one: Plane, first: Plane): void {
  const numbers = [...one.orientation, ...one.positionMm, ...one.spacingMm];
  const sound = one.orientation.length === 6 && one.positionMm.length === 3 && one.spacingMm.length === 2;
  if (!sound || !numbers.every(Number.isFinite) || !one.spacingMm.every(mm => mm > 0)) throw new VolumeProblem('no_geometry');
  if (one.rows !== first.rows || one.columns !== first.columns) throw new VolumeProblem('mixed_size');
  if (one.frameUid !== first.frameUid) throw new VolumeProblem('mixed_frames');
  if (one.orientation.some((value, n) => Math.abs(value - first.orientation[n]!) > SAME_DIRECTION)) throw new VolumeProblem('mixed_orientation');
  if (one.spacingMm.some((mm, n) => Math.abs(mm - first.spacingMm[n]!) > SAME_SPACING * mm)) throw new VolumeProblem('mixed_spacing');
}

/** The way from slice to slice; refuses holes and uneven ones. */
function stepOf(ordered: readonly Plane[], across: Point): Point {
  const steps = ordered.slice(1).map((one, n) => dot(subtract(one.positionMm, ordered[n]!.positionMm), across));
  const usual = median(steps);
  const tolerance = Math.max(STEP_SHARE * usual, STEP_MM);
  const multiples = steps.map(mm => Math.round(mm / usual));
  const missing = multiples.reduce((sum, n) => sum + Math.max(0, n - 1), 0);
  const regular = steps.every((mm, n) => Math.abs(mm - multiples[n]! * usual) <= 2 * tolerance);
  if (missing > 0 && regular) throw new VolumeProblem('slice_gap', { count: missing, spacing_mm: usual });
  const count = ordered.length - 1;
  const whole = subtract(ordered[count]!.positionMm, ordered[0]!.positionMm);
  const step: Point = [whole[0] / count, whole[1] / count, whole[2] / count];
  const mean = dot(step, across);
  const limit = Math.max(PLACE_SHARE * mean, PLACE_MM);
  if (steps.some(mm => Math.abs(mm - mean) > tolerance)) throw new VolumeProblem('slice_spacing_irregular', { spacing_mm: mean });
  for (const [n, one] of ordered.entries()) {
    const stray = subtract(subtract(one.positionMm, ordered[0]!.positionMm), [n * step[0], n * step[1], n * step[2]]);
    const along = dot(stray, across);
    if (Math.abs(along) > limit) throw new VolumeProblem('slice_spacing_irregular', { spacing_mm: mean });
    const aside = Math.sqrt(Math.max(0, dot(stray, stray) - along * along));
    if (aside > limit) throw new VolumeProblem('slices_shifted', { millimetres: aside });
  }
  return step;
}
