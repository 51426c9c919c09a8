"""Masks to one segmentation, binary or a label map, through highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from dicom_services.dicom import codes, uids
from dicom_services.dicom.evidence import name_sources, placed
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE, Provenance, stamp
from dicom_services.dicom.source import SourceSeries
from dicom_services.domain.findings import Code, Mask
from dicom_services.errors import InputError

SERIES_NUMBER = 9001
LABEL_MAP_CLASS: Final = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage, which pydicom 3.0 has no name for."""
CLASSES: Final = frozenset({str(SegmentationStorage), LABEL_MAP_CLASS})
Kind = Literal["binary", "labelmap"]


def segments(masks: Sequence[Mask]) -> tuple[Mask, ...]:
    """The masks that get a segment, in order: segment n is item n - 1. Empty ones get none."""
    return tuple(mask for mask in masks if mask.values.any())


def segmentation(
    masks: Sequence[Mask],
    source: SourceSeries,
    provenance: Provenance,
    kind: Kind = "binary",
) -> Dataset | None:
    """One segmentation with a segment per mask; None where no mask has a voxel.

    Frames without a voxel are left out, as is every slice that no mask touches. A label map holds
    one segment in a pixel, so masks that overlap are written as a binary one whatever was asked.

    Raises
    ------
    InputError
        `mask_grid` when a mask does not lie on the source images, `image_size` when these have
        fewer than 8 pixels, which highdicom 0.28.2 packs wrongly.
    """
    shown = segments(masks)
    if not shown:
        return None
    geometry = shown[0].geometry
    if not all(mask.geometry.same_grid(geometry) for mask in shown):
        raise InputError("mask_grid")
    if geometry.shape[1] * geometry.shape[2] < 8:
        raise InputError("image_size", rows=geometry.shape[1], columns=geometry.shape[2])
    images = placed(source, geometry)
    used = np.flatnonzero(np.any([mask.values.any(axis=(1, 2)) for mask in shown], axis=0))
    labels = kind == "labelmap" and not overlap(shown)
    result = Segmentation(
        source_images=[images[k] for k in used],
        pixel_array=_labels(shown, used) if labels else _stacked(shown, used),
        segmentation_type="LABELMAP" if labels else "BINARY",
        segment_descriptions=[
            _describe(number, mask, source, provenance) for number, mask in enumerate(shown, 1)
        ],
        series_instance_uid=provenance.uid("seg-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid("seg"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=provenance.title[:64],
        software_versions=provenance.software_version[:64],
        device_serial_number=provenance.device_uid,
        content_label=content_label(provenance.pipeline),
        content_description=NOTICE,
        content_date=provenance.started.date(),
        content_time=provenance.started.time(),
    )
    pad_with_zero(result)
    name_dimensions(result, provenance.uid("seg-dimensions"))
    name_segments_per_frame(result)
    name_sources(result, source, used.tolist())
    return stamp(result, source, provenance, "segmentation")


def overlap(masks: Sequence[Mask]) -> bool:
    """Whether a voxel belongs to more than one mask."""
    taken = np.zeros(masks[0].values.shape, np.bool_) if masks else np.zeros(0, np.bool_)
    for mask in masks:
        if (taken & mask.values).any():
            return True
        taken |= mask.values
    return False


def _stacked(masks: Sequence[Mask], used: NDArray[np.intp]) -> NDArray[np.uint8]:
    """(k, j, i, segment).

    The last axis is the segment, but each mask stays whole in memory: highdicom's look for
    overlaps and its packing then read contiguous bytes, in half the time.
    """
    stacked = np.stack([mask.values[used] for mask in masks])
    return np.moveaxis(stacked, 0, -1).view(np.uint8)


def _labels(masks: Sequence[Mask], used: NDArray[np.intp]) -> NDArray[np.uint8 | np.uint16]:
    """(k, j, i): the number of the segment, 0 outside of all."""
    kind = np.uint8 if len(masks) <= 255 else np.uint16
    found: NDArray[np.uint8 | np.uint16] = np.zeros((len(used), *masks[0].values.shape[1:]), kind)
    for number, mask in enumerate(masks, 1):
        found[mask.values[used]] = number
    return found


def tracking_key(mask: Mask) -> str:
    """The key a mask is tracked under; its type where the pipeline gave none."""
    return mask.tracking or f"mask {mask.what.value}"


def _describe(
    number: int, mask: Mask, source: SourceSeries, provenance: Provenance
) -> SegmentDescription:
    key = tracking_key(mask)
    red, green, blue = mask.color
    return SegmentDescription(
        segment_number=number,
        segment_label=mask.label[:64],
        segmented_property_category=codes.concept(mask.category),
        segmented_property_type=codes.concept(mask.what),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=provenance.card.name,
            version=provenance.card.version,
            family=codes.concept(family(provenance)),
            source=MANUFACTURER,
        ),
        tracking_id=key[:64],
        tracking_uid=uids.tracking_uid(source.header, provenance.pipeline, key),
        anatomic_regions=[codes.concept(mask.site)] if mask.site is not None else None,
        display_color=hd.color.CIELabColor.from_rgb(red, green, blue),
    )


def family(provenance: Provenance) -> Code:
    """Algorithm family: artificial intelligence (CID 7162) for a model, ours for a plain rule."""
    return codes.AI if provenance.card.family == "model" else codes.RULE_BASED


def content_label(name: str) -> str:
    """Content Label is a code string: capitals, digits, underscores, at most 16 (PS3.5 6.2).

    highdicom takes none that begins with another sign than a letter.
    """
    upper = name.upper()
    plain = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in upper)
    return plain[:16] if plain[:1].isalpha() else f"X{plain}"[:16]


def pad_with_zero(result: Dataset) -> None:
    """End on a null byte where a byte fills up to an even length (PS3.5 8.1.1).

    highdicom takes the character "0", which has bits set.
    """
    bits = result.Rows * result.Columns * result.NumberOfFrames * result.BitsAllocated
    if -(-bits // 8) % 2 == 1:
        result.PixelData = result.PixelData[:-1] + b"\0"


def name_dimensions(result: Dataset, uid: str) -> None:
    """Put a derived UID where highdicom draws one."""
    result.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for index in result.DimensionIndexSequence:
        index.DimensionOrganizationUID = uid


def name_segments_per_frame(result: Dataset) -> None:
    """Say of every frame which segment it is, also where there is only one.

    highdicom then says it once, in the shared groups; readers that look at the frames only,
    highdicom's own report classes among them, miss it there.
    """
    shared = result.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    number = shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    del shared.SegmentIdentificationSequence
    for group in result.PerFrameFunctionalGroupsSequence:
        identification = Dataset()
        identification.ReferencedSegmentNumber = number
        group.SegmentIdentificationSequence = [identification]
