// A flat float texture brought down to one number, sixteen by sixteen at a time: sum, highest or lowest.
import type { GlDevice } from './device';
import { run } from './pass';
import { Texture } from './texture';

export type Reduction = 'sum' | 'max' | 'min';

const SIDE = 16;
const STEPS: Readonly<Record<Reduction, string>> = { sum: 'found + value', max: 'max(found, value)', min: 'min(found, value)' };

function shader(how: Reduction): string {
  return `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
uniform sampler2D source;
uniform ivec2 size;
out float result;
void main() {
  ivec2 first = ivec2(gl_FragCoord.xy) * ${SIDE};
  float found = texelFetch(source, first, 0).r;
  for (int y = 0; y < ${SIDE}; y++) {
    for (int x = 0; x < ${SIDE}; x++) {
      ivec2 at = first + ivec2(x, y);
      if ((x == 0 && y == 0) || at.x >= size.x || at.y >= size.y) continue;
      float value = texelFetch(source, at, 0).r;
      found = ${STEPS[how]};
    }
  }
  result = found;
}`;
}

/** The specification of the shader: the same blocks, each in the same order, rounded to float32 after each step. */
export function reduceTwin(values: Float32Array, across: number, down: number, how: Reduction): number {
  const step = { sum: (a: number, b: number) => Math.fround(a + b), max: Math.max, min: Math.min }[how];
  let [from, width, height] = [values, across, down];
  while (width > 1 || height > 1) {
    const [wide, high] = [Math.ceil(width / SIDE), Math.ceil(height / SIDE)];
    const to = new Float32Array(wide * high);
    for (let row = 0; row < high; row++) {
      for (let column = 0; column < wide; column++) {
        let found = from[row * SIDE * width + column * SIDE]!;
        for (let y = 0; y < SIDE; y++) {
          for (let x = 0; x < SIDE; x++) {
            const [i, j] = [column * SIDE + x, row * SIDE + y];
            if ((x > 0 || y > 0) && i < width && j < height) found = step(found, from[j * width + i]!);
          }
        }
        to[row * wide + column] = found;
      }
    }
    [from, width, height] = [to, wide, high];
  }
  return from[0]!;
}

/** The same on the graphics card. */
export function reduce(device: GlDevice, source: Texture, how: Reduction): number {
  const fragment = shader(how);
  const result = new Float32Array(1);
  let from = source;
  try {
    for (;;) {
      const [across, down] = from.size;
      const size = [Math.ceil(across / SIDE), Math.ceil(down / SIDE), 1] as const;
      const to = new Texture(device, '2d', 'r32f', size);
      const last = size[0] === 1 && size[1] === 1;
      try {
        run(device, {
          fragment, inputs: { source: from }, uniforms: { size: [across, down] }, outputs: [to],
          ...(last ? { read: () => to.read(0, result) } : {}),
        });
      } catch (error) {
        to.release();
        throw error;
      }
      if (from !== source) from.release();
      from = to;
      if (last) return result[0]!;
    }
  } finally {
    if (from !== source) from.release();
  }
}
