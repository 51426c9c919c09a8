"""Parametric maps to Parametric Map objects of 32-bit floats, through highdicom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import highdicom as hd
import numpy as np
from highdicom.pm import ParametricMap as FloatMap
from highdicom.pm import RealWorldValueMapping
from highdicom.sr import CodeContentItem
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ParametricMapStorage
from pydicom.valuerep import format_number_as_ds

from dicom_services.dicom import codes
from dicom_services.dicom.evidence import name_sources, placed
from dicom_services.dicom.identity import put
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE, Provenance, stamp
from dicom_services.dicom.seg import content_label, name_dimensions
from dicom_services.dicom.source import SourceSeries
from dicom_services.domain.findings import Code, ParametricMap

SOP_CLASS: Final = str(ParametricMapStorage)
SERIES_NUMBER: Final = 9010
"""Of the first map; each has a series of its own, because viewers show one map of a series."""

_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class StoredMap:
    """A map and the names of the object it was written as."""

    values: ParametricMap
    role: str
    number: int


def stored_maps(maps: Sequence[ParametricMap]) -> tuple[StoredMap, ...]:
    """Every map with its role: "map-CBF", and "map-CBF-2" where a label comes again."""
    seen: dict[str, int] = {}
    found = []
    for number, each in enumerate(maps):
        label = map_label(each)
        seen[label] = seen.get(label, 0) + 1
        again = f"-{seen[label]}" if seen[label] > 1 else ""
        found.append(StoredMap(each, f"map-{label}{again}", SERIES_NUMBER + number))
    return tuple(found)


def map_label(finding: ParametricMap) -> str:
    """The label of a map; its quantity where the pipeline gave none."""
    return finding.label or finding.what.value


def map_key(finding: ParametricMap) -> str:
    """The key a map is tracked under; its label where the pipeline gave none."""
    return finding.tracking or f"map {map_label(finding)}"


def parametric_maps(
    maps: Sequence[ParametricMap], source: SourceSeries, provenance: Provenance
) -> tuple[Dataset, ...]:
    """One object for each map, on the grid of the source images.

    Raises
    ------
    InputError
        `mask_grid` when a map does not lie on the source images.
    """
    return tuple(_object(each, source, provenance) for each in stored_maps(maps))


def padding_of(values: NDArray[np.float32]) -> float | None:
    """The stored value of what is undefined; None where every voxel has a value.

    DICOM allows NaN as well (PS3.3 C.7.6.24). A finite value just below the lowest is taken,
    because DICOM JSON has no NaN, and because OHIF 3.13 spreads its colours between the least
    and the greatest value it finds, beginning with the first voxel: one NaN there leaves it
    without a window, and -1e30 leaves it with nothing but black. The step is a power of two
    near a hundredth of the values' span.
    """
    if not np.isnan(values).any():
        return None
    defined = _range(values)
    if defined is None:
        return -1.0
    low, high = defined
    span = high - low
    step = 2.0 ** math.floor(math.log2(span / 64.0)) if span > 0.0 else 1.0
    found = np.float32(max(low - step, -_LARGEST))
    if not found < low:
        found = np.nextafter(np.float32(low), np.float32(-_LARGEST))
    # Only where the map reaches to the end of all floats.
    while (values == found).any():
        found = np.nextafter(found, np.float32(_LARGEST))
    return float(found)


def _range(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """Least and greatest of the defined values; None where there is none."""
    low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    return None if np.isnan(low) else (float(low), float(high))


def _object(stored: StoredMap, source: SourceSeries, provenance: Provenance) -> Dataset:
    finding, label = stored.values, map_label(stored.values)
    images = placed(source, finding.geometry)
    padding = padding_of(finding.values)
    pixels = finding.values
    if padding is not None:
        pixels = np.where(np.isnan(pixels), np.float32(padding), pixels)
    result = FloatMap(
        source_images=_single_pixels(images),
        pixel_array=np.zeros((len(images), 1, 1), np.float32),
        series_instance_uid=provenance.uid(f"{stored.role}-series"),
        series_number=stored.number,
        sop_instance_uid=provenance.uid(stored.role),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=provenance.title[:64],
        software_versions=provenance.software_version[:64],
        device_serial_number=provenance.device_uid,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(finding, label, pixels)],
        voi_lut_transformations=[_shown(finding, label)],
        content_label=content_label(label),
        content_description=NOTICE,
        image_flavor="VOLUME",
        derived_pixel_contrast="QUANTITY",
        derivation=codes.concept(finding.method) if finding.method is not None else None,
    )
    if padding is not None:
        result.FloatPixelPaddingValue = padding
        result.FloatPixelPaddingRangeLimit = padding
    result.ContentCreatorName = ""
    _put_frames(result, images, pixels)
    _anatomy(result, finding.site, source)
    name_dimensions(result, provenance.uid(f"{stored.role}-dimensions"))
    name_sources(result, source, range(len(images)))
    stamped = stamp(result, source, provenance, f"map {label}")
    # Lists of series show the first words alone.
    stamped.SeriesDescription = f"{label}, {MANUFACTURER} {provenance.pipeline} map"[:64]
    return stamped


def _mapping(
    finding: ParametricMap, label: str, pixels: NDArray[np.float32]
) -> RealWorldValueMapping:
    """Stored values are the real ones, in their unit (PS3.3 C.7.6.16.2.11).

    The mapped range includes the padding value, which its own attribute names: highdicom
    refuses to map an image that holds a value beyond the range.
    """
    mapping = RealWorldValueMapping(
        lut_label=label[:16],
        lut_explanation=finding.what.meaning[:64],
        unit=codes.concept(finding.unit),
        value_range=(float(pixels.min()), float(pixels.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.concept(finding.what),
    )
    for name, value in ((codes.METHOD, finding.method), (codes.FINDING_SITE, finding.site)):
        if value is not None:
            said = CodeContentItem(name=codes.concept(name), value=codes.concept(value))
            mapping.QuantityDefinitionSequence.append(said)
    return mapping


def _window(finding: ParametricMap) -> tuple[float, float]:
    """The recommended window; where there is none, all defined values."""
    low, high = finding.window or _range(finding.values) or (0.0, 0.0)
    return (low, high) if high > low else (low, low + max(1.0, abs(low) / 1024.0))


def _shown(finding: ParametricMap, label: str) -> hd.VOILUTTransformation:
    """Window and name of the palette: the colours are only told in words.

    The IOD has a place for a palette's UID (PS3.3 C.8.32.2), but it asks for an ICC profile and a
    range of stored values beside it: highdicom 0.28 cannot read floats with a profile, and
    dciodvfy takes any range for an error.
    """
    low, high = _window(finding)
    shown = hd.VOILUTTransformation(
        window_center=float(format_number_as_ds((low + high) / 2.0)),
        window_width=float(format_number_as_ds(high - low)),
        voi_lut_function="LINEAR_EXACT",
    )
    # highdicom would take each letter for an explanation of its own.
    shown.WindowCenterWidthExplanation = f"{label} {finding.color_map}"[:64]
    return shown


def _single_pixels(images: Sequence[Dataset]) -> list[Dataset]:
    """The images, of one pixel each: highdicom would copy every voxel three times over."""
    found = []
    for image in images:
        single = Dataset()
        single.update(image)
        for keyword in ("Rows", "Columns"):
            put(single, keyword, 1)
        found.append(single)
    return found


def _put_frames(result: Dataset, images: Sequence[Dataset], pixels: NDArray[np.float32]) -> None:
    """Put in the voxels, frames in the order of their place along row x column direction.

    highdicom orders them the other way round. Both are legal, and readers go by positions; but
    OHIF 3.13 lays the frames of a map, as they come, on its own volume, which rises this way.
    """
    first = images[0]
    row, column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    places = np.array([each.ImagePositionPatient for each in images], float)
    order = np.argsort(places @ np.cross(row, column), kind="stable")
    groups = {
        tuple(group.PlanePositionSequence[0].ImagePositionPatient): group
        for group in result.PerFrameFunctionalGroupsSequence
    }
    sorted_groups = [groups[tuple(images[k].ImagePositionPatient)] for k in order]
    for number, group in enumerate(sorted_groups, 1):
        group.FrameContentSequence[0].DimensionIndexValues = [number]
    result.PerFrameFunctionalGroupsSequence = sorted_groups
    result.Rows, result.Columns = pixels.shape[1:]
    plain = np.ascontiguousarray(pixels, np.dtype("<f4"))
    result.FloatPixelData = b"".join(memoryview(plain[k]) for k in order)


def _anatomy(result: Dataset, site: Code | None, source: SourceSeries) -> None:
    """Where in the body, in the frames' common group; unpaired, or not told (PS3.3 C.7.6.16.2.8).

    An object that says nothing of laterality has to name a body part that has none; the source's
    own words stand in for a site.
    """
    regions = [codes.item(site)] if site is not None else []
    if not regions and source.header.get("AnatomicRegionSequence"):
        regions = [deepcopy(source.header.AnatomicRegionSequence[0])]
    if not regions:
        put(result, "BodyPartExamined", str(source.header.get("BodyPartExamined") or ""))
        return
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = regions
    result.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
