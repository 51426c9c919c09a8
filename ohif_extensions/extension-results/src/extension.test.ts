import { expect, it, vi } from 'vitest';

import manifest from '../package.json';
import { customizations, withCoordinates, withLogout } from './customizations';
import { id } from './id';
import extension from './index';
import { withState } from './worklist/column';

vi.mock('react-dom/client', () => ({ createRoot: vi.fn() }));

const managers = {} as never;

it('is called as its package is', () => {
  expect(extension.id).toBe(manifest.name);
  expect(id).toBe('@radloop/extension-results');
});

it('offers the panel that the layout names', () => {
  const names = extension.getPanelModule?.(managers).map(panel => `${extension.id}.panelModule.${panel.name}`);
  expect(names).toEqual(manifest.radloop.rightPanels);
});

it('changes OHIF for all modes', () => {
  const [module] = extension.getCustomizationModule?.(managers) ?? [];
  expect(module?.name).toBe('global');
  expect(module?.value).toBe(customizations);
});

it('gives a measurement group without coordinates one, so that the viewer does not end', () => {
  expect(withCoordinates({ measurement: { coords: [] } })).toEqual({ coords: [{}] });
  expect(withCoordinates({ measurement: {} })).toEqual({ coords: [{}] });
  const drawn = { coords: [{ ReferencedSOPSequence: {} }] };
  expect(withCoordinates({ measurement: drawn })).toBe(drawn);
});

it('puts its column before the menu, once', () => {
  const once = withState([{ id: 'patient' }, { id: 'actions' }]);
  expect(once.map(column => column.id)).toEqual(['patient', 'radloop-state', 'actions']);
  expect(withState(once)).toHaveLength(3);
});

it('ends the menu with the way out', () => {
  const items = withLogout([{ id: 'about', label: 'About', onClick: () => undefined }]);
  expect(items.at(-1)?.label).toBe('Log out');
});
