// The curves of a result over time, one small chart each: their heights differ too much for one.
import type { FindingsCurve } from '../../../shared/types';
import { chartOf } from '../maps/curve';
import { numberText, unitText } from '../words';

const WIDTH = 280;
const HEIGHT = 56;

export function Curves({ curves }: { curves: readonly FindingsCurve[] }) {
  return (
    <section data-cy="rl-curves">
      <h3>Curves</h3>
      {curves.map((curve, index) => (
        <One key={`${curve.tracking_uid} ${curve.label} ${index}`} curve={curve} />
      ))}
    </section>
  );
}

function One({ curve }: { curve: FindingsCurve }) {
  const chart = chartOf(curve.times_s, curve.values, WIDTH, HEIGHT);
  const unit = unitText(curve.unit);
  const peak = Math.max(...curve.values);
  const at = curve.times_s[curve.values.indexOf(peak)] ?? 0;
  const words = `${curve.label}: highest ${numberText(peak)} ${unit} at ${numberText(at)} s`;
  return (
    <figure className="rl-curve" data-cy="rl-curve">
      <figcaption>
        {words}
        {curve.places.length > 0 && <span className="rl-dim"> · mean of {curve.places.length} voxels</span>}
        {curve.method && <span className="rl-dim"> · {curve.method.meaning}</span>}
      </figcaption>
      <svg viewBox={`-2 -3 ${WIDTH + 4} ${HEIGHT + 6}`} role="img" aria-label={words} preserveAspectRatio="none">
        {chart.zero !== null && <line x1={0} x2={WIDTH} y1={chart.zero} y2={chart.zero} className="rl-axis" />}
        <line x1={0} x2={WIDTH} y1={HEIGHT} y2={HEIGHT} className="rl-axis" />
        <polyline points={chart.line} />
      </svg>
      <div className="rl-row rl-spread rl-dim">
        <span>{numberText(curve.times_s[0] ?? 0)} s</span>
        <span>
          {numberText(chart.low)} to {numberText(chart.high)} {unit}
        </span>
        <span>{numberText(curve.times_s.at(-1) ?? 0)} s</span>
      </div>
    </figure>
  );
}
