// A WebGL2 context that says what it can, survives its loss, and knows whether a graphics card is behind it.
import { MemoryBudget } from './budget';
import { GlProblem } from './problem';

export type Gl = WebGL2RenderingContext;

/** A gigabyte: what a slab-wise pass needs many times over, and half of what all of it may take. */
const MOST_BYTES = 2 ** 30;

/** Renderers that compute on the processor, where a worker is faster. */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|microsoft basic render|warp|swrast/i;

export interface Limits {
  readonly texture3d: number;
  readonly texture2d: number;
  readonly layers: number;
}

interface Kept {
  /** Puts it on a fresh context again. */
  restore(): void;
}

export class GlDevice {
  private readonly kept = new Set<Kept>();
  private readonly programs = new Map<string, WebGLProgram>();
  private isLost = false;
  private readonly waiting: (() => void)[] = [];

  readonly limits: Limits;
  /** The graphics card's name as the browser tells it. */
  readonly renderer: string;

  private constructor(
    readonly gl: Gl,
    private readonly canvas: HTMLCanvasElement | OffscreenCanvas,
    readonly memory: MemoryBudget,
  ) {
    this.canvas.addEventListener('webglcontextlost', this.onLost);
    this.canvas.addEventListener('webglcontextrestored', this.onRestored);
    // Asked once: a lost context answers nothing.
    this.limits = {
      texture3d: Number(gl.getParameter(gl.MAX_3D_TEXTURE_SIZE)),
      texture2d: Number(gl.getParameter(gl.MAX_TEXTURE_SIZE)),
      layers: Number(gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS)),
    };
    const named = gl.getExtension('WEBGL_debug_renderer_info');
    this.renderer = String(gl.getParameter(named === null ? gl.RENDERER : named.UNMASKED_RENDERER_WEBGL));
  }

  /** A context of its own; throws `no_webgl2` or `no_targets`. */
  static open(mostBytes = MOST_BYTES): GlDevice {
    const canvas: HTMLCanvasElement | OffscreenCanvas = typeof document === 'undefined' ? new OffscreenCanvas(1, 1) : document.createElement('canvas');
    const wish: WebGLContextAttributes = { antialias: false, depth: false, stencil: false, alpha: false, powerPreference: 'high-performance' };
    const gl = canvas instanceof OffscreenCanvas ? canvas.getContext('webgl2', wish) : canvas.getContext('webgl2', wish);
    if (gl === null) throw new GlProblem('no_webgl2');
    if (gl.getExtension('EXT_color_buffer_float') === null) throw new GlProblem('no_targets');
    return new GlDevice(gl, canvas, new MemoryBudget(mostBytes));
  }

  /** Whether the processor draws: a graphics card's name is missing or is one of those. */
  get software(): boolean {
    return SOFTWARE.test(this.renderer);
  }

  get lost(): boolean {
    return this.isLost || this.gl.isContextLost();
  }

  /** Throws `lost` or what the driver complains of. */
  check(): void {
    if (this.lost) throw new GlProblem('lost');
    const error = this.gl.getError();
    if (error === this.gl.CONTEXT_LOST_WEBGL) throw new GlProblem('lost');
    if (error === this.gl.OUT_OF_MEMORY) throw new GlProblem('too_large', 'out of memory');
    if (error !== this.gl.NO_ERROR) throw new GlProblem('driver', `error ${error}`);
  }

  /** When the context is back with all that was kept on it; at once when it is not lost. */
  restored(): Promise<void> {
    return this.lost ? new Promise(resolve => this.waiting.push(resolve)) : Promise.resolve();
  }

  /** Have something put back after a loss; the answer ends that. */
  keep(what: Kept): () => void {
    this.kept.add(what);
    return () => this.kept.delete(what);
  }

  /** The program of two shaders, made once for each context; throws `shader` with the line that is wrong. */
  program(vertex: string, fragment: string): WebGLProgram {
    const key = `${vertex}\0${fragment}`;
    let program = this.programs.get(key);
    if (program === undefined) {
      program = link(this.gl, vertex, fragment);
      this.programs.set(key, program);
    }
    return program;
  }

  /** Gives the context back. */
  close(): void {
    this.canvas.removeEventListener('webglcontextlost', this.onLost);
    this.canvas.removeEventListener('webglcontextrestored', this.onRestored);
    this.kept.clear();
    this.programs.clear();
    this.gl.getExtension('WEBGL_lose_context')?.loseContext();
  }

  private readonly onLost = (event: Event): void => {
    // Without this the browser does not restore it.
    event.preventDefault();
    this.isLost = true;
    this.programs.clear();
  };

  private readonly onRestored = (): void => {
    this.isLost = false;
    this.gl.getExtension('EXT_color_buffer_float');
    for (const each of this.kept) each.restore();
    for (const tell of this.waiting.splice(0)) tell();
  };
}

function link(gl: Gl, vertex: string, fragment: string): WebGLProgram {
  const program = gl.createProgram();
  const shaders = [compile(gl, gl.VERTEX_SHADER, vertex), compile(gl, gl.FRAGMENT_SHADER, fragment)];
  for (const shader of shaders) gl.attachShader(program, shader);
  gl.linkProgram(program);
  for (const shader of shaders) gl.deleteShader(shader);
  if (gl.isContextLost()) throw new GlProblem('lost');
  if (gl.getProgramParameter(program, gl.LINK_STATUS) !== true) throw new GlProblem('shader', gl.getProgramInfoLog(program) ?? 'not linked');
  return program;
}

function compile(gl: Gl, type: number, source: string): WebGLShader {
  const shader = gl.createShader(type);
  if (shader === null || gl.isContextLost()) throw new GlProblem('lost');
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  if (gl.getShaderParameter(shader, gl.COMPILE_STATUS) !== true) {
    if (gl.isContextLost()) throw new GlProblem('lost');
    throw new GlProblem('shader', readable(gl.getShaderInfoLog(shader) ?? '', source));
  }
  return shader;
}

/** A compiler's complaints, each with the line of source it is about. */
export function readable(log: string, source: string): string {
  const lines = source.split('\n');
  return log
    .replace(/\0/g, '')
    .trim()
    .split('\n')
    .map(complaint => {
      const where = /^(?:ERROR|WARNING):\s*\d+:(\d+):/.exec(complaint);
      const line = where === null ? undefined : lines[Number(where[1]) - 1];
      return line === undefined ? complaint : `${complaint}\n  ${Number(where![1])} | ${line.trim()}`;
    })
    .join('\n');
}
