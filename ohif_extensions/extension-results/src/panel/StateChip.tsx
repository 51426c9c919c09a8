// How far a study, a series or a job is, in one coloured word.
import type { State } from '../../../shared/types';
import { isUnderWay, stateText } from '../words';

export function StateChip({ state, code }: { state: State; code: string }) {
  const look = isUnderWay(state) ? 'rl-way' : state === 'failed' ? 'rl-bad' : state === 'done' && code === '' ? 'rl-done' : 'rl-off';
  return (
    <span className={`rl-chip ${look}`} data-cy="rl-state" role="status">
      {stateText(state, code)}
    </span>
  );
}
