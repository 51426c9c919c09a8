// The first time of a series that has many, as a stack of its own: it is on the screen at once, and a segmentation laid over it is drawn once
// instead of once for every time.
import { classes, type ImageSet } from '@ohif/core';

import type { DisplaySet, InstanceMetadata, Services } from '../ohif';
import { cornerstoneCore } from './cornerstone';
import { inSpace } from './plane';

const made = new Map<string, string>();

/** The series itself where it has one time only. */
export function firstTimeOf(services: Services, series: DisplaySet): DisplaySet {
  const imageIds = firstImageIds(series);
  if (imageIds.length === 0) {
    return series;
  }
  const known = services.displaySetService.getDisplaySetByUID(made.get(series.displaySetInstanceUID) ?? '');
  if (known) {
    return known;
  }
  const first = stackOf(series, imageIds);
  made.set(series.displaySetInstanceUID, first.displaySetInstanceUID);
  services.displaySetService.addDisplaySets(first);
  return first;
}

function firstImageIds(series: DisplaySet): readonly string[] {
  const times = (series['dynamicVolumeInfo'] as { timePoints?: readonly (readonly string[])[] } | undefined)?.timePoints;
  return series['isDynamicVolume'] === true ? inSpace(times?.[0] ?? []) : [];
}

function stackOf(series: DisplaySet, imageIds: readonly string[]): DisplaySet {
  const set: ImageSet = new classes.ImageSet(imageIds.map(imageOf));
  const description = `${series.SeriesDescription ?? 'Images'}, first time`;
  set.setAttributes({
    displaySetInstanceUID: set.uid,
    StudyInstanceUID: series.StudyInstanceUID,
    SeriesInstanceUID: series.SeriesInstanceUID,
    SeriesNumber: series.SeriesNumber,
    SeriesDate: series['SeriesDate'],
    SOPClassUID: series.SOPClassUID,
    SOPClassHandlerId: series['SOPClassHandlerId'],
    SeriesDescription: description,
    label: description,
    Modality: series.Modality,
    FrameOfReferenceUID: series['FrameOfReferenceUID'],
    isMultiFrame: false,
    numImageFrames: imageIds.length,
    isReconstructable: false,
    supportsWindowLevel: true,
    imageIds: [...imageIds],
    instances: series.instances,
    instance: series['instance'],
  });
  return set as unknown as DisplaySet;
}

/** As the viewer lists images; each is one, whatever its file holds. */
function imageOf(imageId: string, index: number): InstanceMetadata {
  const instance = cornerstoneCore().metaData.get('instance', imageId) as InstanceMetadata | undefined;
  return { ...instance, SOPInstanceUID: instance?.SOPInstanceUID ?? '', NumberOfFrames: 1, InstanceNumber: index + 1, imageId };
}
