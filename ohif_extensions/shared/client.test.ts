import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ApiProblem, api, onSession, paths, sessionFound } from './client';
import type { Session } from './types';

const who: Session = { user: { id: '1', name: 'r', display_name: 'R', role: 'radiologist' }, csrf: 'token-1', expires_at: '' };
const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json', ...headers } });

const asked = vi.fn<(path: string, options: RequestInit) => Promise<Response>>();
const headersOf = (call: number) => asked.mock.calls[call]?.[1].headers as Record<string, string>;

beforeEach(() => {
  asked.mockReset();
  vi.stubGlobal('fetch', asked);
  sessionFound(who);
});
afterEach(() => vi.unstubAllGlobals());

describe('a request', () => {
  it('carries the CSRF token when it may change something, and not when it reads', async () => {
    asked.mockImplementation(() => Promise.resolve(json({ job: 'x' })));
    await api('POST', '/api/studies/1/series/2/rerun', {});
    await api('GET', '/api/states?study=1');
    expect(headersOf(0)['X-CSRF-Token']).toBe('token-1');
    expect(headersOf(1)['X-CSRF-Token']).toBeUndefined();
  });

  it('is sent once more with a fresh token when the token was old', async () => {
    asked
      .mockResolvedValueOnce(json({ code: 'csrf', status: 403 }, 403))
      .mockResolvedValueOnce(json({ ...who, csrf: 'token-2' }))
      .mockResolvedValueOnce(json({ ok: true }, 201));
    await expect(api('POST', '/api/x', {})).resolves.toEqual({ ok: true });
    expect(headersOf(2)['X-CSRF-Token']).toBe('token-2');
  });

  it('goes to the API of this origin only', async () => {
    await expect(api('GET', 'https://elsewhere/api/')).rejects.toThrow(TypeError);
    expect(asked).not.toHaveBeenCalled();
  });

  it('gives nothing for an answer without a body', async () => {
    asked.mockResolvedValueOnce(new Response(null, { status: 204 }));
    await expect(api('POST', '/api/logout')).resolves.toBeUndefined();
  });
});

describe('a refusal', () => {
  it('has the code, the status and the time to wait', async () => {
    asked.mockResolvedValueOnce(json({ title: 'T', status: 503, code: 'audit_unavailable', correlation: 'c' }, 503, { 'Retry-After': '7' }));
    const problem = await api('GET', '/api/x').catch((error: unknown) => error);
    expect(problem).toBeInstanceOf(ApiProblem);
    expect(problem).toMatchObject({ code: 'audit_unavailable', status: 503, correlation: 'c', retryAfterS: 7, passing: true });
  });

  it('that is no JSON is a refusal still', async () => {
    asked.mockResolvedValueOnce(new Response('<html>', { status: 502 }));
    await expect(api('GET', '/api/x')).rejects.toMatchObject({ code: 'http_502', status: 502 });
  });

  it('of nobody is called unreachable', async () => {
    asked.mockRejectedValueOnce(new TypeError('network'));
    await expect(api('GET', '/api/x')).rejects.toMatchObject({ code: 'unreachable', status: 0, passing: true });
  });

  it('of what cannot be right later is not worth another try', async () => {
    asked.mockResolvedValueOnce(json({ title: '', status: 422, code: 'x', correlation: '' }, 422));
    await expect(api('GET', '/api/x')).rejects.toMatchObject({ passing: false });
  });
});

describe('the session', () => {
  it('is told as lost once, and as back after the login', async () => {
    const lost = vi.fn();
    const back = vi.fn();
    const stop = [onSession('session-lost', lost), onSession('session-back', back)];
    asked.mockImplementation(() => Promise.resolve(json({ title: '', status: 401, code: 'login_needed', correlation: '' }, 401)));
    await api('GET', '/api/a').catch(() => undefined);
    await api('GET', '/api/b').catch(() => undefined);
    expect(lost).toHaveBeenCalledTimes(1);
    sessionFound(who);
    expect(back).toHaveBeenCalledTimes(1);
    stop.forEach(one => one());
  });

  it('is not told as lost by a wrong password', async () => {
    const lost = vi.fn();
    const stop = onSession('session-lost', lost);
    asked.mockResolvedValueOnce(json({ title: '', status: 401, code: 'login_refused', correlation: '' }, 401));
    await api('POST', '/api/login', {}, { quiet: true }).catch(() => undefined);
    expect(lost).not.toHaveBeenCalled();
    stop();
  });
});

it('makes no path of its own out of what comes from a file', () => {
  expect(paths.results('../../login?x#y')).toBe('/api/studies/..%2F..%2Flogin%3Fx%23y/results');
  expect(paths.pdf('1', 'j', 'a&b')).toBe('/api/studies/1/results/j/report.pdf?correction=a%26b');
});
