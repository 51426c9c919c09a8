import { useEffect, useMemo, useState } from 'react';
import type { Services } from '../../../shared/ohif';
import type { Job } from '../../../shared/types';
import { LostNotice } from '../../../shared/viewer/LostNotice';
import { studyOnScreen } from '../../../shared/viewer/study';
import { hasWebgl2 } from '../viewer/webgl';
import { CalciumReading } from './CalciumReading';
import { calciumJobs, useStudyResults } from './remote';
import { deliveryWords } from './words';

const NOTICE = 'Research use only. Not a medical device.';

/** The reading panel: finds the calcium result of the study on the screen, or says why there is none. */
export function CalciumPanel({ services }: { readonly services: Services }) {
  const study = useStudy(services);
  const { results, corrections, problem, refresh } = useStudyResults(study);
  const jobs = useMemo(() => (results ? calciumJobs(results) : []), [results]);
  const [chosen, setChosen] = useState('');
  const job = jobs.find((each) => each.job === chosen) ?? jobs.find((each) => each.findings?.state === 'done') ?? jobs[0];
  return (
    <div className="rl-panel rl-review" data-cy="rl-calcium-panel">
      <header className="rl-head">
        <h2>Coronary calcium</h2>
        <p className="rl-notice">{results?.notice || NOTICE}</p>
      </header>
      {hasWebgl2() ? null : (
        <p className="rl-warning" role="alert" data-cy="rl-no-webgl" data-code="no_webgl2">
          This browser offers no WebGL2 <code>no_webgl2</code>: the processor draws the images, without 3D. Scores are computed all the same.
        </p>
      )}
      <LostNotice />
      {jobs.length > 1 ? (
        <label className="rl-stack rl-block">
          <span>Series</span>
          <select value={job?.job} onChange={(event) => setChosen(event.target.value)}>
            {jobs.map((each, n) => (
              <option key={each.job} value={each.job}>
                {n + 1}: {each.summary || each.state}
              </option>
            ))}
          </select>
        </label>
      ) : null}
      {job?.findings?.state === 'done' ? (
        <CalciumReading key={job.job} services={services} findings={job.findings} said={results ? corrections : null} refresh={refresh} />
      ) : (
        <Nothing job={job} code={problem?.code ?? ''} asking={results === null} state={results?.reason || results?.state || ''} />
      )}
    </div>
  );
}

interface NothingProps {
  readonly job: Job | undefined;
  readonly code: string;
  readonly asking: boolean;
  readonly state: string;
}

/** Why there is no calcium result to read. */
function Nothing({ job, code, asking, state }: NothingProps) {
  return (
    <div className="rl-block" role="status" data-cy="rl-calcium-none">
      {whyNothing(job, code, asking, state).map((line) => (
        <p key={line}>{line}</p>
      ))}
    </div>
  );
}

function whyNothing(job: Job | undefined, code: string, asking: boolean, state: string): string[] {
  if (asking) return code ? [`The results cannot be had: ${deliveryWords(code)}. Asking again.`] : ['Asking for the results of this study …'];
  if (!job) {
    return [
      'This study has no calcium result.',
      'The panel is for unenhanced cardiac CT that was analysed for coronary calcium.',
      ...(state ? [`State of the study: ${state}.`] : []),
    ];
  }
  const why = job.reason || job.findings?.meaning || '';
  switch (job.state) {
    case 'refused':
      return ['The analysis refused this series, so there is nothing to read.', `${why} (${job.code || job.findings?.code || 'refused'})`];
    case 'failed':
      return ['The analysis failed.', `${why} (${job.code || 'failed'})`];
    case 'done':
      return [
        'The numbers of this result are not here in a form that can be edited: its report came from another place.',
        'It can be read as text in the panel “AI results”.',
      ];
    default:
      return [`The analysis is at work: ${job.stage || job.state}.`, 'This panel shows the result as soon as it is there.'];
  }
}

/** The study on the screen, as viewports change. */
function useStudy(services: Services): string {
  const [study, setStudy] = useState(() => studyOnScreen(services));
  useEffect(() => {
    const look = () => setStudy(studyOnScreen(services));
    const { viewportGridService: grid, displaySetService: sets } = services;
    const events = [
      [grid, grid.EVENTS['ACTIVE_VIEWPORT_ID_CHANGED']],
      [grid, grid.EVENTS['GRID_STATE_CHANGED']],
      [sets, sets.EVENTS['DISPLAY_SETS_ADDED']],
    ] as const;
    const subscriptions = events.flatMap(([service, event]) => (event ? [service.subscribe(event, look)] : []));
    look();
    return () => subscriptions.forEach((subscription) => subscription.unsubscribe());
  }, [services]);
  return study;
}
