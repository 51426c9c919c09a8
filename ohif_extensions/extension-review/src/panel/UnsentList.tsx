import { useState } from 'react';
import type { OutboxView, Waiting } from '../outbox/outbox';
import { deliveryWords, moment } from './words';

interface Props {
  readonly view: OutboxView;
  readonly send: () => void;
  readonly retry: (id: string) => void;
  readonly discard: (id: string) => void;
}

/** Corrections that are not with the server yet, and why. */
export function UnsentList({ view, send, retry, discard }: Props) {
  const { mine, others, lasting } = view;
  if (!mine.length && !others) return null;
  return (
    <section className="rl-block rl-unsent" data-cy="rl-unsent" data-count={mine.length} aria-label="Corrections not sent yet">
      {mine.length ? (
        <>
          <div className="rl-row">
            <strong className="rl-grow" role="status">
              {mine.length === 1 ? '1 correction is' : `${mine.length} corrections are`} not sent yet
            </strong>
            <button type="button" className="rl-button" onClick={send}>
              Send now
            </button>
          </div>
          {lasting ? null : (
            <p className="rl-warning">This browser keeps nothing: leave this page open until they are sent.</p>
          )}
          <ul className="rl-list">
            {mine.map((each) => (
              <UnsentItem key={each.id} waiting={each} retry={retry} discard={discard} />
            ))}
          </ul>
        </>
      ) : null}
      {others ? (
        <p className="rl-muted" data-cy="rl-unsent-others">
          {others} of another user {others === 1 ? 'waits' : 'wait'} here, sealed, until they log in.
        </p>
      ) : null}
    </section>
  );
}

function UnsentItem({ waiting, retry, discard }: { readonly waiting: Waiting } & Pick<Props, 'retry' | 'discard'>) {
  const [asked, setAsked] = useState(false);
  const { id, letter, state } = waiting;
  return (
    <li data-cy="rl-unsent-item" data-state={state}>
      <span>
        {letter ? `${letter.headline}, ${moment(letter.madeAt)}` : 'Sealed correction'}: {stateWords(waiting)}
      </span>
      <span className="rl-row">
        {state === 'refused' ? (
          <button type="button" className="rl-button" onClick={() => retry(id)}>
            Try again
          </button>
        ) : null}
        {letter && (state === 'refused' || !waiting.lasting) ? (
          <button type="button" className="rl-button" onClick={() => exportLetter(waiting)}>
            Export
          </button>
        ) : null}
        {state === 'refused' || state === 'unreadable' ? (
          <button type="button" className="rl-button rl-danger" onClick={() => (asked ? discard(id) : setAsked(true))}>
            {asked ? 'Discard for good?' : 'Discard'}
          </button>
        ) : null}
      </span>
    </li>
  );
}

function stateWords({ state, code, lasting }: Waiting): string {
  switch (state) {
    case 'sending':
      return 'is being sent';
    case 'login':
      return 'waits for your login';
    case 'locked':
      return 'waits for your key';
    case 'refused':
      return `not taken: ${deliveryWords(code)}`;
    case 'unreadable':
      return deliveryWords('seal_broken');
    case 'waiting':
      return `${code ? `${deliveryWords(code)}; will be sent again` : 'waits'}${lasting ? '' : ' (only in this page so far)'}`;
  }
}

/** A file with what the reader said, for the case that no server will take it. The reader asked for it. */
function exportLetter({ id, letter }: Waiting): void {
  const url = URL.createObjectURL(new Blob([JSON.stringify(letter?.body, null, 1)], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `correction-${id}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
