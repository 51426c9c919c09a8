// The only caller of the services: adds the CSRF token, turns refusals into ApiProblem, says when the session is gone. Never navigates.
import { onlyPart } from './multipart';
import type { Problem, Session } from './types';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** A refusal with its stable code; status 0 and code `unreachable` when nobody answered. */
export class ApiProblem extends Error {
  readonly code: string;
  readonly status: number;
  readonly correlation: string;
  readonly facts: Readonly<Record<string, unknown>>;
  /** Seconds after which the server asks to try again; null when it does not say. */
  readonly retryAfterS: number | null;

  constructor(problem: Problem, retryAfterS: number | null = null) {
    super(problem.title);
    this.name = 'ApiProblem';
    this.code = problem.code;
    this.status = problem.status;
    this.correlation = problem.correlation;
    this.facts = problem;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later without a change. */
  get passing(): boolean {
    return this.status === 0 || this.status === 401 || this.status === 429 || this.status >= 500;
  }
}

type SessionEvent = 'session-lost' | 'session-back';
const listeners: Record<SessionEvent, Set<() => void>> = { 'session-lost': new Set(), 'session-back': new Set() };
let csrf = '';
/** Whose token that is. */
let csrfOf = '';
let lost = false;

/** Listens for the end of the session or its return; the answer stops listening. */
export function onSession(what: SessionEvent, listener: () => void): () => void {
  listeners[what].add(listener);
  return () => listeners[what].delete(listener);
}

export function sessionIsLost(): boolean {
  return lost;
}

function tell(what: SessionEvent): void {
  for (const listener of [...listeners[what]]) {
    listener();
  }
}

/** Called by whoever learns that the session has ended: a refused request, an image that did not come. */
export function sessionLost(): void {
  csrf = '';
  csrfOf = '';
  if (!lost) {
    lost = true;
    tell('session-lost');
  }
}

// OHIF's own requests meet the end of a session first; app-config.js passes the word on.
if (typeof window !== 'undefined') {
  window.addEventListener('radloop-session-lost', () => sessionLost());
}

/** Called with the answer to a login or to GET /api/session. */
export function sessionFound(session: Session): void {
  csrf = session.csrf;
  csrfOf = session.user.id;
  const wasLost = lost;
  lost = false;
  if (wasLost) {
    tell('session-back');
  }
}

export interface ApiOptions {
  signal?: AbortSignal;
  /** Do not announce a lost session: for the login itself. */
  quiet?: boolean;
  /** Send only as this user: another page of this browser may have logged in as someone else. */
  as?: string;
}

/** Asks the gateway and gives its JSON answer; throws ApiProblem, or the AbortError of `signal`. */
export async function api<T>(method: Method, path: string, body?: unknown, options: ApiOptions = {}): Promise<T> {
  if (!path.startsWith('/api/')) {
    throw new TypeError('a path of this API starts with /api/');
  }
  const unsafe = method !== 'GET';
  const login = path === '/api/login';
  if (unsafe && !login && (csrf === '' || (options.as !== undefined && options.as !== csrfOf))) {
    await refreshCsrf(options);
  }
  let answer = await send(method, path, body, options);
  if (unsafe && !login && answer.status === 403 && (await problemOf(answer.clone())).code === 'csrf') {
    await refreshCsrf(options);
    answer = await send(method, path, body, options);
  }
  return read<T>(answer, options);
}

/** One stored object as a Part 10 file. */
export async function dicomFile(study: string, series: string, sop: string, signal?: AbortSignal): Promise<ArrayBuffer> {
  const path = `/dicom-web/studies/${segment(study)}/series/${segment(series)}/instances/${segment(sop)}`;
  const answer = await send('GET', path, undefined, signal ? { signal } : {}, 'multipart/related; type="application/dicom"');
  if (!answer.ok) {
    return read<never>(answer, {});
  }
  const file = onlyPart(new Uint8Array(await answer.arrayBuffer()), answer.headers.get('Content-Type') ?? '');
  if (file === null) {
    throw new ApiProblem({ title: 'The answer cannot be read', status: 0, code: 'answer_unreadable', correlation: '' });
  }
  return file;
}

async function refreshCsrf(options: ApiOptions): Promise<void> {
  const session = await read<Session>(await send('GET', '/api/session', undefined, options), options);
  sessionFound(session);
  if (options.as !== undefined && session.user.id !== options.as) {
    throw new ApiProblem({ title: 'Someone else is logged in now', status: 401, code: 'other_user', correlation: '' });
  }
}

async function send(
  method: Method, path: string, body: unknown, options: ApiOptions, accept = 'application/json',
): Promise<Response> {
  const headers: Record<string, string> = { Accept: accept };
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
  }
  if (method !== 'GET' && csrf !== '') {
    headers['X-CSRF-Token'] = csrf;
  }
  try {
    return await fetch(path, {
      method,
      headers,
      credentials: 'same-origin',
      redirect: 'error',
      cache: 'no-store',
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') {
      throw error;
    }
    throw new ApiProblem({ title: 'The server does not answer', status: 0, code: 'unreachable', correlation: '' });
  }
}

async function read<T>(answer: Response, options: ApiOptions): Promise<T> {
  if (answer.ok) {
    if (answer.status === 204) {
      return undefined as T;
    }
    try {
      return (await answer.json()) as T;
    } catch {
      throw new ApiProblem({ title: 'The answer cannot be read', status: 0, code: 'answer_unreadable', correlation: '' });
    }
  }
  const problem = await problemOf(answer);
  if (answer.status === 401 && options.quiet !== true) {
    sessionLost();
  }
  const retryAfter = Number(answer.headers.get('Retry-After') ?? Number.NaN);
  throw new ApiProblem(problem, Number.isFinite(retryAfter) ? retryAfter : null);
}

async function problemOf(answer: Response): Promise<Problem> {
  const plain: Problem = {
    title: `The server refused (${answer.status})`,
    status: answer.status,
    code: answer.status === 401 ? 'login_needed' : `http_${answer.status}`,
    correlation: answer.headers.get('X-Correlation-ID') ?? '',
  };
  try {
    const said: unknown = await answer.json();
    return typeof said === 'object' && said !== null ? { ...plain, ...said } : plain;
  } catch {
    return plain;
  }
}

/**
 * Listens for `results` events of a study and comes back after every interruption; the answer stops it.
 * `onState` hears whether the line is up; a line that is down never means that nothing changed.
 */
export function listen(study: string, onEvent: () => void, onState: (live: boolean) => void): () => void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let waitS = 1;
  let stopped = false;

  const open = (): void => {
    source = new EventSource(paths.events(study));
    source.addEventListener('open', () => {
      waitS = 1;
      onState(true);
      // What happened while the line was down was not heard.
      onEvent();
    });
    source.addEventListener('results', onEvent);
    source.addEventListener('error', () => {
      onState(false);
      if (source?.readyState !== EventSource.CLOSED || stopped) {
        return;
      }
      // A refusal closes for good: ask why once, and try again later.
      void api<Session>('GET', '/api/session').catch(() => undefined);
      clearTimeout(timer);
      timer = setTimeout(open, waitS * 1000);
      waitS = Math.min(waitS * 2, 30);
    });
  };
  const back = onSession('session-back', () => {
    clearTimeout(timer);
    source?.close();
    open();
  });
  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    back();
    source?.close();
  };
}

const segment = (text: string): string => encodeURIComponent(text);

/** Paths of a study, with every UID escaped: what comes from a file never makes a path of its own. */
export const paths = {
  results: (study: string) => `/api/studies/${segment(study)}/results`,
  events: (study: string) => `/api/studies/${segment(study)}/events`,
  rerun: (study: string, series: string) => `/api/studies/${segment(study)}/series/${segment(series)}/rerun`,
  report: (study: string, sop: string) => `/api/studies/${segment(study)}/reports/${segment(sop)}`,
  corrections: (study: string) => `/api/studies/${segment(study)}/corrections`,
  pdf: (study: string, job: string, correction = '') =>
    `/api/studies/${segment(study)}/results/${segment(job)}/report.pdf` +
    (correction ? `?correction=${segment(correction)}` : ''),
  states: (studies: readonly string[]) => `/api/states?${studies.map(study => `study=${segment(study)}`).join('&')}`,
  outboxKey: '/api/session/outbox-key',
};
