// Which voxels of each class reach a threshold, one bit each: what the processor then labels.
import { REGION, SET_ASIDE } from '../calcium/candidates';
import type { Values } from '../calcium/grid';
import { limitFor } from '../calcium/grid';
import type { GlDevice } from './device';
import { run } from './pass';
import { Texture } from './texture';

/** Bits in one pixel of the target. */
export const VOXELS_A_PIXEL = 128;
/** Pixels in one row of the target. */
export const PIXELS_A_ROW = 1024;

function shader(floats: boolean, classed: boolean): string {
  return `#version 300 es
precision highp float;
precision highp int;
precision highp ${floats ? '' : 'i'}sampler3D;
precision highp usampler3D;
uniform ${floats ? '' : 'i'}sampler3D values;
${classed ? 'uniform usampler3D classes;' : ''}
uniform ivec3 size;  // across, down, deep
uniform ${floats ? 'float' : 'int'} low;
layout(location = 0) out uvec4 region;
layout(location = 1) out uvec4 setAside;
void main() {
  int flat_ = (int(gl_FragCoord.y) * ${PIXELS_A_ROW} + int(gl_FragCoord.x)) * ${VOXELS_A_PIXEL};
  int plane = size.x * size.y;
  ivec3 at = ivec3(flat_ % size.x, (flat_ % plane) / size.x, flat_ / plane);
  uvec4 counted = uvec4(0u);
  uvec4 aside = uvec4(0u);
  for (int word = 0; word < 4; word++) {
    uint ones = 0u;
    uint others = 0u;
    for (int bit = 0; bit < 32; bit++) {
      if (at.z < size.z) {
        ${floats ? 'float' : 'int'} value = texelFetch(values, at, 0).r;
        if (value >= low) {
          uint which = ${classed ? 'texelFetch(classes, at, 0).r' : `${REGION}u`};
          if (which == ${REGION}u) ones |= 1u << bit;
          if (which == ${SET_ASIDE}u) others |= 1u << bit;
        }
      }
      at.x++;
      if (at.x == size.x) { at.x = 0; at.y++; }
      if (at.y == size.y) { at.y = 0; at.z++; }
    }
    counted[word] = ones;
    aside[word] = others;
  }
  region = counted;
  setAside = aside;
}`;
}

export interface Bits {
  readonly region: Uint32Array;
  readonly setAside: Uint32Array;
}

/** The specification of the shader. */
export function bitsTwin(values: Values, classes: Uint8Array | null, low: number): Bits {
  const words = wordsFor(values.length);
  const region = new Uint32Array(words);
  const setAside = new Uint32Array(words);
  const limit = limitFor(values, low);
  for (let p = 0; p < values.length; p++) {
    if (!(values[p]! >= limit)) continue;
    const which = classes === null ? REGION : classes[p]!;
    if (which === REGION) region[p >> 5]! |= 1 << (p & 31);
    if (which === SET_ASIDE) setAside[p >> 5]! |= 1 << (p & 31);
  }
  return { region, setAside };
}

/** Words that hold so many bits in whole rows of the target. */
function wordsFor(voxels: number): number {
  return Math.ceil(voxels / (VOXELS_A_PIXEL * PIXELS_A_ROW)) * PIXELS_A_ROW * 4;
}

/** Finds bits of slabs of one volume, with textures that are used again for each slab. */
export class BitsPass {
  private readonly values: Texture;
  private readonly classes: Texture | null;
  private readonly region: Texture;
  private readonly setAside: Texture;
  private readonly fragment: string;
  private readonly found: { region: Uint32Array; setAside: Uint32Array };

  /** @param slab slices, rows and columns of the largest slab */
  constructor(
    private readonly device: GlDevice,
    private readonly slab: readonly [number, number, number],
    private readonly floats: boolean,
    classed: boolean,
  ) {
    const size = [slab[2], slab[1], slab[0]] as const;
    const rows = wordsFor(slab[0] * slab[1] * slab[2]) / (4 * PIXELS_A_ROW);
    this.fragment = shader(floats, classed);
    this.values = new Texture(device, '3d', floats ? 'r32f' : 'r16i', size);
    this.classes = classed ? new Texture(device, '3d', 'r8ui', size) : null;
    this.region = new Texture(device, '2d', 'rgba32ui', [PIXELS_A_ROW, rows, 1]);
    this.setAside = new Texture(device, '2d', 'rgba32ui', [PIXELS_A_ROW, rows, 1]);
    this.found = { region: new Uint32Array(rows * PIXELS_A_ROW * 4), setAside: new Uint32Array(rows * PIXELS_A_ROW * 4) };
  }

  /** Bits of whole slices; the arrays are used again by the next call. */
  bits(values: Values, classes: Uint8Array | null, low: number): Bits {
    const [, rows, columns] = this.slab;
    const deep = values.length / (rows * columns);
    const words = wordsFor(values.length);
    this.values.put(values, false);
    if (classes !== null) this.classes?.put(classes, false);
    const region = this.found.region.subarray(0, words);
    const setAside = this.found.setAside.subarray(0, words);
    run(this.device, {
      fragment: this.fragment,
      inputs: { values: this.values, ...(this.classes === null ? {} : { classes: this.classes }) },
      // A whole threshold for whole values: nothing between two of them can be reached.
      uniforms: { size: [columns, rows, deep], low: this.floats ? { float: low } : Math.ceil(low) },
      outputs: [this.region, this.setAside],
      rows: words / (4 * PIXELS_A_ROW),
      read: () => {
        this.region.read(0, region);
        this.setAside.read(1, setAside);
      },
    });
    return { region, setAside };
  }

  release(): void {
    for (const texture of [this.values, this.classes, this.region, this.setAside]) texture?.release();
  }
}
