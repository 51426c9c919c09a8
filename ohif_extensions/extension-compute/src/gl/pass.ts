// One pass: a rectangle that covers the target, each of whose pixels a fragment shader computes.
import type { GlDevice } from './device';
import { GlProblem } from './problem';
import type { Texture } from './texture';

/** A triangle larger than the target, without any buffer. */
const COVER = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

export type Uniforms = Readonly<Record<string, number | readonly number[] | { readonly float: number }>>;

export interface Pass {
  readonly fragment: string;
  /** Other than a cover: with `points` of them. */
  readonly vertex?: string;
  readonly points?: number;
  readonly inputs: Readonly<Record<string, Texture>>;
  /** Integers (alone or up to four), or floats. */
  readonly uniforms: Uniforms;
  readonly outputs: readonly Texture[];
  /** Rows of the target that are computed; all by default. */
  readonly rows?: number;
  /** Add to what is there. */
  readonly blend?: boolean;
  /** Reads outputs while they are attached. */
  readonly read?: () => void;
}

export function run(device: GlDevice, pass: Pass): void {
  const { gl } = device;
  device.check();
  const program = device.program(pass.vertex ?? COVER, pass.fragment);
  gl.useProgram(program);
  Object.entries(pass.inputs).forEach(([name, texture], unit) => {
    texture.bind(unit);
    gl.uniform1i(gl.getUniformLocation(program, name), unit);
  });
  for (const [name, value] of Object.entries(pass.uniforms)) {
    const place = gl.getUniformLocation(program, name);
    if (typeof value === 'number') gl.uniform1i(place, value);
    else if ('float' in value) gl.uniform1f(place, value.float);
    else if (value.length === 2) gl.uniform2iv(place, [...value]);
    else if (value.length === 3) gl.uniform3iv(place, [...value]);
    else gl.uniform4iv(place, [...value]);
  }
  const frame = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
  try {
    pass.outputs.forEach((texture, n) => texture.attach(n));
    gl.drawBuffers(pass.outputs.map((_, n) => gl.COLOR_ATTACHMENT0 + n));
    const state = gl.checkFramebufferStatus(gl.FRAMEBUFFER);
    if (state !== gl.FRAMEBUFFER_COMPLETE) throw new GlProblem(gl.isContextLost() ? 'lost' : 'driver', `framebuffer ${state}`);
    const [across, down] = pass.outputs[0]!.size;
    gl.viewport(0, 0, across, pass.rows ?? down);
    gl.disable(gl.DITHER);
    if (pass.blend === true) {
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE);
    } else gl.disable(gl.BLEND);
    if (pass.points === undefined) gl.drawArrays(gl.TRIANGLES, 0, 3);
    else gl.drawArrays(gl.POINTS, 0, pass.points);
    pass.read?.();
    device.check();
  } finally {
    gl.disable(gl.BLEND);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.deleteFramebuffer(frame);
  }
}
