// What this extension changes in OHIF itself: a crash with certain reports, the study list's column and menus.
import { About } from './session/About';
import { leave, leaveText } from './session/keeper';
import { withState } from './worklist/column';

interface SrMeasurement {
  coords?: unknown[];
  [more: string]: unknown;
}

/** OHIF 3.13 reads the first coordinate of every measurement group of a report; a group without any ended the viewer. */
export function withCoordinates({ measurement }: { measurement: SrMeasurement }): SrMeasurement {
  return measurement.coords?.length ? measurement : { ...measurement, coords: [{}] };
}

interface MenuItem {
  id: string;
  label: string;
  onClick(): void;
}

export function withLogout(items: readonly MenuItem[]): MenuItem[] {
  return [...items.filter(item => item.id !== 'logout'), { id: 'logout', label: leaveText(), onClick: () => void leave() }];
}

export const customizations: Record<string, unknown> = {
  onBeforeSRAddMeasurement: { $set: withCoordinates },
  'workList.columns': { $apply: withState },
  'workList.settingsMenuItems': { $set: withLogout },
  'ohif.aboutModal': { $set: About },
};
