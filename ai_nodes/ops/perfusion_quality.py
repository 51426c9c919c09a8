"""What about a perfusion scan makes its maps less sure, each as a code and a plain sentence."""

from __future__ import annotations

from typing import Final

from ai_nodes.ops.concentration import SignalFacts
from dicom_services.domain.findings import Code
from dicom_services.domain.volume import Acquisition

PRIVATE: Final = "99RADLOOP"

MOTION_WARN_MM: Final = 2.0
"""About a pixel of DSC-MRI: cortex and a small artery leave their voxels when the head moves so."""

MOTION_REFUSE_MM: Final = 10.0
"""Two slices of 5 mm: what is one territory in one frame is another in the next."""

UNDEFINED_SHARE: Final = 0.02
"""More voxels than this without a curve are told: a hundredth is edges and air cells."""

WARNINGS: Final = {
    "head_motion": "The head moved during the scan",
    "short_tail": "The scan ends before the bolus has passed",
    "short_baseline": "Fewer than 3 images before the bolus",
    "coarse_sampling": "More than 3 s between the images",
    "unsteady_start": "The first images were not yet at steady state: left out",
    "times_resampled": "Times are uneven: curves were resampled",
    "times_assumed": "Times of the images are assumed, not told by the headers",
    "times_irregular": "Images were not taken at even times",
    "frames_dropped": "Images of some times are missing: left out",
    "slice_times_differ": "Slices of one time were taken at different times",
    "fewer_times_than_declared": "Fewer times than the headers declare",
    "signal_not_positive": "Voxels whose signal falls to zero have no map",
    "aif_by_hand": "Arterial input given by hand",
    "saturated_aif": "Arterial signal falls to the noise: flow is overestimated",
    "late_aif": "Arterial input comes after most tissue: delays are too short",
    "no_vein": "No vein was found: no correction of partial volume",
    "core_by_flow": "Core by flow alone: in MR diffusion shows it, not DSC",
    "relative_flow": "DSC flow and volume are not absolute",
    "brain_by_hand": "Brain given by hand",
    "no_reference": "No normal tissue: core could not be told",
    "risk_everywhere": "Half the brain is late: is the artery the right one?",
    "padding_clipped": "Values below -1024 HU were read as -1024 HU",
    "duplicates": "Images that came twice were left out",
    "localizers": "Localizers in the series were left out",
    "files_refused": "Unsafe or broken files of the input were left out",
    "single_slice": "Single slice: its spacing is taken from the header",
    "no_frame": "The images name no frame of reference",
    "gantry_tilt": "Slices are tilted against the table",
}

_NOTES: Final = {
    "padding_clipped": "padding_clipped",
    "duplicates_dropped": "duplicates",
    "localizers_dropped": "localizers",
    "files_refused": "files_refused",
    "single_slice": "single_slice",
    "no_frame_of_reference": "no_frame",
    "gantry_tilt": "gantry_tilt",
    "times_assumed": "times_assumed",
    "times_irregular": "times_irregular",
    "frames_dropped": "frames_dropped",
    "slice_times_differ": "slice_times_differ",
    "fewer_times_than_declared": "fewer_times_than_declared",
}
"""Notes of the reader that a reader of images should know, and the warning for each."""


def warning(code: str) -> Code:
    """The coded warning for one of our names."""
    return Code(code, PRIVATE, WARNINGS[code])


def warnings_of_acquisition(acquisition: Acquisition) -> list[str]:
    """What the headers tell."""
    return [_NOTES[note] for note in acquisition.notes if note in _NOTES]


def warnings_of_signal(facts: SignalFacts) -> list[str]:
    """What the values tell."""
    undefined = facts.undefined_voxels > UNDEFINED_SHARE * max(1, facts.voxels)
    return ["signal_not_positive"] if undefined else []
