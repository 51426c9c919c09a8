/** Which study is on the screen, and where in the viewer its series are. */

import type { DisplaySet, Services } from '../ohif';

/** Study of the active viewport; of the first series where no viewport shows one. */
export function studyOnScreen(services: Services): string {
  const { viewportGridService, displaySetService } = services;
  const { activeViewportId, viewports } = viewportGridService.getState();
  const shown = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
  const displaySet = shown.map((uid) => displaySetService.getDisplaySetByUID(uid)).find((one) => one?.StudyInstanceUID);
  return displaySet?.StudyInstanceUID ?? displaySetService.getActiveDisplaySets()[0]?.StudyInstanceUID ?? '';
}

/** The images of a series as the viewer holds them: the largest of its display sets. */
export function displaySetOf(services: Services, series: string): DisplaySet | undefined {
  const found = services.displaySetService.getDisplaySetsForSeries(series).filter((one) => !one.isOverlayDisplaySet && !one.unsupported);
  return found.sort((a, b) => size(b) - size(a))[0];
}

function size(displaySet: DisplaySet): number {
  return displaySet.images?.length ?? displaySet.instances?.length ?? 0;
}

/** What cornerstone calls the images of a display set. */
export function imageIdsOf(displaySet: DisplaySet): string[] {
  if (displaySet.imageIds?.length) return displaySet.imageIds;
  return (displaySet.images ?? displaySet.instances ?? []).flatMap((image) => (typeof image['imageId'] === 'string' ? image['imageId'] : []));
}

/** What is written on each image, by SOP Instance UID. */
export function instanceNumbers(displaySet: DisplaySet): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const image of displaySet.images ?? displaySet.instances ?? []) {
    const number = Number(image.InstanceNumber);
    if (image.InstanceNumber !== undefined && Number.isFinite(number)) numbers.set(image.SOPInstanceUID, number);
  }
  return numbers;
}
