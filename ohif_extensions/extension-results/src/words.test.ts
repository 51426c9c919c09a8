import { describe, expect, it } from 'vitest';

import { codeText, findingText, isUnderWay, jobText, numberText, stateText, timeText, unitText, valueText, vesselText } from './words';

const code = (value: string, meaning = value) => ({ value, scheme: 'SCT', meaning });

describe('numbers and units', () => {
  it('shows a score with its unit and one digit', () => {
    expect(valueText({ value: 324.5819, unit: '{score}' })).toBe('324.6 AU');
  });

  it('shows volumes in cubic millimetres and densities in HU', () => {
    expect(valueText({ value: 253.13, unit: 'mm3' })).toBe('253.1 mm³');
    expect(valueText({ value: 130, unit: "[hnsf'U]" })).toBe('130 HU');
  });

  it('shows a count without a unit', () => {
    expect(valueText({ value: 6, unit: '1' })).toBe('6');
  });

  it('says that a value is not defined instead of NaN', () => {
    expect(numberText(Number.NaN)).toBe('not defined');
  });

  it('keeps a unit that it does not know', () => {
    expect(unitText('ml/min')).toBe('ml/min');
    expect(unitText(null)).toBe('');
  });

  it('shows what was observed in words', () => {
    expect(valueText({ value: code('A3', 'A3: score 300 or more'), unit: null })).toBe('A3: score 300 or more');
  });

  it('tells two scores apart by how they were reckoned', () => {
    expect(findingText({ code: code('112058', 'Calcium score'), derivation: 'Volume of voxels' })).toBe('Volume of voxels');
    expect(findingText({ code: code('111038', 'Number of calcifications'), derivation: '' })).toBe('Number of calcifications');
  });
});

describe('vessels', () => {
  it.each([
    ['3227004', 'LM'],
    ['59438005', 'LAD'],
    ['57396003', 'LCx'],
    ['13647002', 'RCA'],
    ['41801008', 'unassigned'],
  ])('names %s as %s', (value, name) => {
    expect(vesselText(code(value))).toBe(name);
  });

  it('shows the meaning of a vessel that is not among them', () => {
    expect(vesselText(code('1', 'Ramus intermedius'))).toBe('Ramus intermedius');
  });
});

describe('states', () => {
  it('tells done from not analysed', () => {
    expect(stateText('done')).toBe('done');
    expect(stateText('done', 'no_rule')).toBe('not analysed');
  });

  it('names the stage of a running job', () => {
    const job = { state: 'running', stage: 'reading_images', code: '', reason: '', superseded: false };
    expect(jobText(job)).toBe('being analysed: reading images');
  });

  it('tells a job that waits for others from a study that waits for images', () => {
    const job = { state: 'waiting', stage: 'after', code: '', reason: '', superseded: false };
    expect(jobText(job)).toBe('waiting for other analyses');
    expect(jobText({ ...job, stage: '' })).toBe('waiting for more images');
  });

  it('counts queued and running as under way, refused not', () => {
    expect(['queued', 'running', 'stored'].every(isUnderWay)).toBe(true);
    expect(isUnderWay('refused')).toBe(false);
  });

  it('shows an unknown state and an unknown code as they are', () => {
    expect(stateText('paused')).toBe('paused');
    expect(codeText('strange_thing')).toBe('Code: strange thing.');
  });

  it('prefers the plain words of the server', () => {
    expect(codeText('no_heart', 'No heart was found in the images')).toBe('No heart was found in the images');
  });
});

it('shows a time that is none as it came', () => {
  expect(timeText('yesterday')).toBe('yesterday');
  expect(timeText('2026-01-02T08:00:00')).toBe('2026-01-02 08:00');
});
