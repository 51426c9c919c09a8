// The little of dcmjs that is used; it ships no types. The host shares its default export.
declare module 'dcmjs' {
  interface Data {
    readonly DicomMessage: {
      readFile(file: ArrayBuffer): { readonly meta: Record<string, unknown>; readonly dict: Record<string, unknown> };
    };
    readonly DicomMetaDictionary: {
      naturalizeDataset(dict: Record<string, unknown>): Record<string, unknown>;
    };
  }
  const dcmjs: { readonly data: Data };
  export default dcmjs;
}
