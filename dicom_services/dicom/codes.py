"""Coded concepts of what we write, and the plain meaning of every reason to refuse."""

from __future__ import annotations

from typing import Final

from highdicom.sr import CodedConcept
from pydicom import Dataset

from dicom_services.domain.findings import Code

PRIVATE: Final = "99RADLOOP"
SCHEMES: Final = (
    (PRIVATE, "radloop concepts that have no standard code", "radloop"),
    ("99IHE", "IHE provisional codes", "Integrating the Healthcare Enterprise"),
)

JOB: Final = Code("job", PRIVATE, "Job identifier")
PIPELINE: Final = Code("pipeline", PRIVATE, "Pipeline and version")
SOFTWARE_VERSION: Final = Code("software_version", PRIVATE, "Software version")
MODEL_SHA256: Final = Code("model_sha256", PRIVATE, "SHA-256 of the model")
INPUTS_SHA256: Final = Code("inputs_sha256", PRIVATE, "SHA-256 over the source instances")
CONTAINER_DIGEST: Final = Code("container_digest", PRIVATE, "Digest of the container image")
ROUTING_RULE: Final = Code("routing_rule", PRIVATE, "Routing rule")
SETTINGS: Final = Code("settings", PRIVATE, "Settings of the analysis")
RESEARCH_NOTICE: Final = Code("research_notice", PRIVATE, "Notice to the reader")
REMARK: Final = Code("remark", PRIVATE, "Remark")
INTENDED_USE: Final = Code("intended_use", PRIVATE, "Intended use of the algorithm")
TRAINED_ON: Final = Code("trained_on", PRIVATE, "Data the algorithm was made from")
REFUSED: Final = Code("refused", PRIVATE, "Analysis refused because")
PARAMETRIC_MAP: Final = Code("parametric_map", PRIVATE, "Parametric map of the analysis")
RULE_BASED: Final = Code("rule_based", PRIVATE, "Rule-based image analysis")

# PS3.16: CID 7010, 7021, 7151, 7162, 7464, 7551 and TID 300, 1500.
SOURCE: Final = Code("260753009", "SCT", "Source")
OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")
CALCIUM_SCORE: Final = Code("112058", "DCM", "Calcium score")
AGATSTON_METHOD: Final = Code("112055", "DCM", "Agatston scoring method")
ATTENUATION: Final = Code("112031", "DCM", "Attenuation Coefficient")
VOLUME: Final = Code("118565006", "SCT", "Volume")
AREA: Final = Code("131184002", "SCT", "Area of defined region")
MAXIMUM: Final = Code("56851009", "SCT", "Maximum")
QUANTITY: Final = Code("246205007", "SCT", "Quantity")
TIME_OF_PEAK: Final = Code("126370", "DCM", "Time of Peak Concentration")
METHOD: Final = Code("370129005", "SCT", "Measurement Method")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
AI: Final = Code("123110", "DCM", "Artificial Intelligence")
CERTAINTY: Final = Code("111013", "DCM", "Certainty of Finding")
EQUIVALENT_MEANING: Final = Code("121050", "DCM", "Equivalent Meaning of Concept Name")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")

MODALITIES: Final = {
    "CT": Code("CT", "DCM", "Computed Tomography"),
    "MR": Code("MR", "DCM", "Magnetic Resonance"),
    "PT": Code("PT", "DCM", "Positron emission tomography"),
    "MG": Code("MG", "DCM", "Mammography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "CR": Code("CR", "DCM", "Computed Radiography"),
}
"""CID 29."""

SCORE_UNIT: Final = Code("{score}", "UCUM", "score")
CUBIC_MM: Final = Code("mm3", "UCUM", "cubic millimeter")
SQUARE_MM: Final = Code("mm2", "UCUM", "square millimeter")
HOUNSFIELD: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
SECOND: Final = Code("s", "UCUM", "second")
PERCENT: Final = Code("%", "UCUM", "percent")
PIXELS: Final = Code("{pixels}", "UCUM", "Pixels")
NO_UNIT: Final = Code("1", "UCUM", "no units")

# One line each, at most 64 characters (LO). A code that is released is never renamed.
REASONS: Final = {
    "aif_empty": "The arterial input never rises",
    "aif_place": "The given artery or vein lies outside the images",
    "aif_shape": "The arterial input does not fit the times",
    "aif_undefined": "The given artery or vein has no usable signal",
    "anchor_outside": "A decision lies outside the images",
    "attribute_value": "An attribute of the images has an impossible value",
    "contrast": "Contrast agent in the blood: calcium cannot be told from it",
    "control_character": "The Patient ID holds a control character",
    "coordinates_outside": "A finding lies outside the images",
    "curve_shape": "A curve does not fit its times",
    "decode_failed": "The pixel data could not be decoded",
    "decoder_died": "The decoder died while reading the images",
    "deflate_bomb": "A deflated file grows beyond any image",
    "duplicate_instance": "The same image identifier came more than once",
    "duplicate_uid_differs": "Two different images carry the same identifier",
    "dynamic_series": "The series holds several times where one is needed",
    "echo_time_missing": "The echo time is missing in the images",
    "file_truncated": "A file ends before it should",
    "file_unreadable": "A file could not be opened or read",
    "finding_kind": "A kind of finding that cannot be written",
    "frame_differs": "The grids lie in different frames of reference",
    "frame_groups": "The description of the frames is broken or missing",
    "frames_missing": "Slices are missing at some times",
    "gate_refused": "The structure of the files is broken or not safe to read",
    "geometry": "The place of the images in the patient makes no sense",
    "grid_not_aligned": "The voxels of one grid are not voxels of the other",
    "head_motion": "The head moved too far during the scan",
    "illegal_uid": "A unique identifier is missing or illegal",
    "image_size": "The images have an impossible size",
    "input_empty": "The input holds no DICOM image",
    "input_missing": "The input does not exist",
    "job_ambiguous": "More than one job begins with that identifier",
    "job_state": "The job is not in a state that allows this",
    "kv_not_in_table": "The chosen threshold table lacks the tube voltage",
    "label_range": "A label lies outside 0 to 254",
    "leakage_needs_bolus": "Leakage cannot be corrected without a bolus",
    "leakage_not_mr": "Leakage correction is for MR only",
    "leakage_reference": "Too little tissue without leakage to correct against",
    "lesion_repeated": "The correction names the same lesion twice",
    "lesion_unknown": "No lesion has that identifier",
    "localizer_only": "The series holds localizers only",
    "made_at_impossible": "The correction carries an impossible time",
    "map_shape": "A parametric map does not fit its grid",
    "map_unreadable": "A stored map could not be read",
    "mask_below_threshold": "The edited mask holds voxels below its threshold",
    "mask_grid": "A mask does not lie on the grid of the images",
    "mask_image_unknown": "The edited mask names an image that the series lacks",
    "mask_outside": "The edited mask reaches beyond an image",
    "mask_overlap": "The edited mask counts a voxel twice",
    "mask_runs": "The runs of the edited mask are broken",
    "mask_shape": "A mask does not fit its grid",
    "mask_too_large": "The edited mask holds more voxels than are allowed",
    "missing_attribute": "An attribute that is needed is missing in the images",
    "mixed_echo_times": "The images differ in echo time",
    "mixed_frames": "The images lie in different frames of reference",
    "mixed_grids": "The images of the times lie on different grids",
    "mixed_orientation": "The images of the series lie in different directions",
    "mixed_patients": "The series holds images of more than one patient",
    "mixed_series": "The files belong to more than one series",
    "mixed_size": "The images of the series differ in size",
    "mixed_spacing": "The images of the series differ in pixel spacing",
    "mixed_units": "The images of the series differ in the unit of their values",
    "modality_lookup_unsupported": "Pixel values need a lookup table that is not supported",
    "modality_unsupported": "The modality is not supported",
    "model_external_data": "The model reaches for files outside its folder",
    "model_inputs": "The model does not take what this analysis gives",
    "model_operator": "The model needs an operator that is not known",
    "model_output": "The model gave no usable answer",
    "model_too_large": "The model is larger than is allowed",
    "model_unreadable": "The model file could not be read",
    "model_weights": "The weights do not fit the network",
    "mosaic_unsupported": "Mosaic images are not supported",
    "multi_frame_unsupported": "Multi-frame images are not supported",
    "no_aif": "No artery was found",
    "no_baseline": "No image was taken before the contrast agent came",
    "no_bolus": "No passage of contrast agent was found",
    "no_brain": "No brain was found in the images",
    "no_dicom": "The input holds no DICOM file",
    "no_dicom_series": "The input holds no DICOM series",
    "no_files": "The series holds no file",
    "no_heart": "No heart was found in the images",
    "no_masks": "There is no mask to work with",
    "no_rule": "No routing rule wants the series",
    "no_vof": "No vein was found",
    "not_an_image": "The object is not an image",
    "not_axial": "The slices are not axial",
    "not_ct": "The images are not CT",
    "not_dicom": "A file is not DICOM",
    "not_dynamic": "The series holds a single time, perfusion needs many",
    "not_hounsfield": "The pixel values are not Hounsfield units",
    "not_finite": "A measured value is not a number",
    "not_found": "The input does not exist",
    "not_monochrome": "The images are not greyscale",
    "orthanc_refused": "The archive refused the request",
    "out_of_memory": "The analysis needs more memory than there is",
    "perfusion_settings": "The settings of the perfusion analysis make no sense",
    "pixel_data_missing": "An image has no pixel data",
    "pixel_data_short": "The pixel data are shorter than the image",
    "pixel_format": "The pixel format is not supported",
    "positions_repeat": "Different images lie at the same place",
    "predecessor_failed": "An analysis that this one builds on brought no result",
    "probability": "A probability lies outside 0 to 1",
    "quarantine_ambiguous": "More than one refused file begins with that identifier",
    "region_empty": "The given region holds no voxel",
    "region_grid": "The given region does not lie on the grid of the images",
    "region_unreadable": "The given region could not be read",
    "registration_failed": "The images could not be brought onto each other",
    "result_mismatch": "Result, report and series do not belong together",
    "rule_name": "No routing rule has that name",
    "saturated_aif": "The arteries' signal is clipped or lost in the noise",
    "slice_gap": "Slices are missing within the stack",
    "slice_increment": "The slices are too far apart",
    "slice_spacing_irregular": "The slices are not evenly spaced",
    "slices_shifted": "The slices are shifted against each other",
    "stow_refused": "The archive refused to store an object",
    "time_series": "The series holds more than one time point",
    "times_conflict": "Names and clocks of the times contradict each other",
    "times_gap": "A pause in the scan is too long for curves over time",
    "times_missing": "Nothing tells when the images were acquired",
    "times_order": "The times of the images do not rise",
    "times_repeat": "Different images carry the same place and time",
    "times_step": "The times between the images make no sense",
    "too_few_times": "The series holds too few times for perfusion",
    "too_large": "The images need more memory than is allowed",
    "too_few_slices": "The series has too few slices",
    "too_many_files": "The input holds more files than are allowed",
    "too_many_masks": "There are more masks than can be counted",
    "transfer_syntax": "The transfer syntax is unknown or not supported",
    "truncated_tail": "The scan ends before the contrast agent has passed",
    "vessel_unknown": "No coronary vessel has that name",
    "vof_missing": "No vein is given to scale the artery by",
    "volume_shape": "The pixel data do not fit their geometry",
    "volumes": "The study does not hold exactly one suitable volume",
    "vote_weights": "The weights of the votes are not usable",
    "weights_conversion": "The weights could not be converted within limits",
    "weights_format": "The weights are not in a format that is allowed",
    "weights_hash": "The weights are not those that the manifest names",
    "weights_missing": "The weights of a model are not on this machine",
    "weights_pickle": "The weights are a program and were not opened",
    "zip_bomb": "The archive unpacks to more than is allowed",
    "zip_unsafe": "The archive is broken or not safe to unpack",
}
"""Every code of `InputError` in our packages; a test holds the table complete."""

_UNITS: Final = (
    ("_mm2", SQUARE_MM),
    ("_mm3", CUBIC_MM),
    ("_mm", Code("mm", "UCUM", "millimeter")),
    ("millimetres", Code("mm", "UCUM", "millimeter")),
    ("_hu", HOUNSFIELD),
    ("_kv", Code("kV", "UCUM", "kilovolt")),
    ("_ml", Code("mL", "UCUM", "milliliter")),
    ("_s", Code("s", "UCUM", "second")),
    ("seconds", Code("s", "UCUM", "second")),
    ("degrees", Code("deg", "UCUM", "degree")),
    ("megabytes", Code("MBy", "UCUM", "megabyte")),
    ("bytes", Code("By", "UCUM", "byte")),
)


def reason(code: str) -> Code:
    """The coded reason for an error code; one that the table lacks is put in its own words."""
    words = code.replace("_", " ").capitalize()
    return Code(code, PRIVATE, REASONS.get(code, words)[:64])


def fact(name: str) -> Code:
    """The concept of a number that belongs to a reason, such as `millimetres`."""
    return Code(name, PRIVATE, name.replace("_", " ").capitalize()[:64])


def fact_unit(name: str) -> Code:
    """UCUM unit of a fact, by the unit its name ends with; no unit where it ends with none."""
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), NO_UNIT)


def concept(code: Code) -> CodedConcept:
    """`code` as highdicom wants it."""
    return CodedConcept(code.value, code.scheme, code.meaning[:64])


def item(code: Code) -> Dataset:
    """`code` as an item of a code sequence (PS3.3 table 8.8-1)."""
    plain = Dataset()
    plain.update(concept(code))
    return plain
