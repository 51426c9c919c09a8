"""Pictures of a result's parametric maps, all of the same slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from reportlab.lib.units import mm

from dicom_services.dicom.stored_map import map_plane
from dicom_services.domain.geometry import Geometry
from dicom_services.errors import InputError
from dicom_services.reports.map_picture import MapPicture
from dicom_services.reports.unit_text import unit_text

_SIDE: Final = 50 * mm
_BACKGROUND: Final = "brain tissue"
"""Of the perfusion pipeline: where it looked, not what it found."""
_TAIL: Final = 0.02


def map_pictures(
    findings: Mapping[str, Any], files: Mapping[str, bytes]
) -> tuple[list[MapPicture], list[str]]:
    """Of each map whose file is there, by SOP Instance UID; and the labels of the others."""
    k = map_slice(findings)
    shown, missing = [], []
    for one in findings.get("maps", ()):
        try:
            shown.append(_picture(one, files[one["sop_instance_uid"]], k))
        except (KeyError, InputError):
            missing.append(str(one["label"]))
    return shown, missing


def map_slice(findings: Mapping[str, Any]) -> int:
    """The slice with most of what was found, else the middle one."""
    marked = next(
        (
            one["fullest_slice"]
            for one in findings["masks"]
            if one.get("fullest_slice") is not None and one["label"].lower() != _BACKGROUND
        ),
        None,
    )
    slices = max((one["slices"] for one in findings.get("maps", ())), default=1)
    return slices // 2 if marked is None else int(marked)


def _picture(one: Mapping[str, Any], file: bytes, k: int) -> MapPicture:
    affine = np.array(one["affine"], np.float64)
    plane = map_plane(file, affine[:3, 3] + k * affine[:3, 0])
    rows, columns = plane.shape
    geometry = Geometry(affine, (one["slices"], rows, columns), "")
    unit = unit_text(one["unit"])
    words = f"{one['label']}, {unit}" if unit else str(one["label"])
    return MapPicture(plane, geometry, _window(one, plane), one["color_map"], words, _SIDE)


def _window(one: Mapping[str, Any], plane: NDArray[np.float32]) -> tuple[float, float]:
    if one["window"]:
        low, high = one["window"]
        return float(low), float(high)
    defined = plane[np.isfinite(plane)]
    if not defined.size:
        return 0.0, 1.0
    low, high = np.quantile(defined, (_TAIL, 1.0 - _TAIL)).tolist()
    low = min(0.0, low)
    return low, high if high > low else low + 1.0
