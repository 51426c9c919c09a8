// Puts the maps of a result side by side with the images they were made from, each in its colours.
import type { DisplaySet, Managers, Services, Subscription } from '../../../shared/ohif';
import type { Findings, FindingsMap } from '../../../shared/types';
import { displaySetOf } from '../../../shared/viewer/study';
import { appearanceOf, colorsOfViewer, remember } from './appearance';
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

/** Rows and columns for so many pictures, wider than high. */
export function gridFor(count: number): { numRows: number; numCols: number } {
  const numCols = Math.ceil(Math.sqrt(count));
  return { numRows: Math.max(1, Math.ceil(count / Math.max(1, numCols))), numCols: Math.max(1, numCols) };
}

/** The images and every map in a grid; false while none of them is known. */
export function showAll(services: Services, findings: Findings): boolean {
  const maps = (findings.maps ?? []).flatMap(map => mapDisplaySet(services, map.sop_instance_uid) ?? []);
  const images = displaySetOf(services, findings.source_series);
  const shown = images ? [images, ...maps] : maps;
  if (maps.length === 0) {
    return false;
  }
  const { numRows, numCols } = gridFor(shown.length);
  services.viewportGridService.setLayout({
    numRows,
    numCols,
    findOrCreateViewport: position => {
      const one = shown[position];
      return {
        viewportId: `radloop-map-${position}`,
        displaySetInstanceUIDs: one ? [one.displaySetInstanceUID] : [],
        displaySetOptions: [{}],
        viewportOptions: { viewportType: 'stack', toolGroupId: 'default', viewportId: `radloop-map-${position}` },
      };
    },
  });
  return true;
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
