import type { Correction } from '../../../shared/types';
import type { ReadingView } from '../reading/model';
import type { Disagreement } from '../reading/proposed';
import { amount, scoreName } from './words';

const WHY: Readonly<Record<string, string>> = {
  no_segmentation: 'The AI’s segmentation is not in the archive.',
  no_images: 'The viewer has no images of this series.',
  grid_differs: 'The images in the viewer lie on another grid than those that were analysed.',
  seg_other_grid: 'The AI’s segmentation lies on another grid than the images.',
  seg_other_images: 'The AI’s segmentation belongs to other images.',
  seg_unreadable: 'The AI’s segmentation cannot be read.',
  seg_not_binary: 'The AI’s segmentation is of a kind that cannot be edited here.',
  seg_compressed: 'The AI’s segmentation is compressed in a way that cannot be read here.',
  image_failed: 'Not all images could be loaded.',
  slice_gap: 'Slices are missing.',
  slice_spacing_irregular: 'The slices are not evenly spaced.',
  slices_shifted: 'The slices are shifted against each other.',
  mixed_size: 'The images have different sizes.',
  mixed_spacing: 'The images have different pixel spacings.',
  mixed_orientation: 'The images are turned against each other.',
  no_geometry: 'The images do not say where they lie.',
  single_slice: 'A single slice is no volume.',
  not_hounsfield: 'The images are not in Hounsfield units.',
  too_large: 'The volume is too large for this browser.',
  memory: 'This browser has not enough memory for the volume.',
  worker: 'The computation in this browser has stopped.',
  threshold: 'This threshold cannot be computed.',
  closed: 'The computation in this browser has ended.',
  orthanc_unreachable: 'The archive does not answer.',
  answer_unreadable: 'The answer of the server cannot be read.',
  unreachable: 'The server does not answer.',
  login_needed: 'The login has ended.',
};

/** Where the reading stands until it can be computed, or why it cannot. */
export function LoadNotice({ view, found, again }: { readonly view: ReadingView; readonly found: boolean; readonly again: () => void }) {
  const { phase, progress, code } = view;
  if (phase === 'ready') return null;
  if (phase === 'failed') {
    return (
      <div className="rl-block rl-warning" role="alert" data-cy="rl-calcium-problem" data-code={code}>
        <p>
          {WHY[code] ?? 'Something unforeseen happened.'} <code>{code}</code>
        </p>
        <p>Live score and mask are off. The AI’s numbers can still be accepted or rejected as a whole.</p>
        <button type="button" className="rl-button" onClick={again}>
          Try again
        </button>
      </div>
    );
  }
  return (
    <div className="rl-block" role="status" data-cy="rl-calcium-loading">
      {found ? (
        <label className="rl-stack">
          <span>Loading the volume … {Math.round(progress * 100)} %</span>
          <progress value={progress} max={1} />
        </label>
      ) : (
        'Waiting for the images of this series …'
      )}
    </div>
  );
}

const NAMES = { agatston: 'Agatston', bySpacing: 'by spacing', volumeMm3: 'volume in mm³', massMg: 'mass in mg', lesions: 'lesions' } as const;

/** Shown when this browser does not find the server's numbers in the same images. */
export function AgreementNotice({ differences, missing }: { readonly differences: readonly Disagreement[]; readonly missing: readonly string[] }) {
  return (
    <div className="rl-block rl-warning" role="alert" data-cy="rl-disagreement">
      <p>This browser does not compute the server’s numbers from these images. Take its scores with care; the server computes what is saved.</p>
      <ul>
        {differences.map(({ name, browser, server }) => (
          <li key={name}>
            {NAMES[name]}: browser {amount(browser, 4)}, server {amount(server, 4)}
          </li>
        ))}
      </ul>
      {missing.length ? <p>Not found at their place: {missing.slice(0, 20).join(', ')}.</p> : null}
    </div>
  );
}

interface InBetweenProps {
  readonly own: Correction;
  readonly ids: readonly string[];
  readonly corrections: readonly Correction[];
  readonly close: () => void;
}

/** Another reader has saved a correction that this one had not seen. Both stand. */
export function InBetween({ own, ids, corrections, close }: InBetweenProps) {
  const others = corrections.filter((one) => ids.includes(one.id));
  return (
    <div className="rl-block rl-warning" role="alert" data-cy="rl-concurrent">
      <p>Another correction came in between. Both are kept.</p>
      <ul>
        <li>Yours: {wordOf(own)}</li>
        {others.map((one) => (
          <li key={one.id}>
            {one.author.display_name}: {wordOf(one)}
          </li>
        ))}
      </ul>
      <button type="button" className="rl-button" onClick={close}>
        Understood
      </button>
    </div>
  );
}

function wordOf({ verdict, scores }: Correction): string {
  return scores ? `${scoreName(scores.threshold_hu)} ${amount(scores.agatston)}` : `${verdict}ed`;
}
