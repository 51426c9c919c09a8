import { describe, expect, it } from 'vitest';
import { ApiProblem } from '../../../shared/client';
import type { Correction } from '../../../shared/types';
import { deliver } from './mail';

const letter = { id: 'a', study: '1.2', body: {}, madeAt: '', headline: '' };
const refusing = (status: number, code: string) => () =>
  Promise.reject(new ApiProblem({ title: '', status, code, correlation: '' }));

describe('a letter', () => {
  it('is kept when the server answers with its own id', async () => {
    const answer = { id: 'a' } as Correction;
    expect(await deliver(letter, 'anna', () => Promise.resolve(answer))).toEqual({ kind: 'kept', answer });
  });

  it('is not taken for kept when something else answers', async () => {
    expect(await deliver(letter, 'anna', () => Promise.resolve({ id: 'b' } as Correction))).toMatchObject({ kind: 'later' });
  });

  it.each([
    [0, 'unreachable', 'later'],
    [401, 'login_needed', 'login'],
    [401, 'other_user', 'login'],
    [403, 'csrf', 'later'],
    [403, 'not_allowed', 'refused'],
    [404, 'study_unknown', 'refused'],
    [409, 'correction_other', 'refused'],
    [413, 'too_large', 'refused'],
    [422, 'correction_body', 'refused'],
    [429, 'too_many_tries', 'later'],
    [500, 'internal_error', 'later'],
    [503, 'audit_unavailable', 'later'],
  ])('answered %i %s is %s', async (status, code, kind) => {
    expect(await deliver(letter, 'anna', refusing(status, code))).toMatchObject({ kind, code });
  });

  it('waits when anything unforeseen happens on the way', async () => {
    expect(await deliver(letter, 'anna', () => Promise.reject(new TypeError('network')))).toEqual({
      kind: 'later',
      code: 'unreachable',
    });
  });
});
