// The host's cornerstone, as far as these panels go.
import * as core from '@cornerstonejs/core';

export interface Core {
  metaData: { get(type: string, imageId: string): unknown };
  EVENTS: { CAMERA_MODIFIED: string; STACK_NEW_IMAGE: string };
  /** All that are on the screen. */
  viewports(): unknown[];
  isLoaded(imageId: string): boolean;
}

export function cornerstoneCore(): Core {
  return {
    metaData: core.metaData,
    EVENTS: core.Enums.Events,
    viewports: () => (core.getRenderingEngines() ?? []).flatMap(engine => engine.getViewports()),
    isLoaded: imageId => core.cache.isLoaded(imageId),
  };
}
