"""What about a CT makes its calcium score less sure, each as a code and a plain sentence."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.findings import Code
from dicom_services.domain.geometry import Geometry
from dicom_services.domain.volume import Volume

PRIVATE: Final = "99RADLOOP"
STANDARD_KV: Final = 120.0
STANDARD_MM: Final = 3.0
TOLERANCE_MM: Final = 0.1

TILT_DEGREES: Final = 0.5
"""Less is rounding in the image positions."""

METAL_HU: Final = 2000.0
"""Above cortical bone and nearly all plaque; stents, clips, leads and valves reach 3071 HU."""

NOISE_HU: Final = 23.0
"""The highest noise allowed, for large patients (McCollough 2007, Materials and Methods)."""

TISSUE_HU: Final = (-50.0, 120.0)
"""Muscle and unenhanced blood, with their noise; fat, lung and calcium left out."""

_WARNINGS: Final = {
    "slice_thickness": "Slice thickness is not 3 mm",
    "no_thickness": "Slice thickness is not known",
    "slice_spacing": "Slices are not 3 mm apart",
    "tube_voltage": "Tube voltage is not 120 kV",
    "no_voltage": "Tube voltage is not known",
    "sharp_kernel": "Sharp kernel: noise and edges exceed 130 HU",
    "not_gated": "No ECG gating in the header: motion blurs calcium",
    "contrast_named": "The header names a contrast agent",
    "gantry_tilt": "Slices are tilted against the table",
    "not_axial": "Slices are not axial",
    "image_noise": "Noise in the heart is above 23 HU",
    "metal": "Metal within the region",
    "heart_cut_off": "The scan begins or ends within the heart",
    "padding_clipped": "Values below -1024 HU were read as -1024 HU",
    "duplicates": "Images that came twice were left out",
    "localizers": "Localizers in the series were left out",
    "files_refused": "Unsafe or broken files of the input were left out",
    "single_slice": "Single slice: its spacing is taken from the header",
    "no_frame": "The images name no frame of reference",
    "other_threshold": "Threshold is not 130 HU: score not comparable",
    "kv_table": "Thresholds come from a table for this tube voltage",
    "mass_factor": "Mass is not calibrated for this scanner",
    "no_region": "All above the threshold is scored, bones included",
}

_NOTES: Final = {
    "padding_clipped": "padding_clipped",
    "duplicates_dropped": "duplicates",
    "localizers_dropped": "localizers",
    "files_refused": "files_refused",
    "single_slice": "single_slice",
    "no_frame_of_reference": "no_frame",
}
"""Notes of the reader that a reader of images should know, and the warning for each."""

# Siemens: a letter or two and a number that rises with sharpness; 30 to 45 are soft.
_SIEMENS: Final = re.compile(r"[A-Z]{1,2}([0-9]{2})[A-Z]?\b")
_CANON: Final = re.compile(r"FC([0-9]{2})")
_SHARP_WORDS: Final = frozenset(
    {"BONE", "BONEPLUS", "BONE+", "LUNG", "EDGE", "ULTRA", "SHARP"}  # GE
    | {"D", "E", "L", "YA", "YB", "YC", "YD"}  # Philips
)


def warning(code: str) -> Code:
    """The coded warning for one of our names."""
    return Code(code, PRIVATE, _WARNINGS[code])


def acquisition_warnings(ct: Volume) -> list[str]:
    """Names of what the headers and the geometry say against a score at face value."""
    how, geometry = ct.acquisition, ct.geometry
    thickness, voltage = how.slice_thickness_mm, how.tube_voltage_kv
    found = []
    if thickness is None:
        found.append("no_thickness")
    elif abs(thickness - STANDARD_MM) > TOLERANCE_MM:
        found.append("slice_thickness")
    if abs(geometry.slice_spacing_mm - STANDARD_MM) > TOLERANCE_MM:
        found.append("slice_spacing")
    if voltage is None:
        found.append("no_voltage")
    elif abs(voltage - STANDARD_KV) > 1.0:
        found.append("tube_voltage")
    if how.kernel is not None and is_sharp(how.kernel):
        found.append("sharp_kernel")
    if not how.gated:
        found.append("not_gated")
    if how.contrast_agent:
        found.append("contrast_named")
    if geometry.tilt_degrees > TILT_DEGREES:
        found.append("gantry_tilt")
    return found + [name for note, name in _NOTES.items() if note in how.notes]


def is_sharp(kernel: str) -> bool:
    """Whether a convolution kernel's name speaks of bone, lung or edges."""
    name = kernel.strip().upper()
    if canon := _CANON.match(name):
        return 30 <= int(canon[1]) < 40 or int(canon[1]) >= 50
    if siemens := _SIEMENS.match(name):
        return int(siemens[1]) >= 50
    return bool(_SHARP_WORDS.intersection(re.split(r"[\s_/]+", name)))


def noise_hu(ct: Volume, region: NDArray[np.bool_], *, slices: int = 16) -> float:
    """Standard deviation of noise in the soft tissue of a region; NaN where there is too little.

    From the median difference of pixels 3 mm apart along a row, which edges and slow changes
    hardly touch and at which the noise of neighbours is no longer alike.

    Parameters
    ----------
    slices : int
        At most so many are looked at, evenly spread.
    """
    used = np.flatnonzero(region.any(axis=(1, 2)))
    apart = max(1, round(3.0 / ct.geometry.pixel_spacing_mm[1]))
    found: list[NDArray[Any]] = []
    for k in used[:: max(1, -(-used.size // slices))]:
        hu = ct.values[k].astype(np.float32)
        tissue = region[k] & (hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])
        both = tissue[:, apart:] & tissue[:, :-apart]
        found.append(np.abs(hu[:, apart:] - hu[:, :-apart])[both])
    differences = np.concatenate(found) if found else np.zeros(0)
    if differences.size < 1000:
        return float("nan")
    return float(1.4826 * np.median(differences) / np.sqrt(2.0))


def cuts_heart(region: NDArray[np.bool_], geometry: Geometry) -> bool:
    """Whether the scan ends within the heart.

    Below, the region must have ended: 1 cm2 in the lowest slice is too much. Above, the great
    vessels leave through the top of every cardiac scan, at about half of the heart's largest cross
    section; three quarters of it mean that the scan begins in the heart itself.
    """
    areas = np.count_nonzero(region, axis=(1, 2)) * geometry.pixel_area_mm2
    lowest, highest = (areas[0], areas[-1]) if geometry.affine[2, 0] > 0 else (areas[-1], areas[0])
    return bool(lowest > 100.0 or highest > 0.75 * areas.max())
