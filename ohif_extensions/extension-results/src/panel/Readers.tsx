// What readers say of a result, beside the AI's own: each with name, time, verdict and score.
import { paths } from '../../../shared/client';
import { REASONS } from '../../../shared/reasons';
import type { Correction } from '../../../shared/types';
import { numberText, timeText } from '../words';

const VERDICTS: Readonly<Record<Correction['verdict'], string>> = { accept: 'accepted', modify: 'changed', reject: 'rejected' };

export interface ReadersProps {
  /** Newest first. */
  corrections: readonly Correction[];
  study: string;
  job: string;
}

export function Readers({ corrections, study, job }: ReadersProps) {
  if (corrections.length === 0) {
    return <p className="rl-dim">No reader has said anything to this result yet.</p>;
  }
  const [latest, ...earlier] = corrections;
  return (
    <>
      <h3>Readers</h3>
      {latest && <One correction={latest} study={study} job={job} />}
      {earlier.length > 0 && (
        <details>
          <summary>Earlier ({earlier.length})</summary>
          {earlier.map(correction => (
            <One key={correction.id} correction={correction} study={study} job={job} />
          ))}
        </details>
      )}
    </>
  );
}

function One({ correction, study, job }: { correction: Correction; study: string; job: string }) {
  const { scores, verdict, author, reason, note } = correction;
  return (
    <div className="rl-card" data-cy="rl-correction">
      <p>
        <strong>{author.display_name}</strong> {VERDICTS[verdict]} it <span className="rl-dim">{timeText(correction.received_at)}</span>
      </p>
      {scores && (
        <p data-cy="rl-reader-score">
          Reader’s score: <strong>{numberText(scores.agatston)} AU</strong>, {numberText(scores.volume_mm3)} mm³
          {scores.mass_mg !== null && `, ${numberText(scores.mass_mg)} mg`}, {scores.lesions} lesions at {numberText(scores.threshold_hu)} HU
          {scores.cac_drs && <span className="rl-dim"> · {scores.cac_drs.meaning}</span>}
        </p>
      )}
      {reason !== '' && <p>Reason: {REASONS.find(one => one.code === reason)?.words ?? reason.replaceAll('_', ' ')}</p>}
      {note !== '' && <p>“{note}”</p>}
      {correction.score_check === 'differs' && <p className="rl-warning">The score reckoned in the browser was another one; the server’s is shown.</p>}
      {correction.concurrent.length > 0 && <p className="rl-warning">Another reader had saved in the meantime; both are kept.</p>}
      <p className="rl-row">
        <span className="rl-dim">{correction.delivery === 'stored' ? 'Stored in the archive.' : 'Kept; on its way to the archive.'}</span>
        <a href={paths.pdf(study, job, correction.id)} target="_blank" rel="noopener noreferrer">
          PDF with this reading
        </a>
      </p>
    </div>
  );
}
