import type { Numbers } from '../reading/proposed';
import { amount, scoreName } from './words';

/** One source of numbers: the reader at work, the AI, another reader. */
export interface ScoreColumn {
  readonly key: string;
  readonly title: string;
  readonly detail: string;
  readonly numbers: Numbers | null;
  /** Hook of the cell with the total, for tests. */
  readonly hook?: string;
}

interface Row {
  readonly name: string;
  readonly unit: string;
  readonly of: (numbers: Numbers) => string;
}

const ROWS: readonly Row[] = [
  { name: 'Volume', unit: 'mm³', of: (n) => amount(n.volumeMm3) },
  { name: 'Mass', unit: 'mg', of: (n) => amount(n.massMg, 2) },
  { name: 'Lesions', unit: '', of: (n) => amount(n.lesions, 0) },
  { name: 'CAC-DRS', unit: '', of: (n) => n.cacDrs?.value ?? '–' },
  { name: 'Rumberger', unit: '', of: (n) => n.rumberger?.value ?? '–' },
];

const VESSEL_ROWS = ['LM', 'LAD', 'LCx', 'RCA', 'unassigned'] as const;

/** All numbers side by side, each source named. */
export function ScoreTable({ columns }: { readonly columns: readonly ScoreColumn[] }) {
  const known = columns.filter((column) => column.numbers !== null);
  const vessels = VESSEL_ROWS.filter((vessel) => known.some((column) => (column.numbers?.vessels[vessel] ?? 0) > 0));
  const cell = (column: ScoreColumn, value: (numbers: Numbers) => string) => (column.numbers ? value(column.numbers) : '…');
  return (
    <div className="rl-scroll" tabIndex={0} role="region" aria-label="Scores">
      <table className="rl-table rl-scores">
        <thead>
          <tr>
            <th scope="col">
              <span className="rl-hidden">Quantity</span>
            </th>
            {columns.map((column) => (
              <th scope="col" key={column.key} className={`rl-source rl-source-${column.key}`}>
                {column.title}
                <small>{column.detail}</small>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          <tr className="rl-total">
            <th scope="row">
              Agatston <small>AU</small>
            </th>
            {columns.map((column) => (
              <td key={column.key} data-cy={column.hook}>
                {cell(column, (n) => amount(n.agatston))}
                {column.numbers && column.numbers.thresholdHu !== 130 ? <small>{scoreName(column.numbers.thresholdHu)}</small> : null}
              </td>
            ))}
          </tr>
          <tr>
            <th scope="row">
              by spacing <small className="rl-below">× spacing / 3 mm</small>
            </th>
            {columns.map((column) => (
              <td key={column.key}>{cell(column, (n) => amount(n.bySpacing))}</td>
            ))}
          </tr>
          {ROWS.map((row) => (
            <tr key={row.name}>
              <th scope="row">
                {row.name} {row.unit ? <small>{row.unit}</small> : null}
              </th>
              {columns.map((column) => (
                <td key={column.key}>{cell(column, row.of)}</td>
              ))}
            </tr>
          ))}
          {vessels.length ? (
            <tr className="rl-subhead">
              <th scope="colgroup" colSpan={columns.length + 1}>
                by vessel <small>Agatston, or the score at the threshold above</small>
              </th>
            </tr>
          ) : null}
          {vessels.map((vessel) => (
            <tr key={vessel} className="rl-vessel-row">
              <th scope="row">
                {vessel}
              </th>
              {columns.map((column) => (
                <td key={column.key}>{cell(column, (n) => amount(n.vessels[vessel] ?? 0))}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
