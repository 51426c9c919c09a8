"""Findings to DICOM objects: the one door through which results leave."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydicom import Dataset, dcmwrite

from dicom_services.dicom.checks import check_findings, check_results, check_source
from dicom_services.dicom.evidence import distinct
from dicom_services.dicom.key_objects import key_objects
from dicom_services.dicom.parametric_map import parametric_maps
from dicom_services.dicom.provenance import Provenance as Provenance
from dicom_services.dicom.quiet import quiet
from dicom_services.dicom.report import refusal, report
from dicom_services.dicom.seg import LABEL_MAP_CLASS, Kind
from dicom_services.dicom.seg import segmentation as segment
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.dicom.uids import usable_uid
from dicom_services.domain.findings import Finding, Mask, ParametricMap
from dicom_services.errors import Fact, InputError


def encode(
    findings: Sequence[Finding],
    source: SourceSeries,
    provenance: Provenance,
    *,
    segmentation: Kind = "binary",
) -> tuple[Dataset, ...]:
    """Maps, segmentation (where a mask has a voxel), report, key objects (where there is a lesion).

    Each refers only to those before it. The same arguments give the same bytes.

    Parameters
    ----------
    findings : sequence of Finding
    source : SourceSeries
    provenance : Provenance
    segmentation : "binary" or "labelmap"
        What the archive and its viewers can show; a report says where a label map was asked for
        and masks overlap, so that the segmentation is binary after all.

    Raises
    ------
    InputError
        Where findings and source cannot be written: see `checks`.
    CorruptError
        Where what was built is not what it must be.
    """
    check_source(source)
    check_findings(findings, source)
    masks = [finding for finding in findings if isinstance(finding, Mask)]
    maps = [finding for finding in findings if isinstance(finding, ParametricMap)]
    with quiet():
        pictures = parametric_maps(maps, source, provenance)
        shape = segment(masks, source, provenance, segmentation)
        shown = (*pictures, *([shape] if shape is not None else []))
        remarks = _remarks(shape, segmentation)
        text = report(findings, shown, source, provenance, remarks)
        images = key_objects(masks, source, provenance)
        results = tuple(each for each in (*shown, text, images) if each is not None)
        check_results(results, source)
    return results


def _remarks(shape: Dataset | None, asked: Kind) -> tuple[str, ...]:
    if asked == "binary" or shape is None or shape.SOPClassUID == LABEL_MAP_CLASS:
        return ()
    return ("Regions overlap: they are a binary segmentation, not the label map asked for.",)


def encode_refusal(
    code: str, facts: Mapping[str, Fact], source: SourceSeries, provenance: Provenance
) -> tuple[Dataset, ...]:
    """One report that says why there is no result, so that nobody waits for one.

    The source may be one that was refused for its images: those whose identifier cannot be
    referred to, or comes again, are not named. Where not even study, series, patient and one image
    can be named there is no report; the reason then stands in the job's state alone.
    """
    first, later = (
        tuple(each for each in images if usable_uid(each.sop_instance_uid) and _of_use(each))
        for images in (source.instances, source.later)
    )
    named = replace(source, instances=tuple(distinct(first)), later=tuple(distinct(later)))
    with quiet():
        try:
            check_source(named)
            results = (refusal(code, facts, named, provenance),)
        except InputError:
            return ()
        check_results(results, named)
    return results


def _of_use(instance: SourceInstance) -> bool:
    """Whether class and series of an image can be referred to."""
    return usable_uid(instance.sop_class_uid) and (
        not instance.series_uid or usable_uid(instance.series_uid)
    )


def to_bytes(dataset: Dataset) -> bytes:
    """A DICOM file (PS3.10), explicit VR little endian."""
    buffer = io.BytesIO()
    with quiet():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
