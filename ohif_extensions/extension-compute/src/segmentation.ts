// A DICOM segmentation, binary or a label map, read from its file, frame by frame, so that overlapping segments stay whole; and the region classes made of one.
import * as dcmjs from 'dcmjs';

import { OUTSIDE, REGION, SET_ASIDE } from './calcium/candidates';
import type { Grid } from './calcium/grid';
import { pixelSpacingMm, toPatientMm } from './calcium/grid';
import { sharedOrOwn } from './volume';

export type SegmentationCode = 'seg_unreadable' | 'seg_not_binary' | 'seg_compressed' | 'seg_other_grid' | 'seg_other_images';

/** Why a segmentation cannot be used. */
export class SegmentationProblem extends Error {
  constructor(readonly code: SegmentationCode) {
    super(code);
    this.name = 'SegmentationProblem';
  }
}

export interface SegmentFrame {
  readonly segment: number;
  /** The image it was drawn on; "" where the file does not say. */
  readonly sopInstanceUid: string;
  /** Empty where the file does not say. */
  readonly positionMm: readonly number[];
  /** Index of its first bit in `bits`. */
  readonly firstBit: number;
}

export interface Segmentation {
  readonly rows: number;
  readonly columns: number;
  readonly spacingMm: readonly number[];
  readonly segments: readonly { readonly number: number; readonly label: string }[];
  readonly frames: readonly SegmentFrame[];
  /** One bit a pixel, the lowest of each byte first (PS3.5 8.1.1). */
  readonly bits: Uint8Array;
}

/** Labels by which the analysis' own segments are known; their numbers shift when one of them is empty. */
export const CALCIUM_LABEL = 'Calcium';
export const REGION_LABELS: readonly string[] = ['Heart region', 'Given region'];
export const SET_ASIDE_LABEL = 'Set aside';

const NATIVE: readonly string[] = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1'];

type Item = Readonly<Record<string, unknown>>;

function items(value: unknown): readonly Item[] {
  if (Array.isArray(value)) return value as Item[];
  return value !== null && typeof value === 'object' ? [value as Item] : [];
}

function first(item: Item | undefined, name: string): Item | undefined {
  return items(item?.[name])[0];
}

function numbers(value: unknown): number[] {
  return Array.isArray(value) ? value.map(Number) : [];
}

function word(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Reads a Part 10 file; throws `SegmentationProblem`. */
export function readSegmentation(file: ArrayBuffer): Segmentation {
  let meta: Item;
  let dataset: Item;
  try {
    const dicom = (dcmjs.dcmjs?.data ?? dcmjs.data)!;
    const read = dicom.DicomMessage.readFile(file);
    meta = dicom.DicomMetaDictionary.naturalizeDataset(read.meta);
    dataset = dicom.DicomMetaDictionary.naturalizeDataset(read.dict);
  } catch {
    throw new SegmentationProblem('seg_unreadable');
  }
  const width = Number(dataset.BitsAllocated);
  const isLabelMap = dataset.SegmentationType === 'LABELMAP' && (width === 8 || width === 16);
  if (!isLabelMap && (dataset.SegmentationType !== 'BINARY' || width !== 1)) throw new SegmentationProblem('seg_not_binary');
  if (!NATIVE.includes(word(meta.TransferSyntaxUID))) throw new SegmentationProblem('seg_compressed');
  const rows = Number(dataset.Rows);
  const columns = Number(dataset.Columns);
  const groups = items(dataset.PerFrameFunctionalGroupsSequence);
  const shared = first(dataset, 'SharedFunctionalGroupsSequence');
  const pixels: unknown = Array.isArray(dataset.PixelData) ? dataset.PixelData[0] : dataset.PixelData;
  const sound =
    pixels instanceof ArrayBuffer && rows > 0 && columns > 0 && Number(dataset.NumberOfFrames) === groups.length &&
    pixels.byteLength * 8 >= groups.length * rows * columns * width;
  if (!sound) throw new SegmentationProblem('seg_unreadable');
  const frames = groups.map((group, n): SegmentFrame => {
    const identification = first(group, 'SegmentIdentificationSequence') ?? first(shared, 'SegmentIdentificationSequence');
    return { ...placeOf(group), segment: Number(identification?.ReferencedSegmentNumber), firstBit: n * rows * columns };
  });
  const shown = isLabelMap ? unpacked(pixels, width, groups, rows * columns) : { frames, bits: new Uint8Array(pixels) };
  const measures = first(shared, 'PixelMeasuresSequence') ?? first(groups[0], 'PixelMeasuresSequence');
  return {
    rows, columns, ...shown, spacingMm: numbers(measures?.PixelSpacing),
    segments: items(dataset.SegmentSequence)
      .map(each => ({ number: Number(each.SegmentNumber), label: word(each.SegmentLabel) }))
      .filter(each => each.number > 0),
  };
}

function placeOf(group: Item): Pick<SegmentFrame, 'sopInstanceUid' | 'positionMm'> {
  const source = first(first(group, 'DerivationImageSequence'), 'SourceImageSequence');
  return {
    sopInstanceUid: word(source?.ReferencedSOPInstanceUID),
    positionMm: numbers(first(group, 'PlanePositionSequence')?.ImagePositionPatient),
  };
}

/** A label map as a binary segmentation has it: a frame for each segment of each image. */
function unpacked(pixels: ArrayBuffer, width: number, groups: readonly Item[], area: number): Pick<Segmentation, 'frames' | 'bits'> {
  const labels = width === 8 ? new Uint8Array(pixels) : new Uint16Array(pixels);
  const frames: SegmentFrame[] = [];
  const marked: number[][] = [];
  groups.forEach((group, n) => {
    const pixelsOf = new Map<number, number[]>();
    for (let pixel = 0; pixel < area; pixel++) {
      const segment = labels[n * area + pixel]!;
      if (segment === 0) continue;
      const here = pixelsOf.get(segment);
      if (here) here.push(pixel);
      else pixelsOf.set(segment, [pixel]);
    }
    for (const [segment, found] of pixelsOf) {
      frames.push({ ...placeOf(group), segment, firstBit: frames.length * area });
      marked.push(found);
    }
  });
  const bits = new Uint8Array(Math.ceil((frames.length * area) / 8));
  frames.forEach(({ firstBit }, n) => {
    for (const pixel of marked[n]!) bits[(firstBit + pixel) >> 3]! |= 1 << ((firstBit + pixel) & 7);
  });
  return { frames, bits };
}

/** How far a frame may lie from the slice it names, in mm: as far as slices may stray from an even grid. */
const SAME_PLACE_MM = 0.5;

/** The slice of each frame; throws when it was drawn on other images or another grid. */
export function slicesOf(segmentation: Segmentation, grid: Grid): Int32Array {
  const [, rows, columns] = grid.shape;
  if (segmentation.rows !== rows || segmentation.columns !== columns) throw new SegmentationProblem('seg_other_grid');
  const spacing = pixelSpacingMm(grid.affine);
  if (segmentation.spacingMm.some((mm, n) => Math.abs(mm - spacing[n]!) > 1e-3 * mm)) throw new SegmentationProblem('seg_other_grid');
  const sliceOf = new Map(grid.sopInstanceUids.map((uid, k) => [uid, k]));
  return Int32Array.from(segmentation.frames, frame => {
    const k = sliceOf.get(frame.sopInstanceUid);
    if (k === undefined) throw new SegmentationProblem('seg_other_images');
    const place = toPatientMm(grid.affine, k, 0, 0);
    if (frame.positionMm.some((mm, axis) => !(Math.abs(mm - place[axis]!) <= SAME_PLACE_MM))) throw new SegmentationProblem('seg_other_grid');
    return k;
  });
}

/** What the analysis said of each voxel. */
export interface Classes {
  /** (k, j, i); null when the whole volume is region. */
  readonly classes: Uint8Array | null;
  /** Voxels of each. */
  readonly region: number;
  readonly setAside: number;
}

/** The region classes of a segmentation of ours; where they overlap the region holds. Throws `SegmentationProblem`. */
export function classesOf(segmentation: Segmentation, grid: Grid): Classes {
  const slices = slicesOf(segmentation, grid);
  const numbersOf = (labels: readonly string[]) =>
    new Set(segmentation.segments.filter(each => labels.includes(each.label)).map(each => each.number));
  const regions = numbersOf(REGION_LABELS);
  const aside = numbersOf([SET_ASIDE_LABEL]);
  if (regions.size === 0) return { classes: null, region: grid.shape[0] * grid.shape[1] * grid.shape[2], setAside: 0 };
  const plane = grid.shape[1] * grid.shape[2];
  const classes = new Uint8Array(sharedOrOwn(grid.shape[0] * plane));
  for (const [n, frame] of segmentation.frames.entries()) {
    if (aside.has(frame.segment)) paint(segmentation.bits, frame.firstBit, plane, classes, slices[n]! * plane, SET_ASIDE);
  }
  for (const [n, frame] of segmentation.frames.entries()) {
    if (regions.has(frame.segment)) paint(segmentation.bits, frame.firstBit, plane, classes, slices[n]! * plane, REGION);
  }
  let [region, setAside] = [0, 0];
  for (const each of classes) {
    if (each === REGION) region++;
    else if (each !== OUTSIDE) setAside++;
  }
  return { classes, region, setAside };
}

function paint(bits: Uint8Array, firstBit: number, pixels: number, into: Uint8Array, base: number, value: number): void {
  let p = 0;
  while (p < pixels) {
    const bit = firstBit + p;
    if ((bit & 7) === 0 && bits[bit >> 3] === 0) {
      p += 8;
      continue;
    }
    if ((bits[bit >> 3]! >> (bit & 7)) & 1) into[base + p] = value;
    p++;
  }
}
