// What a viewport shows of a volume, as a plane of voxels with the labels of lesions in it; without any drawing.
import type { Grid, Point, Voxel } from './calcium/grid';
import { toIndex, toPatientMm } from './calcium/grid';
import type { LesionRuns } from './calcium/lesions';

/** Which index is the same all over the plane: 0 a slice, 1 a plane along the rows (coronal in an axial scan), 2 along the columns. */
export type Axis = 0 | 1 | 2;

export interface Section {
  readonly axis: Axis;
  readonly index: number;
}

/** The indices that run down and across a section: (j, i), (k, i) or (k, j). */
export function axesOf(axis: Axis): readonly [Axis, Axis] {
  return axis === 0 ? [1, 2] : axis === 1 ? [0, 2] : [0, 1];
}

const cross = (a: Point, b: Point): Point => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a: Point, b: Point): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** How far the view may turn from the plane of voxels (0.8 degrees). */
const PARALLEL = 0.9999;

/** The axis across which a viewer looks; null when it looks obliquely. */
export function axisAcross(affine: Grid['affine'], viewNormal: Point): Axis | null {
  const columns = ([0, 1, 2] as const).map((n): Point => [affine[0]![n]!, affine[1]![n]!, affine[2]![n]!]);
  const length = Math.sqrt(dot(viewNormal, viewNormal));
  for (const axis of [0, 1, 2] as const) {
    const [down, right] = axesOf(axis);
    const normal = cross(columns[down]!, columns[right]!);
    if (Math.abs(dot(normal, viewNormal)) >= PARALLEL * length * Math.sqrt(dot(normal, normal))) return axis;
  }
  return null;
}

/** The plane of voxels that a point lies in; null outside of the volume. */
export function sectionThrough(grid: Pick<Grid, 'affine' | 'shape'>, axis: Axis, point: Point): Section | null {
  const index = Math.round(toIndex(grid.affine, point)[axis]);
  return index >= 0 && index < grid.shape[axis] ? { axis, index } : null;
}

/** Fractional place in the volume of (down, across) in a section. */
export function placeIn(section: Section, down: number, across: number): Point {
  const { axis, index } = section;
  return axis === 0 ? [index, down, across] : axis === 1 ? [down, index, across] : [down, across, index];
}

/** Labels of a part of a section: lesion index + 1, 0 for none, row by row. */
export interface LabelPatch {
  /** First row and column of the part. */
  readonly top: number;
  readonly left: number;
  readonly rows: number;
  readonly columns: number;
  readonly labels: Int32Array;
}

/** Stretches of one row of a section that belong to a lesion. */
type Each = (row: number, from: number, to: number, lesion: number) => void;

function eachStretch(runs: LesionRuns, shape: Grid['shape'], section: Section, each: Each): void {
  const [depth, , width] = shape;
  const slices = section.axis === 0 ? [section.index, section.index + 1] : [0, depth];
  for (let k = slices[0]!; k < slices[1]!; k++) {
    for (let n = runs.sliceStart[k]!; n < runs.sliceStart[k + 1]!; n++) {
      const start = runs.start[n]!;
      const j = Math.floor(start / width);
      const from = start - j * width;
      const to = runs.stop[n]! - j * width;
      const lesion = runs.lesion[n]!;
      if (section.axis === 0) each(j, from, to, lesion);
      else if (section.axis === 1) {
        if (j === section.index) each(k, from, to, lesion);
      } else if (from <= section.index && section.index < to) each(k, j, j + 1, lesion);
    }
  }
}

/** The smallest part of a section that holds all its lesions; null when there are none. */
export function labelPatch(runs: LesionRuns, shape: Grid['shape'], section: Section): LabelPatch | null {
  let [top, left, bottom, right] = [Infinity, Infinity, -1, -1];
  eachStretch(runs, shape, section, (row, from, to) => {
    top = Math.min(top, row);
    left = Math.min(left, from);
    bottom = Math.max(bottom, row);
    right = Math.max(right, to - 1);
  });
  if (bottom < 0) return null;
  const rows = bottom - top + 1;
  const columns = right - left + 1;
  const labels = new Int32Array(rows * columns);
  eachStretch(runs, shape, section, (row, from, to, lesion) => {
    labels.fill(lesion + 1, (row - top) * columns + from - left, (row - top) * columns + to - left);
  });
  return { top, left, rows, columns, labels };
}

/** How many pixels of a patch differ from the one to the left or above: what its outlines cost. */
export function edgeCount(patch: LabelPatch): number {
  const { columns, labels } = patch;
  let count = 0;
  for (let p = 0; p < labels.length; p++) {
    const label = labels[p]!;
    if (p >= columns && labels[p - columns] !== label) count++;
    if (p % columns > 0 && labels[p - 1] !== label) count++;
  }
  return count;
}

/** Edges of each wanted lesion as (x0, y0, x1, y1) in pixels of the section, neighbours in one line joined; by label. */
export function outlines(patch: LabelPatch, wanted: (label: number) => boolean = () => true): Map<number, number[]> {
  const { rows, columns, labels, top, left } = patch;
  const found = new Map<number, number[]>();
  const at = (row: number, column: number): number =>
    row >= 0 && row < rows && column >= 0 && column < columns ? labels[row * columns + column]! : 0;
  const add = (label: number, x0: number, y0: number, x1: number, y1: number): void => {
    let own = found.get(label);
    if (own === undefined) found.set(label, (own = []));
    own.push(x0 + left, y0 + top, x1 + left, y1 + top);
  };
  // Along each line between two rows (or columns) a label ends on one of its sides.
  const scan = (lines: number, length: number, here: (line: number, n: number) => number, put: (label: number, line: number, from: number, to: number) => void) => {
    for (let line = 0; line <= lines; line++) {
      for (const side of [0, -1]) {
        let open = 0;
        let from = 0;
        for (let n = 0; n <= length; n++) {
          const label = n < length ? here(line + side, n) : 0;
          const edge = label !== 0 && label !== here(line - 1 - side, n) && wanted(label) ? label : 0;
          if (edge === open) continue;
          if (open !== 0) put(open, line, from, n);
          open = edge;
          from = n;
        }
      }
    }
  };
  scan(rows, columns, at, (label, y, from, to) => add(label, from, y, to, y));
  scan(columns, rows, (column, row) => at(row, column), (label, x, from, to) => add(label, x, from, x, to));
  return found;
}

/** The voxel at a point of the patient, moved onto the section; null outside of the volume. */
export function voxelAt(grid: Pick<Grid, 'affine' | 'shape'>, section: Section, point: Point): Voxel | null {
  const place = toIndex(grid.affine, point).map(Math.round);
  place[section.axis] = section.index;
  const [k, j, i] = place as [number, number, number];
  const inside = k >= 0 && k < grid.shape[0] && j >= 0 && j < grid.shape[1] && i >= 0 && i < grid.shape[2];
  return inside ? { k, j, i } : null;
}

/** Canvas places: `origin` of the first pixel's corner, then one step across and one step down. */
export interface Placing {
  readonly origin: readonly [number, number];
  readonly across: readonly [number, number];
  readonly down: readonly [number, number];
}

/** How the pixels of a section lie on a canvas, from how the viewport places points of the patient. */
export function placing(grid: Pick<Grid, 'affine' | 'shape'>, section: Section, toCanvas: (point: Point) => readonly number[]): Placing {
  const [downAxis, acrossAxis] = axesOf(section.axis);
  // Far points, so that a viewport that rounds does not matter.
  const rows = Math.max(grid.shape[downAxis], 2);
  const columns = Math.max(grid.shape[acrossAxis], 2);
  const see = (down: number, across: number) => toCanvas(toPatientMm(grid.affine, ...placeIn(section, down, across)));
  const first = see(0, 0);
  const right = see(0, columns - 1);
  const bottom = see(rows - 1, 0);
  const across: [number, number] = [(right[0]! - first[0]!) / (columns - 1), (right[1]! - first[1]!) / (columns - 1)];
  const down: [number, number] = [(bottom[0]! - first[0]!) / (rows - 1), (bottom[1]! - first[1]!) / (rows - 1)];
  const origin: [number, number] = [first[0]! - 0.5 * (across[0] + down[0]), first[1]! - 0.5 * (across[1] + down[1])];
  return { origin, across, down };
}
