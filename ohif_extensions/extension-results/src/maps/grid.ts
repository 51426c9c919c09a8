// Puts the maps of a result side by side with the images they were made from, each in its colours.
import type { DisplaySet, Managers, Services, Subscription } from '../../../shared/ohif';
import type { Findings, FindingsMap } from '../../../shared/types';
import { firstTimeOf } from '../../../shared/viewer/first_time';
import { isBackground } from '../../../shared/viewer/overlay';
import { cornerOf, type Point } from '../../../shared/viewer/plane';
import { displaySetOf, imageIdsOf } from '../../../shared/viewer/study';
import { appearanceOf, remember } from './appearance';
import { colorsOfViewer } from './colors';
import { frameOf } from './loader';

/** The display set of a map, once its series is known. */
export function mapDisplaySet(services: Services, sop: string): DisplaySet | undefined {
  return services.displaySetService.getDisplaySetsBy(one => one.isParametricMap === true && one.SOPInstanceUID === sop)[0];
}

export function hasMaps(findings: Findings): boolean {
  return (findings.maps ?? []).length > 0;
}

export function mapsAreKnown(services: Services, findings: Findings): boolean {
  return (findings.maps ?? []).every(map => mapDisplaySet(services, map.sop_instance_uid) !== undefined);
}

/** Remembers windows and colours before anything is drawn. */
export function rememberMaps(findings: Findings): void {
  for (const map of findings.maps ?? []) {
    remember(map.sop_instance_uid, { window: map.window, colors: map.color_map });
  }
}

/** Rows and columns for so many pictures: more columns, or more rows where there is more height than width. */
export function gridFor(count: number, high = false): { numRows: number; numCols: number } {
  const more = Math.max(1, Math.ceil(Math.sqrt(count)));
  const less = Math.max(1, Math.ceil(count / more));
  return high ? { numRows: more, numCols: less } : { numRows: less, numCols: more };
}

function isHigh(): boolean {
  const room = document.querySelector('[data-cy="viewport-grid"]')?.getBoundingClientRect();
  return room !== undefined && room.height > room.width;
}

/** Scrolled, moved and magnified together. */
const TOGETHER = ['imageSlice', 'zoompan'].map(type => ({ type, id: `radloop-maps-${type}`, source: true, target: true }));

function nameOf(position: number): string {
  return `radloop-map-${position}`;
}

/** The images and every map in a grid, at a slice; false while none of them is known. */
export function showAll(services: Services, findings: Findings): boolean {
  const maps = (findings.maps ?? []).flatMap(map => mapDisplaySet(services, map.sop_instance_uid) ?? []);
  const images = displaySetOf(services, findings.source_series);
  const shown = images ? [firstTimeOf(services, images), ...maps] : maps;
  if (maps.length === 0) {
    return false;
  }
  const { numRows, numCols } = gridFor(shown.length, isHigh());
  const place = placeOf(findings);
  // A series of many times would bring its player over every picture.
  shown.forEach((_, position) => services.cineService?.setViewportCineClosed?.(nameOf(position)));
  services.viewportGridService.setLayout({
    numRows,
    numCols,
    findOrCreateViewport: position => {
      const one = shown[position];
      return {
        viewportId: nameOf(position),
        displaySetInstanceUIDs: one ? [one.displaySetInstanceUID] : [],
        displaySetOptions: [{}],
        viewportOptions: {
          viewportType: 'stack',
          toolGroupId: 'default',
          viewportId: nameOf(position),
          initialImageOptions: one && place ? { index: indexAt(imageIdsOf(one), place) } : { preset: 'middle' },
          syncGroups: TOGETHER,
        },
      };
    },
  });
  return true;
}

/** The corner of the slice to open, in patient coordinates: a viewer sorts images in its own way. */
function placeOf(findings: Findings): Point | null {
  const affine = findings.maps?.[0]?.affine;
  const k = openingSliceOf(findings);
  return affine ? [0, 1, 2].map(axis => (affine[axis]?.[3] ?? 0) + k * (affine[axis]?.[0] ?? 0)) : null;
}

/** Which of the images lies nearest to a place. */
export function indexAt(imageIds: readonly string[], place: Point): number {
  const distances = imageIds.map(imageId => apart(cornerOf(imageId), place));
  return Math.max(0, distances.indexOf(Math.min(...distances)));
}

/** The slice in which most was marked, else the middle one. */
export function openingSliceOf(findings: Findings): number {
  const marked = findings.masks.find(mask => mask.fullest_slice !== undefined && mask.fullest_slice !== null && !isBackground(mask.label));
  return marked?.fullest_slice ?? Math.floor((findings.maps?.[0]?.slices ?? 1) / 2);
}

function apart(one: Point | undefined, other: Point | undefined): number {
  return one && other ? Math.hypot(...one.map((mm, axis) => mm - (other[axis] ?? 0))) : Infinity;
}

/** One map in the active viewport; false while its series is not known. */
export function showOne(services: Services, map: FindingsMap): boolean {
  const found = mapDisplaySet(services, map.sop_instance_uid);
  if (!found) {
    return false;
  }
  services.viewportGridService.setDisplaySetsForViewport({
    viewportId: services.viewportGridService.getActiveViewportId(),
    displaySetInstanceUIDs: [found.displaySetInstanceUID],
    viewportOptions: { viewportType: 'stack', toolGroupId: 'default' },
  });
  return true;
}

interface MapViewport {
  getCurrentImageId?(): string | undefined;
  getImageIds?(): string[];
  setProperties(properties: { colormap?: { name: string }; voiRange?: { lower: number; upper: number } }): void;
  render(): void;
}

/** Gives every viewport that comes to show a map its colours and window. */
export class Painter {
  private readonly subscription: Subscription;

  constructor(managers: Managers) {
    const { cornerstoneViewportService } = managers.servicesManager.services;
    this.subscription = cornerstoneViewportService.subscribe(
      cornerstoneViewportService.EVENTS['VIEWPORT_DATA_CHANGED'] ?? '',
      ({ viewportId }: { viewportId: string }) => paint(cornerstoneViewportService.getCornerstoneViewport(viewportId) as MapViewport | null)
    );
  }

  stop(): void {
    this.subscription.unsubscribe();
  }
}

function paint(viewport: MapViewport | null): void {
  const first = viewport?.getImageIds?.()[0];
  const where = first === undefined ? null : frameOf(first);
  if (!viewport || where === null) {
    return;
  }
  const { window, colors } = appearanceOf(where.sop);
  viewport.setProperties({
    colormap: { name: colorsOfViewer(colors) },
    ...(window ? { voiRange: { lower: window[0], upper: window[1] } } : {}),
  });
  viewport.render();
}
