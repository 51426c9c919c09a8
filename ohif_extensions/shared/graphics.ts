// Whether this browser draws images with WebGL2; app-config.js finds out before the viewer starts.

interface Configured {
  config?: { useCPURendering?: boolean };
}

/** True where the processor draws: slower, without 3D and without the viewer's own segmentation overlays. */
export function drawnByProcessor(): boolean {
  return (globalThis as Configured).config?.useCPURendering === true;
}
