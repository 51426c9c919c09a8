// The CT that the viewer has loaded, as one array in HU in the server's order, and how much memory that takes.
import { cache, imageLoader, metaData } from '@cornerstonejs/core';

import type { Affine, Grid, Values } from './calcium/grid';
import { sameGrid } from './calcium/grid';
import type { Plane } from './stack';
import { VolumeProblem, stackOf } from './stack';

export type { VolumeCode } from './stack';
export { VolumeProblem } from './stack';

/** A CT in HU. */
export interface CtVolume {
  readonly values: Values;
  readonly grid: Grid;
  /** The viewer's name of the image of each slice. */
  readonly imageIds: readonly string[];
}

/** What is used of an image that the viewer has loaded. */
export interface LoadedImage {
  readonly rows: number;
  readonly columns: number;
  readonly slope: number;
  readonly intercept: number;
  readonly preScale?: { readonly enabled?: boolean; readonly scaled?: boolean } | undefined;
  readonly isPreScaled?: boolean | undefined;
  readonly voxelManager?: { getScalarData(): ArrayLike<number> } | undefined;
  getPixelData(): ArrayLike<number>;
}

/** Where images and their headers come from: cornerstone, or a test. */
export interface ImageSource {
  image(imageId: string): Promise<LoadedImage>;
  header(module: string, imageId: string): Readonly<Record<string, unknown>> | undefined;
}

export interface VolumeOptions {
  readonly signal?: AbortSignal;
  /** Told after each image: how many of how many are there. */
  readonly onProgress?: (loaded: number, total: number) => void;
  /** The grid the analysis saw; a volume on another one is refused with `grid_differs`. */
  readonly expected?: { readonly affine: Affine; readonly slices: number };
  readonly source?: ImageSource;
  /** Images asked for at a time. */
  readonly atOnce?: number;
}

/** A volume of 512^3 fits with its classes, its candidates and a copy; more than this is refused. */
export const MOST_VOXELS = 640 * 640 * 640;

const AT_ONCE = 4;

/** The viewer's own images: what it has already is not fetched again. */
export const cornerstoneImages: ImageSource = {
  image: async imageId => {
    const found: LoadedImage = cache.getImage(imageId) ?? (await imageLoader.loadAndCacheImage(imageId));
    return found;
  },
  header: (module, imageId) => metaData.get(module, imageId) as Readonly<Record<string, unknown>> | undefined,
};

/** The CT of a series; throws `VolumeProblem`, or the signal's reason when it was aborted. */
export async function loadVolume(imageIds: readonly string[], options: VolumeOptions = {}): Promise<CtVolume> {
  const source = options.source ?? cornerstoneImages;
  const { grid, imageIds: ordered } = stackOf(imageIds.map(imageId => planeOf(imageId, source)));
  const [slices, rows, columns] = grid.shape;
  const plane = rows * columns;
  if (slices * plane > MOST_VOXELS) throw new VolumeProblem('too_large', { megavoxels: Math.round((slices * plane) / 1e6) });
  const { expected } = options;
  if (expected !== undefined && !(expected.slices === slices && sameGrid(expected.affine, grid.affine, grid.shape))) {
    throw new VolumeProblem('grid_differs', { slices, expected: expected.slices });
  }
  const filling = { values: new Int16Array(sharedOrOwn(2 * slices * plane)) as Values };
  let next = 0;
  let loaded = 0;
  const fetchSome = async (): Promise<void> => {
    while (next < slices) {
      options.signal?.throwIfAborted();
      const k = next++;
      fill(filling, await imageOf(ordered[k]!, source), k * plane, plane);
      options.onProgress?.(++loaded, slices);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.atOnce ?? AT_ONCE, slices) }, fetchSome));
  options.signal?.throwIfAborted();
  // The analysis' own affine, where there is one, so that areas and places are the same to the last bit.
  return { values: filling.values, grid: { ...grid, affine: expected?.affine ?? grid.affine }, imageIds: ordered };
}

async function imageOf(imageId: string, source: ImageSource): Promise<LoadedImage> {
  try {
    return await source.image(imageId);
  } catch {
    throw new VolumeProblem('image_failed');
  }
}

/** Memory that a worker can read too where the page is isolated; else its own. */
export function sharedOrOwn(bytes: number): ArrayBuffer | SharedArrayBuffer {
  try {
    return globalThis.crossOriginIsolated ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
  } catch {
    throw new VolumeProblem('too_large', { megabytes: Math.round(bytes / 1e6) });
  }
}

function planeOf(imageId: string, source: ImageSource): Plane {
  const plane = source.header('imagePlaneModule', imageId) ?? {};
  const common = source.header('sopCommonModule', imageId) ?? {};
  const pixels = source.header('imagePixelModule', imageId) ?? {};
  const list = (value: unknown): number[] =>
    value !== null && typeof value === 'object' ? Array.from(value as ArrayLike<number>, Number) : [];
  return {
    imageId,
    sopInstanceUid: typeof common.sopInstanceUID === 'string' ? common.sopInstanceUID : '',
    frameUid: typeof plane.frameOfReferenceUID === 'string' ? plane.frameOfReferenceUID : '',
    rows: Number(plane.rows ?? pixels.rows),
    columns: Number(plane.columns ?? pixels.columns),
    orientation: list(plane.imageOrientationPatient ?? [...list(plane.rowCosines), ...list(plane.columnCosines)]),
    positionMm: list(plane.imagePositionPatient),
    spacingMm:
      plane.rowPixelSpacing !== undefined && plane.rowPixelSpacing !== null
        ? [Number(plane.rowPixelSpacing), Number(plane.columnPixelSpacing)]
        : list(plane.pixelSpacing),
  };
}

/** Put an image's HU at its place; the whole becomes float when a value is no whole number of 16 bits. */
function fill(into: { values: Values }, image: LoadedImage, base: number, pixels: number): void {
  const data = image.voxelManager?.getScalarData() ?? image.getPixelData();
  if (data.length !== pixels) throw new VolumeProblem('mixed_size');
  const scaled = image.preScale?.scaled === true || image.isPreScaled === true;
  const slope = scaled ? 1 : image.slope;
  const intercept = scaled ? 0 : image.intercept;
  if (!Number.isFinite(slope) || !Number.isFinite(intercept) || slope === 0) throw new VolumeProblem('not_hounsfield');
  if (into.values instanceof Int16Array && !(data instanceof Int16Array && slope === 1 && intercept === 0)) {
    for (let p = 0; p < pixels; p++) {
      const value = data[p]! * slope + intercept;
      // Padding below the range of CT is air to everybody; the server clips it too.
      if (Number.isInteger(value) && value <= 32767) into.values[base + p] = Math.max(value, -32768);
      else {
        into.values = Float32Array.from(into.values);
        break;
      }
    }
    if (into.values instanceof Int16Array) return;
  }
  if (data instanceof Int16Array && slope === 1 && intercept === 0) into.values.set(data, base);
  else for (let p = 0; p < pixels; p++) into.values[base + p] = data[p]! * slope + intercept;
}
