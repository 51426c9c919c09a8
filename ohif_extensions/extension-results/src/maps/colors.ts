// Colour maps of DICOM (PS3.6 annex B) by the entries between which they are straight, for the viewer and for a strip of the panel.
import { utilities } from '@cornerstonejs/core';

type Entry = readonly [index: number, color: `#${string}`];

const MAPS: Readonly<Record<string, readonly Entry[]>> = {
  HOT_IRON: [[0, '#000000'], [128, '#ff0000'], [191, '#ff7e00'], [255, '#ffffff']],
  PET: [[0, '#000000'], [63, '#00807d'], [128, '#8000ff'], [192, '#ff8000'], [255, '#ffffff']],
  HOT_METAL_BLUE: [
    [0, '#000000'],
    [85, '#0000a7'],
    [102, '#3200c8'],
    [119, '#5a0096'],
    [136, '#8c2032'],
    [153, '#be4000'],
    [170, '#ff6000'],
    [244, '#ffebdb'],
    [255, '#ffffff'],
  ],
};
const LAST = 255;
const FALLBACK = 'HOT_IRON';

function entriesOf(name: string): readonly Entry[] {
  return MAPS[name] ?? MAPS[FALLBACK] ?? [];
}

/** What the viewer calls it; hot iron for a map that is not known. */
export function colorsOfViewer(name: string): string {
  return `radloop ${name in MAPS ? name : FALLBACK}`;
}

/** Position from 0 to 1, red, green and blue likewise, for each entry. */
export function pointsOf(name: string): number[] {
  return entriesOf(name).flatMap(([index, color]) => [index / LAST, ...channels(color)]);
}

function channels(color: string): number[] {
  return [1, 3, 5].map(at => parseInt(color.slice(at, at + 2), 16) / LAST);
}

/** Makes them known to cornerstone, which has none of DICOM's. */
export function registerColors(): void {
  for (const name of Object.keys(MAPS)) {
    utilities.colormap.registerColormap({ ColorSpace: 'RGB', Name: colorsOfViewer(name), RGBPoints: pointsOf(name) });
  }
}

/** As a background. */
export function rampOf(name: string): string {
  const stops = entriesOf(name).map(([index, color]) => `${color} ${((100 * index) / LAST).toFixed(1)}%`);
  return `linear-gradient(to right, ${stops.join(', ')})`;
}
