import { useRef } from 'react';
import { thresholdWarning } from './words';

interface Props {
  readonly thresholdHu: number;
  readonly disabled: boolean;
  readonly onChange: (hu: number, gesture: string) => void;
}

/** The threshold slider with its number and a way back to 130 HU. */
export function ThresholdControl({ thresholdHu, disabled, onChange }: Props) {
  const drag = useRef(0);
  const next = () => void (drag.current += 1);
  const warning = thresholdWarning(thresholdHu);
  return (
    <div className="rl-block">
      <div className="rl-row">
        <label htmlFor="rl-threshold">Threshold</label>
        <output className="rl-value" htmlFor="rl-threshold">
          {thresholdHu} HU
        </output>
        <button type="button" className="rl-button" disabled={disabled || thresholdHu === 130} onClick={() => onChange(130, '')}>
          Reset to 130 HU
        </button>
      </div>
      <input
        id="rl-threshold"
        data-cy="rl-threshold"
        type="range"
        min={50}
        max={300}
        step={1}
        value={thresholdHu}
        disabled={disabled}
        aria-valuetext={`${thresholdHu} HU`}
        onPointerDown={next}
        onKeyDown={next}
        onChange={(event) => onChange(Number(event.target.value), `threshold ${drag.current}`)}
      />
      <div className="rl-scale" aria-hidden="true">
        <span>50</span>
        <span>300 HU</span>
      </div>
      {warning ? (
        <p className="rl-warning" data-cy="rl-threshold-warning" role="status">
          {warning}
        </p>
      ) : null}
    </div>
  );
}
