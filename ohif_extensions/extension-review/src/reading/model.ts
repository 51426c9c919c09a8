/** One result being read: what is loaded, what the reader did, and the scores that follow from both. */

import type { CalciumResult, SliceMask } from '../../../extension-compute/src/calcium/core';
import { voxelsOf } from '../../../extension-compute/src/calcium/areas';
import { type DecidedLesion, nextAddedId } from '../../../extension-compute/src/calcium/decisions';
import type { Voxel } from '../../../extension-compute/src/calcium/grid';
import { lesionAt } from '../../../extension-compute/src/calcium/lesions';
import { maskRuns } from '../../../extension-compute/src/calcium/runs';
import type { CalciumCorrection, Findings } from '../../../shared/types';
import type { Read } from '../correction/build';
import { editOf, type Loaded, loadReading, type LoadOptions, requestOf, type Scored, scored } from './load';
import { type Action, addedDecision, addedPlaces, begin, type Edit, fromDraft, type Reading, reduce } from './state';

export type Phase = 'waiting' | 'loading' | 'ready' | 'failed';

/** All that the panel shows of a reading; a new object whenever something changed. */
export interface ReadingView {
  readonly phase: Phase;
  readonly progress: number;
  /** Why it failed: a code and numbers. */
  readonly code: string;
  readonly loaded: Loaded | null;
  readonly reading: Reading | null;
  readonly result: CalciumResult | null;
  readonly scored: Scored | null;
  /** True while the scores are those of an earlier threshold. */
  readonly stale: boolean;
}

export type Loader = (findings: Findings, imageIds: readonly string[], options: LoadOptions) => Promise<Loaded>;

const EMPTY: ReadingView = {
  phase: 'waiting', progress: 0, code: '', loaded: null, reading: null, result: null, scored: null, stale: false,
};

/** What a network or a server that is back in a moment may cause, and when it is tried again by itself. */
const PASSING: readonly string[] = ['image_failed', 'unreachable', 'orthanc_unreachable', 'answer_unreadable'];
const PAUSES_MS: readonly number[] = [1_000, 2_000, 5_000, 10_000, 20_000];

export class ReadingModel {
  private now: ReadingView = EMPTY;
  private listeners = new Set<() => void>();
  private loading: AbortController | null = null;
  /** Whose reading it is; "" while nobody's. */
  private reader = '';
  private failures = 0;
  /** Shows one slice at a new threshold before the whole is known. */
  preview: ((mask: SliceMask) => void) | null = null;
  /** The slice on the screen, which is answered first. */
  currentSlice: (() => number | null) | null = null;

  constructor(
    readonly findings: Findings,
    private readonly load: Loader = loadReading,
  ) {}

  readonly view = (): ReadingView => this.now;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Loads the volume and the AI's segmentation, once; again after a failure. */
  async start(imageIds: readonly string[]): Promise<void> {
    if (this.now.phase === 'loading' || this.now.phase === 'ready') return;
    const loading = (this.loading = new AbortController());
    // After a failure what the reader did stays.
    const { reading } = this.now;
    this.now.loaded?.engine.close();
    this.set({ ...EMPTY, phase: 'loading' });
    try {
      const onProgress = (done: number, total: number) => this.set({ progress: total ? done / total : 0 });
      const loaded = await this.load(this.findings, imageIds, { signal: loading.signal, onProgress });
      if (loading.signal.aborted) return loaded.engine.close();
      this.failures = 0;
      this.set({ phase: 'ready', loaded, reading: reading ?? begin(loaded.proposal), stale: true });
      await this.compute();
    } catch (error) {
      if (loading.signal.aborted) return;
      this.fail(error);
      if (PASSING.includes(this.now.code) && this.failures < PAUSES_MS.length) {
        setTimeout(() => {
          if (!loading.signal.aborted && this.now.phase === 'failed') void this.start(imageIds);
        }, PAUSES_MS[this.failures++]);
      }
    }
  }

  readonly dispatch = (action: Action): void => {
    const { reading, result } = this.now;
    if (!reading) return;
    const next = reduce(reading, this.withVoxels(action));
    if (next === reading) return;
    const moved = result !== null && needsEngine(next.now, reading.now);
    this.set({ reading: next, stale: this.now.stale || moved });
    if (this.now.stale) void this.compute();
    else this.rescore();
  };

  /** True when a reader's work is not in here yet: it has to be restored first. */
  isNewTo(reader: string): boolean {
    return this.reader !== reader;
  }

  /** Takes away what another reader did and puts back what this one saved and, over it, what they had not saved yet. */
  async restore(reader: string, saved: CalciumCorrection | null, draft: Edit | null): Promise<void> {
    const { loaded } = this.now;
    if (!loaded || this.reader === reader) return;
    const kept = saved ? await editOf(loaded, saved) : null;
    const another = this.reader !== '';
    this.reader = reader;
    if (another) this.dispatch({ type: 'propose', proposal: loaded.proposal });
    if (kept) this.dispatch({ type: 'restore', edit: kept, saved: true });
    if (draft) this.dispatch({ type: 'restore', edit: fromDraft(draft, loaded.proposal), saved: false });
  }

  /** The lesion at a voxel, whether it counts or not. */
  lesionAt(voxel: Voxel): DecidedLesion | null {
    const { result, scored: known, loaded } = this.now;
    if (!result || !known || !loaded) return null;
    const n = lesionAt(result.runs, voxel.k, voxel.j * loaded.volume.grid.shape[2] + voxel.i);
    return n < 0 ? null : (known.lesions[n] ?? null);
  }

  /** Value at a voxel in HU. */
  valueAt(voxel: Voxel): number {
    const { loaded } = this.now;
    if (!loaded) return Number.NaN;
    const [, rows, columns] = loaded.volume.grid.shape;
    return loaded.volume.values[(voxel.k * rows + voxel.j) * columns + voxel.i] ?? Number.NaN;
  }

  /** Adds the bright spot around a voxel; the new lesion's id, or why it is none. */
  async addAt(voxel: Voxel): Promise<{ readonly id: string } | { readonly refused: string }> {
    const { loaded, reading } = this.now;
    if (!loaded || !reading) return { refused: 'outside_volume' };
    const found = await loaded.engine.add(voxel, reading.now.thresholdHu);
    if ('refused' in found) return found;
    const decisions = this.now.reading?.now.decisions ?? [];
    const id = nextAddedId(decisions);
    this.dispatch({ type: 'add', decision: addedDecision(id, found.peak, found.peakHu) });
    return { id };
  }

  /** What is to be sent; null while the scores are not those of what the reader sees. */
  read(): Read | null {
    const { loaded, reading, result, scored: known, stale } = this.now;
    if (!loaded || !reading || !result || !known || stale) return null;
    const { sopInstanceUids } = loaded.volume.grid;
    const mask = maskRuns(result.runs, known.lesions, sopInstanceUids);
    return { edit: reading.now, lesions: known.lesions, scores: known.scores, mask, sopInstanceUids };
  }

  close(): void {
    this.loading?.abort();
    this.now.loaded?.engine.close();
    this.set(EMPTY);
  }

  /** A decision on a lesion remembers the voxels that the lesion has on the screen. */
  private withVoxels(action: Action): Action {
    const { loaded, result, scored: known } = this.now;
    if (action.type !== 'decide' || !loaded || !result || !known) return action;
    const n = known.lesions.findIndex((lesion) => lesion.id === action.lesion.id);
    if (n < 0) return action;
    return { ...action, voxels: voxelsOf(new Set([n]), result.runs, loaded.volume.grid.shape).get(n) ?? [] };
  }

  private async compute(): Promise<void> {
    const { loaded, reading } = this.now;
    if (!loaded || !reading) return;
    try {
      const request = requestOf(reading.now, this.currentSlice?.() ?? undefined);
      const result = await loaded.engine.compute(request, (mask) => this.preview?.(mask));
      // Null: a newer request is on its way and will answer.
      if (result === null || this.now.loaded !== loaded) return;
      const current = this.now.reading ?? reading;
      const stale = needsEngine(current.now, reading.now);
      this.set({ result, stale, scored: scored(loaded, current.now, result) });
    } catch (error) {
      if (this.now.loaded === loaded) this.fail(error);
    }
  }

  private rescore(): void {
    const { loaded, reading, result } = this.now;
    if (loaded && reading && result) this.set({ scored: scored(loaded, reading.now, result) });
  }

  private fail(error: unknown): void {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unexpected';
    // What the reader did stays; only the means to compute it are gone.
    this.set({ phase: 'failed', code });
  }

  private set(change: Partial<ReadingView>): void {
    this.now = { ...this.now, ...change };
    for (const listener of this.listeners) listener();
  }
}

/** Whether lesions have to be found anew, not only scored. */
function needsEngine(one: Edit, other: Edit): boolean {
  return one.thresholdHu !== other.thresholdHu || JSON.stringify(addedPlaces(one)) !== JSON.stringify(addedPlaces(other));
}
