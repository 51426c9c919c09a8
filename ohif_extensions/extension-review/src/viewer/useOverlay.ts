import { useEffect, useRef } from 'react';
import { ADDED, REGION, SET_ASIDE } from '../../../extension-compute/src/calcium/candidates';
import type { Voxel } from '../../../extension-compute/src/calcium/grid';
import { createOverlay, type LesionLook, type Overlay } from '../../../extension-compute/src/overlay';
import type { Services, Subscription } from '../../../shared/ohif';
import { type Viewport, viewportsOf } from '../../../shared/viewer/viewport';
import type { ReadingModel, ReadingView } from '../reading/model';
import { listenForClicks } from './clicks';
import { ASIDE_COLOR, lookOf, VESSEL_COLORS } from './colors';

interface Options {
  readonly services: Services;
  readonly displaySetUid: string;
  readonly model: ReadingModel;
  readonly view: ReadingView;
  /** 0 hides the mask. */
  readonly opacity: number;
  readonly onClick: (voxel: Voxel, modified: boolean) => void;
}

const PREVIEW: Readonly<Record<number, LesionLook>> = {
  [REGION]: { counted: true, color: VESSEL_COLORS.unassigned },
  [SET_ASIDE]: { counted: false, color: ASIDE_COLOR },
  [ADDED]: { counted: true, color: VESSEL_COLORS.unassigned },
};

interface Attached {
  readonly viewport: Viewport;
  readonly overlay: Overlay;
  readonly deafen: () => void;
}

/** Draws the live mask on every viewport that shows the series, and hears clicks on them. */
export function useOverlay({ services, displaySetUid, model, view, opacity, onClick }: Options): void {
  const attached = useRef(new Map<HTMLElement, Attached>());
  const click = useRef(onClick);
  useEffect(() => {
    click.current = onClick;
  });
  const draw = useRef<() => void>(() => undefined);

  useEffect(() => {
    draw.current = () => {
      const { result, scored } = view;
      // No thicker border for the chosen one: small lesions would be all border. A ring around it shows where it is.
      const looks = scored?.lesions.map((lesion) => ({ counted: lesion.counted, color: lookOf(lesion) }));
      const content = result && looks && opacity > 0 ? { runs: result.runs, looks, opacity, showExcluded: true } : null;
      for (const { overlay } of attached.current.values()) overlay.update(content);
    };
    draw.current();
  }, [view, opacity]);

  const { loaded } = view;
  useEffect(() => {
    if (!loaded) return undefined;
    const { grid, imageIds } = loaded.volume;
    const all = attached.current;
    const attach = () => {
      const shown = viewportsOf(services, displaySetUid);
      for (const [element, { viewport: former, overlay, deafen }] of all) {
        // The viewer may put another viewport into the same element, as it does when a segmentation is laid over it.
        if (shown.some(({ viewport }) => viewport === former)) continue;
        overlay.remove();
        deafen();
        all.delete(element);
      }
      for (const { viewport } of shown) {
        if (all.has(viewport.element)) continue;
        const overlay = createOverlay(viewport, grid, imageIds);
        const deafen = listenForClicks(viewport.element, (point, modified) => {
          const voxel = overlay.hitTest(point);
          if (voxel) click.current(voxel, modified);
        });
        all.set(viewport.element, { viewport, overlay, deafen });
      }
      draw.current();
    };
    model.currentSlice = () => {
      const section = [...all.values()][0]?.overlay.section();
      return section?.axis === 0 ? section.index : null;
    };
    model.preview = (mask) => all.forEach(({ overlay }) => overlay.preview(mask, PREVIEW));
    attach();
    const subscriptions = changes(services, () => setTimeout(attach));
    return () => {
      subscriptions.forEach((subscription) => subscription.unsubscribe());
      model.currentSlice = model.preview = null;
      for (const { overlay, deafen } of all.values()) {
        overlay.remove();
        deafen();
      }
      all.clear();
    };
  }, [services, displaySetUid, model, loaded]);
}

/** Tells of every change of what viewports show. */
function changes(services: Services, listener: () => void): Subscription[] {
  const { viewportGridService: grid, cornerstoneViewportService: viewports } = services;
  const events = [
    [grid, grid.EVENTS['GRID_STATE_CHANGED']],
    [grid, grid.EVENTS['VIEWPORTS_READY']],
    [viewports, viewports.EVENTS['VIEWPORT_DATA_CHANGED']],
  ] as const;
  return events.flatMap(([service, event]) => (event ? [service.subscribe(event, listener)] : []));
}
