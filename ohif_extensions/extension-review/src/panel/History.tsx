import { paths } from '../../../shared/client';
import { reasonWords } from '../../../shared/reasons';
import type { Correction } from '../../../shared/types';
import { amount, moment, thresholdWarning } from './words';

const VERDICTS = { accept: 'accepted', modify: 'changed', reject: 'rejected' } as const;

interface Props {
  readonly corrections: readonly Correction[];
  readonly reader: string;
  readonly study: string;
}

/** What readers have said of this result, newest first. */
export function History({ corrections, reader, study }: Props) {
  if (!corrections.length) return null;
  return (
    <details className="rl-block" data-cy="rl-history">
      <summary>
        {corrections.length} {corrections.length === 1 ? 'correction' : 'corrections'} on record
      </summary>
      <ul className="rl-list">
        {corrections.map((one) => (
          <li key={one.id} data-cy="rl-correction" data-verdict={one.verdict}>
            <strong>{one.author.id === reader ? 'You' : one.author.display_name}</strong> {VERDICTS[one.verdict]} the AI’s result,{' '}
            {moment(one.made_at)}
            {one.scores ? (
              <span>
                : {amount(one.scores.agatston)} {thresholdWarning(one.scores.threshold_hu) || 'Agatston'}
              </span>
            ) : null}
            {one.reason ? <span>; {reasonWords(one.reason)}</span> : null}
            {one.note ? <span className="rl-note">“{one.note}”</span> : null}
            <small>
              {one.delivery === 'stored' ? 'in the archive' : 'on its way to the archive'}
              {one.score_check === 'differs' ? '; the server computed another score than the browser' : ''}
              {'; '}
              <a href={paths.pdf(study, one.result.job, one.id)} target="_blank" rel="noopener" data-cy="rl-correction-pdf">
                PDF
              </a>
            </small>
          </li>
        ))}
      </ul>
    </details>
  );
}
