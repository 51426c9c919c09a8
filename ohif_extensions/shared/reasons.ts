/** Why a reader says otherwise: the closed list that `dicom_services/domain/assessment.py` holds too. */

export const REASONS = [
  { code: 'not_calcium', words: 'Not calcium' },
  { code: 'bone', words: 'Bone' },
  { code: 'aortic_wall', words: 'Wall of the aorta' },
  { code: 'valve', words: 'Aortic valve' },
  { code: 'mitral_annulus', words: 'Mitral annulus' },
  { code: 'metal', words: 'Metal (stent, clip, lead)' },
  { code: 'noise', words: 'Noise' },
  { code: 'motion', words: 'Motion' },
  { code: 'lymph_node', words: 'Lymph node' },
  { code: 'pericardium', words: 'Pericardium' },
  { code: 'missed', words: 'Missed by the AI' },
  { code: 'wrong_vessel', words: 'Wrong vessel' },
  { code: 'extent', words: 'Wrong extent' },
  { code: 'threshold', words: 'Other threshold' },
  { code: 'image_quality', words: 'Image quality' },
  { code: 'wrong_patient_or_series', words: 'Wrong patient or series' },
  { code: 'other', words: 'Other (needs a note)' },
] as const;

export type ReasonCode = (typeof REASONS)[number]['code'];

/** True when `code` is one of the list. */
export function isReason(code: string): code is ReasonCode {
  return REASONS.some((reason) => reason.code === code);
}

/** The words of a reason; the code itself where a later server sends one that is not known here. */
export function reasonWords(code: string): string {
  return REASONS.find((reason) => reason.code === code)?.words ?? code;
}
