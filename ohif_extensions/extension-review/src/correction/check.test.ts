import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { REASONS } from '../../../shared/reasons';
import { faultOf } from './check';

const wire = new URL('../../../../tests/wire/', import.meta.url);
const samples = (folder: URL) =>
  readdirSync(folder)
    .filter((name) => name.startsWith('correction-') && name.endsWith('.json'))
    .map((name) => [name, JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as unknown] as const);

describe('a correction on its way out', () => {
  it.each(samples(wire))('passes where the server takes it: %s', (_name, document) => {
    expect(faultOf(document)).toBeNull();
  });

  it.each(samples(new URL('bad/', wire)))('is held back where the server refuses it: %s', (_name, document) => {
    expect(faultOf(document)).not.toBeNull();
  });

  it.each([null, 3, [], 'text', {}])('is held back when it is no correction at all: %j', (document) => {
    expect(faultOf(document)).not.toBeNull();
  });
});

describe('the reasons a reader may choose', () => {
  it('are those of the schema, in its order', () => {
    const schema = JSON.parse(readFileSync(new URL('correction.schema.json', wire), 'utf8')) as {
      $defs: { reason: { enum: string[] } };
    };
    expect(['', ...REASONS.map((reason) => reason.code)]).toEqual(schema.$defs.reason.enum);
  });
});
