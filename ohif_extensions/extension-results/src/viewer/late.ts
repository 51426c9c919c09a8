// Series that came into the study after it was opened: a result that has just been stored is fetched without opening the study again.
import { DicomMetadataStore } from '@ohif/core';

import type { ExtensionManager } from '../../../shared/ohif';

interface DataSource {
  deleteStudyMetadataPromise?(key: string): void;
  getConfig?(): { name?: string };
  retrieve: {
    series: { metadata(what: { StudyInstanceUID: string; filters: { seriesInstanceUID: string[] } }): Promise<unknown> };
  };
}

const asked = new Set<string>();

/** Whether the study is open and does not know the series: all series are known as soon as one is. */
export function isLate(study: string, series: string): boolean {
  const open = DicomMetadataStore.getStudy(study);
  return open !== undefined && open.series.length > 0 && !open.series.some(one => one.SeriesInstanceUID === series);
}

const TRIES = 6;
const WAIT_MS = 1500;

/** Brings late series into the open study. What the archive does not hold yet is asked for again, a few times. */
export async function fetchLate(extensions: ExtensionManager, study: string, series: readonly string[], tries = TRIES): Promise<void> {
  const wanted = series.filter(one => isLate(study, one) && !asked.has(one));
  if (wanted.length === 0 || tries === 0) {
    return;
  }
  wanted.forEach(one => asked.add(one));
  const [source] = extensions.getActiveDataSource() as DataSource[];
  try {
    // OHIF 3.13 keeps what it has asked of a study under this key, and would give that again.
    source?.deleteStudyMetadataPromise?.(`${source.getConfig?.().name}:${study}`);
    await source?.retrieve.series.metadata({ StudyInstanceUID: study, filters: { seriesInstanceUID: wanted } });
  } catch {
    // Asked again below.
  }
  wanted.forEach(one => asked.delete(one));
  if (wanted.some(one => isLate(study, one))) {
    await new Promise(resolve => setTimeout(resolve, WAIT_MS));
    await fetchLate(extensions, study, wanted, tries - 1);
  }
}
