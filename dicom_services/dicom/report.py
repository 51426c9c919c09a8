"""Findings to one Comprehensive 3D SR after TID 1500, through highdicom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard

from dicom_services.dicom import codes
from dicom_services.dicom.curves import curve_line
from dicom_services.dicom.evidence import references
from dicom_services.dicom.groups import (
    MOST_LESIONS,
    Scene,
    algorithm,
    evaluation,
    measurement_groups,
    tracking,
    unlisted_lesions,
)
from dicom_services.dicom.image_library import image_library
from dicom_services.dicom.parametric_map import stored_maps
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE, Provenance, stamp
from dicom_services.dicom.seg import segments
from dicom_services.dicom.source import SourceSeries
from dicom_services.dicom.sr_document import document_around
from dicom_services.domain.findings import Code, Curve, Finding, Mask, Observation, ParametricMap
from dicom_services.errors import Fact

SERIES_NUMBER: Final = 9002
_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS


def report(
    findings: Sequence[Finding],
    results: Sequence[Dataset],
    source: SourceSeries,
    provenance: Provenance,
    remarks: Sequence[str] = (),
) -> Dataset:
    """The report of a run, also of one that found nothing.

    Tracked findings are measurement groups; what is said of the series as a whole, such as a
    warning, stands below the qualitative evaluations, and so does every curve, as text.

    Parameters
    ----------
    findings : sequence of Finding
    results : sequence of Dataset
        The maps and the segmentation that were made of them.
    source : SourceSeries
    provenance : Provenance
    remarks : sequence of str
        English sentences of ours about how the results were written.
    """
    masks = segments([each for each in findings if isinstance(each, Mask)])
    maps = stored_maps([each for each in findings if isinstance(each, ParametricMap)])
    shapes = [str(each.SOPClassUID) for each in results if each.Modality == "SEG"]
    scene = Scene(source, provenance, provenance.uid("seg"), masks, maps, "".join(shapes))
    groups = measurement_groups(findings, scene)
    untracked = [each for each in findings if isinstance(each, Observation) and not each.tracking]
    texts = [(each.what, curve_line(each)) for each in findings if isinstance(each, Curve)]
    texts += [(codes.REMARK, remark) for remark in remarks]
    if unlisted := unlisted_lesions(scene):
        said = f"The {MOST_LESIONS} highest scoring lesions are listed, {unlisted} are not."
        texts.append((codes.REMARK, said))
    return _document(groups, untracked, texts, scene, results)


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
        (codes.REMARK, f"{codes.fact(name).meaning}: {value}")
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
    texts: Sequence[tuple[Code, str]],
    scene: Scene,
    results: Sequence[Dataset] = (),
) -> Dataset:
    source, provenance = scene.source, scene.provenance
    evidence = [*references(source), *results]
    tree = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer(provenance)),
        procedure_reported=codes.concept(provenance.procedure),
        imaging_measurements=groups or [_nothing_measured(scene)],
        title=standard.DCM.ImagingMeasurementReport,
    )
    root = tree[0].ContentSequence
    if not groups:
        root.pop()
    root.insert(len(root) - bool(groups), image_library(source, scene.maps, provenance))
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
    observations: Sequence[Observation], remarks: Sequence[tuple[Code, str]], provenance: Provenance
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
        *remarks,
        *provenance.trace(),
    )
    for name, text in texts:
        if text:
            item = sr.TextContentItem(
                name=codes.concept(name), value=text, relationship_type=_CONTAINS
            )
            container.ContentSequence.append(item)
    return container
