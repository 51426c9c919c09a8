import type { Services } from '../../../shared/ohif';
import { setWindow, WINDOWS } from '../../../shared/viewer/viewport';

interface Props {
  readonly services: Services;
  readonly displaySetUid: string;
  readonly opacity: number;
  readonly setOpacity: (opacity: number) => void;
  readonly editing: boolean;
  /** Null when this user may not edit. */
  readonly setEditing: ((editing: boolean) => void) | null;
}

/** How the images and the mask look, and what a click on them does. */
export function ViewControls({ services, displaySetUid, opacity, setOpacity, editing, setEditing }: Props) {
  return (
    <section className="rl-block" aria-label="View">
      <h3>View</h3>
      <label className="rl-row rl-nowrap">
        <span>Mask</span>
        <input
          className="rl-grow"
          type="range"
          data-cy="rl-opacity"
          min={0}
          max={1}
          step={0.05}
          value={opacity}
          aria-valuetext={`${Math.round(opacity * 100)} percent`}
          onChange={(event) => setOpacity(Number(event.target.value))}
        />
        <output>{Math.round(opacity * 100)} %</output>
      </label>
      <div className="rl-row" role="group" aria-label="Window">
        {WINDOWS.map(({ name, center, width }) => (
          <button
            type="button"
            key={name}
            className="rl-button"
            title={`Centre ${center} HU, width ${width} HU`}
            onClick={() => setWindow(services, displaySetUid, center, width)}
          >
            {name}
          </button>
        ))}
      </div>
      {setEditing ? (
        <label className="rl-row rl-nowrap">
          <input type="checkbox" data-cy="rl-click-tool" checked={editing} onChange={(event) => setEditing(event.target.checked)} />
          <span>A click on the image edits, as Shift-click does</span>
        </label>
      ) : null}
    </section>
  );
}
