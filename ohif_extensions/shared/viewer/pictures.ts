// Whether the graphics driver still holds the images: it may let go of them at any time, and vtk.js does not bring them back by itself.
import { cornerstoneCore } from './cornerstone';

/** A renderer of vtk.js: what one viewport shows. */
interface Renderer {
  isDeleted(): boolean;
}

/** vtk.js's drawing of a whole window in one WebGL context. */
interface GlWindow {
  getContext(): WebGL2RenderingContext | null;
  buildPass(before: boolean): void;
  releaseGraphicsResources(): void;
  getRenderPasses(): unknown[];
  setRenderPasses(passes: unknown[]): void;
}

/** A WebGL context of cornerstone's; it is not in the document, so its events reach nobody but cornerstone. */
interface Window {
  getOpenGLRenderWindow(): GlWindow;
  getRenderWindow(): {
    getRenderers(): Renderer[];
    addRenderer(one: Renderer): void;
    removeRenderer(one: Renderer): void;
    newAPISpecificView(): GlWindow;
  };
}

interface Engine {
  contextPool?: { getAllContexts(): Window[] };
  getViewports(): { canvas?: HTMLCanvasElement }[];
  render(): void;
  renderViewportUsingCustomOrVtkPipeline?: (viewport: unknown) => unknown;
}

/** A volume in the memory of the graphics, whole in one texture. */
interface VolumeTexture {
  releaseGraphicsResources(window: GlWindow): void;
  modified(): void;
}

/** What the windows that cannot draw will show again. */
const waiting = new Map<Window, Renderer[]>();
const guarded = new WeakSet<Engine>();
const listeners = new Set<() => void>();
let watched = false;

/** True while images are missing because a context is lost. */
export function picturesLost(): boolean {
  return [...waiting.values()].some(renderers => renderers.some(isThere));
}

export function onPictures(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Takes care of lost contexts from now on. */
export function watchPictures(): void {
  if (watched) {
    return;
  }
  watched = true;
  const { events, EVENTS } = cornerstoneCore();
  // A viewport that is made while its context is lost must wait like the others.
  for (const event of [EVENTS.WEBGL_CONTEXT_LOST, EVENTS.WEBGL_CONTEXT_RESTORED, EVENTS.ELEMENT_ENABLED]) {
    events.addEventListener(event, look);
  }
}

function look(): void {
  const engines = cornerstoneCore().engines() as Engine[];
  const held = new Set<Window>();
  for (const engine of engines) {
    guard(engine);
    for (const window of engine.contextPool?.getAllContexts() ?? []) {
      held.add(window);
      if (window.getOpenGLRenderWindow().getContext()?.isContextLost()) {
        putAway(engine, window);
      } else if (waiting.has(window)) {
        bringBack(engine, window);
      }
    }
  }
  for (const window of waiting.keys()) {
    if (!held.has(window)) {
      waiting.delete(window);
    }
  }
  listeners.forEach(listener => listener());
}

/** The loss is announced a moment after it: what is drawn in between would end the viewer. */
function guard(engine: Engine): void {
  const draw = engine.renderViewportUsingCustomOrVtkPipeline;
  if (!draw || guarded.has(engine)) {
    return;
  }
  guarded.add(engine);
  engine.renderViewportUsingCustomOrVtkPipeline = viewport => {
    const windows = engine.contextPool?.getAllContexts() ?? [];
    if (windows.some(window => !waiting.has(window) && window.getOpenGLRenderWindow().getContext()?.isContextLost())) {
      look();
    }
    return draw.call(engine, viewport);
  };
}

/** Drawing without a context throws, and would leave the picture of another slice: nothing is drawn, and nothing is shown. */
function putAway(engine: Engine, window: Window): void {
  const renderers = [...window.getRenderWindow().getRenderers()];
  if (renderers.length === 0 && waiting.has(window)) {
    return;
  }
  waiting.set(window, [...(waiting.get(window) ?? []), ...renderers]);
  renderers.forEach(one => window.getRenderWindow().removeRenderer(one));
  const gl = window.getOpenGLRenderWindow();
  // What was drawn with forgets its shaders, buffers and textures; all are made anew.
  gl.buildPass(true);
  gl.releaseGraphicsResources();
  volumeTextures().forEach(texture => texture.releaseGraphicsResources(gl));
  for (const { canvas } of engine.getViewports()) {
    canvas?.getContext('2d')?.clearRect(0, 0, canvas.width, canvas.height);
  }
  // Viewports with another context are cleared too, and come back at once.
  engine.render();
}

function bringBack(engine: Engine, window: Window): void {
  const gl = window.getOpenGLRenderWindow().getContext();
  // As vtk.js sets a new context up, once.
  gl?.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  gl?.depthFunc(gl.LEQUAL);
  gl?.depthMask(true);
  gl?.enable(gl.BLEND);
  // The passes keep framebuffers that nobody can take from them: a window that is never drawn lends its own.
  window.getOpenGLRenderWindow().setRenderPasses(window.getRenderWindow().newAPISpecificView().getRenderPasses());
  volumeTextures().forEach(texture => texture.modified());
  waiting.get(window)?.filter(isThere).forEach(one => window.getRenderWindow().addRenderer(one));
  waiting.delete(window);
  engine.render();
}

/** Its viewport may have been closed meanwhile. */
function isThere(one: Renderer): boolean {
  return !one.isDeleted();
}

function volumeTextures(): VolumeTexture[] {
  return (cornerstoneCore().volumes() as { vtkOpenGLTexture?: VolumeTexture }[]).flatMap(volume => volume.vtkOpenGLTexture ?? []);
}
