// A structured report as text, loaded when it is opened.
import { useEffect, useState } from 'react';

import { ApiProblem, api, paths } from '../../../shared/client';
import type { ReadableReport, ReportItem } from '../../../shared/types';
import { codeText, timeText, unitText } from '../words';

/** Identifiers are for machines; they stay in the document. */
function forPeople(item: ReportItem): boolean {
  return item.kind !== 'UIDREF' && !/^[\d.]{20,64}$/.test(item.value);
}

export function ReportText({ study, sop, title }: { study: string; sop: string; title: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details data-cy="rl-report" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary data-cy="rl-report-open">{title}</summary>
      {open && <Loaded study={study} sop={sop} />}
    </details>
  );
}

function Loaded({ study, sop }: { study: string; sop: string }) {
  const [report, setReport] = useState<ReadableReport | null>(null);
  const [problem, setProblem] = useState('');
  useEffect(() => {
    const stop = new AbortController();
    api<ReadableReport>('GET', paths.report(study, sop), undefined, { signal: stop.signal })
      .then(setReport)
      .catch((error: unknown) => {
        if (!stop.signal.aborted) {
          setProblem(error instanceof ApiProblem ? codeText(error.code) : 'The report cannot be read.');
        }
      });
    return () => stop.abort();
  }, [study, sop]);
  if (problem !== '') {
    return <p className="rl-error">{problem}</p>;
  }
  if (report === null) {
    return <p className="rl-dim">Loading …</p>;
  }
  return (
    <div className="rl-report" data-cy="rl-report-text">
      <p>
        <strong>{report.title}</strong>
      </p>
      <p className="rl-dim">
        {report.maker} · {timeText(report.created)} · {report.complete ? 'complete' : 'not marked as complete'}
      </p>
      {report.warnings.map((warning, index) => (
        <p className="rl-warning" key={index}>
          {warning}
        </p>
      ))}
      {report.items.filter(forPeople).map((item, index) => (
        <div key={index} style={{ paddingLeft: `${Math.min(item.level, 8) * 10}px` }}>
          {item.name}
          {item.value !== '' && `: ${item.value} ${unitText(item.unit)}`}
        </div>
      ))}
    </div>
  );
}
