import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore, type KeyboardEvent } from 'react';
import { SET_ASIDE } from '../../../extension-compute/src/calcium/candidates';
import type { DecidedLesion } from '../../../extension-compute/src/calcium/decisions';
import type { Voxel } from '../../../extension-compute/src/calcium/grid';
import { jump } from '../../../shared/viewer/jump';
import type { Services } from '../../../shared/ohif';
import type { Correction, Findings, Verdict, Vessel } from '../../../shared/types';
import { newCorrection } from '../correction/build';
import { faultOf } from '../correction/check';
import { numbersOf } from '../reading/load';
import { proposedNumbers } from '../reading/proposed';
import { type Change, differs } from '../reading/state';
import { imageIdsOf, instanceNumbers } from '../../../shared/viewer/study';
import { useOverlay } from '../viewer/useOverlay';
import { useProposalHidden } from '../viewer/useProposalHidden';
import { AgreementNotice, InBetween, LoadNotice } from './Notices';
import { History } from './History';
import { LesionEditor } from './LesionEditor';
import { LesionTable } from './LesionTable';
import { readingOf } from './readings';
import { correctionsOf, newestOf } from './remote';
import { ScoreTable, type ScoreColumn } from './ScoreTable';
import { ThresholdControl } from './ThresholdControl';
import { UnsentList } from './UnsentList';
import { useDesk, useUser } from './useDesk';
import { useDisplaySet } from './useDisplaySet';
import { useDraft } from './useDraft';
import { type VerdictText, VerdictForm } from './VerdictForm';
import { ViewControls } from './ViewControls';
import { amount, refusalWords, scoreName, VESSEL_CHOICES } from './words';

interface Props {
  readonly services: Services;
  readonly findings: Findings;
  /** Corrections of the study; null while the server has not said. */
  readonly said: readonly Correction[] | null;
  readonly refresh: () => void;
}

const NO_TEXT: VerdictText = { reason: '', note: '' };

/** One calcium result with the reader's changes, numbers of all sources, and the way to save them. */
export function CalciumReading({ services, findings, said: known, refresh }: Props) {
  const model = useMemo(() => readingOf(findings), [findings]);
  const view = useSyncExternalStore(model.subscribe, model.view);
  const { dispatch } = model;
  const { phase, loaded, reading, scored, stale } = view;
  const displaySet = useDisplaySet(services, findings.source_series);
  const numbers = useMemo(() => (displaySet ? instanceNumbers(displaySet) : new Map<string, number>()), [displaySet]);
  const corrections = useMemo(() => correctionsOf(known ?? [], findings.job), [known, findings.job]);
  const { desk, view: outbox } = useDesk();
  const user = useUser();
  const [text, setText] = useState<VerdictText>(NO_TEXT);
  const [selected, setSelected] = useState('');
  const [opacity, setOpacity] = useState(0.5);
  const [editing, setEditing] = useState(false);
  const [told, setTold] = useState('');
  const [fault, setFault] = useState('');
  const [inBetween, setInBetween] = useState<{ own: Correction; others: readonly string[] } | null>(null);
  const root = useRef<HTMLDivElement>(null);
  const saying = useRef(false);

  const imageIds = useMemo(() => (displaySet ? imageIdsOf(displaySet) : []), [displaySet]);
  useEffect(() => {
    if (phase === 'waiting' && imageIds.length) void model.start(imageIds);
  }, [model, phase, imageIds]);

  const restoring = useDraft({ model, view, desk, user, corrections: known ? corrections : null, text, setText });

  useEffect(
    () =>
      desk?.onKept((letter, correction) => {
        if (letter.study !== findings.study) return;
        refresh();
        if (correction.concurrent.length) setInBetween({ own: correction, others: correction.concurrent });
      }),
    [desk, findings.study, refresh],
  );

  const lesions = useMemo(() => scored?.lesions ?? [], [scored]);
  const chosen = lesions.find((lesion) => lesion.id === selected) ?? null;
  const mayCorrect = user?.role === 'radiologist';
  const changed = reading !== null && differs(reading.now, reading.proposal);
  const unsaved = reading !== null && (differs(reading.now, reading.saved) || text.note !== '' || text.reason !== '');
  const instanceNumber = useCallback(
    (k: number) => numbers.get(loaded?.volume.grid.sopInstanceUids[k] ?? '') ?? null,
    [numbers, loaded],
  );
  const reasons = useMemo(() => new Map(findings.lesion_totals.map((one) => [one.id, one.reason?.meaning ?? ''])), [findings]);
  const reasonOf = useCallback((lesion: DecidedLesion) => reasons.get(lesion.id) ?? '', [reasons]);

  const select = useCallback(
    (lesion: DecidedLesion, show = true) => {
      setSelected(lesion.id);
      const { k, j, i } = lesion.peak;
      const instance = loaded?.volume.grid.sopInstanceUids[k];
      if (show && instance) void jump(services, findings.source_series, { sop_instance_uid: instance, row: j, column: i });
    },
    [loaded, services, findings.source_series],
  );
  const change = (lesion: DecidedLesion, what: Change, gesture?: string) =>
    dispatch({ type: 'decide', lesion, change: what, ...(gesture ? { gesture } : {}) });
  const include = (lesion: DecidedLesion, counted: boolean) => change(lesion, { counted });
  const assign = (lesion: DecidedLesion, vessel: Vessel) => change(lesion, { vessel });

  const clicked = async (voxel: Voxel, modified: boolean) => {
    const lesion = model.lesionAt(voxel);
    const edits = modified || editing;
    if (lesion) {
      select(lesion, false);
      if (edits) change(lesion, { counted: !lesion.counted });
      setTold(edits ? `Lesion ${lesion.id} ${lesion.counted ? 'is out' : 'counts'}.` : `Lesion ${lesion.id}.`);
      root.current?.querySelector<HTMLElement>(`tr[data-lesion="${CSS.escape(lesion.id)}"]`)?.focus({ preventScroll: false });
      return;
    }
    const hu = model.valueAt(voxel);
    if (!reading || !(hu >= reading.now.thresholdHu)) {
      if (edits) setTold(`${amount(hu, 0)} HU there: below the threshold.`);
      return;
    }
    if (!edits) return setTold(`${amount(hu, 0)} HU there, in no lesion. Shift-click adds it as yours.`);
    const added = await model.addAt(voxel);
    if ('refused' in added) return setTold(refusalWords(added.refused));
    setSelected(added.id);
    setTold(`Lesion ${added.id} is added: ${amount(hu, 0)} HU at this place.`);
  };
  useOverlay({
    services,
    displaySetUid: displaySet?.displaySetInstanceUID ?? '',
    model,
    view,
    opacity,
    onClick: (voxel, modified) => void clicked(voxel, modified),
  });

  useProposalHidden(services, findings, phase === 'ready');

  const say = async (verdict: Verdict) => {
    if (!desk || !user || saying.current) return;
    const read = model.read();
    const body = newCorrection(findings, { ...text, verdict, base: newestOf(known ?? []) }, read, crypto.randomUUID(), new Date());
    const wrong = faultOf(body);
    if (wrong) return setFault(wordsOfFault(wrong.path, wrong.rule));
    setFault('');
    const headline = verdict === 'modify' && read ? `${amount(read.scores.agatston)} ${scoreName(read.edit.thresholdHu)}` : `${verdict}ed`;
    saying.current = true;
    try {
      await desk.outbox.add({ id: body.id, study: findings.study, body, madeAt: body.made_at, headline });
    } finally {
      saying.current = false;
    }
    if (verdict === 'modify' && read) dispatch({ type: 'saved', edit: read.edit });
    setText(NO_TEXT);
    setTold('Saved.');
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    const typing = target.matches('textarea, select, input:not([type="checkbox"])');
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z' && !target.matches('textarea, input[type="text"]')) {
      dispatch({ type: event.shiftKey ? 'redo' : 'undo' });
    } else if (typing || event.ctrlKey || event.metaKey || event.altKey || !chosen || !mayCorrect) {
      return;
    } else if (event.key === 'Delete' || event.key.toLowerCase() === 'x') {
      include(chosen, !chosen.counted);
    } else {
      const choice = VESSEL_CHOICES.find(({ key }) => key === event.key);
      if (!choice) return;
      assign(chosen, choice.vessel);
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const now = scored ? numbersOf(scored.scores) : null;
  const columns = useColumns(findings, now, corrections, user?.id ?? '', changed);
  const own = lesions.filter((lesion) => lesion.regionClass !== SET_ASIDE);
  const aside = lesions.filter((lesion) => lesion.regionClass === SET_ASIDE);
  const table = { selected, instanceNumber, mayChange: mayCorrect, reasonOf, select: (lesion: DecidedLesion) => select(lesion), include, assign };
  const agrees = loaded === null || (loaded.differences.length === 0 && loaded.missing.length === 0);

  return (
    <div ref={root} className="rl-reading" onKeyDown={onKeyDown} data-cy="rl-reading" data-phase={phase} data-stale={stale}>
      <LoadNotice view={view} found={displaySet !== null} again={() => void model.start(imageIds)} />
      {agrees ? null : <AgreementNotice differences={loaded.differences} missing={loaded.missing} />}
      <ScoreTable columns={columns} />
      <p className="rl-hidden" aria-live="polite" role="status">
        {now && !stale ? `${scoreName(now.thresholdHu)} ${amount(now.agatston)}` : ''}
      </p>
      {reading ? (
        <>
          <ThresholdControl
            thresholdHu={reading.now.thresholdHu}
            disabled={phase !== 'ready'}
            onChange={(hu, gesture) => {
              setTold('');
              dispatch({ type: 'threshold', hu, gesture });
            }}
          />
          <section className="rl-block" aria-label="Lesions">
            <h3>
              Lesions <small>{own.length}</small>
            </h3>
            <p className="rl-said" role="status" aria-live="polite" data-cy="rl-said">
              {told}
            </p>
            {own.length ? <LesionTable caption="Lesions" lesions={own} {...table} /> : <p className="rl-muted">No lesion at this threshold.</p>}
            {chosen ? (
              <LesionEditor
                lesion={chosen}
                slice={instanceNumber(chosen.peak.k)}
                mayChange={mayCorrect}
                change={(what, gesture) => change(chosen, what, gesture)}
              />
            ) : null}
            <div className="rl-row" role="group" aria-label="Steps">
              <button type="button" className="rl-button" data-cy="rl-undo" disabled={!reading.past.length} onClick={() => dispatch({ type: 'undo' })}>
                Undo
              </button>
              <button type="button" className="rl-button" data-cy="rl-redo" disabled={!reading.future.length} onClick={() => dispatch({ type: 'redo' })}>
                Redo
              </button>
              <button type="button" className="rl-button" data-cy="rl-back" disabled={!changed} onClick={() => dispatch({ type: 'back' })}>
                Back to the AI’s proposal
              </button>
            </div>
            {aside.length ? (
              <details data-cy="rl-aside">
                <summary>
                  {aside.length} set aside by the AI {aside.some((lesion) => lesion.counted) ? '(some taken in)' : '(not counted)'}
                </summary>
                <LesionTable caption="Lesions set aside" lesions={aside} {...table} />
              </details>
            ) : null}
          </section>
          <ViewControls
            services={services}
            displaySetUid={displaySet?.displaySetInstanceUID ?? ''}
            opacity={opacity}
            setOpacity={setOpacity}
            editing={editing}
            setEditing={mayCorrect ? setEditing : null}
          />
        </>
      ) : null}
      {mayCorrect || user === null ? (
        <VerdictForm
          text={text}
          setText={setText}
          changed={changed}
          blocked={desk === null || restoring ? 'One moment …' : user === null ? 'Log in again to save.' : ''}
          changesBlocked={stale ? 'The score is being computed …' : unsaved ? '' : 'Saved already'}
          fault={fault}
          say={(verdict) => void say(verdict)}
        />
      ) : (
        <p className="rl-block rl-muted">Only radiologists save corrections; you can look at other thresholds.</p>
      )}
      <UnsentList
        view={outbox}
        send={() => void desk?.outbox.flush()}
        retry={(id) => void desk?.outbox.retry(id)}
        discard={(id) => void desk?.outbox.discard(id)}
      />
      {inBetween ? <InBetween own={inBetween.own} ids={inBetween.others} corrections={corrections} close={() => setInBetween(null)} /> : null}
      <History corrections={corrections} reader={user?.id ?? ''} study={findings.study} />
      <footer className="rl-foot">
        {findings.versions.model.name} {findings.versions.model.version}, pipeline {findings.pipeline} {findings.versions.pipeline}, radloop{' '}
        {findings.versions.software}
      </footer>
    </div>
  );
}

/** The reader at work, the AI, and the newest word of every reader. */
function useColumns(
  findings: Findings, now: ReturnType<typeof numbersOf> | null, corrections: readonly Correction[], reader: string, changed: boolean,
): ScoreColumn[] {
  return useMemo(() => {
    const { name, version } = findings.versions.model;
    const seen = new Set<string>();
    const readers = corrections.flatMap((one): ScoreColumn[] => {
      if (seen.has(one.author.id)) return [];
      seen.add(one.author.id);
      if (!one.scores) return [];
      const own = one.author.id === reader;
      const hook = own ? 'rl-score-saved' : 'rl-score-reader';
      const title = own ? 'Saved by you' : `Reader: ${one.author.display_name}`;
      return [{ key: one.id, title, detail: `correction ${one.seq}`, numbers: numbersOf(one.scores), hook }];
    });
    return [
      { key: 'now', title: 'On screen', detail: changed ? 'with your changes' : 'as the AI proposes', numbers: now, hook: 'rl-score-total' },
      { key: 'ai', title: 'AI', detail: `${name} ${version}`, numbers: proposedNumbers(findings), hook: 'rl-score-ai' },
      ...readers,
    ];
  }, [findings, now, corrections, reader, changed]);
}

function wordsOfFault(path: string, rule: string): string {
  const lesion = /^calcium\.lesions\.\d+\.(note|reason)$/.exec(path);
  if (lesion) return `A lesion's ${lesion[1]} ${rule}.`;
  return path === 'note' || path === 'reason' ? `The ${path} ${rule}.` : `This cannot be saved: ${path} ${rule}.`;
}
