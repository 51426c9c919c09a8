"""A reader's verdict on a result as a Comprehensive 3D SR after TID 1500."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard

from dicom_services.dicom import codes, uids
from dicom_services.dicom.assessed_result import AlgorithmScores, ObjectReference
from dicom_services.dicom.evidence import frame_of_reference, references
from dicom_services.dicom.identity import put
from dicom_services.dicom.indexed_series import IndexedSeries
from dicom_services.dicom.provenance import MANUFACTURER, NOTICE
from dicom_services.dicom.reading import PRODUCT, Reading, device_uid, stamp_reading
from dicom_services.dicom.seg import CLASSES
from dicom_services.dicom.sr_document import document_around
from dicom_services.domain.assessment import PRIVATE, REASONS, LesionVerdict
from dicom_services.domain.findings import Code
from dicom_services.domain.vessels import CORONARY_ARTERIES, VESSELS

SERIES_NUMBER: Final = 9102
MOST_LESIONS: Final = 200
"""Changed ones first; the rest is counted in words and stands whole in the database."""

VERDICTS: Final = {
    "accept": Code("accepted", PRIVATE, "Accepted by the reader"),
    "modify": Code("modified", PRIVATE, "Modified by the reader"),
    "reject": Code("rejected", PRIVATE, "Rejected by the reader"),
}
VERDICT: Final = Code("verdict", PRIVATE, "Reader's verdict")
REASON: Final = Code("verdict_reason", PRIVATE, "Reason for the verdict")
MEANT: Final = Code("verdict_meant", PRIVATE, "What the reason names")
COUNTED: Final = Code("counted", PRIVATE, "Counted in the reader's score")
ASSESSED: Final = Code("assessed_result", PRIVATE, "Assessed result")
ASSESSED_SEGMENTATION: Final = Code("assessed_seg", PRIVATE, "Segmentation of the result")
READER_SEGMENTATION: Final = Code("reader_seg", PRIVATE, "Segmentation by the reader")
CORRECTION: Final = Code("correction", PRIVATE, "Correction identifier")
MADE_AT: Final = Code("correction_made_at", PRIVATE, "Made at, by the browser's clock")
COMMENT: Final = Code("121106", "DCM", "Comment")
YES: Final = Code("373066001", "SCT", "Yes")
NO: Final = Code("373067005", "SCT", "No")
VOLUME_METHOD: Final = Code("112056", "DCM", "Volume scoring method")
MASS_METHOD: Final = Code("112057", "DCM", "Mass scoring method")
THRESHOLD: Final = Code("122657", "DCM", "Agatston Score Threshold")
COUNT: Final = Code("111038", "DCM", "Number of calcifications")
CALCIFICATION: Final = Code("18115005", "SCT", "Pathologic calcification")
MILLIGRAM: Final = Code("mg", "UCUM", "milligram")
_PROCEDURES: Final = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MR unspecified body region"),
}
_ANY_PROCEDURE: Final = Code("18748-4", "LN", "Diagnostic imaging study")
_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS
_ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_MODIFIES: Final = sr.RelationshipTypeValues.HAS_CONCEPT_MOD


def assessment_report(
    reading: Reading, series: IndexedSeries, segmentation: Dataset | None
) -> Dataset:
    """The assessment: what was judged, by whom, how and why, and what the reader counts.

    It replaces nothing: the algorithm's report stays, and this one refers to it. It is complete
    and not verified, for nobody has signed it.
    """
    groups = [*_score_groups(reading, series), *_lesion_groups(reading, series)]
    tree = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_person_context=_person(reading), observer_device_context=_device(reading)
        ),
        procedure_reported=codes.concept(_procedure(series)),
        imaging_measurements=groups or [_placeholder(reading, series)],
        title=standard.DCM.ImagingMeasurementReport,
    )
    root = tree[0].ContentSequence
    if not groups:
        root.pop()
    root.insert(len(root) - bool(groups), _image_library(series))
    root.append(_statements(reading, segmentation))
    result = document_around(
        tree[0],
        root,
        _evidence(reading, series, segmentation),
        series_uid=reading.uid("sr-series"),
        sop_uid=reading.uid("sr"),
        series_number=SERIES_NUMBER,
        moment=reading.received,
    )
    return stamp_reading(result, series.source, reading, "assessment")


def _procedure(series: IndexedSeries) -> Code:
    return _PROCEDURES.get(str(series.source.header.get("Modality", "")), _ANY_PROCEDURE)


def _person(reading: Reading) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=standard.DCM.Person,
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(
            name=reading.person_name
        ),
    )


def _device(reading: Reading) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=standard.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(reading),
            name=PRODUCT,
            manufacturer_name=MANUFACTURER,
            model_name=PRODUCT,
            serial_number=reading.software_version,
        ),
    )


def _score_groups(reading: Reading, series: IndexedSeries) -> list[Dataset]:
    """The reader's scores, and beside them the algorithm's."""
    if reading.scores is None:
        return []
    scores = reading.scores
    at = _threshold_words(float(scores["threshold_hu"]))
    whose = "Reader's"
    numbers = [
        *_totals(scores, whose, at),
        *(
            _number(
                codes.CALCIUM_SCORE,
                one["agatston"],
                codes.SCORE_UNIT,
                codes.AGATSTON_METHOD,
                VESSELS.get(vessel, CORONARY_ARTERIES),
                f"{whose} Agatston score{at}, not corrected for slice spacing; lesions "
                + (vessel if vessel in VESSELS else "not assigned to a vessel"),
            )
            for vessel, one in scores["vessels"].items()
        ),
    ]
    judged = [
        sr.QualitativeEvaluation(
            name=codes.concept(Code(name, PRIVATE, meaning)), value=codes.concept(Code(**category))
        )
        for name, meaning in (
            ("cac_drs", "CAC-DRS category of the spacing-corrected score"),
            ("rumberger", "Rumberger category of the spacing-corrected score"),
        )
        if (category := scores[name]) is not None
    ]
    groups = [_group("calcium, reader", "calcium reader", numbers, judged, reading, series)]
    if reading.result.scores is not None:
        theirs = _totals_of(reading.result.scores)
        words = _threshold_words(reading.result.scores.threshold_hu)
        numbers = _totals(theirs, "Algorithm's", words)
        groups.append(
            _group("calcium, algorithm", "calcium", numbers, [], reading, series, algorithm=True)
        )
    return groups


def _totals_of(scores: AlgorithmScores) -> dict[str, Any]:
    return {name: getattr(scores, name) for name in AlgorithmScores.__dataclass_fields__}


def _threshold_words(threshold_hu: float) -> str:
    """What a score of another threshold is called; nothing for the one everybody means."""
    return "" if threshold_hu == 130.0 else f", threshold {threshold_hu:g} HU"


def _totals(scores: Mapping[str, Any], whose: str, at: str) -> list[sr.Measurement]:
    site = CORONARY_ARTERIES
    unit, method = codes.SCORE_UNIT, codes.AGATSTON_METHOD
    plain = f"{whose} Agatston score{at}, plain, not corrected for slice spacing"
    corrected = f"{whose} Agatston score{at}, multiplied by slice spacing / 3 mm"
    found = [
        _number(codes.CALCIUM_SCORE, scores["agatston"], unit, method, site, plain),
        _number(codes.CALCIUM_SCORE, scores["agatston_by_spacing"], unit, method, site, corrected),
        _number(
            codes.CALCIUM_SCORE,
            scores["volume_mm3"],
            codes.CUBIC_MM,
            VOLUME_METHOD,
            site,
            f"{whose} volume of voxels{at}",
        ),
    ]
    if scores["mass_mg"] is not None:
        words = f"{whose} mass of hydroxyapatite{at}"
        mass = scores["mass_mg"]
        found.append(_number(codes.CALCIUM_SCORE, mass, MILLIGRAM, MASS_METHOD, site, words))
    found.append(_number(COUNT, scores["lesions"], codes.NO_UNIT, None, site, ""))
    found.append(_number(THRESHOLD, scores["threshold_hu"], codes.HOUNSFIELD, None, site, ""))
    return found


def _lesion_groups(reading: Reading, series: IndexedSeries) -> list[Dataset]:
    return [_lesion(each, reading, series) for each in _listed(reading)]


def _listed(reading: Reading) -> list[LesionVerdict]:
    """Lesions that get a group: those the reader said something of come first."""
    edit = reading.assessment.calcium
    if edit is None:
        return []

    def untouched(each: LesionVerdict) -> bool:
        said = each.reason or each.note or each.verdict != "accept" or not each.tracking_uid
        return not said

    ranked = sorted(edit.lesions, key=lambda each: (untouched(each), not each.counted))
    kept = {each.id for each in ranked[:MOST_LESIONS]}
    return [each for each in edit.lesions if each.id in kept]


def _lesion(said: LesionVerdict, reading: Reading, series: IndexedSeries) -> Dataset:
    evaluations = [
        _evaluation(VERDICT, VERDICTS[said.verdict]),
        _evaluation(COUNTED, YES if said.counted else NO),
        *_reasons(said.reason),
    ]
    scored = next((one for one in reading.lesions if said.id in one["decided"]), None)
    numbers = _lesion_numbers(scored) if scored is not None and said.counted else []
    uid = said.tracking_uid or reading.uid(f"lesion {said.id}")
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier=f"lesion {said.id}"),
        finding_type=codes.concept(CALCIFICATION),
        finding_sites=[sr.FindingSite(codes.concept(VESSELS.get(said.vessel, CORONARY_ARTERIES)))],
        measurements=numbers,
        qualitative_evaluations=evaluations,
        source_images=_images(_lesion_images(said, scored), series),
    )
    group[0].ContentSequence.extend(_comments(said.note))
    whole: Dataset = group
    return whole


def _lesion_images(said: LesionVerdict, scored: Mapping[str, Any] | None) -> list[str]:
    """The image of its peak first: a viewer opens the first it is told."""
    named = [said.anchor.sop_instance_uid]
    if scored is not None:
        named += [part["sop_instance_uid"] for part in scored["slices"]]
    return list(dict.fromkeys(named))


def _lesion_numbers(scored: Mapping[str, Any]) -> list[sr.Measurement]:
    return [
        _number(
            codes.CALCIUM_SCORE, scored["score"], codes.SCORE_UNIT, codes.AGATSTON_METHOD, None, ""
        ),
        _number(codes.VOLUME, scored["volume_mm3"], codes.CUBIC_MM, None, None, ""),
        sr.Measurement(
            name=codes.concept(codes.ATTENUATION),
            value=scored["peak_hu"],
            unit=codes.concept(codes.HOUNSFIELD),
            derivation=codes.concept(codes.MAXIMUM),
        ),
    ]


def _group(
    identifier: str,
    key: str,
    numbers: Sequence[sr.Measurement],
    evaluations: Sequence[sr.QualitativeEvaluation],
    reading: Reading,
    series: IndexedSeries,
    *,
    algorithm: bool = False,
) -> Dataset:
    result = reading.result
    uid = uids.tracking_uid(series.source.header, result.pipeline, key)
    named = None
    if algorithm and result.model:
        named = sr.AlgorithmIdentification(
            name=result.model, version=result.model_version, manufacturer=MANUFACTURER
        )
    slices = [part for one in reading.lesions for part in one["slices"]]
    ranked = sorted(slices, key=lambda part: (-part["score"], part["k"]))
    images = list(dict.fromkeys(part["sop_instance_uid"] for part in ranked))[:10]
    group: Dataset = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier=identifier),
        algorithm_id=named,
        finding_type=codes.concept(CALCIFICATION),
        finding_sites=[sr.FindingSite(codes.concept(CORONARY_ARTERIES))],
        measurements=list(numbers),
        qualitative_evaluations=list(evaluations),
        source_images=_images(images or [_middle(series)], series),
    )
    return group


def _middle(series: IndexedSeries) -> str:
    instances = series.source.instances
    return instances[len(instances) // 2].sop_instance_uid


def _images(named: Iterable[str], series: IndexedSeries) -> list[sr.SourceImageForMeasurementGroup]:
    classes = {one.sop_instance_uid: one.sop_class_uid for one in series.source.instances}
    default = series.source.instances[0].sop_class_uid
    return [sr.SourceImageForMeasurementGroup(classes.get(uid, default), uid) for uid in named]


def _placeholder(reading: Reading, series: IndexedSeries) -> Dataset:
    """highdicom asks for a group; the template is content without (TID 1500 rows 6 to 12)."""
    return _group("none", "none", [], [], reading, series)


def _evaluation(what: Code, value: Code) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(name=codes.concept(what), value=codes.concept(value))


def _reasons(reason: str) -> list[sr.QualitativeEvaluation]:
    if not reason:
        return []
    known = REASONS[reason]
    found = [_evaluation(REASON, known.code)]
    if known.standard is not None:
        found.append(_evaluation(MEANT, known.standard))
    return found


def _comments(note: str) -> list[sr.TextContentItem]:
    """A note line by line; tabs become spaces."""
    lines = [line.replace("\t", " ").strip() for line in note.split("\n")]
    return [_text(COMMENT, line) for line in lines if line]


def _text(name: Code, value: str) -> sr.TextContentItem:
    return sr.TextContentItem(name=codes.concept(name), value=value, relationship_type=_CONTAINS)


def _statements(reading: Reading, segmentation: Dataset | None) -> sr.ContainerContentItem:
    """The verdict on the result as a whole, what it is about, the note and where it is kept."""
    said, result = reading.assessment, reading.result
    container = sr.ContainerContentItem(
        name=codes.concept(codes.QUALITATIVE_EVALUATIONS), relationship_type=_CONTAINS
    )
    content = sr.ContentSequence()
    content.extend(_evaluation(VERDICT, VERDICTS[said.verdict]))
    for each in _reasons(said.reason):
        content.extend(each)
    content.append(_composite(ASSESSED, result.report))
    if result.segmentation is not None:
        content.append(_image(ASSESSED_SEGMENTATION, result.segmentation))
    if segmentation is not None:
        content.append(_image(READER_SEGMENTATION, _reference(segmentation)))
    content.extend(_comments(said.note))
    texts = [
        (codes.RESEARCH_NOTICE, NOTICE),
        (CORRECTION, said.id),
        (MADE_AT, said.made_at),
        (codes.JOB, said.job),
        (codes.PIPELINE, f"{result.pipeline} {result.version}".strip()),
        (codes.SOFTWARE_VERSION, f"{MANUFACTURER} {reading.software_version}"),
    ]
    edit = said.calcium
    left_out = len(edit.lesions) - len(_listed(reading)) if edit is not None else 0
    if left_out:
        texts.append(
            (codes.REMARK, f"{left_out} lesions that were left as they were are not listed.")
        )
    content.extend(_text(name, value) for name, value in texts)
    container.ContentSequence = content
    return container


def _reference(dataset: Dataset) -> ObjectReference:
    return ObjectReference(
        str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID)
    )


def _composite(name: Code, which: ObjectReference) -> sr.CompositeContentItem:
    return sr.CompositeContentItem(
        name=codes.concept(name),
        referenced_sop_class_uid=which.sop_class_uid,
        referenced_sop_instance_uid=which.sop_instance_uid,
        relationship_type=_CONTAINS,
    )


def _image(name: Code, which: ObjectReference) -> sr.ImageContentItem:
    return sr.ImageContentItem(
        name=codes.concept(name),
        referenced_sop_class_uid=which.sop_class_uid,
        referenced_sop_instance_uid=which.sop_instance_uid,
        relationship_type=_CONTAINS,
    )


def _evidence(
    reading: Reading, series: IndexedSeries, segmentation: Dataset | None
) -> list[Dataset]:
    """Everything the document refers to: images, the result's objects, the reader's mask."""
    images = references(series.source)
    found = list(images)
    for which in (reading.result.report, reading.result.segmentation):
        if which is not None:
            found.append(_stand_in(images[0], which))
    if segmentation is not None:
        found.append(segmentation)
    return found


def _stand_in(image: Dataset, which: ObjectReference) -> Dataset:
    """An object of the study as highdicom wants to see it; no rows: a document, no image."""
    found = Dataset()
    found.update(image)
    for keyword in ("Rows", "Columns"):
        if which.sop_class_uid not in CLASSES and keyword in found:
            del found[keyword]
    put(found, "SOPClassUID", which.sop_class_uid)
    put(found, "SOPInstanceUID", which.sop_instance_uid)
    put(found, "SeriesInstanceUID", which.series_instance_uid)
    return found


def _image_library(series: IndexedSeries) -> sr.ContainerContentItem:
    """Every source image (TID 1600, 1602)."""
    library = sr.ContainerContentItem(name=standard.DCM.ImageLibrary, relationship_type=_CONTAINS)
    group = sr.ContainerContentItem(
        name=standard.DCM.ImageLibraryGroup, relationship_type=_CONTAINS
    )
    source = series.source
    content = sr.ContentSequence()
    modality = codes.MODALITIES.get(str(source.header.get("Modality", "")))
    if modality is not None:
        content.append(
            sr.CodeContentItem(
                name=standard.DCM.Modality,
                value=codes.concept(modality),
                relationship_type=_ACQUISITION,
            )
        )
    content.append(
        sr.UIDRefContentItem(
            name=standard.DCM.FrameOfReferenceUID,
            value=frame_of_reference(source, series.geometry),
            relationship_type=_ACQUISITION,
        )
    )
    for instance in source.instances:
        which = ObjectReference(instance.sop_class_uid, instance.sop_instance_uid, "")
        content.append(_image(codes.SOURCE, which))
    group.ContentSequence = content
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _number(
    what: Code, value: float, unit: Code, method: Code | None, site: Code | None, words: str
) -> sr.Measurement:
    measurement = sr.Measurement(
        name=codes.concept(what),
        value=value,
        unit=codes.concept(unit),
        method=codes.concept(method) if method is not None else None,
        finding_sites=[sr.FindingSite(codes.concept(site))] if site is not None else None,
    )
    if words:
        meaning = sr.TextContentItem(
            name=codes.concept(codes.EQUIVALENT_MEANING), value=words, relationship_type=_MODIFIES
        )
        if "ContentSequence" not in measurement[0]:
            measurement[0].ContentSequence = sr.ContentSequence()
        measurement[0].ContentSequence.append(meaning)
    return measurement
