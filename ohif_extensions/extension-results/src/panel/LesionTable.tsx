// The lesions of a result; a click shows one on the images.
import { useSystem } from '@ohif/core';
import { useState } from 'react';

import type { Findings, LesionTotal } from '../../../shared/types';
import { bestSlice } from '../select';
import { jump } from '../../../shared/viewer/jump';
import { numberText, vesselText } from '../words';

/** More rows than these wait behind a button: some chests hold hundreds. */
const AT_FIRST = 30;

export function LesionTable({ findings }: { findings: Findings }) {
  const counted = findings.lesion_totals.filter(lesion => lesion.counted !== false);
  const aside = findings.lesion_totals.filter(lesion => lesion.counted === false);
  const unlisted = findings.masks.reduce((sum, mask) => sum + (mask.unlisted_lesions ?? 0), 0);
  return (
    <>
      {counted.length > 0 && (
        <>
          <h3>Lesions</h3>
          <Rows findings={findings} lesions={counted} />
        </>
      )}
      {unlisted > 0 && <p className="rl-warning">{unlisted} more lesions are in the mask but not in this list.</p>}
      {aside.length > 0 && (
        <details data-cy="rl-set-aside">
          <summary>Set aside by the AI, in no score ({aside.length})</summary>
          <Rows findings={findings} lesions={aside} />
        </details>
      )}
    </>
  );
}

function Rows({ findings, lesions }: { findings: Findings; lesions: readonly LesionTotal[] }) {
  const { servicesManager } = useSystem();
  const [all, setAll] = useState(false);
  const [said, setSaid] = useState('');
  const show = (lesion: LesionTotal): void => {
    const place = bestSlice(findings, lesion.id);
    setSaid('');
    if (place === null) {
      setSaid(`Lesion ${lesion.id} has no place on the images.`);
      return;
    }
    void jump(servicesManager.services, findings.source_series, place).then(shown => {
      if (!shown) {
        setSaid('The images of this result are not open.');
      }
    });
  };
  const shown = all ? lesions : lesions.slice(0, AT_FIRST);
  return (
    <>
      <table>
        <thead>
          <tr>
            <th scope="col">Lesion</th>
            <th scope="col">Vessel</th>
            <th scope="col" className="rl-number">
              Peak (HU)
            </th>
            <th scope="col" className="rl-number">
              mm³
            </th>
            <th scope="col" className="rl-number">
              AU
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map(lesion => (
            <tr key={lesion.id} data-cy="rl-lesion-row">
              <td>
                <button type="button" className="rl-link" aria-label={`Show lesion ${lesion.id} on the images`} onClick={() => show(lesion)}>
                  {lesion.id}
                </button>
              </td>
              <td>
                {vesselText(lesion.vessel)}
                {lesion.reason && <span className="rl-dim"> {lesion.reason.meaning}</span>}
              </td>
              <td className="rl-number">{numberText(lesion.peak_hu)}</td>
              <td className="rl-number">{numberText(lesion.volume_mm3)}</td>
              <td className="rl-number">{numberText(lesion.score)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length < lesions.length && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {lesions.length}
        </button>
      )}
      {said !== '' && <p role="status">{said}</p>}
    </>
  );
}
