// Parametric maps as series of images: OHIF 3.13 draws them over volumes only, a hundredfold, and of a series the first.
import { classes, type ImageSet } from '@ohif/core';

import type { DisplaySet, InstanceMetadata } from '../../../shared/ohif';
import { imageIdOf } from './loader';

export const SOP_CLASS = '1.2.840.10008.5.1.4.1.1.30';
export const HANDLER = 'parametric-map';
/** What is of this kind goes into the ordinary viewport. */
const SHOWN_AS = '@ohif/extension-default.sopClassHandlerModule.stack';

export function displaySetsOf(instances: readonly InstanceMetadata[]): DisplaySet[] {
  return instances.map(displaySetOf);
}

function displaySetOf(instance: InstanceMetadata): DisplaySet {
  const frames = framesOf(instance);
  const set: ImageSet = new classes.ImageSet(frames);
  set.setAttributes({
    displaySetInstanceUID: set.uid,
    SeriesDate: instance['SeriesDate'],
    SeriesTime: instance['SeriesTime'],
    SeriesInstanceUID: instance['SeriesInstanceUID'],
    StudyInstanceUID: instance['StudyInstanceUID'],
    SOPInstanceUID: instance.SOPInstanceUID,
    SeriesNumber: instance['SeriesNumber'] ?? 0,
    SOPClassUID: SOP_CLASS,
    SeriesDescription: labelOf(instance),
    label: labelOf(instance),
    Modality: instance['Modality'],
    isMultiFrame: false,
    numImageFrames: frames.length,
    SOPClassHandlerId: SHOWN_AS,
    isReconstructable: false,
    supportsWindowLevel: true,
    isParametricMap: true,
    instances: [instance],
    instance,
    FrameOfReferenceUID: instance['FrameOfReferenceUID'],
  });
  return set as unknown as DisplaySet;
}

/** What the map is called: as its series is described, else as its content is labelled. */
function labelOf(instance: InstanceMetadata): string {
  const told = instance['SeriesDescription'] ?? instance['ContentLabel'];
  return typeof told === 'string' && told !== '' ? told : 'Parametric map';
}

/** One image for each frame, from the feet up or as the frames stand. */
function framesOf(instance: InstanceMetadata): InstanceMetadata[] {
  const frames = Math.max(1, Number(instance['NumberOfFrames'] ?? 1));
  const where = { study: String(instance['StudyInstanceUID']), series: String(instance['SeriesInstanceUID']), sop: instance.SOPInstanceUID, frames };
  return Array.from({ length: frames }, (_, n) => {
    const imageId = imageIdOf({ ...where, frame: n + 1 });
    classes.MetadataProvider.addImageIdToUIDs(imageId, {
      StudyInstanceUID: where.study,
      SeriesInstanceUID: where.series,
      SOPInstanceUID: where.sop,
      frameNumber: n + 1,
    });
    // Each is an image of its own to the viewer, which would count frames once more.
    return { ...instance, NumberOfFrames: 1, InstanceNumber: n + 1, imageId };
  });
}
