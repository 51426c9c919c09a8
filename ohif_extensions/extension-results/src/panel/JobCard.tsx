// One result: who reckoned it, what was found, where it is on the images, what readers say of it.
import { useState } from 'react';

import { ApiProblem, paths } from '../../../shared/client';
import { session } from '../../../shared/session';
import type { StudyResults } from '../../../shared/study_results';
import type { Correction, Finding, Findings, Job } from '../../../shared/types';
import { correctionsOf, layOut, objectOf, vesselRows } from '../select';
import { codeText, findingText, isUnderWay, jobText, numberText, timeText, unitText, valueText, vesselText } from '../words';
import { Curves } from './Curves';
import { LesionTable } from './LesionTable';
import { Maps } from './Maps';
import { Readers } from './Readers';
import { ReportText } from './ReportText';
import { Segments } from './Segments';
import { StateChip } from './StateChip';

export interface JobCardProps {
  job: Job;
  store: StudyResults;
  corrections: readonly Correction[];
  open: boolean;
}

export function JobCard({ job, store, corrections, open }: JobCardProps) {
  const { findings } = job;
  return (
    <details className="rl-card" open={open} data-cy="rl-job">
      <summary>
        <strong>{findings?.title ?? job.pipeline}</strong> <StateChip state={job.superseded ? 'superseded' : job.state} code={job.code} />
      </summary>
      {job.summary !== '' && job.state === 'done' && <p className="rl-headline">{job.summary}</p>}
      <p className="rl-dim">
        {jobText(job)}
        {job.run > 0 && `, run ${job.run + 1}`} · {timeText(job.updated)}
      </p>
      {job.state !== 'done' && (job.code !== '' || job.reason !== '') && (
        <p className={job.state === 'failed' ? 'rl-error' : 'rl-warning'} data-cy="rl-reason-text">
          {codeText(job.code, job.reason)}
        </p>
      )}
      {findings && findings.state === 'done' && <Done job={job} findings={findings} study={store.study} corrections={corrections} />}
      {findings === null && job.state === 'done' && <p>{job.summary || 'The result is kept as a report only; see below.'}</p>}
      {findings && <Provenance findings={findings} />}
      <Actions job={job} store={store} />
    </details>
  );
}

function Done({ job, findings, study, corrections }: { job: Job; findings: Findings; study: string; corrections: readonly Correction[] }) {
  const { main, more } = layOut(findings);
  const rows = vesselRows(findings.lesion_totals, lesion => vesselText(lesion.vessel));
  const segmentation = objectOf(findings, 'SEG');
  const report = objectOf(findings, 'SR');
  return (
    <>
      {findings.warnings.map(warning => (
        <p className="rl-warning" key={`${warning.code.value} ${warning.value.value}`}>
          {warning.value.meaning}
        </p>
      ))}
      <FindingTable findings={main} caption="Findings of the AI" />
      <Readers corrections={correctionsOf(corrections, job.job)} study={study} job={job.job} />
      {rows.length > 0 && (
        <>
          <h3>Vessels</h3>
          <table>
            <thead>
              <tr>
                <th scope="col">Vessel</th>
                <th scope="col" className="rl-number">
                  Lesions
                </th>
                <th scope="col" className="rl-number">
                  Agatston (AU)
                </th>
                <th scope="col" className="rl-number">
                  Volume (mm³)
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map(row => (
                <tr key={row.vessel}>
                  <td>{row.vessel}</td>
                  <td className="rl-number">{row.lesions}</td>
                  <td className="rl-number">{numberText(row.score)}</td>
                  <td className="rl-number">{numberText(row.volumeMm3)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
      {(findings.maps?.length ?? 0) > 0 && <Maps findings={findings} />}
      {(findings.curves?.length ?? 0) > 0 && <Curves curves={findings.curves ?? []} />}
      <LesionTable findings={findings} />
      {segmentation && <Segments series={findings.source_series} sop={segmentation.sop_instance_uid} />}
      {more.length > 0 && (
        <details>
          <summary>More values ({more.length})</summary>
          <FindingTable findings={more} caption="More values of the AI" />
        </details>
      )}
      {report && <ReportText study={study} sop={report.sop_instance_uid} title="Report as text" />}
    </>
  );
}

function FindingTable({ findings, caption }: { findings: readonly Finding[]; caption: string }) {
  return (
    <table aria-label={caption}>
      <tbody>
        {findings.map((finding, index) => (
          <tr key={`${finding.tracking_uid} ${finding.code.value} ${index}`} data-cy="rl-finding">
            <td>
              {findingText(finding)}
              {finding.probability !== null && <span className="rl-dim"> (probability {numberText(100 * finding.probability)} %)</span>}
            </td>
            <td className={typeof finding.value === 'number' ? 'rl-number' : ''}>
              <strong>{valueText(finding)}</strong>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Provenance({ findings }: { findings: Findings }) {
  const { model, pipeline, software, container } = findings.versions;
  return (
    <>
      <p data-cy="rl-model">
        By {model.name} {model.version}
        <span className="rl-dim"> ({model.family === 'rule' ? 'fixed rules' : 'trained model'})</span>
      </p>
      {findings.intended_use !== '' && <p className="rl-dim">{findings.intended_use}</p>}
      <p className="rl-notice">{findings.notice}</p>
      <details>
        <summary>Where this comes from</summary>
        <table aria-label="Where this comes from">
          <tbody>
            <Fact name="Model" value={`${model.name} ${model.version}`} />
            <Fact name="Model digest (SHA-256)" value={model.sha256} />
            <Fact name="Pipeline" value={`${findings.pipeline} ${pipeline}`} />
            <Fact name="Software" value={`radloop ${software}`} />
            {container !== '' && <Fact name="Container" value={container} />}
            <Fact name="Started" value={timeText(findings.started)} />
            <Fact name="Images" value={String(findings.source_instances)} />
            {findings.inputs_sha256 !== '' && <Fact name="Digest of the images" value={findings.inputs_sha256} />}
            {findings.scoring && <Fact name="Threshold" value={`${numberText(findings.scoring.threshold_hu)} ${unitText("[hnsf'U]")}`} />}
            {findings.scoring && <Fact name="Smallest area" value={`${numberText(findings.scoring.min_area_mm2)} mm²`} />}
            <Fact name="Job" value={findings.job} />
          </tbody>
        </table>
      </details>
    </>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td>{value}</td>
    </tr>
  );
}

/** Who may ask for another run; the server decides, this only spares a refusal. */
const MAY_RERUN: ReadonlySet<string> = new Set(['radiologist', 'admin']);

function Actions({ job, store }: { job: Job; store: StudyResults }) {
  const [said, setSaid] = useState('');
  const [busy, setBusy] = useState(false);
  const rerun = (): void => {
    setBusy(true);
    setSaid('');
    store
      .rerun(job.series)
      .then(() => setSaid('Another run is queued.'))
      .catch((error: unknown) => setSaid(error instanceof ApiProblem ? codeText(error.code) : 'The request failed.'))
      .finally(() => setBusy(false));
  };
  const mayRerun = !job.superseded && !isUnderWay(job.state) && MAY_RERUN.has(session()?.user.role ?? '');
  return (
    <div className="rl-row">
      {job.findings?.state === 'done' && (
        <a data-cy="rl-pdf" href={paths.pdf(store.study, job.job)} target="_blank" rel="noopener noreferrer">
          PDF report
        </a>
      )}
      {mayRerun && (
        <button type="button" data-cy="rl-rerun" disabled={busy} onClick={rerun}>
          Run again
        </button>
      )}
      {said !== '' && <span role="status">{said}</span>}
    </div>
  );
}
