// The AI's segments on the images: each shown or hidden, all more or less opaque.
import { useSystem } from '@ohif/core';
import { useEffect, useReducer, useState } from 'react';

import { drawnByProcessor } from '../../../shared/graphics';
import { hideBackground, isShown, segmentationDisplaySet, segmentsOf, setOpacity, setVisible, showOverlay } from '../../../shared/viewer/overlay';

const EVENTS = ['SEGMENTATION_MODIFIED', 'SEGMENTATION_REPRESENTATION_MODIFIED', 'SEGMENTATION_ADDED', 'SEGMENTATION_REMOVED', 'SEGMENTATION_LOADING_COMPLETE'];

export function Segments({ series, sop }: { series: string; sop: string }) {
  const { servicesManager, commandsManager } = useSystem();
  const { services } = servicesManager;
  const { segmentationService, displaySetService } = services;
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const [opacity, setOpacityShown] = useState(0.5);
  const [said, setSaid] = useState('');

  useEffect(() => {
    const events = EVENTS.flatMap(name => segmentationService.EVENTS[name] ?? []).map(name => segmentationService.subscribe(name, redraw));
    events.push(displaySetService.subscribe(displaySetService.EVENTS['DISPLAY_SETS_ADDED'] ?? '', redraw));
    return () => events.forEach(event => event.unsubscribe());
  }, [segmentationService, displaySetService]);

  const overlay = segmentationDisplaySet(services, sop);
  if (!overlay) {
    return <p className="rl-dim">The AI’s segmentation is not among the opened series.</p>;
  }
  if (drawnByProcessor()) {
    return <p className="rl-dim">Without WebGL2 the AI’s segmentation cannot be laid over the images.</p>;
  }
  const id = overlay.displaySetInstanceUID;
  const segments = segmentsOf(services, id);
  const show = (): void => {
    setSaid('');
    showOverlay(services, commandsManager, series, sop)
      .then(shown => {
        if (shown) {
          hideBackground(services, id);
          setOpacity(services, id, opacity);
        } else {
          setSaid('The images of this result are in no viewport.');
        }
      })
      .catch(() => setSaid('The segmentation could not be loaded.'))
      .finally(redraw);
  };
  return (
    <>
      <h3>Segments on the images</h3>
      {!isShown(services, id) && (
        <div className="rl-row">
          <button type="button" data-cy="rl-overlay" onClick={show}>
            Show on the images
          </button>
          {said !== '' && <span role="status">{said}</span>}
        </div>
      )}
      {segments.map(segment => (
        <label className="rl-row" key={segment.index}>
          <input
            type="checkbox"
            data-cy={`rl-segment-${segment.index}`}
            checked={segment.visible}
            onChange={event => {
              setVisible(services, id, segment.index, event.target.checked);
              redraw();
            }}
          />
          <span className="rl-swatch" style={{ background: `rgb(${segment.color.slice(0, 3).join(' ')})` }} />
          {segment.label}
        </label>
      ))}
      {segments.length > 0 && (
        <label className="rl-row">
          Opacity
          <input
            type="range"
            min={0}
            max={100}
            step={5}
            data-cy="rl-opacity"
            value={Math.round(100 * opacity)}
            aria-valuetext={`${Math.round(100 * opacity)} %`}
            onChange={event => {
              const wanted = Number(event.target.value) / 100;
              setOpacityShown(wanted);
              setOpacity(services, id, wanted);
            }}
          />
          {Math.round(100 * opacity)} %
        </label>
      )}
    </>
  );
}
