// What our extensions use of the host's @ohif/core, which ships no types; the build checks the names against the host.
import type { InstanceMetadata, Managers } from '../ohif';

export function useSystem(): Managers;

export const DicomMetadataStore: {
  getStudy(
    study: string
  ): { StudyInstanceUID: string; series: { SeriesInstanceUID: string; instances: InstanceMetadata[] }[] } | undefined;
  getSeries(study: string, series: string): { instances: InstanceMetadata[] } | undefined;
  getInstance(study: string, series: string, sop: string): InstanceMetadata | undefined;
};

/** Images that are shown one after the other, with attributes of their own. */
export interface ImageSet {
  uid: string;
  setAttributes(attributes: Record<string, unknown>): void;
}

export const classes: {
  ImageSet: new (images: readonly InstanceMetadata[]) => ImageSet;
  MetadataProvider: { addImageIdToUIDs(imageId: string, uids: Record<string, string | number>): void };
};
