/** What the gateway says of a study, as the panel uses it. */

import { useCallback, useSyncExternalStore } from 'react';
import { resultsOf, type Snapshot } from '../../../shared/study_results';
import type { Correction, Job, Results } from '../../../shared/types';

const NOTHING: Snapshot = { results: null, corrections: [], problem: null, live: false };
const quiet = () => () => undefined;
const nothing = () => NOTHING;

/** Results and corrections of a study, fresh while anybody looks. */
export function useStudyResults(study: string): Snapshot & { readonly refresh: () => void } {
  const holder = study ? resultsOf(study) : null;
  const snapshot = useSyncExternalStore(holder?.subscribe ?? quiet, holder?.current ?? nothing);
  const refresh = useCallback(() => void holder?.refresh(), [holder]);
  return { ...snapshot, refresh };
}

/** The calcium jobs of a study that stand: of each series the newest that was not superseded. */
export function calciumJobs(results: Results): Job[] {
  return results.series.flatMap((series) => {
    const own = series.jobs.filter((job) => job.pipeline === 'calcium');
    const standing = own.find((job) => !job.superseded) ?? own[0];
    return standing ? [standing] : [];
  });
}

/** Corrections of one result, the newest first. */
export function correctionsOf(corrections: readonly Correction[], job: string): Correction[] {
  return corrections.filter((one) => one.result.job === job).sort((a, b) => b.seq - a.seq);
}

/** The newest correction of the study, whoever made it: what a reader has seen when they say something. */
export function newestOf(corrections: readonly Correction[]): string {
  return corrections.reduce<Correction | null>((a, b) => (a && a.seq > b.seq ? a : b), null)?.id ?? '';
}
