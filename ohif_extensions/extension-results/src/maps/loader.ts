// Frames of parametric maps as images of cornerstone: its own loader reads no floating point pixels, and no server need cut them.
import { imageLoader, metaData, utilities, type Types } from '@cornerstonejs/core';

import { ApiProblem, dicomFile } from '../../../shared/client';
import { drawnByProcessor } from '../../../shared/graphics';
import { appearanceOf, windowOf } from './appearance';
import { floatPixels } from './float_pixels';
import { wholeNumbers, type Stored } from './whole_numbers';

export const SCHEME = 'radloopmap';

export interface MapFrame {
  study: string;
  series: string;
  sop: string;
  /** From 1. */
  frame: number;
  frames: number;
}

export function imageIdOf({ study, series, sop, frame, frames }: MapFrame): string {
  return `${SCHEME}:/studies/${study}/series/${series}/instances/${sop}/${frame}/${frames}`;
}

const ID = new RegExp(`^${SCHEME}:/studies/([\\d.]+)/series/([\\d.]+)/instances/([\\d.]+)/(\\d+)/(\\d+)$`);

export function frameOf(imageId: string): MapFrame | null {
  const found = ID.exec(imageId);
  if (found === null) return null;
  const [, study = '', series = '', sop = '', frame = '', frames = ''] = found;
  return { study, series, sop, frame: Number(frame), frames: Number(frames) };
}

/** Two maps at most are kept here; cornerstone's own cache keeps the frames that were shown. */
const MOST_KEPT = 2;
const fetched = new Map<string, Promise<ArrayBuffer>>();

function fileOf({ study, series, sop }: MapFrame): Promise<ArrayBuffer> {
  const known = fetched.get(sop);
  if (known) return known;
  const file = dicomFile(study, series, sop);
  fetched.set(sop, file);
  file.catch(() => fetched.delete(sop));
  for (const oldest of [...fetched.keys()].slice(0, Math.max(0, fetched.size - MOST_KEPT))) fetched.delete(oldest);
  return file;
}

const values = new Map<string, Promise<Float32Array>>();

/** All values of a map, NaN where they are not defined: where they equal `padding`. */
function valuesOf(where: MapFrame, pixels: number, padding: number | null): Promise<Float32Array> {
  const known = values.get(where.sop);
  if (known) return known;
  const read = fileOf(where).then(file => {
    const found = floatPixels(file, pixels * where.frames);
    if (found === null) throw new Error('no floating point pixels');
    fetched.delete(where.sop);
    if (padding !== null) {
      found.forEach((value, at) => {
        if (value === padding) found[at] = NaN;
      });
    }
    return found;
  });
  values.set(where.sop, read);
  read.catch(() => values.delete(where.sop));
  for (const oldest of [...values.keys()].slice(0, Math.max(0, values.size - MOST_KEPT * 4))) values.delete(oldest);
  return read;
}

interface Plane {
  rows: number;
  columns: number;
  rowPixelSpacing: number;
  columnPixelSpacing: number;
  sliceThickness?: number;
  frameOfReferenceUID?: string;
}

/** Float Pixel Padding Value (0028,0122) or Double Float Pixel Padding Value (0028,0123), as a float of 32 bits. */
function paddingOf(imageId: string): number | null {
  const instance = metaData.get('instance', imageId) as
    | { FloatPixelPaddingValue?: unknown; DoubleFloatPixelPaddingValue?: unknown }
    | undefined;
  const told = Number(instance?.FloatPixelPaddingValue ?? instance?.DoubleFloatPixelPaddingValue ?? NaN);
  return Number.isNaN(told) ? null : Math.fround(told);
}

async function load(imageId: string): Promise<Types.IImage> {
  const where = frameOf(imageId);
  const plane = metaData.get('imagePlaneModule', imageId) as Plane | undefined;
  if (where === null || !plane?.rows) throw new Error('no frame of a map');
  const pixels = plane.rows * plane.columns;
  const all = await valuesOf(where, pixels, paddingOf(imageId));
  const scalarData = all.slice((where.frame - 1) * pixels, where.frame * pixels);
  const [low, high] = appearanceOf(where.sop).window ?? windowOf(all);
  // There is no colour for what is not defined: far below the first one it is black, and nobody takes it for a value.
  const nothing = low - (high - low);
  for (let at = 0; at < pixels; at++) {
    if (Number.isNaN(scalarData[at])) scalarData[at] = nothing;
  }
  if (!drawnByProcessor()) return imageFrom(imageId, plane, { scalarData, slope: 1, intercept: 0 }, low, high);
  return imageFrom(imageId, plane, wholeNumbers(scalarData), low, high);
}

function imageFrom(imageId: string, plane: Plane, { scalarData, slope, intercept }: Stored, low: number, high: number): Types.IImage {
  const { rows, columns } = plane;
  const voxelManager = utilities.VoxelManager.createImageVoxelManager({
    width: columns,
    height: rows,
    numberOfComponents: 1,
    scalarData,
    id: imageId,
  });
  let minPixelValue = Infinity;
  let maxPixelValue = -Infinity;
  for (const value of scalarData) {
    if (value < minPixelValue) minPixelValue = value;
    if (value > maxPixelValue) maxPixelValue = value;
  }
  return {
    imageId,
    minPixelValue,
    maxPixelValue,
    slope,
    intercept,
    windowCenter: (low + high) / 2,
    windowWidth: high - low,
    voiLUTFunction: 'LINEAR_EXACT' as Types.IImage['voiLUTFunction'],
    getPixelData: () => scalarData,
    getCanvas: () => document.createElement('canvas'),
    rows,
    columns,
    height: rows,
    width: columns,
    color: false,
    rgba: false,
    numberOfComponents: 1,
    columnPixelSpacing: plane.columnPixelSpacing,
    rowPixelSpacing: plane.rowPixelSpacing,
    ...(plane.sliceThickness === undefined ? {} : { sliceThickness: plane.sliceThickness }),
    invert: false,
    photometricInterpretation: 'MONOCHROME2',
    sizeInBytes: scalarData.byteLength,
    ...(plane.frameOfReferenceUID === undefined ? {} : { FrameOfReferenceUID: plane.frameOfReferenceUID }),
    dataType: scalarData instanceof Int16Array ? 'Int16Array' : 'Float32Array',
    voxelManager: voxelManager as NonNullable<Types.IImage['voxelManager']>,
  };
}

/** What is told where a map cannot be shown, once for each. */
type Tell = (reason: string) => void;

let tell: Tell = () => undefined;
const told = new Set<string>();

/** Who is told from now on. */
export function tellOfMaps(how: Tell): void {
  told.clear();
  tell = how;
}

function failed(imageId: string, error: unknown): void {
  const sop = frameOf(imageId)?.sop ?? '';
  if (told.has(sop)) return;
  told.add(sop);
  const status = error instanceof ApiProblem ? error.status : null;
  if (status === null) tell('A parametric map holds no values that this viewer can read.');
  else tell(status === 404 ? 'A parametric map is no longer in the archive.' : 'A parametric map could not be fetched; open the study again.');
}

/** Makes the images known to cornerstone. */
export function registerMaps(): void {
  imageLoader.registerImageLoader(SCHEME, imageId => {
    const promise = load(imageId) as Promise<Record<string, unknown> & Types.IImage>;
    // A picture that stays black says nothing of itself.
    promise.catch((error: unknown) => failed(imageId, error));
    return { promise };
  });
}
