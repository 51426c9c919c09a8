"""The images worth opening first, as a Key Object Selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset

from dicom_services.dicom import codes
from dicom_services.dicom.evidence import distinct, references
from dicom_services.dicom.provenance import MANUFACTURER, Provenance, stamp
from dicom_services.dicom.report import observer
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.domain.findings import Mask

SERIES_NUMBER: Final = 9003
MOST: Final = 10


def key_slices(masks: Sequence[Mask]) -> tuple[int, ...]:
    """Slice indices, in slice order, of the ten slices whose single lesions score highest.

    A slice counts by the highest lesion in it, not by their sum: one dense plaque is what a
    reader wants to see first.
    """
    best: dict[int, float] = {}
    for mask in masks:
        for lesion in (each for each in mask.lesions if each.counted):
            for part in lesion.slices:
                best[part.k] = max(best.get(part.k, 0.0), part.score)
    ranked = sorted(best, key=lambda k: (-best[k], k))
    return tuple(sorted(ranked[:MOST]))


def key_objects(
    masks: Sequence[Mask], source: SourceSeries, provenance: Provenance
) -> Dataset | None:
    """The key images of a run; None where it has no lesion."""
    chosen = key_slices(masks)
    if not chosen:
        return None
    images = {str(each.SOPInstanceUID): each for each in references(source)}
    slices = [source.instances[k] for k in chosen]
    selected = [images[each.sop_instance_uid] for each in distinct(slices)]
    result = KeyObjectSelectionDocument(
        evidence=selected,
        content=KeyObjectSelection(
            document_title=codes.concept(codes.OF_INTEREST),
            referenced_objects=selected,
            observer_device_context=observer(provenance),
            description=f"{provenance.title}: images with the highest scoring lesions",
        ),
        series_instance_uid=provenance.uid("ko-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid("ko"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        content_date=provenance.started.date(),
        content_time=provenance.started.time(),
    )
    _name_frames(result, slices)
    return stamp(result, source, provenance, "key images")


def _name_frames(result: Dataset, slices: Sequence[SourceInstance]) -> None:
    """Say which frames of a multi-frame image are meant."""
    for item in result.ContentSequence:
        for reference in item.get("ReferencedSOPSequence") or ():
            uid = str(reference.ReferencedSOPInstanceUID)
            frames = [one.frame for one in slices if one.frame and one.sop_instance_uid == uid]
            if frames:
                reference.ReferencedFrameNumber = frames
