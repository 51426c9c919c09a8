// The live mask over a viewport: a canvas of its own, drawn through the viewport's camera, right under zoom, pan, rotation and flip.
import type { Grid, Voxel } from './calcium/grid';
import type { SliceMask } from './calcium/core';
import type { LesionRuns } from './calcium/lesions';

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
  /** Whether lesions that do not count are shown, hatched and without fill. */
  readonly showExcluded: boolean;
}

export interface Overlay {
  /** Show this from now on; null for nothing. */
  update(content: OverlayContent | null): void;
  /** Show one slice as it will be, until the next `update`; `looks` by region class. */
  preview(mask: SliceMask, looks: Readonly<Record<number, LesionLook>>): void;
  /** The voxel under a point of the viewport in CSS pixels; null when it shows no slice of this volume. */
  hitTest(point: readonly [number, number]): Voxel | null;
  /** The slice that is shown; null when it is none of this volume's. */
  currentSlice(): number | null;
  /** Takes the canvas and all listeners away. */
  remove(): void;
}

/** What is used of a cornerstone viewport. */
export interface OverlayViewport {
  readonly element: HTMLElement;
  worldToCanvas(point: [number, number, number]): number[];
  canvasToWorld(point: [number, number]): number[];
  getCamera(): { viewPlaneNormal?: number[]; focalPoint?: number[] };
  getCurrentImageId?(): string | undefined;
}

export declare function createOverlay(viewport: OverlayViewport, grid: Grid, imageIds: readonly string[]): Overlay;
