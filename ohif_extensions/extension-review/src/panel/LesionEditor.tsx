import type { DecidedLesion } from '../../../extension-compute/src/calcium/decisions';
import { REASONS } from '../../../shared/reasons';
import type { Change } from '../reading/state';
import { amount, VESSEL_CHOICES } from './words';

interface Props {
  readonly lesion: DecidedLesion;
  readonly slice: number | null;
  readonly mayChange: boolean;
  readonly change: (change: Change, gesture?: string) => void;
}

/** What the reader says of the chosen lesion. */
export function LesionEditor({ lesion, slice, mayChange, change }: Props) {
  const { id, counted, vessel, decision } = lesion;
  const noteNeeded = decision?.reason === 'other' && decision.note.trim() === '';
  return (
    <fieldset className="rl-block rl-editor" disabled={!mayChange} data-cy="rl-lesion-editor">
      <legend>
        Lesion {id}, slice {slice ?? '–'}: {amount(lesion.volumeMm3)} mm³, peak {amount(lesion.peakHu, 0)} HU, score {amount(lesion.score)}
      </legend>
      <div className="rl-row" role="group" aria-label={`Vessel of lesion ${id}`}>
        {VESSEL_CHOICES.map((choice) => (
          <button
            type="button"
            key={choice.vessel}
            className="rl-button rl-choice"
            aria-pressed={vessel === choice.vessel}
            title={`${choice.words} (key ${choice.key})`}
            onClick={() => change({ vessel: choice.vessel })}
          >
            {choice.vessel === 'unassigned' ? 'None' : choice.vessel}
          </button>
        ))}
      </div>
      <div className="rl-row">
        <button type="button" className="rl-button" title="Key x or Delete" onClick={() => change({ counted: !counted })}>
          {counted ? 'Exclude' : 'Include'}
        </button>
        <label className="rl-grow">
          <span className="rl-hidden">Reason for lesion {id}</span>
          <select value={decision?.reason ?? ''} data-cy="rl-lesion-reason" onChange={(event) => change({ reason: event.target.value })}>
            <option value="">Reason…</option>
            {REASONS.map(({ code, words }) => (
              <option key={code} value={code}>
                {words}
              </option>
            ))}
          </select>
        </label>
      </div>
      <label className="rl-stack">
        <span className="rl-hidden">Note on lesion {id}</span>
        <input
          type="text"
          data-cy="rl-lesion-note"
          placeholder={noteNeeded ? 'Note (needed with “Other”)' : 'Note'}
          aria-invalid={noteNeeded}
          maxLength={2000}
          value={decision?.note ?? ''}
          onChange={(event) => change({ note: event.target.value }, `note ${id}`)}
        />
      </label>
    </fieldset>
  );
}
