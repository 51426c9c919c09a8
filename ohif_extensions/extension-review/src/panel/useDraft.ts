import { useEffect, useRef, useState } from 'react';
import type { Correction, User } from '../../../shared/types';
import type { Desk } from '../outbox/desk';
import type { ReadingModel, ReadingView } from '../reading/model';
import { differs, type Edit, forDraft } from '../reading/state';
import type { VerdictText } from './VerdictForm';

interface Draft {
  readonly edit: Edit;
  readonly text: VerdictText;
}

interface Options {
  readonly model: ReadingModel;
  readonly view: ReadingView;
  readonly desk: Desk | null;
  readonly user: User | null;
  /** Newest first; null until the server has said. */
  readonly corrections: readonly Correction[] | null;
  readonly text: VerdictText;
  readonly setText: (text: VerdictText) => void;
}

const QUIET_MS = 400;
const NO_TEXT: VerdictText = { reason: '', note: '' };

/**
 * Puts back what this reader saved last and what they had not saved yet, then keeps what they do, sealed.
 * True until what there was is back.
 */
export function useDraft({ model, view, desk, user, corrections, text, setText }: Options): boolean {
  const [restoredFor, setRestoredFor] = useState('');
  const { phase, reading } = view;
  const { job } = model.findings;
  const unlocked = desk?.outbox.view().unlocked === true;
  const reader = user?.id ?? '';
  const started = useRef('');

  useEffect(() => {
    if (!reader || started.current === reader || phase !== 'ready' || !desk || !unlocked || corrections === null) return;
    const another = started.current !== '';
    started.current = reader;
    void (async () => {
      const draft = (await desk.drafts()?.load(job)) as Draft | null | undefined;
      if (model.isNewTo(reader)) {
        const own = corrections.find((one) => one.author.id === reader);
        await model.restore(reader, unsentEdit(desk, job) ?? own?.calcium ?? null, draft?.edit ?? null);
      }
      if (draft?.text || another) setText(draft?.text ?? NO_TEXT);
      setRestoredFor(reader);
    })();
  }, [phase, desk, reader, unlocked, corrections, job, model, setText]);

  const restored = restoredFor !== '' && restoredFor === reader;
  useEffect(() => {
    if (!restored || !reading || !desk) return undefined;
    const timer = setTimeout(() => {
      const unsaved = differs(reading.now, reading.saved) || text.note !== '' || text.reason !== '';
      const draft: Draft = { edit: forDraft(reading.now, reading.proposal), text };
      const drafts = desk.drafts();
      // A draft that cannot be kept is no reason to stop working; saving says so where it matters.
      void (unsaved ? drafts?.save(job, draft) : drafts?.drop(job))?.catch(() => undefined);
    }, QUIET_MS);
    return () => clearTimeout(timer);
  }, [restored, reading, text, desk, job]);

  return !restored && phase === 'ready';
}

/** What this reader saved last and the server has not got yet. */
function unsentEdit(desk: Desk, job: string): Correction['calcium'] {
  const bodies = desk.outbox.view().mine.map((each) => each.letter?.body as Correction | undefined);
  return bodies.filter((body) => body?.result.job === job && body.calcium).at(-1)?.calcium ?? null;
}
