import { useMemo, useRef, useState, type KeyboardEvent } from 'react';
import type { DecidedLesion } from '../../../extension-compute/src/calcium/decisions';
import type { Vessel } from '../../../shared/types';
import { sortLesions, type SortBy } from '../reading/sort';
import { cssColor, lookOf } from '../viewer/colors';
import { amount, VESSEL_CHOICES } from './words';

export interface LesionActions {
  readonly select: (lesion: DecidedLesion) => void;
  readonly include: (lesion: DecidedLesion, counted: boolean) => void;
  readonly assign: (lesion: DecidedLesion, vessel: Vessel) => void;
}

interface Props extends LesionActions {
  readonly caption: string;
  readonly lesions: readonly DecidedLesion[];
  readonly selected: string;
  /** What is written on the image of a slice. */
  readonly instanceNumber: (k: number) => number | null;
  readonly mayChange: boolean;
  /** Why the AI set a lesion aside; "" for others. */
  readonly reasonOf: (lesion: DecidedLesion) => string;
}

const COLUMNS: readonly { readonly by: SortBy; readonly title: string; readonly unit: string }[] = [
  { by: 'id', title: 'Lesion', unit: '' },
  { by: 'counted', title: 'Counts', unit: '' },
  { by: 'vessel', title: 'Vessel', unit: '' },
  { by: 'score', title: 'Score', unit: 'AU' },
  { by: 'slice', title: 'Slice', unit: '' },
  { by: 'area', title: 'Area', unit: 'mm²' },
  { by: 'peak', title: 'Peak', unit: 'HU' },
];

const SHOWN_FIRST = 150;

/** Lesions in rows: choose one to see it, take it in or out, give it a vessel. */
export function LesionTable(props: Props) {
  const { caption, lesions, selected, instanceNumber, mayChange, reasonOf, select, include, assign } = props;
  const [sort, setSort] = useState<{ by: SortBy; down: boolean }>({ by: 'score', down: true });
  const [all, setAll] = useState(false);
  const body = useRef<HTMLTableSectionElement>(null);
  const sorted = useMemo(() => sortLesions(lesions, sort.by, sort.down), [lesions, sort]);
  const shown = all ? sorted : sorted.slice(0, SHOWN_FIRST);
  const focusable = shown.some((lesion) => lesion.id === selected) ? selected : shown[0]?.id;

  function move(event: KeyboardEvent, at: number): void {
    if (event.target !== event.currentTarget) return;
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    const lesion = next === undefined ? undefined : shown[next];
    if (event.key === 'Enter' && shown[at]) select(shown[at]);
    else if (!lesion) return;
    else {
      select(lesion);
      (body.current?.rows[next ?? 0] as HTMLElement | undefined)?.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  return (
    <div className="rl-scroll rl-lesions">
      <table className="rl-table">
        <caption className="rl-hidden">{caption}</caption>
        <thead>
          <tr>
            {COLUMNS.map(({ by, title, unit }) => (
              <th scope="col" key={by} aria-sort={sort.by === by ? (sort.down ? 'descending' : 'ascending') : 'none'}>
                <button type="button" onClick={() => setSort({ by, down: sort.by === by ? !sort.down : by === 'score' })}>
                  {title} {unit ? <small>{unit}</small> : null}
                  <span aria-hidden="true">{sort.by === by ? (sort.down ? '▾' : '▴') : ''}</span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody ref={body}>
          {shown.map((lesion, at) => {
            const reason = reasonOf(lesion);
            const slice = instanceNumber(lesion.peak.k);
            const more = new Set(lesion.slices.map(({ k }) => k)).size - 1;
            return (
              <tr
                key={lesion.id}
                data-cy="rl-lesion-row"
                data-lesion={lesion.id}
                tabIndex={lesion.id === focusable ? 0 : -1}
                aria-selected={lesion.id === selected}
                className={lesion.counted ? '' : 'rl-out'}
                onClick={() => select(lesion)}
                onKeyDown={(event) => move(event, at)}
              >
                <th scope="row">
                  <span className="rl-swatch" style={{ backgroundColor: cssColor(lookOf(lesion)) }} /> {lesion.id}
                  {reason ? <small title={reason}>{reason}</small> : null}
                </th>
                <td>
                  <input
                    type="checkbox"
                    data-cy={`rl-lesion-include-${lesion.id}`}
                    aria-label={`Lesion ${lesion.id} counts`}
                    checked={lesion.counted}
                    disabled={!mayChange}
                    onClick={(event) => event.stopPropagation()}
                    onChange={(event) => include(lesion, event.target.checked)}
                  />
                </td>
                <td>
                  <select
                    data-cy={`rl-vessel-${lesion.id}`}
                    aria-label={`Vessel of lesion ${lesion.id}`}
                    value={lesion.vessel}
                    disabled={!mayChange}
                    onClick={(event) => event.stopPropagation()}
                    onChange={(event) => assign(lesion, event.target.value as Vessel)}
                  >
                    {VESSEL_CHOICES.map(({ vessel, words }) => (
                      <option key={vessel} value={vessel} title={words}>
                        {vessel === 'unassigned' ? '–' : vessel}
                      </option>
                    ))}
                  </select>
                </td>
                <td className="rl-score-cell">{amount(lesion.score)}</td>
                <td title={more ? `highest in slice ${slice ?? '?'}; in ${more + 1} slices` : undefined}>
                  {slice ?? '–'}
                  {more ? <small> +{more}</small> : null}
                </td>
                <td>{amount(lesion.slices.reduce((sum, part) => sum + part.areaMm2, 0))}</td>
                <td>{amount(lesion.peakHu, 0)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {sorted.length > shown.length ? (
        <button type="button" className="rl-button" onClick={() => setAll(true)}>
          Show all {sorted.length}
        </button>
      ) : null}
    </div>
  );
}
