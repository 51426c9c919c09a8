// Calcium of one volume at any threshold, off the page's thread; a newer threshold makes an older one pointless.
import workerUrl from './calcium.worker.ts?worker';
import type { AddedLesion, CalciumRequest, CalciumResult, ClassedVolume, Rule, SliceMask } from './calcium/core';
import { CalciumCore, STANDARD_RULE } from './calcium/core';
import type { Voxel } from './calcium/grid';
import type { Choice } from './gl/listing';
import type { FromWorker, ProblemCode, ToWorker } from './protocol';
import { problemOf } from './protocol';

/** Why the engine cannot answer. */
export class EngineProblem extends Error {
  constructor(readonly code: ProblemCode) {
    super(code);
    this.name = 'EngineProblem';
  }
}

export interface EngineOptions {
  readonly rule?: Rule;
  /** Where the worker's code is; the one that was built with this by default, none for the page itself. */
  readonly workerUrl?: string | null;
  /** Give the arrays to the worker instead of a copy, where they are not shared: the page cannot read them any more. */
  readonly give?: boolean;
}

/** How long a worker may take to start before the page computes itself. */
const START_MILLIS = 5000;

interface Waiting {
  readonly id: number;
  readonly request: CalciumRequest;
  readonly onSlice: ((mask: SliceMask) => void) | undefined;
  readonly resolve: (result: CalciumResult | null) => void;
  readonly reject: (error: Error) => void;
}

interface Asked {
  readonly resolve: (answer: FromWorker) => void;
  readonly reject: (error: Error) => void;
}

/** Where requests are answered: a worker, or the page when there is none. */
interface Place {
  readonly runsIn: 'worker' | 'page';
  send(message: ToWorker, transfer?: ArrayBufferLike[]): void;
  close(): void;
}

export class CalciumEngine {
  private nextId = 1;
  private running: Waiting | null = null;
  private waiting: Waiting | null = null;
  private readonly asked = new Map<number, Asked>();
  private problem: EngineProblem | null = null;
  /** Voxels that the thresholds of the slider can reach. */
  listed = 0;
  /** Milliseconds that listing them took. */
  listingMillis = 0;
  /** Who listed them, graphics card or processor, and why. */
  choice: Choice = { by: 'processor', why: 'small', renderer: '' };

  private constructor(
    private readonly place: Place,
    private readonly newest: Int32Array | null,
  ) {}

  get runsIn(): 'worker' | 'page' {
    return this.place.runsIn;
  }

  /** Starts with a volume; in the page when no worker can be had. */
  static async start(volume: ClassedVolume, options: EngineOptions = {}): Promise<CalciumEngine> {
    const url = options.workerUrl === undefined ? workerUrl : options.workerUrl;
    const rule = options.rule ?? STANDARD_RULE;
    const newest = typeof SharedArrayBuffer === 'undefined' ? null : new Int32Array(new SharedArrayBuffer(4));
    const worker = url === null ? null : await startWorker(url);
    let engine: CalciumEngine | null = null;
    const hear = (message: FromWorker) => engine?.hear(message);
    const place = worker === null ? inPage(hear) : inWorker(worker, hear);
    engine = new CalciumEngine(place, newest);
    const given = options.give === true ? buffersOf(volume) : [];
    const ready = await engine.ask(0, { kind: 'volume', volume, rule, newest }, given).catch((error: unknown) => {
      // A worker without a volume is of no use, and holds what it was given.
      place.close();
      throw error;
    });
    if (ready.kind === 'ready') {
      engine.listed = ready.listed;
      engine.listingMillis = ready.millis;
      engine.choice = ready.choice;
    }
    return engine;
  }

  /**
   * The lesions at a threshold; null when a newer request came before they were found.
   *
   * @param onSlice told about `currentSlice` before the whole is known
   */
  compute(request: CalciumRequest, onSlice?: (mask: SliceMask) => void): Promise<CalciumResult | null> {
    return new Promise((resolve, reject) => {
      if (this.problem !== null) {
        reject(this.problem);
        return;
      }
      const id = this.nextId++;
      if (this.newest !== null) Atomics.store(this.newest, 0, id);
      this.waiting?.resolve(null);
      this.waiting = { id, request, onSlice, resolve, reject };
      this.next();
    });
  }

  /** What a click on a voxel outside of both classes would add. */
  async add(voxel: Voxel, thresholdHu: number): Promise<AddedLesion> {
    const id = this.nextId++;
    const answer = await this.ask(id, { kind: 'add', id, voxel, thresholdHu });
    return answer.kind === 'added' ? answer.lesion : { refused: 'outside_volume' };
  }

  /** Values in HU; NaN outside of the volume. */
  async valuesAt(voxels: readonly Voxel[]): Promise<readonly number[]> {
    const id = this.nextId++;
    const answer = await this.ask(id, { kind: 'values', id, voxels });
    return answer.kind === 'values' ? answer.values : [];
  }

  /** Ends the worker and lets go of the volume. */
  close(): void {
    this.fail(new EngineProblem('closed'));
    this.place.close();
  }

  private ask(id: number, message: ToWorker, transfer: ArrayBufferLike[] = []): Promise<FromWorker> {
    return new Promise((resolve, reject) => {
      if (this.problem !== null) {
        reject(this.problem);
        return;
      }
      this.asked.set(id, { resolve, reject });
      this.place.send(message, transfer);
    });
  }

  private next(): void {
    if (this.running !== null || this.waiting === null) return;
    this.running = this.waiting;
    this.waiting = null;
    this.place.send({ kind: 'compute', id: this.running.id, request: this.running.request });
  }

  private hear(message: FromWorker): void {
    if (message.kind === 'failed' && message.id === 0) {
      this.fail(new EngineProblem(message.code));
      return;
    }
    const id = 'id' in message ? message.id : 0;
    const asked = this.asked.get(id);
    if (asked !== undefined) {
      this.asked.delete(id);
      if (message.kind === 'failed') asked.reject(new EngineProblem(message.code));
      else asked.resolve(message);
      return;
    }
    const { running } = this;
    if (running === null || running.id !== id) return;
    const superseded = this.waiting !== null;
    if (message.kind === 'slice') {
      // Also of a request that a newer one waits behind: else a slider that never rests would show nothing.
      running.onSlice?.(message.mask);
      return;
    }
    this.running = null;
    if (message.kind === 'result') running.resolve(superseded ? null : message.result);
    else if (message.kind === 'failed') running.reject(new EngineProblem(message.code));
    else running.resolve(null);
    this.next();
  }

  private fail(problem: EngineProblem): void {
    this.problem ??= problem;
    for (const asked of this.asked.values()) asked.reject(problem);
    this.asked.clear();
    this.running?.reject(problem);
    this.waiting?.reject(problem);
    this.running = this.waiting = null;
  }
}

function buffersOf(volume: ClassedVolume): ArrayBufferLike[] {
  const buffers = [volume.values.buffer, ...(volume.classes === null ? [] : [volume.classes.buffer])];
  return typeof SharedArrayBuffer === 'undefined' ? buffers : buffers.filter(buffer => !(buffer instanceof SharedArrayBuffer));
}

/** A worker that has said it is alive; null when it cannot be had. */
function startWorker(url: string): Promise<Worker | null> {
  return new Promise(resolve => {
    let worker: Worker;
    try {
      worker = new Worker(url);
    } catch {
      resolve(null);
      return;
    }
    const give = (found: Worker | null) => {
      clearTimeout(late);
      worker.onmessage = worker.onerror = null;
      if (found === null) worker.terminate();
      resolve(found);
    };
    const late = setTimeout(() => give(null), START_MILLIS);
    worker.onmessage = () => give(worker);
    worker.onerror = () => give(null);
  });
}

function inWorker(worker: Worker, hear: (message: FromWorker) => void): Place {
  worker.onmessage = (event: MessageEvent<FromWorker>) => hear(event.data);
  worker.onerror = () => hear({ kind: 'failed', id: 0, code: 'worker' });
  worker.onmessageerror = () => hear({ kind: 'failed', id: 0, code: 'worker' });
  return {
    runsIn: 'worker',
    send: (message, transfer = []) => worker.postMessage(message, transfer as Transferable[]),
    close: () => worker.terminate(),
  };
}

/** Answers in the page, each in a task of its own so that newer requests come before older ones are begun. */
function inPage(hear: (message: FromWorker) => void): Place {
  let core: CalciumCore | null = null;
  let closed = false;
  const answer = (message: ToWorker): void => {
    if (closed) return;
    if (message.kind === 'volume') {
      core = new CalciumCore(message.volume, message.rule);
      hear({ kind: 'ready', listed: core.listed, millis: core.listingMillis, choice: { by: 'processor', why: 'no_webgl2', renderer: '' } });
    } else if (core === null) {
      hear({ kind: 'failed', id: message.id, code: 'worker' });
    } else if (message.kind === 'compute') {
      const { currentSlice, thresholdHu } = message.request;
      if (currentSlice !== undefined) hear({ kind: 'slice', id: message.id, mask: core.slice(currentSlice, thresholdHu) });
      hear({ kind: 'result', id: message.id, result: core.compute(message.request) });
    } else if (message.kind === 'add') {
      hear({ kind: 'added', id: message.id, lesion: core.add(message.voxel, message.thresholdHu) });
    } else {
      hear({ kind: 'values', id: message.id, values: core.valuesAt(message.voxels) });
    }
  };
  const guarded = (message: ToWorker): void => {
    try {
      answer(message);
    } catch (error) {
      hear({ kind: 'failed', id: 'id' in message ? message.id : 0, code: problemOf(error) });
    }
  };
  return {
    runsIn: 'page',
    send: message => void setTimeout(() => guarded(message)),
    close: () => {
      closed = true;
      core = null;
    },
  };
}
