// The colours of a map as a strip of the panel.

/** Colour maps of DICOM (PS3.6 annex B) by a few of their entries, dark to bright. */
const RAMPS: Readonly<Record<string, readonly string[]>> = {
  HOT_IRON: ['#000', '#800000', '#ff0000', '#ff8000', '#ffff80', '#fff'],
  PET: ['#000', '#007f7f', '#3f3fff', '#bf00bf', '#ff5f00', '#ffcf00', '#fff'],
  HOT_METAL_BLUE: ['#000', '#000070', '#7b1a4f', '#e4703c', '#ffd64e', '#fff'],
  RAINBOW: ['#0000ff', '#00ffff', '#00ff00', '#ffff00', '#ff0000'],
  PERFUSION: ['#0000ff', '#00c0ff', '#00ff60', '#ffff00', '#ff0000'],
  GRAYSCALE: ['#000', '#fff'],
};

export function rampOf(name: string): string {
  return `linear-gradient(to right, ${(RAMPS[name] ?? RAMPS['HOT_IRON'] ?? []).join(', ')})`;
}
