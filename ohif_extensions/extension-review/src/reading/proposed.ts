/** The numbers of a calcium result as its findings document says them. */

import type { Code, Finding, Findings } from '../../../shared/types';

/** What one score card shows; null where there is no such number. */
export interface Numbers {
  readonly thresholdHu: number;
  readonly agatston: number | null;
  readonly bySpacing: number | null;
  readonly volumeMm3: number | null;
  readonly massMg: number | null;
  readonly lesions: number | null;
  readonly cacDrs: Code | null;
  readonly rumberger: Code | null;
  readonly vessels: Readonly<Record<string, number>>;
}

// PS3.16 CID 7150 and 6140.
const SCORE = '112058';
const AGATSTON = '112055';
const VOLUME = '112056';
const MASS = '112057';
const COUNT = '111038';
const THRESHOLD = '122657';
const VESSELS: Readonly<Record<string, string>> = { LM: 'LM', LAD: 'LAD', LCx: 'LCx', RCA: 'RCA', 'not assigned to a vessel': 'unassigned' };

/** The AI's numbers. */
export function proposedNumbers(findings: Findings): Numbers {
  const measured = findings.findings.filter((one) => one.kind === 'measurement');
  const scores = measured.filter((one) => one.code.value === SCORE);
  const agatston = scores.filter((one) => one.method?.value === AGATSTON);
  const total = agatston.filter((one) => vesselIn(one) === null);
  const vessels: Record<string, number> = {};
  for (const one of agatston.filter((each) => !corrected(each))) {
    const vessel = vesselIn(one);
    if (vessel !== null) vessels[vessel] = Number(one.value);
  }
  return {
    thresholdHu: valueOf(measured.find((one) => one.code.value === THRESHOLD)) ?? findings.scoring?.threshold_hu ?? 130,
    agatston: valueOf(total.find((one) => !corrected(one))),
    bySpacing: valueOf(total.find(corrected)),
    volumeMm3: valueOf(scores.find((one) => one.method?.value === VOLUME && !one.derivation.includes('interpolated'))),
    massMg: valueOf(scores.find((one) => one.method?.value === MASS)),
    lesions: valueOf(measured.find((one) => one.code.value === COUNT)),
    cacDrs: category(findings, 'cac_drs'),
    rumberger: category(findings, 'rumberger'),
    vessels,
  };
}

/** By how much two numbers of the same thing may differ and still be the same: nothing but rounding. */
const TOLERANCE = 1e-6;

/** A number that this browser and the server do not agree on. */
export interface Disagreement {
  readonly name: 'agatston' | 'bySpacing' | 'volumeMm3' | 'massMg' | 'lesions';
  readonly browser: number;
  readonly server: number;
}

/** Where the browser's numbers for the untouched proposal are not the server's; empty when all are. */
export function disagreements(browser: Numbers, server: Numbers): Disagreement[] {
  const names = ['agatston', 'bySpacing', 'volumeMm3', 'massMg', 'lesions'] as const;
  return names.flatMap((name) => {
    const [here, there] = [browser[name], server[name]];
    if (here === null || there === null) return [];
    const apart = Math.abs(here - there) > TOLERANCE * Math.max(Math.abs(here), Math.abs(there), 1e-9);
    return apart || Number.isNaN(here) ? [{ name, browser: here, server: there }] : [];
  });
}

function corrected(finding: Finding): boolean {
  return finding.derivation.includes('multiplied by slice spacing');
}

function vesselIn(finding: Finding): string | null {
  const name = /; lesions (.+)$/.exec(finding.derivation)?.[1];
  return name === undefined ? null : (VESSELS[name] ?? name);
}

function valueOf(finding: Finding | undefined): number | null {
  return typeof finding?.value === 'number' ? finding.value : null;
}

function category(findings: Findings, code: string): Code | null {
  const value = findings.findings.find((one) => one.kind === 'observation' && one.code.value === code)?.value;
  return typeof value === 'object' ? value : null;
}
