"""Findings to one Comprehensive 3D SR after TID 1500, through highdicom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard

from dicom_services.dicom import codes
from dicom_services.dicom.evidence import frame_of_reference, references
from dicom_services.dicom.groups import (
    MOST_LESIONS,
    Scene,
    algorithm,
    evaluation,
    measurement_groups,
    tracking,
    unlisted_lesions,
)
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE, Provenance, stamp
from dicom_services.dicom.seg import segments
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.sr_document import document_around
from dicom_services.domain.findings import Finding, Mask, Observation
from dicom_services.errors import Fact

SERIES_NUMBER: Final = 9002
_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS
_ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT


def report(
    findings: Sequence[Finding],
    segmentation: Dataset | None,
    source: SourceSeries,
    provenance: Provenance,
) -> Dataset:
    """The report of a run, also of one that found nothing.

    Tracked findings are measurement groups; what is said of the series as a whole, such as a
    warning, stands below the qualitative evaluations.
    """
    masks = segments([each for each in findings if isinstance(each, Mask)])
    scene = Scene(source, provenance, provenance.uid("seg"), masks)
    groups = measurement_groups(findings, scene)
    untracked = [each for each in findings if isinstance(each, Observation) and not each.tracking]
    texts = []
    if unlisted := unlisted_lesions(scene):
        texts.append(f"The {MOST_LESIONS} highest scoring lesions are listed, {unlisted} are not.")
    return _document(groups, untracked, texts, scene, segmentation)


def refusal(
    code: str, facts: Mapping[str, Fact], source: SourceSeries, provenance: Provenance
) -> Dataset:
    """The report of a run that refused the study: the coded reason, and its numbers."""
    scene = Scene(source, provenance)
    why = Observation(codes.REFUSED, codes.reason(code))
    numbers = {
        name: value
        for name, value in facts.items()
        if not isinstance(value, (bool, str)) and math.isfinite(value)
    }
    words = [
        f"{codes.fact(name).meaning}: {value}"
        for name, value in facts.items()
        if name not in numbers
    ]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(f"{provenance.pipeline} refused", scene),
        algorithm_id=algorithm(provenance),
        measurements=[
            sr.Measurement(
                name=codes.concept(codes.fact(name)),
                value=value,
                unit=codes.concept(codes.fact_unit(name)),
            )
            for name, value in numbers.items()
        ],
        qualitative_evaluations=[evaluation(why)],
    )
    return _document([group], [why], words, scene)


def observer(provenance: Provenance) -> sr.ObserverContext:
    """The algorithm as the device that observed (TID 1004)."""
    return sr.ObserverContext(
        observer_type=standard.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=provenance.device_uid,
            name=f"{MANUFACTURER} {provenance.pipeline}",
            manufacturer_name=MANUFACTURER,
            model_name=provenance.card.name,
            serial_number=provenance.card.version,
        ),
    )


def _document(
    groups: Sequence[Dataset],
    untracked: Sequence[Observation],
    texts: Sequence[str],
    scene: Scene,
    segmentation: Dataset | None = None,
) -> Dataset:
    source, provenance = scene.source, scene.provenance
    evidence = references(source)
    if segmentation is not None:
        evidence.append(segmentation)
    tree = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer(provenance)),
        procedure_reported=codes.concept(provenance.procedure),
        imaging_measurements=groups or [_nothing_measured(scene)],
        title=standard.DCM.ImagingMeasurementReport,
    )
    root = tree[0].ContentSequence
    if not groups:
        root.pop()
    root.insert(len(root) - bool(groups), _image_library(source))
    root.append(_evaluations(untracked, texts, provenance))
    result = document_around(
        tree[0],
        root,
        evidence,
        series_uid=provenance.uid("sr-series"),
        sop_uid=provenance.uid("sr"),
        series_number=SERIES_NUMBER,
        moment=provenance.started,
    )
    if provenance.predecessor:
        result.PredecessorDocumentsSequence = [_predecessor(result, provenance)]
    return stamp(result, source, provenance, "report")


def _nothing_measured(scene: Scene) -> Dataset:
    """highdicom asks for a group; the template is content without (TID 1500 rows 6 to 12)."""
    group: Dataset = sr.MeasurementsAndQualitativeEvaluations(tracking("none", scene))
    return group


def _predecessor(result: Dataset, provenance: Provenance) -> Dataset:
    """The report this one replaces; its UIDs follow from its job."""
    document = Dataset()
    document.ReferencedSOPClassUID = result.SOPClassUID
    document.ReferencedSOPInstanceUID = provenance.predecessor_uid("sr")
    series = Dataset()
    series.SeriesInstanceUID = provenance.predecessor_uid("sr-series")
    series.ReferencedSOPSequence = [document]
    study = Dataset()
    study["StudyInstanceUID"] = result["StudyInstanceUID"]
    study.ReferencedSeriesSequence = [series]
    return study


def _evaluations(
    observations: Sequence[Observation], remarks: Sequence[str], provenance: Provenance
) -> sr.ContainerContentItem:
    """Statements about the whole series, the notice and what the result was made from.

    TID 1500 rows 12-14 take codes and texts here that no measurement group could hold.
    """
    container = sr.ContainerContentItem(
        name=codes.concept(codes.QUALITATIVE_EVALUATIONS), relationship_type=_CONTAINS
    )
    container.ContentSequence = sr.ContentSequence()
    for each in observations:
        container.ContentSequence.extend(evaluation(each))
    texts = (
        (codes.RESEARCH_NOTICE, NOTICE),
        (codes.INTENDED_USE, provenance.card.intended_use),
        (codes.TRAINED_ON, provenance.card.trained_on),
        *((codes.REMARK, remark) for remark in remarks),
        *provenance.trace(),
    )
    for name, text in texts:
        if text:
            item = sr.TextContentItem(
                name=codes.concept(name), value=text, relationship_type=_CONTAINS
            )
            container.ContentSequence.append(item)
    return container


def _image_library(source: SourceSeries) -> sr.ContainerContentItem:
    """Every source image, with what they share said once for all of them (TID 1600, 1602)."""
    library = sr.ContainerContentItem(name=standard.DCM.ImageLibrary, relationship_type=_CONTAINS)
    group = sr.ContainerContentItem(
        name=standard.DCM.ImageLibraryGroup, relationship_type=_CONTAINS
    )
    group.ContentSequence = sr.ContentSequence(_shared_descriptors(source))
    for instance in source.instances:
        image = sr.ImageContentItem(
            name=codes.concept(codes.SOURCE),
            referenced_sop_class_uid=instance.sop_class_uid,
            referenced_sop_instance_uid=instance.sop_instance_uid,
            relationship_type=_CONTAINS,
        )
        group.ContentSequence.append(image)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _shared_descriptors(source: SourceSeries) -> list[sr.ContentItem]:
    header = source.header
    found: list[sr.ContentItem] = []
    modality = codes.MODALITIES.get(str(header.get("Modality", "")))
    if modality is not None:
        found.append(
            sr.CodeContentItem(
                name=standard.DCM.Modality,
                value=codes.concept(modality),
                relationship_type=_ACQUISITION,
            )
        )
    found.append(
        sr.UIDRefContentItem(
            name=standard.DCM.FrameOfReferenceUID,
            value=frame_of_reference(source, None),
            relationship_type=_ACQUISITION,
        )
    )
    for name, keyword in (("PixelDataRows", "Rows"), ("PixelDataColumns", "Columns")):
        if header.get(keyword):
            found.append(
                sr.NumContentItem(
                    name=getattr(standard.DCM, name),
                    value=int(header.get(keyword)),
                    unit=codes.concept(codes.PIXELS),
                    relationship_type=_ACQUISITION,
                )
            )
    return found
