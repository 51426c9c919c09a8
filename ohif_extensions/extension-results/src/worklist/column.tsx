// The column of the study list that says how far the AI is with each study.
import { useCallback, useSyncExternalStore } from 'react';

import { stateText } from '../words';
import { stateOf, watch } from './states';

const LOOKS: Readonly<Record<string, string>> = { done: 'rl-done', refused: 'rl-off', failed: 'rl-bad' };

export function StateCell({ study }: { study: string }) {
  const subscribe = useCallback((listener: () => void) => watch(study, listener), [study]);
  const state = useSyncExternalStore(subscribe, () => stateOf(study));
  if (state === undefined) {
    return <span className="rl-off">–</span>;
  }
  const look = state.state === 'done' && state.code !== '' ? 'rl-off' : (LOOKS[state.state] ?? 'rl-way');
  return (
    <span className={look} data-cy="rl-state" title={state.headline}>
      {state.headline || stateText(state.state, state.code)}
    </span>
  );
}

interface Column {
  id?: string;
  [more: string]: unknown;
}

/** The list's columns with ours before the last one, which holds the row's menu. */
export function withState(columns: readonly Column[]): Column[] {
  const ours: Column = {
    id: 'radloop-state',
    accessorFn: (row: { studyInstanceUid?: string }) => stateOf(row.studyInstanceUid ?? '')?.headline ?? '',
    header: () => 'AI',
    enableSorting: false,
    enableColumnFilter: false,
    cell: ({ row }: { row: { original: { studyInstanceUid?: string } } }) => <StateCell study={row.original.studyInstanceUid ?? ''} />,
    meta: { label: 'AI', headerClassName: 'min-w-[170px]', cellClassName: 'min-w-[170px]', minWidth: 170, priority: 95 },
  };
  const rest = columns.filter(column => column.id !== ours.id);
  const menu = rest.findIndex(column => column.id === 'actions');
  return menu < 0 ? [...rest, ours] : [...rest.slice(0, menu), ours, ...rest.slice(menu)];
}
