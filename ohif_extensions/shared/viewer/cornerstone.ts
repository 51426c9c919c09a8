// The host's cornerstone, as far as these panels go.
import * as core from '@cornerstonejs/core';

export interface Core {
  metaData: { get(type: string, imageId: string): unknown };
  EVENTS: {
    CAMERA_MODIFIED: string;
    STACK_NEW_IMAGE: string;
    ELEMENT_ENABLED: string;
    WEBGL_CONTEXT_LOST: string;
    WEBGL_CONTEXT_RESTORED: string;
  };
  /** Where those arrive that belong to no viewport. */
  events: { addEventListener(event: string, listener: () => void): void };
  engines(): unknown[];
  volumes(): unknown[];
  /** All that are on the screen. */
  viewports(): unknown[];
  isLoaded(imageId: string): boolean;
}

export function cornerstoneCore(): Core {
  return {
    metaData: core.metaData,
    EVENTS: core.Enums.Events,
    events: core.eventTarget,
    // Those whose name begins with _ are in no list.
    engines: () => [...(core.getRenderingEngines() ?? []), core.getRenderingEngine('_thumbnails')].filter(engine => engine !== undefined),
    volumes: () => core.cache.getVolumes(),
    viewports: () => (core.getRenderingEngines() ?? []).flatMap(engine => engine.getViewports()),
    isLoaded: imageId => core.cache.isLoaded(imageId),
  };
}
