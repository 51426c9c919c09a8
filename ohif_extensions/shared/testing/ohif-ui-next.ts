// Stands in for the host's @ohif/ui-next in tests of registration: nothing is rendered there.
export const Button = 'button';
export const ScrollArea = 'div';
export const Slider = 'input';
export const Icons = { ByName: 'span' };
