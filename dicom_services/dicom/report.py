"""Findings to one Comprehensive 3D SR after TID 1500, through highdicom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard

from dicom_services.dicom import codes, uids
from dicom_services.dicom.evidence import frame_of_reference, references
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE, Provenance, stamp
from dicom_services.dicom.seg import family, segments, tracking_key
from dicom_services.dicom.source import SourceSeries
from dicom_services.domain.findings import (
    Code,
    Finding,
    Lesion,
    LesionSlice,
    Mask,
    Measurement,
    Observation,
)
from dicom_services.errors import Fact

SERIES_NUMBER: Final = 9002
_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS
_ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_MODIFIES: Final = sr.RelationshipTypeValues.HAS_CONCEPT_MOD


@dataclass(slots=True)
class _Group:
    """Findings with one tracking key on their way into one measurement group."""

    measurements: list[Measurement] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    mask: Mask | None = None


def report(
    findings: Sequence[Finding],
    segmentation: Dataset | None,
    source: SourceSeries,
    provenance: Provenance,
) -> Dataset:
    """The report of a run, also of one that found nothing.

    Findings with one tracking key share a measurement group: TID 1411 with the segment where
    a mask carries that key, else TID 1501. Each lesion is a TID 1501 group of its own with its
    approximate place on the image where it is densest.
    """
    groups = _grouped(findings)
    content = []
    shown = segments([each for each in findings if isinstance(each, Mask)])
    for key, group in groups.items():
        content.append(_group(key, group, shown, segmentation, source, provenance))
    for mask in shown:
        for lesion in mask.lesions:
            content.append(_lesion(lesion, mask, source, provenance))
    untracked = [
        each for each in findings if isinstance(each, Observation) and not each.tracking
    ]
    return _document(content, untracked, segmentation, source, provenance)


def refusal(
    code: str, facts: Mapping[str, Fact], source: SourceSeries, provenance: Provenance
) -> Dataset:
    """The report of a run that refused the study: the coded reason, and its numbers."""
    key = f"{provenance.pipeline} refused"
    measurements = [
        sr.Measurement(
            name=codes.concept(codes.fact(name)),
            value=value,
            unit=codes.concept(codes.fact_unit(name)),
        )
        for name, value in facts.items()
        if not isinstance(value, (bool, str)) and math.isfinite(value)
    ]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(key, source, provenance),
        algorithm_id=_algorithm(provenance),
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                name=codes.concept(codes.REFUSED), value=codes.concept(codes.reason(code))
            )
        ],
    )
    why = Observation(codes.REFUSED, codes.reason(code))
    return _document([group], [why], None, source, provenance)


def _grouped(findings: Sequence[Finding]) -> dict[str, _Group]:
    """Findings by tracking key, in the order in which the keys first appear."""
    groups: dict[str, _Group] = {}
    for finding in findings:
        if isinstance(finding, Mask):
            groups.setdefault(tracking_key(finding), _Group()).mask = finding
        elif isinstance(finding, Measurement):
            key = finding.tracking or f"measurement {finding.what.value}"
            groups.setdefault(key, _Group()).measurements.append(finding)
        elif isinstance(finding, Observation) and finding.tracking:
            groups.setdefault(finding.tracking, _Group()).observations.append(finding)
    return {
        key: group
        for key, group in groups.items()
        if group.measurements or group.observations or (group.mask and group.mask.values.any())
    }


def _group(
    key: str,
    group: _Group,
    shown: Sequence[Mask],
    segmentation: Dataset | None,
    source: SourceSeries,
    provenance: Provenance,
) -> sr.MeasurementsAndQualitativeEvaluations:
    common = {
        "tracking_identifier": _tracking(key, source, provenance),
        "algorithm_id": _algorithm(provenance),
        "measurements": [_measurement(each) for each in group.measurements]
        + [_certainty(each) for each in group.observations if each.probability is not None],
        "qualitative_evaluations": [_evaluation(each) for each in group.observations],
    }
    mask = group.mask
    if segmentation is None or mask is None or not any(mask is each for each in shown):
        return sr.MeasurementsAndQualitativeEvaluations(**common)
    number = next(index for index, each in enumerate(shown, 1) if each is mask)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **common,
        finding_category=codes.concept(mask.category),
        finding_type=codes.concept(mask.what),
        finding_sites=_sites(mask.site),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(str(source.header.SeriesInstanceUID)),
        ),
    )


def _lesion(
    lesion: Lesion, mask: Mask, source: SourceSeries, provenance: Provenance
) -> sr.MeasurementsAndQualitativeEvaluations:
    area = max(each.area_mm2 for each in lesion.slices)
    peak = peak_slice(lesion)
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(lesion.tracking or lesion.id, source, provenance),
        algorithm_id=_algorithm(provenance),
        finding_type=codes.concept(mask.what),
        finding_category=codes.concept(mask.category),
        finding_sites=_sites(lesion.site),
        measurements=[
            _number(codes.CALCIUM_SCORE, lesion.score, codes.SCORE_UNIT, codes.AGATSTON_METHOD),
            _number(codes.VOLUME, lesion.volume_mm3, codes.CUBIC_MM),
            _number(codes.ATTENUATION, lesion.peak_hu, codes.HOUNSFIELD, most=True),
            _number(codes.AREA, area, codes.SQUARE_MM, most=True),
        ],
    )
    group[0].ContentSequence.append(_place(peak, source))
    return group


def peak_slice(lesion: Lesion) -> LesionSlice:
    """The slice a lesion is shown on: its densest; of equally dense ones the highest score."""
    return max(lesion.slices, key=lambda each: (each.peak_hu, each.score, -each.k))


def _place(part: LesionSlice, source: SourceSeries) -> sr.ScoordContentItem:
    """A point on the source image; the pixel in the corner has its centre at (0.5, 0.5)."""
    image = source.instances[part.k]
    point = sr.ScoordContentItem(
        name=codes.concept(codes.APPROXIMATE_LOCATION),
        graphic_type=sr.GraphicTypeValues.POINT,
        graphic_data=np.array([[part.column + 0.5, part.row + 0.5]]),
        relationship_type=_CONTAINS,
    )
    point.ContentSequence = sr.ContentSequence(
        [
            sr.ImageContentItem(
                name=codes.concept(codes.SOURCE_OF_MEASUREMENT),
                referenced_sop_class_uid=image.sop_class_uid,
                referenced_sop_instance_uid=image.sop_instance_uid,
                relationship_type=sr.RelationshipTypeValues.SELECTED_FROM,
            )
        ]
    )
    return point


def _measurement(finding: Measurement) -> sr.Measurement:
    measurement = sr.Measurement(
        name=codes.concept(finding.what),
        value=finding.value,
        unit=codes.concept(finding.unit),
        method=codes.concept(finding.method) if finding.method is not None else None,
        finding_sites=_sites(finding.site),
    )
    if finding.derivation:
        # TID 300 row 16 (TID 1210): what a reader is shown instead of the bare concept name.
        meaning = sr.TextContentItem(
            name=codes.concept(codes.EQUIVALENT_MEANING),
            value=finding.derivation,
            relationship_type=_MODIFIES,
        )
        measurement[0].ContentSequence.append(meaning)
    return measurement


def _number(
    what: Code, value: float, unit: Code, method: Code | None = None, most: bool = False
) -> sr.Measurement:
    return sr.Measurement(
        name=codes.concept(what),
        value=value,
        unit=codes.concept(unit),
        method=codes.concept(method) if method is not None else None,
        derivation=codes.concept(codes.MAXIMUM) if most else None,
    )


def _evaluation(finding: Observation) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(
        name=codes.concept(finding.what), value=codes.concept(finding.value)
    )


def _certainty(finding: Observation) -> sr.Measurement:
    """A model's probability, in per cent, told which answer it belongs to."""
    measurement = _number(codes.CERTAINTY, 100.0 * (finding.probability or 0.0), codes.PERCENT)
    answer = sr.TextContentItem(
        name=codes.concept(codes.EQUIVALENT_MEANING),
        value=f"Certainty of {finding.what.meaning}: {finding.value.meaning}",
        relationship_type=_MODIFIES,
    )
    measurement[0].ContentSequence = sr.ContentSequence([answer])
    return measurement


def _sites(site: Code | None) -> list[sr.FindingSite] | None:
    return [sr.FindingSite(codes.concept(site))] if site is not None else None


def _tracking(key: str, source: SourceSeries, provenance: Provenance) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(
        uid=uids.tracking_uid(source.header, provenance.pipeline, key), identifier=key
    )


def _algorithm(provenance: Provenance) -> sr.AlgorithmIdentification:
    return sr.AlgorithmIdentification(
        name=provenance.card.name,
        version=provenance.card.version,
        manufacturer=MANUFACTURER,
        family=codes.concept(family(provenance)),
    )


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
    segmentation: Dataset | None,
    source: SourceSeries,
    provenance: Provenance,
) -> Dataset:
    evidence = references(source)
    if segmentation is not None:
        evidence.append(segmentation)
    tree = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer(provenance)),
        procedure_reported=codes.concept(provenance.procedure),
        imaging_measurements=groups,
        title=standard.DCM.ImagingMeasurementReport,
    )
    root = tree[0].ContentSequence
    root.insert(len(root) - 1, _image_library(source))
    root.append(_evaluations(untracked, provenance))
    result = sr.Comprehensive3DSR(
        evidence=evidence,
        content=tree[0],
        series_instance_uid=provenance.uid("sr-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid("sr"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        content_date=provenance.started.date(),
        content_time=provenance.started.time(),
    )
    if provenance.predecessor:
        result.PredecessorDocumentsSequence = [_predecessor(result, provenance)]
    return stamp(result, source, provenance, "report")


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
    observations: Sequence[Observation], provenance: Provenance
) -> sr.ContainerContentItem:
    """Statements about the whole series, the notice and what the result was made from.

    TID 1500 rows 12-14 take codes and texts here that no measurement group could hold.
    """
    container = sr.ContainerContentItem(
        name=codes.concept(codes.QUALITATIVE_EVALUATIONS), relationship_type=_CONTAINS
    )
    container.ContentSequence = sr.ContentSequence()
    container.ContentSequence.extend(_algorithm(provenance))
    for each in observations:
        container.ContentSequence.extend(_evaluation(each))
    texts = (
        (codes.RESEARCH_NOTICE, NOTICE),
        (codes.INTENDED_USE, provenance.card.intended_use),
        (codes.TRAINED_ON, provenance.card.trained_on),
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
    library = sr.ContainerContentItem(
        name=standard.DCM.ImageLibrary, relationship_type=_CONTAINS
    )
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
