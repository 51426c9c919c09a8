import { data } from 'dcmjs';
import { describe, expect, it } from 'vitest';

import type { Grid } from './calcium/grid';
import { classesOf, readSegmentation } from './segmentation';

const dicom = data!;
const SHAPE = [3, 3, 5] as const;
const PIXELS = SHAPE[1] * SHAPE[2];
const GRID: Grid = {
  shape: SHAPE, affine: [[0, 0, 0.5, -10], [0, 0.7, 0, -20], [2, 0, 0, 30], [0, 0, 0, 1]], frameUid: '1.9', sopInstanceUids: ['1.2.0', '1.2.1', '1.2.2'],
};

interface Frame {
  segment: number;
  image: string;
  pixels: readonly number[];
  z?: number;
}

/** A binary segmentation as a Part 10 file; frames are packed without a gap between them. */
function file(labels: readonly string[], frames: readonly Frame[], change: Record<string, unknown> = {}, syntax = '1.2.840.10008.1.2.1'): ArrayBuffer {
  const bits = new Uint8Array(2 * Math.ceil((frames.length * PIXELS) / 16));
  frames.forEach(({ pixels }, n) => {
    for (const pixel of pixels) bits[(n * PIXELS + pixel) >> 3]! |= 1 << ((n * PIXELS + pixel) & 7);
  });
  const dataset = {
    SOPClassUID: '1.2.840.10008.5.1.4.1.1.66.4', SOPInstanceUID: '1.2.3.4', Modality: 'SEG', SegmentationType: 'BINARY',
    Rows: SHAPE[1], Columns: SHAPE[2], NumberOfFrames: frames.length, BitsAllocated: 1, BitsStored: 1, HighBit: 0, PixelRepresentation: 0,
    SamplesPerPixel: 1, PhotometricInterpretation: 'MONOCHROME2',
    SegmentSequence: labels.map((label, n) => ({ SegmentNumber: n + 1, SegmentLabel: label })),
    SharedFunctionalGroupsSequence: [{ PixelMeasuresSequence: [{ PixelSpacing: [0.7, 0.5] }] }],
    PerFrameFunctionalGroupsSequence: frames.map(frame => ({
      SegmentIdentificationSequence: [{ ReferencedSegmentNumber: frame.segment }],
      DerivationImageSequence: [{ SourceImageSequence: [{ ReferencedSOPClassUID: '1.2', ReferencedSOPInstanceUID: frame.image }] }],
      PlanePositionSequence: [{ ImagePositionPatient: [-10, -20, frame.z ?? 30 + 2 * Number(frame.image.slice(4))] }],
    })),
    PixelData: bits.buffer, _vrMap: { PixelData: 'OB' }, ...change,
  };
  const meta = dicom.DicomMetaDictionary.denaturalizeDataset({
    FileMetaInformationVersion: new Uint8Array([0, 1]).buffer, MediaStorageSOPClassUID: dataset.SOPClassUID, MediaStorageSOPInstanceUID: '1.2.3.4', TransferSyntaxUID: syntax,
  });
  const made = new dicom.DicomDict(meta);
  made.dict = dicom.DicomMetaDictionary.denaturalizeDataset(dataset);
  return made.write();
}

const HEART: Frame = { segment: 2, image: '1.2.1', pixels: [0, 6, 7, 14] };
const ASIDE: Frame = { segment: 3, image: '1.2.1', pixels: [7, 8] };
const LABELS = ['Calcium', 'Heart region', 'Set aside'];

describe('region classes', () => {
  it('are the segments of ours; where they overlap the region holds', () => {
    const found = classesOf(readSegmentation(file(LABELS, [{ segment: 1, image: '1.2.1', pixels: [6] }, HEART, ASIDE, { ...HEART, image: '1.2.2', pixels: [3] }])), GRID);
    const wanted = new Uint8Array(3 * PIXELS);
    for (const pixel of HEART.pixels) wanted[PIXELS + pixel] = 1;
    wanted[PIXELS + 8] = 2;
    wanted[2 * PIXELS + 3] = 1;
    expect(found).toEqual({ classes: wanted, region: 5, setAside: 1 });
  });

  it('are known by label: numbers shift where nothing is calcium', () => {
    const found = classesOf(readSegmentation(file(['Heart region', 'Set aside'], [{ ...HEART, segment: 1 }, { ...ASIDE, segment: 2 }])), GRID);
    expect([found.region, found.setAside]).toEqual([4, 1]);
  });

  it.each([8, 16])('are the same from a label map of %i bits, which may keep its background', width => {
    const labels = width === 8 ? new Uint8Array(2 * PIXELS) : new Uint16Array(2 * PIXELS);
    for (const pixel of [0, 6, 14]) labels[pixel] = 2;
    labels[8] = 3;
    labels[PIXELS + 3] = 2;
    const made = file(['Background', 'Calcium', 'Heart region', 'Set aside'], [HEART, { ...HEART, image: '1.2.2' }], {
      SegmentationType: 'LABELMAP', BitsAllocated: width, PixelData: labels.buffer,
      SegmentSequence: ['Background', 'Calcium', 'Heart region', 'Set aside'].map((label, n) => ({ SegmentNumber: n, SegmentLabel: label })),
    });
    const wanted = new Uint8Array(3 * PIXELS);
    for (const pixel of [0, 6, 14]) wanted[PIXELS + pixel] = 1;
    wanted[PIXELS + 8] = 2;
    wanted[2 * PIXELS + 3] = 1;
    expect(classesOf(readSegmentation(made), GRID)).toEqual({ classes: wanted, region: 4, setAside: 1 });
  });

  it('are everything where the analysis had no region', () => {
    expect(classesOf(readSegmentation(file(['Calcium'], [{ ...HEART, segment: 1 }])), GRID)).toEqual({ classes: null, region: 45, setAside: 0 });
  });

  it('are found among forty segments', () => {
    const labels = [...Array.from({ length: 39 }, (_, n) => `Rib ${n}`), 'Heart region'];
    const frames = labels.map((_, n) => ({ segment: n + 1, image: '1.2.0', pixels: [n % PIXELS] }));
    expect(classesOf(readSegmentation(file(labels, frames)), GRID)).toMatchObject({ region: 1, setAside: 0 });
  });

  it.each<[string, () => ArrayBuffer]>([
    ['seg_unreadable', () => new TextEncoder().encode('not DICOM').buffer],
    ['seg_unreadable', () => file(LABELS, [HEART]).slice(0, 400)],
    ['seg_unreadable', () => file(LABELS, [HEART], { NumberOfFrames: 2 })],
    ['seg_unreadable', () => file(LABELS, [HEART], { PixelData: new ArrayBuffer(0) })],
    ['seg_not_binary', () => file(LABELS, [HEART], { SegmentationType: 'FRACTIONAL' })],
    ['seg_not_binary', () => file(LABELS, [HEART], { BitsAllocated: 8 })],
    ['seg_other_grid', () => file(LABELS, [HEART], { Rows: 5, Columns: 3 })],
    ['seg_other_grid', () => file(LABELS, [{ ...HEART, z: 35 }])],
    ['seg_other_grid', () => file(LABELS, [HEART], { SharedFunctionalGroupsSequence: [{ PixelMeasuresSequence: [{ PixelSpacing: [0.7, 0.6] }] }] })],
    ['seg_other_images', () => file(LABELS, [{ ...HEART, image: '1.2.9' }])],
    ['seg_other_images', () => file(LABELS, [{ ...HEART, image: '' }])],
  ])('are refused: %s', (code, made) => {
    expect(() => classesOf(readSegmentation(made()), GRID)).toThrow(expect.objectContaining({ code }) as Error);
  });
});
