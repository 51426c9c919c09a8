// The live mask over a viewport: a canvas of its own, drawn through the viewport's camera, right under zoom, pan, rotation and flip.
import type { OverlayViewport } from '../../shared/viewer/viewport';
import type { SliceMask } from './calcium/core';
import type { Grid, Point, Voxel } from './calcium/grid';
import type { LesionRuns } from './calcium/lesions';
import type { LabelPatch, Section } from './section';
import { axisAcross, edgeCount, labelPatch, outlines, placing, sectionThrough, voxelAt } from './section';

export type Color = readonly [number, number, number];

/** How one lesion looks. */
export interface LesionLook {
  readonly counted: boolean;
  readonly color: Color;
  readonly selected?: boolean;
}

/** What is drawn: lesions, each with its look at the same index. */
export interface OverlayContent {
  readonly runs: LesionRuns;
  readonly looks: readonly LesionLook[];
  /** 0 to 1, of the filled part. */
  readonly opacity: number;
  /** Whether lesions that do not count are shown, hatched and with a dashed border. */
  readonly showExcluded: boolean;
}

export interface Overlay {
  /** Show this from now on; null for nothing. */
  update(content: OverlayContent | null): void;
  /** Show one slice at a new threshold until the next `update`: looks as before where a lesion was, else by region class. */
  preview(mask: SliceMask, looks: Readonly<Record<number, LesionLook>>): void;
  /** The voxel under a point of the viewport's element in CSS pixels; null when it shows no plane of this volume. */
  hitTest(point: readonly [number, number]): Voxel | null;
  /** The plane that is shown; null when it is oblique or not of this volume. */
  section(): Section | null;
  /** Milliseconds that the last drawing took. */
  readonly millis: number;
  /** Takes the canvas and all listeners away. */
  remove(): void;
}

// cornerstone's Events; each is dispatched on the viewport's element.
const RENDERED = 'CORNERSTONE_IMAGE_RENDERED';
const MOVED: readonly string[] = ['CORNERSTONE_CAMERA_MODIFIED', 'CORNERSTONE_STACK_NEW_IMAGE', 'CORNERSTONE_VOLUME_NEW_IMAGE'];

const OUTLINE_PX = 1.5;
const SELECTED_PX = 3;
const DASH_PX = 3;
/** Every so many pixels along a diagonal an excluded lesion is filled. */
const HATCH = 4;
/** Lines around so many pixels are drawn within a frame; where there are more, it is noise, and edge pixels are borders enough. */
const MOST_EDGES = 3000;
/** How much more opaque edge pixels are. */
const EDGE_OPACITY = 0.35;

/**
 * A mask over a viewport.
 *
 * @param imageIds the viewer's name of the image of each slice, as `CtVolume` has them
 */
export function createOverlay(viewport: OverlayViewport, grid: Grid, imageIds: readonly string[]): Overlay {
  return new CanvasOverlay(viewport, grid, imageIds);
}

/** A patch of a section as it is put on the canvas: pixels once, borders as lines. */
interface Prepared {
  readonly section: Section;
  readonly patch: LabelPatch;
  readonly pixels: HTMLCanvasElement;
  readonly borders: readonly { readonly look: LesionLook; readonly path: Path2D }[];
}

class CanvasOverlay implements Overlay {
  millis = 0;
  private readonly canvas: HTMLCanvasElement;
  private readonly sliceOf: ReadonlyMap<string, number>;
  private readonly resized: ResizeObserver;
  private content: OverlayContent | null = null;
  private previewed: OverlayContent | null = null;
  private prepared: Prepared | null = null;
  private preparedFor: string = '';
  private frame = 0;

  constructor(
    private readonly viewport: OverlayViewport,
    private readonly grid: Grid,
    imageIds: readonly string[],
  ) {
    this.sliceOf = new Map(imageIds.map((imageId, k) => [imageId, k]));
    const { element } = viewport;
    this.canvas = element.ownerDocument.createElement('canvas');
    this.canvas.className = 'rl-mask';
    this.canvas.dataset.cy = 'rl-mask';
    this.canvas.setAttribute('aria-hidden', 'true');
    Object.assign(this.canvas.style, { position: 'absolute', left: '0', top: '0', width: '100%', height: '100%', pointerEvents: 'none' });
    // Right above the picture, below what measurements draw.
    const picture = element.querySelector('canvas.cornerstone-canvas');
    if (picture === null) element.append(this.canvas);
    else picture.after(this.canvas);
    element.addEventListener(RENDERED, this.draw);
    for (const event of MOVED) element.addEventListener(event, this.soon);
    this.resized = new ResizeObserver(this.soon);
    this.resized.observe(element);
  }

  update(content: OverlayContent | null): void {
    this.content = content;
    this.previewed = null;
    this.prepared = null;
    this.draw();
  }

  preview(mask: SliceMask, looks: Readonly<Record<number, LesionLook>>): void {
    const section = this.section();
    if (section === null || section.axis !== 0 || section.index !== mask.k) return;
    this.previewed = previewOf(mask, looks, this.content, this.grid.shape);
    this.prepared = null;
    this.draw();
  }

  hitTest(point: readonly [number, number]): Voxel | null {
    const section = this.section();
    if (section === null) return null;
    return voxelAt(this.grid, section, this.viewport.canvasToWorld([point[0], point[1]]) as unknown as Point);
  }

  section(): Section | null {
    const { type } = this.viewport;
    if (type !== undefined && type !== 'stack' && type !== 'orthographic') return null;
    const frame = this.viewport.getFrameOfReferenceUID?.();
    if (frame !== undefined && frame !== '' && this.grid.frameUid !== '' && frame !== this.grid.frameUid) return null;
    const { viewPlaneNormal, focalPoint } = this.viewport.getCamera();
    if (viewPlaneNormal === undefined || focalPoint === undefined) return null;
    const axis = axisAcross(this.grid.affine, viewPlaneNormal as unknown as Point);
    if (axis === null) return null;
    if (axis === 0) {
      const imageId = this.viewport.getCurrentImageId?.();
      const k = imageId === undefined ? undefined : this.sliceOf.get(imageId);
      if (k !== undefined) return { axis, index: k };
    }
    // A stack has no place in space but its images': another series' is not ours.
    if (type === 'stack') return null;
    return sectionThrough(this.grid, axis, focalPoint as unknown as Point);
  }

  remove(): void {
    const { element } = this.viewport;
    element.removeEventListener(RENDERED, this.draw);
    for (const event of MOVED) element.removeEventListener(event, this.soon);
    this.resized.disconnect();
    cancelAnimationFrame(this.frame);
    this.canvas.remove();
    this.content = this.previewed = this.prepared = null;
  }

  private readonly soon = (): void => {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  };

  private readonly draw = (): void => {
    const started = performance.now();
    // On the processor: a mask is small, and waiting for a software graphics driver takes longer than drawing it.
    const context = this.canvas.getContext('2d', { willReadFrequently: true });
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (context === null || width === 0 || height === 0) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    const section = this.section();
    const prepared = section === null ? null : this.prepare(section);
    if (prepared !== null) this.put(context, prepared, ratio);
    this.millis = performance.now() - started;
  };

  private prepare(section: Section): Prepared | null {
    // A preview holds for its own slice only.
    const content = this.previewed !== null && section.axis === 0 ? this.previewed : this.content;
    if (content === null) return null;
    const name = `${section.axis}:${section.index}:${content === this.previewed}`;
    if (this.prepared !== null && this.preparedFor === name) return this.prepared;
    this.preparedFor = name;
    const patch = labelPatch(content.runs, this.grid.shape, section);
    this.prepared = patch === null ? null : { section, patch, pixels: paint(patch, content, this.canvas.ownerDocument), borders: bordersOf(patch, content) };
    return this.prepared;
  }

  private put(context: CanvasRenderingContext2D, prepared: Prepared, ratio: number): void {
    const at = placing(this.grid, prepared.section, point => this.viewport.worldToCanvas([point[0], point[1], point[2]]));
    const matrix = new DOMMatrix(
      [at.across[0], at.across[1], at.down[0], at.down[1], at.origin[0], at.origin[1]].map(value => value * ratio),
    );
    context.setTransform(matrix);
    context.imageSmoothingEnabled = false;
    context.drawImage(prepared.pixels, prepared.patch.left, prepared.patch.top);
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (const { look, path } of prepared.borders) {
      const placed = new Path2D();
      placed.addPath(path, matrix);
      context.lineWidth = (look.selected === true ? SELECTED_PX : OUTLINE_PX) * ratio;
      context.setLineDash(look.counted ? [] : [DASH_PX * ratio, DASH_PX * ratio]);
      context.strokeStyle = look.selected === true ? 'rgb(255 255 255)' : `rgb(${look.color.join(' ')})`;
      context.stroke(placed);
    }
  }
}

function shown(content: OverlayContent, label: number): LesionLook | null {
  const look = label === 0 ? undefined : content.looks[label - 1];
  return look === undefined || (!look.counted && !content.showExcluded) ? null : look;
}

/** The filled part, one pixel for each voxel of the patch; edges stand out. */
function paint(patch: LabelPatch, content: OverlayContent, document: Document): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = patch.columns;
  canvas.height = patch.rows;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (context === null) return canvas;
  const image = context.createImageData(patch.columns, patch.rows);
  const pixels = new Uint32Array(image.data.buffer);
  const { labels, columns } = patch;
  const inner = colorsOf(content, content.opacity);
  const edge = colorsOf(content, content.opacity + EDGE_OPACITY);
  for (let p = 0; p < labels.length; p++) {
    const label = labels[p]!;
    if (label === 0 || inner[label] === 0) continue;
    const x = p % columns;
    const inside =
      x > 0 && x + 1 < columns && labels[p - 1] === label && labels[p + 1] === label && labels[p - columns] === label && labels[p + columns] === label;
    if (content.looks[label - 1]!.counted) pixels[p] = inside ? inner[label]! : edge[label]!;
    else if ((Math.floor(p / columns) + x) % HATCH === 0) pixels[p] = inner[label]!;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A colour for each label as a canvas holds it, in the byte order that every browser's machine has; 0 for what is not shown. */
function colorsOf(content: OverlayContent, opacity: number): Uint32Array {
  const alpha = Math.round(255 * Math.min(Math.max(opacity, 0), 1));
  const colors = new Uint32Array(content.looks.length + 1);
  for (let label = 1; label <= content.looks.length; label++) {
    const look = shown(content, label);
    if (look !== null) colors[label] = (alpha << 24) | (look.color[2] << 16) | (look.color[1] << 8) | look.color[0];
  }
  return colors;
}

function bordersOf(patch: LabelPatch, content: OverlayContent): Prepared['borders'] {
  const borders: { look: LesionLook; path: Path2D }[] = [];
  const few = edgeCount(patch) <= MOST_EDGES;
  for (const [label, lines] of outlines(patch, each => few || content.looks[each - 1]?.selected === true)) {
    const look = shown(content, label);
    if (look === null) continue;
    const path = new Path2D();
    for (let n = 0; n < lines.length; n += 4) {
      path.moveTo(lines[n]!, lines[n + 1]!);
      path.lineTo(lines[n + 2]!, lines[n + 3]!);
    }
    borders.push({ look, path });
  }
  // What is selected lies on top.
  return borders.sort((a, b) => Number(a.look.selected === true) - Number(b.look.selected === true));
}

/** One slice as content: each stretch looks like the lesion that was there before, else as its class does. */
function previewOf(
  mask: SliceMask, looks: Readonly<Record<number, LesionLook>>, before: OverlayContent | null, shape: Grid['shape'],
): OverlayContent {
  const order = Array.from(mask.start, (_, n) => n).sort((a, b) => mask.start[a]! - mask.start[b]!);
  const classes = Object.keys(looks).map(Number);
  const known = before?.looks ?? [];
  const all: LesionLook[] = [...known, ...classes.map(each => looks[each]!)];
  let at = before?.runs.sliceStart[mask.k] ?? 0;
  const end = before?.runs.sliceStart[mask.k + 1] ?? 0;
  const lesion = Int32Array.from(order, n => {
    while (before !== null && at < end && before.runs.stop[at]! <= mask.start[n]!) at++;
    if (before !== null && at < end && before.runs.start[at]! < mask.stop[n]!) return before.runs.lesion[at]!;
    return known.length + Math.max(0, classes.indexOf(mask.regionClass[n]!));
  });
  const sliceStart = new Uint32Array(shape[0] + 1).fill(order.length, mask.k + 1);
  const runs: LesionRuns = {
    sliceStart, lesion, start: Uint32Array.from(order, n => mask.start[n]!), stop: Uint32Array.from(order, n => mask.stop[n]!),
  };
  return { runs, looks: all, opacity: before?.opacity ?? 0.5, showExcluded: before?.showExcluded ?? true };
}
