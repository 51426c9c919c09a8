// The results and corrections of one study as they are now: loaded once for all panels, kept fresh while anybody looks.
import { ApiProblem, api, listen, onSession, paths } from './client';
import type { Correction, Results } from './types';

export interface Snapshot {
  results: Results | null;
  corrections: readonly Correction[];
  /** Why there is nothing, or nothing newer; null when all is well. */
  problem: ApiProblem | null;
  /** Whether changes are heard as they happen. */
  live: boolean;
}

const NOTHING: Snapshot = { results: null, corrections: [], problem: null, live: false };

/** Waits this long between two looks while the line for events is down. */
const POLL_MS = 10_000;
/** Events come in bursts (queued, running, stage, stage ...); one look serves them all. */
const GATHER_MS = 150;

export class StudyResults {
  readonly study: string;
  private snapshot: Snapshot = NOTHING;
  private readonly listeners = new Set<() => void>();
  private stopListening: (() => void) | null = null;
  private poll: ReturnType<typeof setInterval> | undefined;
  private gather: ReturnType<typeof setTimeout> | undefined;
  private looking = false;
  private lookAgain = false;

  constructor(study: string) {
    this.study = study;
  }

  readonly current = (): Snapshot => this.snapshot;

  /** Hears of every change; the first listener starts the work, the last one to go ends it. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (this.listeners.size === 1) {
      this.start();
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) {
        this.stop();
      }
    };
  };

  /** Looks now; many calls at once make one request. */
  refresh = async (): Promise<void> => {
    if (this.looking) {
      this.lookAgain = true;
      return;
    }
    this.looking = true;
    try {
      const [results, { corrections }] = await Promise.all([
        api<Results>('GET', paths.results(this.study)),
        api<{ corrections: Correction[] }>('GET', paths.corrections(this.study)),
      ]);
      this.change({ results, corrections, problem: null });
    } catch (error) {
      if (error instanceof ApiProblem) {
        this.change({ problem: error });
      } else {
        throw error;
      }
    } finally {
      this.looking = false;
    }
    if (this.lookAgain) {
      this.lookAgain = false;
      await this.refresh();
    }
  };

  /** Asks for another run of what the AI did with a series. */
  async rerun(series: string): Promise<void> {
    await api<{ job: string }>('POST', paths.rerun(this.study, series), {});
    await this.refresh();
  }

  private start(): void {
    const soon = (): void => {
      clearTimeout(this.gather);
      this.gather = setTimeout(() => void this.refresh(), GATHER_MS);
    };
    const events = listen(this.study, soon, live => this.change({ live }));
    const back = onSession('session-back', soon);
    this.poll = setInterval(() => {
      if (!this.snapshot.live && this.snapshot.problem?.status !== 401) {
        soon();
      }
    }, POLL_MS);
    this.stopListening = () => {
      events();
      back();
    };
    void this.refresh();
  }

  private stop(): void {
    this.stopListening?.();
    this.stopListening = null;
    clearInterval(this.poll);
    clearTimeout(this.gather);
    this.snapshot = { ...this.snapshot, live: false };
  }

  private change(part: Partial<Snapshot>): void {
    this.snapshot = { ...this.snapshot, ...part };
    for (const listener of [...this.listeners]) {
      listener();
    }
  }
}

const known = new Map<string, StudyResults>();

/** The one holder of a study's results; all panels share it. */
export function resultsOf(study: string): StudyResults {
  let found = known.get(study);
  if (found === undefined) {
    found = new StudyResults(study);
    known.set(study, found);
  }
  return found;
}
