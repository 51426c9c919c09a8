// Textures from typed arrays and to render into; each counts in the budget and comes back after a lost context.
import type { Gl, GlDevice } from './device';
import { GlProblem } from './problem';

export type Kind = 'r16i' | 'r32f' | 'r8ui' | 'rgba32ui' | 'rgba32i' | 'rgba32f' | 'r32i';
export type Shape = '2d' | '3d' | 'array';
export type Data = Int16Array | Float32Array | Uint8Array | Uint32Array | Int32Array;

interface Format {
  readonly internal: number;
  readonly format: number;
  readonly type: number;
  readonly bytes: number;
  readonly channels: number;
}

function formatOf(gl: Gl, kind: Kind): Format {
  switch (kind) {
    case 'r16i': return { internal: gl.R16I, format: gl.RED_INTEGER, type: gl.SHORT, bytes: 2, channels: 1 };
    case 'r8ui': return { internal: gl.R8UI, format: gl.RED_INTEGER, type: gl.UNSIGNED_BYTE, bytes: 1, channels: 1 };
    case 'r32i': return { internal: gl.R32I, format: gl.RED_INTEGER, type: gl.INT, bytes: 4, channels: 1 };
    case 'r32f': return { internal: gl.R32F, format: gl.RED, type: gl.FLOAT, bytes: 4, channels: 1 };
    case 'rgba32ui': return { internal: gl.RGBA32UI, format: gl.RGBA_INTEGER, type: gl.UNSIGNED_INT, bytes: 16, channels: 4 };
    case 'rgba32i': return { internal: gl.RGBA32I, format: gl.RGBA_INTEGER, type: gl.INT, bytes: 16, channels: 4 };
    case 'rgba32f': return { internal: gl.RGBA32F, format: gl.RGBA, type: gl.FLOAT, bytes: 16, channels: 4 };
  }
}

export class Texture {
  private handle: WebGLTexture | null = null;
  private data: Data | null = null;
  private readonly giveMemory: () => void;
  private readonly forget: () => void;

  /** @param size across, down, deep; deep is 1 for a flat one */
  constructor(
    private readonly device: GlDevice,
    readonly shape: Shape,
    readonly kind: Kind,
    readonly size: readonly [number, number, number],
  ) {
    const { limits } = device;
    const most = shape === '3d' ? [limits.texture3d, limits.texture3d, limits.texture3d] : [limits.texture2d, limits.texture2d, shape === 'array' ? limits.layers : 1];
    if (size.some((length, axis) => length < 1 || length > most[axis]!)) throw new GlProblem('too_large', `${size.join(' x ')}`);
    this.giveMemory = device.memory.take(size[0] * size[1] * size[2] * formatOf(device.gl, kind).bytes);
    try {
      this.make();
    } catch (error) {
      this.giveMemory();
      throw error;
    }
    this.forget = device.keep({
      restore: () => {
        this.make();
        if (this.data !== null) this.put(this.data);
      },
    });
  }

  get target(): number {
    const { gl } = this.device;
    return this.shape === '2d' ? gl.TEXTURE_2D : this.shape === '3d' ? gl.TEXTURE_3D : gl.TEXTURE_2D_ARRAY;
  }

  private make(): void {
    const { gl } = this.device;
    const { internal } = formatOf(gl, this.kind);
    this.handle = gl.createTexture();
    gl.bindTexture(this.target, this.handle);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(this.target, name, gl.NEAREST);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(this.target, name, gl.CLAMP_TO_EDGE);
    const [across, down, deep] = this.size;
    if (this.shape === '2d') gl.texStorage2D(this.target, 1, internal, across, down);
    else gl.texStorage3D(this.target, 1, internal, across, down, deep);
    this.device.check();
  }

  /** Fills it from its beginning, whole slices at a time; `remember` puts it back after a loss. */
  put(data: Data, remember = true): void {
    const { gl } = this.device;
    const { format, type, channels } = formatOf(gl, this.kind);
    const [across, down, deep] = this.size;
    const slices = data.length / (across * down * channels);
    if (!Number.isInteger(slices) || slices > deep) throw new GlProblem('too_large', `${data.length} values`);
    if (remember) this.data = data;
    gl.bindTexture(this.target, this.handle);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    // Shared memory may not be given to the driver, which reads it at leisure.
    const own = data.buffer instanceof ArrayBuffer ? data : data.slice();
    if (this.shape === '2d') gl.texSubImage2D(this.target, 0, 0, 0, across, down, format, type, own);
    else gl.texSubImage3D(this.target, 0, 0, 0, 0, across, down, slices, format, type, own);
    this.device.check();
  }

  /** Binds it to a unit for a shader. */
  bind(unit: number): void {
    const { gl } = this.device;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(this.target, this.handle);
  }

  /** Makes it a colour attachment of the bound framebuffer. */
  attach(index: number): void {
    const { gl } = this.device;
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + index, gl.TEXTURE_2D, this.handle, 0);
  }

  /** Reads the bound framebuffer's attachment into `into`, as many rows as it holds. */
  read(index: number, into: Data): void {
    const { gl } = this.device;
    const { format, type, channels } = formatOf(gl, this.kind);
    gl.readBuffer(gl.COLOR_ATTACHMENT0 + index);
    gl.pixelStorei(gl.PACK_ALIGNMENT, 1);
    gl.readPixels(0, 0, this.size[0], into.length / (this.size[0] * channels), format, type, into);
  }

  /** Gives its memory back. */
  release(): void {
    this.forget();
    this.giveMemory();
    if (this.handle !== null) this.device.gl.deleteTexture(this.handle);
    this.handle = this.data = null;
  }
}
