"""A reader's counted voxels as a binary segmentation, one segment for each vessel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_services.dicom import codes, uids
from dicom_services.dicom.evidence import placed
from dicom_services.dicom.indexed_series import IndexedSeries
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE
from dicom_services.dicom.reading import PRODUCT, Reading, device_uid, stamp_reading
from dicom_services.dicom.seg import name_dimensions, name_segments_per_frame, pad_with_zero
from dicom_services.domain.calcium import VESSEL_ORDER, voxels_of_runs
from dicom_services.domain.findings import Code
from dicom_services.domain.vessels import CORONARY_ARTERIES, UNASSIGNED, VESSELS

SERIES_NUMBER: Final = 9101
_CALCIFICATION: Final = Code("18115005", "SCT", "Pathologic calcification")
_ABNORMAL: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_COLORS: Final[Mapping[str, tuple[int, int, int]]] = {
    "LM": (255, 210, 60),
    "LAD": (255, 80, 80),
    "LCx": (70, 190, 255),
    "RCA": (110, 230, 120),
    UNASSIGNED: (200, 130, 255),
}


def corrected_segmentation(reading: Reading, series: IndexedSeries) -> Dataset | None:
    """The edited mask; None where the reader counts nothing.

    Segments come in the order LM, LAD, LCx, RCA, not assigned; a vessel without a voxel has none.
    """
    edit = reading.assessment.calcium
    if edit is None or not edit.mask:
        return None
    frames = _frames(reading, series)
    vessels = [name for name in VESSEL_ORDER if any(key[1] == name for key in frames)]
    used = sorted({k for k, _ in frames})
    images = placed(series.source, series.geometry)
    _, rows, columns = series.geometry.shape
    # The last axis is the segment, but each frame stays whole in memory.
    pixels = np.zeros((len(vessels), len(used), rows, columns), np.uint8)
    for (k, vessel), flat in frames.items():
        pixels[vessels.index(vessel), used.index(k)].reshape(-1)[flat] = 1
    result = Segmentation(
        source_images=[images[k] for k in used],
        pixel_array=np.moveaxis(pixels, 0, -1),
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe(number, vessel, reading, series) for number, vessel in enumerate(vessels, 1)
        ],
        series_instance_uid=reading.uid("seg-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=reading.uid("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT,
        software_versions=reading.software_version[:64],
        device_serial_number=device_uid(reading),
        content_label="READER",
        content_description=NOTICE,
        content_creator_name=reading.person_name,
        content_date=reading.received.date(),
        content_time=reading.received.time(),
    )
    pad_with_zero(result)
    name_dimensions(result, reading.uid("seg-dimensions"))
    name_segments_per_frame(result)
    return stamp_reading(result, series.source, reading, "segmentation")


def _frames(reading: Reading, series: IndexedSeries) -> dict[tuple[int, str], NDArray[np.int64]]:
    """Flat pixels of each slice and vessel that has any."""
    edit = reading.assessment.calcium
    found: dict[tuple[int, str], NDArray[np.int64]] = {}
    for entry in edit.mask if edit is not None else ():
        k = series.k_of[entry.sop_instance_uid]
        runs = [(k, entry.vessel, entry.runs)]
        _, row, column, _ = voxels_of_runs(runs, series.geometry.shape)
        flat = row * series.geometry.shape[2] + column
        earlier = found.get((k, entry.vessel))
        # An image that repeats a place is the same slice.
        found[k, entry.vessel] = flat if earlier is None else np.union1d(earlier, flat)
    return found


def _describe(
    number: int, vessel: str, reading: Reading, series: IndexedSeries
) -> SegmentDescription:
    result = reading.result
    named = vessel if vessel != UNASSIGNED else "not assigned"
    key = f"reader's calcium {named}"
    return SegmentDescription(
        segment_number=number,
        segment_label=f"Calcium {named} (reader)",
        segmented_property_category=codes.concept(_ABNORMAL),
        segmented_property_type=codes.concept(_CALCIFICATION),
        # Voxels are found by their HU within what a person chose.
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=(result.model or result.pipeline)[:64],
            version=(result.model_version or result.version)[:64],
            family=codes.concept(codes.RULE_BASED),
            source=MANUFACTURER,
        ),
        tracking_id=key,
        tracking_uid=uids.tracking_uid(series.source.header, result.pipeline, key),
        anatomic_regions=[codes.concept(VESSELS.get(vessel, CORONARY_ARTERIES))],
        display_color=hd.color.CIELabColor.from_rgb(*_COLORS[vessel]),
    )
