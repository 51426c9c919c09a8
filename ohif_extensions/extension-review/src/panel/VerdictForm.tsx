import { REASONS } from '../../../shared/reasons';
import type { Verdict } from '../../../shared/types';

export interface VerdictText {
  readonly reason: string;
  readonly note: string;
}

interface Props {
  readonly text: VerdictText;
  readonly setText: (text: VerdictText) => void;
  /** True when the reader's result is not the AI's any more. */
  readonly changed: boolean;
  /** Why nothing can be saved just now; "" when it can. */
  readonly blocked: string;
  /** Why changes cannot be saved though a verdict could; "". */
  readonly changesBlocked: string;
  readonly fault: string;
  readonly say: (verdict: Verdict) => void;
}

/** The reader's word on the result as a whole. */
export function VerdictForm({ text, setText, changed, blocked, changesBlocked, fault, say }: Props) {
  const noteMissing = text.reason === 'other' && text.note.trim() === '';
  const rejectable = text.reason !== '' && !noteMissing;
  const off = blocked !== '';
  return (
    <section className="rl-block" aria-label="Your verdict on the result">
      <h3>Your verdict</h3>
      <label className="rl-stack">
        <span>Reason {changed ? '(optional)' : '(needed to reject)'}</span>
        <select data-cy="rl-reason" value={text.reason} onChange={(event) => setText({ ...text, reason: event.target.value })}>
          <option value="">No reason given</option>
          {REASONS.map(({ code, words }) => (
            <option key={code} value={code}>
              {words}
            </option>
          ))}
        </select>
      </label>
      <label className="rl-stack">
        <span>Note{noteMissing ? ' (needed with “Other”)' : ''}</span>
        <textarea
          data-cy="rl-note"
          rows={2}
          maxLength={2000}
          aria-invalid={noteMissing}
          value={text.note}
          onChange={(event) => setText({ ...text, note: event.target.value })}
        />
      </label>
      <div className="rl-row rl-verdicts">
        <button
          type="button"
          className="rl-button rl-primary"
          data-cy="rl-save"
          disabled={off || !changed || noteMissing || changesBlocked !== ''}
          title={changed ? changesBlocked : 'Nothing is changed yet'}
          onClick={() => say('modify')}
        >
          Save changes
        </button>
        <button
          type="button"
          className="rl-button"
          data-cy="rl-accept"
          disabled={off || changed || noteMissing}
          title={changed ? 'You have changed it: save the changes, or go back to the proposal' : ''}
          onClick={() => say('accept')}
        >
          Accept
        </button>
        <button
          type="button"
          className="rl-button rl-danger"
          data-cy="rl-reject"
          disabled={off || !rejectable}
          title={rejectable ? '' : 'Choose a reason first'}
          onClick={() => say('reject')}
        >
          Reject
        </button>
      </div>
      {blocked || fault ? (
        <p className="rl-warning" role="status">
          {fault || blocked}
        </p>
      ) : null}
    </section>
  );
}
