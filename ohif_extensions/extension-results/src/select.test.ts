import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import type { Correction, Finding, Findings, Job, Results } from '../../shared/types';
import { bestSlice, correctionsOf, firstShown, jobsOf, layOut, notAnalysed, openingSlice, otherReports, segmentationsOf, seriesOfResults, vesselRows } from './select';

const wire = (name: string): Findings =>
  JSON.parse(readFileSync(new URL(`../../../tests/wire/${name}.json`, import.meta.url), 'utf8')) as Findings;
const done = wire('findings-done');
const refused = wire('findings-refused');

const job = (part: Partial<Job>): Job => ({
  job: 'a',
  series: '1.2',
  pipeline: 'calcium',
  state: 'done',
  stage: '',
  code: '',
  reason: '',
  run: 0,
  entered: '2026-01-02T08:00:00Z',
  updated: '2026-01-02T08:01:00Z',
  summary: '',
  superseded: false,
  findings: done,
  ...part,
});

const results = (...jobs: Job[]): Results => ({
  study: '1',
  state: 'done',
  code: '',
  reason: '',
  notice: 'Research use only.',
  version: 1,
  series: [{ series: '1.2', modality: 'CT', state: 'done', code: '', reason: '', excluded_by: '', why: null, jobs }],
  reports: [],
});

describe('many jobs', () => {
  it('shows the newest first and folds replaced ones away', () => {
    const found = jobsOf(
      results(job({ job: 'old', entered: '2026-01-01T00:00:00Z' }), job({ job: 'new' }), job({ job: 'replaced', superseded: true }))
    );
    expect(found.current.map(one => one.job)).toEqual(['new', 'old']);
    expect(found.replaced.map(one => one.job)).toEqual(['replaced']);
  });

  it('opens the newest that has something on images, not one that was refused or still runs', () => {
    const found = firstShown(
      results(
        job({ job: 'runs', state: 'running', findings: null, entered: '2026-01-04T00:00:00Z' }),
        job({ job: 'refused', state: 'refused', findings: refused, entered: '2026-01-03T00:00:00Z' }),
        job({ job: 'shown' })
      )
    );
    expect(found?.job).toBe('shown');
  });

  it('opens nothing where there is nothing', () => {
    expect(firstShown(results())).toBeNull();
  });

  it('knows the series and segmentations of current results', () => {
    const own = done.results.map(object => object.series_instance_uid);
    expect(seriesOfResults(results(job({})))).toEqual([...new Set(own)]);
    expect(segmentationsOf([job({}), job({ findings: null })])).toHaveLength(1);
  });

  it('shows what an archive keeps of version 2', () => {
    const old = job({ findings: wire('old/findings-version-2') });
    expect(firstShown(results(old))?.job).toBe('a');
    expect(segmentationsOf([old])).toEqual(segmentationsOf([job({})]));
  });

  it('does not call its own reports those of others', () => {
    const report = { series_instance_uid: '1', title: '', created: '', maker: '', kind: 'other' as const };
    const own = done.results.find(object => object.modality === 'SR')?.sop_instance_uid ?? '';
    const study = { ...results(job({})), reports: [{ ...report, sop_instance_uid: own }, { ...report, sop_instance_uid: '9.9' }] };
    expect(otherReports(study).map(one => one.sop_instance_uid)).toEqual(['9.9']);
  });

  it('does not list reports and segmentations as series without a result', () => {
    const study = results();
    const [first] = study.series;
    expect(first && notAnalysed({ ...study, series: [first, { ...first, series: '2', modality: 'SEG' }] })).toEqual([first]);
  });
});

describe('one result', () => {
  it('puts scores and categories first and keeps single vessels for their table', () => {
    const { main, more } = layOut(done);
    expect(main.length).toBeGreaterThan(0);
    expect(main.every(finding => !finding.derivation.endsWith('not assigned to a vessel'))).toBe(true);
    expect(main.length + more.length).toBeLessThanOrEqual(done.findings.length);
  });

  it('says of maps first how much tissue is marked, then how it was found, and leaves the rest for later', () => {
    const perfusion = wire('findings-perfusion');
    const [mask] = perfusion.masks;
    const [flow, volume] = perfusion.findings;
    if (!mask || !flow || !volume) {
      throw new Error('the sample has no mask or no findings');
    }
    const coded = (value: string, scheme: string): Finding => ({ ...volume, tracking_uid: mask.tracking_uid, code: { value, scheme, meaning: value } });
    const words: Finding = { ...volume, kind: 'observation', value: { value: 'x', scheme: '99RADLOOP', meaning: 'x' } };
    const core = coded('118565006', 'SCT');
    const gap = coded('mismatch', '99RADLOOP');
    const ratio = coded('118586006', 'SCT');
    const artery = { ...core, tracking_uid: '2.25.999' };
    expect(layOut({ ...perfusion, findings: [words, flow, artery, core, gap, ratio] })).toEqual({
      main: [core, gap, ratio, words],
      more: [flow, artery],
    });
  });

  it('adds up counted lesions by vessel, in the order of the vessels, and leaves out what was set aside', () => {
    const [lesion] = done.lesion_totals;
    if (lesion === undefined) {
      throw new Error('the sample has no lesion');
    }
    const of = (vessel: string, score: number, counted = true) => ({
      ...lesion,
      vessel: { value: vessel, scheme: 'SCT', meaning: vessel },
      score,
      volume_mm3: 2,
      counted,
    });
    const rows = vesselRows([of('RCA', 5), of('LAD', 10), of('LAD', 20), of('LM', 7, false)], one => one.vessel.value);
    expect(rows).toEqual([
      { vessel: 'LAD', lesions: 2, score: 30, volumeMm3: 4 },
      { vessel: 'RCA', lesions: 1, score: 5, volumeMm3: 2 },
    ]);
  });

  it('looks for a lesion where its score is highest', () => {
    const slice = done.lesions[0];
    if (slice === undefined) {
      throw new Error('the sample has no slice');
    }
    const findings = { ...done, lesions: [{ ...slice, id: 'L9', slice: 1, score: 1 }, { ...slice, id: 'L9', slice: 2, score: 3 }] };
    expect(bestSlice(findings, 'L9')?.slice).toBe(2);
    expect(bestSlice(findings, 'L1')).toBeNull();
    expect(openingSlice({ ...done, lesions: [] })).toBeNull();
  });

  it('shows the corrections of this result only, the newest first', () => {
    const correction = (seq: number, of: string) => ({ seq, result: { job: of, sop_instance_uid: '1' } }) as Correction;
    expect(correctionsOf([correction(1, 'a'), correction(2, 'b'), correction(3, 'a')], 'a').map(one => one.seq)).toEqual([3, 1]);
  });
});
