// The little of dcmjs that is used; it ships no types.
declare module 'dcmjs' {
  export const data: {
    readonly DicomMessage: {
      readFile(file: ArrayBuffer): { readonly meta: Record<string, unknown>; readonly dict: Record<string, unknown> };
    };
    readonly DicomMetaDictionary: {
      naturalizeDataset(dict: Record<string, unknown>): Record<string, unknown>;
    };
  };
}
