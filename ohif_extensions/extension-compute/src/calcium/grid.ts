// Where the voxels of a volume lie in the patient: index order (k, j, i) = (slice, row, column), LPS in mm.

/** A 16-bit or floating volume in HU, flat in (k, j, i). */
export type Values = Int16Array | Float32Array;

/** A threshold as values of this kind are compared with it: rounded to float32 for floats, as the server does. */
export function limitFor(values: Values, low: number): number {
  return values instanceof Float32Array ? Math.fround(low) : low;
}

/** Maps (k, j, i, 1) to LPS mm, row by row, as `affine` in a findings document. */
export type Affine = readonly (readonly number[])[];

/** A place in the volume. */
export interface Voxel {
  readonly k: number;
  readonly j: number;
  readonly i: number;
}

export type Point = readonly [number, number, number];

/** A grid of voxels, its slices named by the images they came from. */
export interface Grid {
  /** Slices, rows, columns. */
  readonly shape: readonly [number, number, number];
  readonly affine: Affine;
  /** One for each k, by rising position along the normal of row and column. */
  readonly sopInstanceUids: readonly string[];
  readonly frameUid: string;
}

function column(affine: Affine, n: number): Point {
  return [affine[0]![n]!, affine[1]![n]!, affine[2]![n]!];
}

function cross(a: Point, b: Point): Point {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

function dot(a: Point, b: Point): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function norm(a: Point): number {
  return Math.sqrt(dot(a, a));
}

/** Distance between rows (j) and between columns (i). */
export function pixelSpacingMm(affine: Affine): readonly [number, number] {
  return [norm(column(affine, 1)), norm(column(affine, 2))];
}

/** Area of one pixel within its slice. */
export function pixelAreaMm2(affine: Affine): number {
  return norm(cross(column(affine, 1), column(affine, 2)));
}

/** Unit vector across the slice plane, on the side towards which k rises. */
export function normal(affine: Affine): Point {
  const across = cross(column(affine, 2), column(affine, 1));
  const length = norm(across) * (dot(across, column(affine, 0)) >= 0 ? 1 : -1);
  return [across[0] / length, across[1] / length, across[2] / length];
}

/** Distance between neighbouring slice planes, measured across them; never the slice thickness. */
export function sliceSpacingMm(affine: Affine): number {
  return Math.abs(dot(normal(affine), column(affine, 0)));
}

export function voxelVolumeMm3(affine: Affine): number {
  return pixelAreaMm2(affine) * sliceSpacingMm(affine);
}

/** Fractional (k, j, i) to LPS mm. */
export function toPatientMm(affine: Affine, k: number, j: number, i: number): Point {
  const at = (n: number) => {
    const row = affine[n]!;
    return k * row[0]! + j * row[1]! + i * row[2]! + row[3]!;
  };
  return [at(0), at(1), at(2)];
}

/** LPS mm to fractional (k, j, i), by Cramer's rule. */
export function toIndex(affine: Affine, point: Point): Point {
  const [a, b, c, d] = [column(affine, 0), column(affine, 1), column(affine, 2), column(affine, 3)];
  const p: Point = [point[0] - d[0], point[1] - d[1], point[2] - d[2]];
  const whole = dot(a, cross(b, c));
  return [dot(p, cross(b, c)) / whole, dot(a, cross(p, c)) / whole, dot(a, cross(b, p)) / whole];
}

/** Whether both put every voxel at the same place, within a tolerance at the corners. */
export function sameGrid(a: Affine, b: Affine, shape: readonly [number, number, number], toleranceMm = 1e-2): boolean {
  for (let corner = 0; corner < 8; corner++) {
    const at: Point = [corner & 1 ? shape[0] - 1 : 0, corner & 2 ? shape[1] - 1 : 0, corner & 4 ? shape[2] - 1 : 0];
    const one = toPatientMm(a, ...at);
    const other = toPatientMm(b, ...at);
    if (!one.every((value, n) => Math.abs(value - other[n]!) <= toleranceMm)) return false;
  }
  return true;
}
