// Stands in for the host's cornerstone in tests of registration and of pure functions: nothing is drawn there.
export const cache = {};
export const utilities = {};
export const Enums = {};
export const eventTarget = {};
export const segmentation = {};
export const imageLoader = {};
export const metaData = {};
