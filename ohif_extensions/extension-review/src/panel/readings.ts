/** The reading of this page: kept while its panel is closed, let go of when another result is read. */

import type { Findings } from '../../../shared/types';
import { ReadingModel } from '../reading/model';

let current: ReadingModel | null = null;

/** The reading of a result; its volume is the only one in memory. */
export function readingOf(findings: Findings): ReadingModel {
  if (current?.findings.job === findings.job) return current;
  current?.close();
  current = new ReadingModel(findings);
  return current;
}
