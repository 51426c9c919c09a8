/** Viewports that show a series: where they are, which slice they show, how they are made to show another. */

import type { Services } from '../ohif';

/** What drawing over a cornerstone viewport takes. */
export interface OverlayViewport {
  readonly element: HTMLElement;
  readonly type?: string;
  worldToCanvas(point: [number, number, number]): number[];
  canvasToWorld(point: [number, number]): number[];
  getCamera(): { viewPlaneNormal?: number[]; focalPoint?: number[] };
  getCurrentImageId?(): string | undefined;
  getFrameOfReferenceUID?(): string | undefined;
}

/** What is used of a cornerstone viewport besides. */
export interface Viewport extends OverlayViewport {
  getImageIds?(): string[];
  setImageIdIndex?(index: number): unknown;
  setViewReference?(reference: { referencedImageId: string; sliceIndex?: number }): void;
  setProperties(properties: { voiRange: { lower: number; upper: number } }): void;
  render(): void;
}

export interface Shown {
  readonly viewportId: string;
  readonly viewport: Viewport;
}

/** Viewports that show a display set and are ready, the active one first. */
export function viewportsOf(services: Services, displaySetUid: string): Shown[] {
  const { activeViewportId, viewports } = services.viewportGridService.getState();
  const shown: Shown[] = [];
  for (const { viewportId, displaySetInstanceUIDs } of viewports.values()) {
    if (!displaySetInstanceUIDs.includes(displaySetUid)) continue;
    const viewport = services.cornerstoneViewportService.getCornerstoneViewport(viewportId);
    if (isViewport(viewport)) shown.push({ viewportId, viewport });
  }
  return shown.sort((a, b) => Number(b.viewportId === activeViewportId) - Number(a.viewportId === activeViewportId));
}

function isViewport(value: unknown): value is Viewport {
  return typeof value === 'object' && value !== null && 'worldToCanvas' in value && 'element' in value;
}

const WAIT_MS = 200;
const WAITS = 50;

/** Shows a slice; a display set that no viewport shows is put into the active one first. */
export async function showSlice(services: Services, displaySetUid: string, imageId: string): Promise<boolean> {
  const shown = viewportsOf(services, displaySetUid)[0] ?? (await bringUp(services, displaySetUid));
  if (!shown) return false;
  const { viewport } = shown;
  const index = viewport.getImageIds?.().indexOf(imageId) ?? -1;
  if (index >= 0 && viewport.setImageIdIndex) await viewport.setImageIdIndex(index);
  else if (viewport.setViewReference) viewport.setViewReference({ referencedImageId: imageId });
  else return false;
  viewport.render();
  return true;
}

async function bringUp(services: Services, displaySetUid: string): Promise<Shown | undefined> {
  const { viewportGridService } = services;
  viewportGridService.setDisplaySetsForViewport({
    viewportId: viewportGridService.getActiveViewportId(),
    displaySetInstanceUIDs: [displaySetUid],
  });
  for (let wait = 0; wait < WAITS; wait++) {
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    const shown = viewportsOf(services, displaySetUid)[0];
    if (shown?.viewport.getImageIds?.().length) return shown;
  }
  return undefined;
}

/** Windows for looking at calcium, in HU. */
export const WINDOWS = [
  { name: 'Calcium', center: 300, width: 800 },
  { name: 'Mediastinum', center: 40, width: 400 },
  { name: 'Bone', center: 480, width: 2500 },
] as const;

export function setWindow(services: Services, displaySetUid: string, center: number, width: number): void {
  for (const { viewport } of viewportsOf(services, displaySetUid)) {
    viewport.setProperties({ voiRange: { lower: center - width / 2, upper: center + width / 2 } });
    viewport.render();
  }
}
