import { useEffect, useState } from 'react';
import type { DisplaySet, Services } from '../../../shared/ohif';
import { displaySetOf } from '../../../shared/viewer/study';

/** The images of a series once the viewer has them; null before. */
export function useDisplaySet(services: Services, series: string): DisplaySet | null {
  const [found, setFound] = useState<DisplaySet | null>(() => displaySetOf(services, series) ?? null);
  useEffect(() => {
    const look = () => setFound(displaySetOf(services, series) ?? null);
    look();
    const { displaySetService: sets } = services;
    const events = [sets.EVENTS['DISPLAY_SETS_ADDED'], sets.EVENTS['DISPLAY_SETS_CHANGED']];
    const subscriptions = events.flatMap((event) => (event ? [sets.subscribe(event, look)] : []));
    return () => subscriptions.forEach((subscription) => subscription.unsubscribe());
  }, [services, series]);
  return found;
}
