// Stands in for the host's @ohif/core in tests of registration: registration asks nothing of it.
export function useSystem(): never {
  throw new Error('no host in this test');
}
export const DicomMetadataStore = {};
export const classes = {};
