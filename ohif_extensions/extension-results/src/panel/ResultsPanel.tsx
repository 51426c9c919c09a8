// The panel "AI results": everything the AI has said about the study on the screen, and what readers made of it.
import { useSystem } from '@ohif/core';
import { useCallback, useSyncExternalStore } from 'react';

import { LostNotice } from '../../../shared/viewer/LostNotice';
import { studyOnScreen } from '../../../shared/viewer/study';
import type { Services } from '../../../shared/ohif';
import { resultsOf, type Snapshot, type StudyResults } from '../../../shared/study_results';
import type { Results, SeriesResults } from '../../../shared/types';
import { jobsOf, notAnalysed, otherReports } from '../select';
import { codeText, isUnderWay, stateText } from '../words';
import { GraphicsNotice } from './GraphicsNotice';
import { JobCard } from './JobCard';
import { ReportList } from './ReportList';
import { StateChip } from './StateChip';

export function ResultsPanel() {
  const { servicesManager } = useSystem();
  const study = useStudy(servicesManager.services);
  return (
    <section className="rl-panel" data-cy="rl-results-panel" aria-label="AI results">
      {study === '' ? <p className="rl-dim">No study is open.</p> : <Study key={study} store={resultsOf(study)} />}
    </section>
  );
}

/** The study on the screen, as it changes. */
function useStudy(services: Services): string {
  const { displaySetService, viewportGridService } = services;
  const subscribe = useCallback(
    (listener: () => void) => {
      const events = [
        displaySetService.subscribe(displaySetService.EVENTS['DISPLAY_SETS_ADDED'] ?? '', listener),
        viewportGridService.subscribe(viewportGridService.EVENTS['ACTIVE_VIEWPORT_ID_CHANGED'] ?? '', listener),
        viewportGridService.subscribe(viewportGridService.EVENTS['GRID_STATE_CHANGED'] ?? '', listener),
      ];
      return () => events.forEach(event => event.unsubscribe());
    },
    [displaySetService, viewportGridService]
  );
  return useSyncExternalStore(subscribe, () => studyOnScreen(services));
}

function Study({ store }: { store: StudyResults }) {
  const snapshot = useSyncExternalStore(store.subscribe, store.current);
  const { results, problem } = snapshot;
  return (
    <>
      <div className="rl-row rl-spread">
        <h2>AI results</h2>
        {results && <StateChip state={results.state} code={results.code} />}
      </div>
      <p className="rl-notice">{results?.notice || 'Research use only, not a medical device.'}</p>
      <GraphicsNotice />
      <LostNotice />
      {problem && (
        <div className="rl-error" role="alert">
          <p>
            {codeText(problem.code)} {results && 'What is shown may be out of date.'}
          </p>
          <p className="rl-row">
            <button type="button" data-cy="rl-retry" onClick={() => void store.refresh()}>
              Try again
            </button>
            {problem.correlation !== '' && <span className="rl-dim">Reference {problem.correlation}</span>}
          </p>
        </div>
      )}
      {results === null && problem === null && <p className="rl-dim">Loading …</p>}
      {results && <Found store={store} snapshot={snapshot} results={results} />}
    </>
  );
}

function Found({ store, snapshot, results }: { store: StudyResults; snapshot: Snapshot; results: Results }) {
  const { current, replaced } = jobsOf(results);
  const others = otherReports(results);
  const waiting = notAnalysed(results);
  return (
    <>
      {!snapshot.live && snapshot.problem === null && <p className="rl-dim">Looking for news every few seconds.</p>}
      {current.length === 0 && <Nothing results={results} />}
      {current.map((job, index) => (
        <JobCard key={job.job} job={job} store={store} corrections={snapshot.corrections} open={index === 0 || isUnderWay(job.state)} />
      ))}
      {replaced.length > 0 && (
        <details data-cy="rl-replaced">
          <summary>Replaced results ({replaced.length})</summary>
          {replaced.map(job => (
            <JobCard key={job.job} job={job} store={store} corrections={snapshot.corrections} open={false} />
          ))}
        </details>
      )}
      {waiting.length > 0 && (
        <details data-cy="rl-not-analysed" open={current.length === 0}>
          <summary>Series without a result ({waiting.length})</summary>
          {waiting.map(series => (
            <Waiting key={series.series} series={series} />
          ))}
        </details>
      )}
      {others.length > 0 && <ReportList title="Other reports in the study" study={results.study} reports={others} />}
    </>
  );
}

function Nothing({ results }: { results: Results }) {
  const text = isUnderWay(results.state) ? `No AI result yet: ${stateText(results.state)}.` : 'No AI result for this study.';
  return (
    <p data-cy="rl-no-results">
      {text} {codeText(results.code, results.reason)}
    </p>
  );
}

function Waiting({ series }: { series: SeriesResults }) {
  return (
    <p>
      <StateChip state={series.state} code={series.code} /> {series.modality} – {codeText(series.code, series.reason) || stateText(series.state, series.code)}
      {series.excluded_by !== '' && <span className="rl-dim"> (left out by “{series.excluded_by.replaceAll('_', ' ')}”)</span>}
    </p>
  );
}
