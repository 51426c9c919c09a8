/** Takes one letter to the server and says what became of it. */

import { api, ApiProblem, paths } from '../../../shared/client';
import type { Correction } from '../../../shared/types';
import type { Delivery, Letter } from './outbox';

type Post = (study: string, body: unknown, reader: string) => Promise<Correction>;

const post: Post = (study, body, reader) => api<Correction>('POST', paths.corrections(study), body, { as: reader });

/** Sends a letter as its reader. The same id twice is one row at the server, so sending again is safe. */
export async function deliver(letter: Letter, reader: string, by: Post = post): Promise<Delivery> {
  try {
    const answer = await by(letter.study, letter.body, reader);
    // Anything else that answers 200 (a login page of a proxy) has not kept it.
    if (answer?.id !== letter.id) return { kind: 'later', code: 'answer_unreadable' };
    return { kind: 'kept', answer };
  } catch (error) {
    return error instanceof ApiProblem ? judged(error) : { kind: 'later', code: 'unreachable' };
  }
}

function judged(problem: ApiProblem): Delivery {
  if (problem.status === 401) return { kind: 'login', code: problem.code };
  // Another tab has logged in anew: no login will be asked for here, so only time mends it.
  if (problem.passing || problem.code === 'csrf' || problem.status === 408 || problem.status === 425) return { kind: 'later', code: problem.code };
  return { kind: 'refused', code: problem.code, status: problem.status };
}
