// The little of dcmjs that is used; it ships no types. The host shares it under its own name, npm spread out.
declare module 'dcmjs' {
  interface Dcmjs {
    readonly data: {
      readonly DicomMessage: {
        readFile(file: ArrayBuffer): { readonly meta: Record<string, unknown>; readonly dict: Record<string, unknown> };
      };
      readonly DicomMetaDictionary: {
        naturalizeDataset(dict: Record<string, unknown>): Record<string, unknown>;
        denaturalizeDataset(dataset: Record<string, unknown>): Record<string, unknown>;
      };
      readonly DicomDict: new (meta: Record<string, unknown>) => { dict: Record<string, unknown>; write(): ArrayBuffer };
    };
  }
  export const data: Dcmjs['data'] | undefined;
  export const dcmjs: Dcmjs | undefined;
}
