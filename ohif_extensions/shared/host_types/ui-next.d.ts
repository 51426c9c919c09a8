// What our extensions use of the host's @ohif/ui-next, which ships no types; the build checks the names against the host.
import type * as React from 'react';

type Loose = Record<string, unknown> & { children?: React.ReactNode };

export const Button: React.ComponentType<Loose>;
export const ScrollArea: React.ComponentType<Loose>;
export const Slider: React.ComponentType<Loose>;
export const Icons: { ByName: React.ComponentType<{ name: string; className?: string }> } & Record<
  string,
  React.ComponentType<{ className?: string }>
>;
