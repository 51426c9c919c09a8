import { useEffect } from 'react';
import type { Services } from '../../../shared/ohif';
import type { Findings } from '../../../shared/types';
import { segmentationDisplaySet, segmentsOf, setVisible } from '../../../shared/viewer/overlay';

/** Two masks over one lesion cannot be told apart: the AI's own is hidden while the live one is shown, and then shown again. */
export function useProposalHidden(services: Services, findings: Findings, active: boolean): void {
  const sop = findings.results.find((each) => each.modality === 'SEG')?.sop_instance_uid ?? '';
  useEffect(() => {
    if (!active || !sop) return undefined;
    const hidden = new Map<number, string>();
    const hide = () => {
      const id = segmentationDisplaySet(services, sop)?.displaySetInstanceUID;
      if (!id) return;
      for (const segment of segmentsOf(services, id)) {
        if (!segment.visible || hidden.has(segment.index)) continue;
        hidden.set(segment.index, id);
        setVisible(services, id, segment.index, false);
      }
    };
    hide();
    const { segmentationService } = services;
    const events = ['SEGMENTATION_ADDED', 'SEGMENTATION_REPRESENTATION_MODIFIED'].map((name) => segmentationService.EVENTS[name]);
    // The viewer tells of a change before it has made all of it.
    const subscriptions = events.flatMap((event) => (event ? [segmentationService.subscribe(event, () => setTimeout(hide))] : []));
    return () => {
      subscriptions.forEach((subscription) => subscription.unsubscribe());
      for (const [index, id] of hidden) setVisible(services, id, index, true);
    };
  }, [services, sop, active]);
}
