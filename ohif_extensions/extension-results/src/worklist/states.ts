// States of the studies in the list: asked for together, gently, and only while somebody looks.
import { ApiProblem, api, paths } from '../../../shared/client';
import type { StateOfStudy } from '../../../shared/types';

const GATHER_MS = 60;
const FRESH_MS = 5_000;
/** As many as one request may name. */
const AT_ONCE = 100;

type Listener = () => void;

const states = new Map<string, StateOfStudy>();
const watched = new Map<string, Set<Listener>>();
let gather: ReturnType<typeof setTimeout> | undefined;
let again: ReturnType<typeof setInterval> | undefined;

/** What is known of a study; undefined before the first answer, and for one that is not ours to see. */
export function stateOf(study: string): StateOfStudy | undefined {
  return states.get(study);
}

/** Hears when the state of a study changes; the answer stops it. */
export function watch(study: string, listener: Listener): () => void {
  const listeners = watched.get(study) ?? new Set();
  listeners.add(listener);
  watched.set(study, listeners);
  clearTimeout(gather);
  gather = setTimeout(() => void look([...watched.keys()].filter(one => !states.has(one))), GATHER_MS);
  again ??= setInterval(() => {
    if (document.visibilityState === 'visible') {
      void look([...watched.keys()].filter(one => !settled(states.get(one))));
    }
  }, FRESH_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      watched.delete(study);
    }
    if (watched.size === 0) {
      clearInterval(again);
      again = undefined;
    }
  };
}

/** Whether a state stays as it is for long. */
export function settled(state: StateOfStudy | undefined): boolean {
  return state !== undefined && ['done', 'refused', 'failed'].includes(state.state);
}

async function look(studies: readonly string[]): Promise<void> {
  for (let from = 0; from < studies.length; from += AT_ONCE) {
    const some = studies.slice(from, from + AT_ONCE);
    try {
      const answer = await api<Record<string, StateOfStudy>>('GET', paths.states(some));
      for (const study of some) {
        const state = answer[study];
        if (state && JSON.stringify(state) !== JSON.stringify(states.get(study))) {
          states.set(study, state);
          watched.get(study)?.forEach(listener => listener());
        }
      }
    } catch (error) {
      if (!(error instanceof ApiProblem)) {
        throw error;
      }
      // The list goes on without; the next round asks again.
      return;
    }
  }
}
