// What a reader sees first: the analysed series, the AI's overlay on it, the slice with most calcium, a window that shows calcium.
import { drawnByProcessor } from '../../../shared/graphics';
import type { CommandsManager, Services } from '../../../shared/ohif';
import type { Findings, Job } from '../../../shared/types';
import { jump } from '../../../shared/viewer/jump';
import { dropOverlays, hideBackground, isShown, segmentationDisplaySet, setOpacity, showOverlay } from '../../../shared/viewer/overlay';
import { firstTimeOf } from '../../../shared/viewer/first_time';
import { displaySetOf } from '../../../shared/viewer/study';
import { setWindow, viewportsOf } from '../../../shared/viewer/viewport';
import { hasMaps, mapsAreKnown, rememberMaps, showAll } from '../maps/grid';
import { objectOf, openingSlice } from '../select';

/** Wide enough to tell 130 HU from 400 and to see soft tissue: the mediastinal window is white from 240 HU on. */
const WINDOW = { center: 200, width: 700 };
const WAIT_MS = 250;
const WAITS = 120;

const wait = (): Promise<void> => new Promise(resolve => setTimeout(resolve, WAIT_MS));

/** Opens the images of a result in place of `replaced` ones (their SEG); stops when `over` says that the reader has gone elsewhere. */
export async function openResult(
  services: Services,
  commands: CommandsManager,
  job: Job,
  replaced: readonly string[],
  over: () => boolean
): Promise<void> {
  const { findings } = job;
  if (findings === null || findings.state !== 'done') {
    return;
  }
  if (!(await until(() => displaySetOf(services, findings.source_series) !== undefined, over))) {
    return;
  }
  const whole = displaySetOf(services, findings.source_series);
  if (!whole) {
    return;
  }
  const images = firstTimeOf(services, whole);
  if (hasMaps(findings)) {
    rememberMaps(findings);
    if (await until(() => mapsAreKnown(services, findings), over, 40)) {
      showAll(services, findings);
    }
  }
  const place = openingSlice(findings);
  const ready = (): boolean => viewportsOf(services, images.displaySetInstanceUID).length > 0;
  if (!ready() && place === null) {
    services.viewportGridService.setDisplaySetsForViewport({
      viewportId: services.viewportGridService.getActiveViewportId(),
      displaySetInstanceUIDs: [images.displaySetInstanceUID],
    });
  }
  dropOverlays(services, commands, replaced);
  if (await until(ready, over, hasMaps(findings) ? WAITS : 8)) {
    await layOverAll(services, commands, findings, over);
  }
  if (over()) {
    return;
  }
  if (place !== null) {
    await jump(services, findings.source_series, place);
  }
  if (images.Modality === 'CT') {
    setWindow(services, images.displaySetInstanceUID, WINDOW.center, WINDOW.width);
  }
}

/** The images of a result and its maps side by side once more, with its segments; false while no map is known. */
export async function showMaps(services: Services, commands: CommandsManager, findings: Findings): Promise<boolean> {
  rememberMaps(findings);
  if (!showAll(services, findings)) {
    return false;
  }
  await wait();
  await layOverAll(services, commands, findings, () => false);
  return true;
}

/** The segments of a result over its images. OHIF 3.13 draws them over no other stack, so not over its maps. */
async function layOverAll(services: Services, commands: CommandsManager, findings: Findings, over: () => boolean): Promise<void> {
  const segmentation = objectOf(findings, 'SEG');
  if (!segmentation || drawnByProcessor()) {
    return;
  }
  await layOver(services, commands, findings.source_series, segmentation.sop_instance_uid, over);
}

async function layOver(services: Services, commands: CommandsManager, series: string, sop: string, over: () => boolean): Promise<void> {
  if (!(await until(() => segmentationDisplaySet(services, sop) !== undefined, over, 40))) {
    return;
  }
  const overlay = segmentationDisplaySet(services, sop);
  if (!overlay || !(await showOverlay(services, commands, series, sop))) {
    return;
  }
  if (await until(() => isShown(services, overlay.displaySetInstanceUID), over)) {
    hideBackground(services, overlay.displaySetInstanceUID);
    setOpacity(services, overlay.displaySetInstanceUID, 0.5);
  }
}

async function until(condition: () => boolean, over: () => boolean, waits = WAITS): Promise<boolean> {
  for (let tries = 0; tries < waits && !over(); tries++) {
    if (condition()) {
      return true;
    }
    await wait();
  }
  return condition() && !over();
}
