"""A reader's correction as DICOM files, made in a child with limits from one image's header."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from dicom_services.dicom.assessment_report import assessment_report
from dicom_services.dicom.checks import check_results, check_source
from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.corrected_seg import corrected_segmentation
from dicom_services.dicom.indexed_series import IndexedInstance, indexed_series
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.reading import Reading
from dicom_services.dicom.write import to_bytes

_MEMORY_BYTES: Final = 1024 << 20
_BYTES_PER_PIXEL: Final = 24
_MOST_BYTES: Final = 4 << 30
"""A thousand slices with a voxel each in them; the correction itself is kept whatever happens."""
_CPU_S: Final = 120
_WALL_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class CorrectionObject:
    """One file, ready to be stored."""

    modality: str
    sop_instance_uid: str
    series_instance_uid: str
    file: bytes


def correction_objects(
    file: bytes, index: Sequence[IndexedInstance], reading: Reading
) -> tuple[Dataset, ...]:
    """Segmentation (where a voxel counts) and assessment, in this process.

    The same arguments give the same bytes.
    """
    with quiet():
        series = indexed_series(file, index)
        check_source(series.source)
        shape = corrected_segmentation(reading, series)
        text = assessment_report(reading, series, shape)
        results = tuple(each for each in (shape, text) if each is not None)
        check_results(results, series.source)
    return results


def correction_objects_limited(
    file: bytes, index: Sequence[IndexedInstance], reading: Reading
) -> tuple[CorrectionObject, ...]:
    """As `correction_objects`, as files.

    Raises
    ------
    InputError
        What reading raises, and `decoder_died`.
    """

    def work(send: Send) -> None:
        for each in correction_objects(file, index, reading):
            send(
                [
                    str(each.Modality),
                    str(each.SOPInstanceUID),
                    str(each.SeriesInstanceUID),
                    base64.b64encode(to_bytes(each)).decode(),
                ]
            )

    edit = reading.assessment.calcium
    entries = len(edit.mask) if edit is not None else 0
    memory = min(_MOST_BYTES, _MEMORY_BYTES + entries * (512 * 512) * _BYTES_PER_PIXEL)
    limits = Limits(memory, memory, _CPU_S, _CPU_S, _WALL_S)
    return tuple(
        CorrectionObject(modality, uid, series, base64.b64decode(data))
        for modality, uid, series, data in start_child(work, limits).messages()
    )
