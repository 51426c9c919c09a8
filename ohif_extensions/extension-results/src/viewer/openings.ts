// Which results have been opened by themselves already: once for each, so that a reader is not taken back.
const opened = new Set<string>();

/** True the first time it is asked of a job. */
export function mayOpen(job: string): boolean {
  if (opened.has(job)) {
    return false;
  }
  opened.add(job);
  return true;
}

/** A study that is opened again is opened as the first time. */
export function forgetOpenings(): void {
  opened.clear();
}
