// The parametric maps of a result: each brought into view, all side by side, with the values their colours stand for.
import { useSystem } from '@ohif/core';
import { useState } from 'react';

import type { Findings, FindingsMap } from '../../../shared/types';
import { rampOf } from '../maps/colors';
import { showOne } from '../maps/grid';
import { showMaps } from '../viewer/opening';
import { numberText, unitText } from '../words';

export function Maps({ findings }: { findings: Findings }) {
  const { servicesManager, commandsManager } = useSystem();
  const { services } = servicesManager;
  const [said, setSaid] = useState('');
  const maps = findings.maps ?? [];
  const tell = (shown: boolean): void => setSaid(shown ? '' : 'The maps are not loaded yet; try again in a moment.');
  return (
    <section data-cy="rl-maps">
      <div className="rl-row rl-spread">
        <h3>Maps</h3>
        {maps.length > 1 && (
          <button type="button" data-cy="rl-maps-all" onClick={() => void showMaps(services, commandsManager, findings).then(tell)}>
            Side by side
          </button>
        )}
      </div>
      {maps.map(map => (
        <Row key={map.sop_instance_uid} map={map} onShow={() => tell(showOne(services, map))} />
      ))}
      {said !== '' && <p role="status">{said}</p>}
    </section>
  );
}

function Row({ map, onShow }: { map: FindingsMap; onShow: () => void }) {
  const [low, high] = map.window ?? [map.minimum ?? 0, map.maximum ?? 1];
  const unit = unitText(map.unit);
  return (
    <div className="rl-map" data-cy="rl-map">
      <button type="button" className="rl-link" aria-label={`Show the map ${map.label}`} onClick={onShow}>
        {map.label}
      </button>
      <span className="rl-dim">{numberText(low)}</span>
      <span className="rl-ramp" style={{ background: rampOf(map.color_map) }} role="img" aria-label={`Colours from ${numberText(low)} to ${numberText(high)} ${unit}`} />
      <span className="rl-dim">
        {numberText(high)} {unit}
      </span>
      {map.median !== null && (
        <span className="rl-dim">
          median {numberText(map.median)} {unit}
        </span>
      )}
    </div>
  );
}
