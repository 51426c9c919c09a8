"""A structured report around its tree: the part that is the same whatever the report says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from highdicom import sr
from pydicom import Dataset

from dicom_services.dicom.provenance import MANUFACTURER


def document_around(
    top: Dataset,
    root: sr.ContentSequence,
    evidence: Sequence[Dataset],
    *,
    series_uid: str,
    sop_uid: str,
    series_number: int,
    moment: datetime,
) -> sr.Comprehensive3DSR:
    """A complete, unverified Comprehensive 3D SR: the container `top` with `root` as its content.

    The document is made around an empty container and filled then: highdicom would copy and
    search the whole tree several times over, which takes longer than making it.
    """
    top.ContentSequence = sr.ContentSequence()
    document = sr.Comprehensive3DSR(
        evidence=evidence,
        content=top,
        series_instance_uid=series_uid,
        series_number=series_number,
        sop_instance_uid=sop_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        content_date=moment.date(),
        content_time=moment.time(),
    )
    document.ContentSequence = root
    return document
