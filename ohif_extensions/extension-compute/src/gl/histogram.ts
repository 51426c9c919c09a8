// How many voxels of a volume fall into each bin: every voxel is a point that is added at its bin.
import type { Values } from '../calcium/grid';
import type { GlDevice } from './device';
import { GlProblem } from './problem';
import { run } from './pass';
import { Texture } from './texture';

/** Bins of equal width from `first` on; what lies outside of all is not counted. */
export interface Bins {
  readonly first: number;
  readonly width: number;
  readonly count: number;
}

/** A float counts exactly up to here, so no more points are drawn at a time. */
const MOST_POINTS = 2 ** 24;

function vertex(floats: boolean): string {
  return `#version 300 es
precision highp float;
precision highp int;
precision highp ${floats ? '' : 'i'}sampler3D;
uniform ${floats ? '' : 'i'}sampler3D values;
uniform ivec3 size;
uniform int start;
uniform float first;
uniform float width;
uniform int bins;
void main() {
  int flat_ = start + gl_VertexID;
  int plane = size.x * size.y;
  float value = float(texelFetch(values, ivec3(flat_ % size.x, (flat_ % plane) / size.x, flat_ / plane), 0).r);
  float place = floor((value - first) / width);
  bool inside = place >= 0.0 && place < float(bins);
  gl_PointSize = 1.0;
  gl_Position = inside ? vec4((place + 0.5) / float(bins) * 2.0 - 1.0, 0.0, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
}`;
}

const FRAGMENT = `#version 300 es
precision highp float;
out float one;
void main() { one = 1.0; }`;

/** The specification of the shader: float32 at each step. */
export function histogramTwin(values: Values, bins: Bins): Float64Array {
  const counts = new Float64Array(bins.count);
  const [first, width] = [Math.fround(bins.first), Math.fround(bins.width)];
  for (const value of values) {
    const place = Math.floor(Math.fround(Math.fround(value - first) / width));
    if (place >= 0 && place < bins.count) counts[place]!++;
  }
  return counts;
}

/** The same on the graphics card; a width that is a power of two makes it exact everywhere. */
export function histogram(device: GlDevice, values: Texture, bins: Bins): Float64Array {
  if (device.gl.getExtension('EXT_float_blend') === null) throw new GlProblem('no_targets', 'EXT_float_blend');
  const [across, down, deep] = values.size;
  const counts = new Float64Array(bins.count);
  const total = across * down * deep;
  for (let start = 0; start < total; start += MOST_POINTS) {
    const target = new Texture(device, '2d', 'r32f', [bins.count, 1, 1]);
    const part = new Float32Array(bins.count);
    try {
      target.put(part, false);
      run(device, {
        vertex: vertex(values.kind === 'r32f'), fragment: FRAGMENT, points: Math.min(MOST_POINTS, total - start),
        inputs: { values },
        uniforms: { size: [across, down, deep], start, first: { float: bins.first }, width: { float: bins.width }, bins: bins.count },
        outputs: [target], blend: true, read: () => target.read(0, part),
      });
    } finally {
      target.release();
    }
    for (let n = 0; n < bins.count; n++) counts[n]! += part[n]!;
  }
  return counts;
}
