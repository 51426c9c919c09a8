// Brings a place of an image into view and marks it for a moment.
import type { Services } from '../ohif';
import { cornerstoneCore } from './cornerstone';
import { displaySetOf, imageIdsOf } from './study';
import { showSlice, viewportsOf } from './viewport';

const MARK_MS = 4000;
const MARK_MM = 14;

export interface Place {
  sop_instance_uid: string;
  row: number;
  column: number;
}

/** Shows the slice of `place` and rings it; false when the viewer does not hold that image. */
export async function jump(services: Services, series: string, place: Place): Promise<boolean> {
  const displaySet = displaySetOf(services, series);
  const imageId = displaySet && imageIdOf(imageIdsOf(displaySet), place.sop_instance_uid);
  if (!displaySet || imageId === undefined || !(await showSlice(services, displaySet.displaySetInstanceUID, imageId))) {
    return false;
  }
  const shown = viewportsOf(services, displaySet.displaySetInstanceUID)[0];
  const world = worldOf(imageId, place);
  if (shown && world) {
    services.viewportGridService.setActiveViewportId(shown.viewportId);
    ring(shown.viewport, world);
  }
  return true;
}

/** The image id of a SOP instance among those of a display set. */
export function imageIdOf(imageIds: readonly string[], sop: string): string | undefined {
  return imageIds.find(id => id.includes(`/instances/${sop}/`) || id.includes(`objectUID=${sop}&`) || id.endsWith(`/instances/${sop}`));
}

/** Patient coordinates (LPS, mm) of the middle of a pixel, PS3.3 C.7.6.2.1.1. */
function worldOf(imageId: string, { row, column }: Place): [number, number, number] | null {
  const plane = cornerstoneCore().metaData.get('imagePlaneModule', imageId) as Plane | undefined;
  if (!plane?.imagePositionPatient || !plane.rowCosines || !plane.columnCosines) {
    return null;
  }
  const { imagePositionPatient: origin, rowCosines, columnCosines, columnPixelSpacing, rowPixelSpacing } = plane;
  const at = (axis: 0 | 1 | 2): number =>
    origin[axis] + rowCosines[axis] * column * columnPixelSpacing + columnCosines[axis] * row * rowPixelSpacing;
  return [at(0), at(1), at(2)];
}

type Triple = [number, number, number];

interface Plane {
  imagePositionPatient?: Triple;
  rowCosines?: Triple;
  columnCosines?: Triple;
  columnPixelSpacing: number;
  rowPixelSpacing: number;
}

interface Canvas {
  element: HTMLElement;
  worldToCanvas(world: Triple): [number, number];
}

let removeLast: (() => void) | null = null;

/** A ring of 14 mm around a place, which follows zoom and pan and goes by itself. */
function ring(viewport: unknown, world: Triple): void {
  removeLast?.();
  const { element } = viewport as Canvas;
  const mark = document.createElement('div');
  mark.className = 'rl-mark';
  mark.setAttribute('aria-hidden', 'true');
  element.append(mark);
  const place = (): void => {
    const [x, y] = (viewport as Canvas).worldToCanvas(world);
    const [edgeX, edgeY] = (viewport as Canvas).worldToCanvas([world[0] + MARK_MM / 2, world[1], world[2]]);
    const radius = Math.max(8, Math.hypot(edgeX - x, edgeY - y));
    Object.assign(mark.style, { left: `${x - radius}px`, top: `${y - radius}px`, width: `${2 * radius}px`, height: `${2 * radius}px` });
  };
  place();
  const { EVENTS } = cornerstoneCore();
  element.addEventListener(EVENTS.CAMERA_MODIFIED, place);
  const remove = (): void => {
    clearTimeout(timer);
    element.removeEventListener(EVENTS.CAMERA_MODIFIED, place);
    element.removeEventListener(EVENTS.STACK_NEW_IMAGE, leave);
    mark.remove();
    removeLast = null;
  };
  const leave = (): void => remove();
  // The slice that is shown now announces itself once; only the next one leaves.
  const watch = setTimeout(() => element.addEventListener(EVENTS.STACK_NEW_IMAGE, leave), 600);
  const timer = setTimeout(remove, MARK_MS);
  removeLast = () => {
    clearTimeout(watch);
    remove();
  };
}
