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
