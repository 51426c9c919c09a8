// The AI's segmentation over the images: loaded without a click, each segment shown or hidden, one opacity for all.
import type { CommandsManager, DisplaySet, Services } from '../ohif';
import { firstTimeOf } from './first_time';
import { displaySetOf } from './study';
import { viewportsOf } from './viewport';

/** Where the AI looked is an area as large as the heart: it is there to be switched on, not in the way. */
const HIDDEN_AT_FIRST: ReadonlySet<string> = new Set(['heart region', 'brain tissue']);

/** Whether a segment is where the AI looked, not what it found. */
export function isBackground(label: string): boolean {
  return HIDDEN_AT_FIRST.has(label.toLowerCase());
}

export interface SegmentRow {
  index: number;
  label: string;
  visible: boolean;
  color: readonly number[];
}

export function segmentationDisplaySet(services: Services, sop: string): DisplaySet | undefined {
  return services.displaySetService.getDisplaySetsBy(one => one.Modality === 'SEG' && one.SOPInstanceUID === sop)[0];
}

/** Takes the overlays of results that were replaced off the images: two on top of each other look like one of another colour. */
export function dropOverlays(services: Services, commands: CommandsManager, sops: readonly string[]): void {
  for (const sop of sops) {
    const overlay = segmentationDisplaySet(services, sop);
    const viewports = overlay ? services.segmentationService.getViewportIdsWithSegmentation(overlay.displaySetInstanceUID) : [];
    for (const viewportId of viewports) {
      commands.runCommand('removeDisplaySetLayer', { viewportId, displaySetInstanceUID: overlay?.displaySetInstanceUID });
    }
  }
}

/** Lays a SEG over the viewports of its series; true once it is there. */
export async function showOverlay(services: Services, commands: CommandsManager, series: string, sop: string): Promise<boolean> {
  const overlay = segmentationDisplaySet(services, sop);
  const whole = displaySetOf(services, series);
  if (!overlay || !whole) {
    return false;
  }
  const images = firstTimeOf(services, whole);
  const shown = viewportsOf(services, images.displaySetInstanceUID)[0];
  if (!shown) {
    return false;
  }
  if (isShown(services, overlay.displaySetInstanceUID)) {
    return true;
  }
  if (!overlay.isLoaded && overlay.load) {
    overlay.referencedDisplaySetInstanceUID = images.displaySetInstanceUID;
    await overlay.load({ headers: {} });
  }
  commands.runCommand('addDisplaySetAsLayer', { viewportId: shown.viewportId, displaySetInstanceUID: overlay.displaySetInstanceUID });
  return true;
}

export function isShown(services: Services, segmentationId: string): boolean {
  return services.segmentationService.getViewportIdsWithSegmentation(segmentationId).length > 0;
}

/** The segments of a SEG as they are shown in its first viewport; none while it is not laid over anything. */
export function segmentsOf(services: Services, segmentationId: string): SegmentRow[] {
  const { segmentationService } = services;
  const viewportId = segmentationService.getViewportIdsWithSegmentation(segmentationId)[0];
  const segmentation = segmentationService.getSegmentation(segmentationId);
  if (viewportId === undefined || !segmentation) {
    return [];
  }
  const [shown] = segmentationService.getSegmentationRepresentations(viewportId, { segmentationId });
  return Object.values(segmentation.segments)
    .filter(segment => segment !== null && segment !== undefined)
    .map(segment => {
      const state = shown?.segments?.[segment.segmentIndex];
      return {
        index: segment.segmentIndex,
        label: segment.label,
        visible: state?.visibility?.visible ?? state?.visible ?? true,
        color: state?.color ?? [255, 255, 255],
      };
    });
}

/** Shows or hides a segment in all viewports. */
export function setVisible(services: Services, segmentationId: string, segment: number, visible: boolean): void {
  const { segmentationService } = services;
  for (const viewportId of segmentationService.getViewportIdsWithSegmentation(segmentationId)) {
    segmentationService.setSegmentVisibility(viewportId, segmentationId, segment, visible);
  }
}

/** How opaque the filling is, 0 to 1; outlines stay. */
export function setOpacity(services: Services, segmentationId: string, opacity: number): void {
  services.segmentationService.setStyle(
    { segmentationId, type: 'Labelmap' },
    { fillAlpha: opacity, renderFill: opacity > 0, renderOutline: true, outlineWidth: 2 }
  );
}

/** Hides at first what would only be in the way. */
export function hideBackground(services: Services, segmentationId: string): void {
  for (const segment of segmentsOf(services, segmentationId)) {
    if (isBackground(segment.label)) {
      setVisible(services, segmentationId, segment.index, false);
    }
  }
}
