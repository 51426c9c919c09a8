"""Findings to the measurement groups of a TID 1500 report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from highdicom import sr
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from dicom_services.dicom import codes, uids
from dicom_services.dicom.curves import curve_key, curve_peak
from dicom_services.dicom.evidence import frames_of
from dicom_services.dicom.outline import outline
from dicom_services.dicom.parametric_map import SOP_CLASS, StoredMap, map_key
from dicom_services.dicom.provenance import MANUFACTURER, Provenance
from dicom_services.dicom.seg import family, tracking_key
from dicom_services.dicom.source import SourceSeries
from dicom_services.domain.findings import (
    Code,
    Curve,
    Finding,
    Lesion,
    Mask,
    Measurement,
    Observation,
)

MOST_LESIONS: Final = 100
"""More than a heart can hold; scoring without a region finds every bone. The rest is counted."""

_MODIFIES: Final = sr.RelationshipTypeValues.HAS_CONCEPT_MOD


@dataclass(frozen=True, slots=True)
class Scene:
    """What measurement groups refer to: the source, its segmentation and the masks in it, maps.

    Segment n of the segmentation is `masks[n - 1]`; without masks there is none.
    """

    source: SourceSeries
    provenance: Provenance
    segmentation_uid: str = ""
    masks: tuple[Mask, ...] = ()
    maps: tuple[StoredMap, ...] = ()
    segmentation_class: str = str(SegmentationStorage)


@dataclass(slots=True)
class _Group:
    """Findings with one tracking key on their way into one measurement group."""

    measurements: list[Measurement] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    mask: Mask | None = None


def measurement_groups(findings: Sequence[Finding], scene: Scene) -> list[Dataset]:
    """One group for each tracking key, then one for each lesion that counts.

    Where there is a segmentation every group says which region its numbers are of (TID 1411):
    the segment of the mask with its key, also of one that is only to be seen; for a group without
    a mask the segment its numbers were taken from, narrowed by their finding sites; for a lesion
    its outlines. Else TID 1501.
    """
    groups = _grouped(findings)
    lesions = [(lesion, mask) for mask in scene.masks for lesion in _counted(mask)]
    lesions.sort(key=lambda each: -each[0].score)
    content = []
    for lesion, mask in lesions[:MOST_LESIONS]:
        key = lesion.tracking or lesion.id
        content.append(_lesion(key, lesion, mask, groups.pop(key, _Group()), scene))
    return [_group(key, group, scene) for key, group in groups.items()] + content


def unlisted_lesions(scene: Scene) -> int:
    """How many lesions have no group because there are too many."""
    return max(0, sum(len(_counted(mask)) for mask in scene.masks) - MOST_LESIONS)


def _counted(mask: Mask) -> list[Lesion]:
    return [lesion for lesion in mask.lesions if lesion.counted]


def tracking(key: str, scene: Scene) -> sr.TrackingIdentifier:
    """Key and UID of what is measured (TID 4108)."""
    return sr.TrackingIdentifier(
        uid=uids.tracking_uid(scene.source.header, scene.provenance.pipeline, key),
        identifier=key,
    )


def algorithm(provenance: Provenance) -> sr.AlgorithmIdentification:
    """The algorithm that measured (TID 4019)."""
    return sr.AlgorithmIdentification(
        name=provenance.card.name,
        version=provenance.card.version,
        manufacturer=MANUFACTURER,
        family=codes.concept(family(provenance)),
    )


def evaluation(finding: Observation) -> sr.QualitativeEvaluation:
    """Question and answer, both coded."""
    return sr.QualitativeEvaluation(
        name=codes.concept(finding.what), value=codes.concept(finding.value)
    )


def _grouped(findings: Sequence[Finding]) -> dict[str, _Group]:
    """Findings by tracking key, in the order in which the keys first appear."""
    groups: dict[str, _Group] = {}
    for finding in findings:
        if isinstance(finding, Mask) and finding.in_report and finding.values.any():
            groups.setdefault(tracking_key(finding), _Group()).mask = finding
        elif isinstance(finding, Measurement):
            key = finding.tracking or f"measurement {finding.what.value}"
            groups.setdefault(key, _Group()).measurements.append(finding)
        elif isinstance(finding, Curve):
            groups.setdefault(curve_key(finding), _Group()).curves.append(finding)
        elif isinstance(finding, Observation) and finding.tracking:
            groups.setdefault(finding.tracking, _Group()).observations.append(finding)
    return groups


def _group(key: str, group: _Group, scene: Scene) -> Dataset:
    content = _common(key, group, scene)
    if not scene.masks:
        plain: Dataset = sr.MeasurementsAndQualitativeEvaluations(**content)
        return plain
    mask = group.mask
    if mask is not None:
        content |= _finding(mask, mask.site)
    named = (each for each in scene.masks if tracking_key(each) == key)
    with_lesions = (each for each in scene.masks if _counted(each))
    region = mask or next(named, None) or next(with_lesions, scene.masks[0])
    content["referenced_segment"] = _segment(region, scene)
    placed: Dataset = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**content)
    return placed


def _lesion(key: str, lesion: Lesion, mask: Mask, group: _Group, scene: Scene) -> Dataset:
    """A lesion's own numbers and whatever else is tracked under its key.

    A mask's only lesion is its segment; else the region is the lesion's outlines.
    """
    content = _common(key, group, scene) | _finding(mask, lesion.site)
    area = max(each.area_mm2 for each in lesion.slices)
    content["measurements"] += [
        _number(codes.CALCIUM_SCORE, lesion.score, codes.SCORE_UNIT, codes.AGATSTON_METHOD),
        _number(codes.VOLUME, lesion.volume_mm3, codes.CUBIC_MM),
        _number(codes.ATTENUATION, lesion.peak_hu, codes.HOUNSFIELD, most=True),
        _number(codes.AREA, area, codes.SQUARE_MM, most=True),
    ]
    if len(_counted(mask)) == 1 and mask.unlisted_lesions == 0:
        content["referenced_segment"] = _segment(mask, scene, lesion)
    else:
        content["referenced_regions"] = _outlines(lesion, mask, scene.source)
    placed: Dataset = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**content)
    return placed


def _common(key: str, group: _Group, scene: Scene) -> dict[str, Any]:
    sure = [each for each in group.observations if each.probability is not None]
    return {
        "tracking_identifier": tracking(key, scene),
        "algorithm_id": algorithm(scene.provenance),
        "measurements": [_measurement(each, key, scene) for each in group.measurements]
        + [number for each in group.curves for number in _peak(each)]
        + [_certainty(each) for each in sure],
        "qualitative_evaluations": [evaluation(each) for each in group.observations],
    }


def _finding(mask: Mask, site: Code | None) -> dict[str, Any]:
    return {
        "finding_type": codes.concept(mask.what),
        "finding_category": codes.concept(mask.category),
        "finding_sites": _sites(site),
    }


def _segment(mask: Mask, scene: Scene, lesion: Lesion | None = None) -> sr.ReferencedSegment:
    """The segment of `mask`, made from the series, or from the images of its one `lesion`."""
    number = next(index for index, each in enumerate(scene.masks, 1) if each is mask)
    images = [scene.source.instances[part.k] for part in _ranked(lesion)] if lesion else []
    series = str(scene.source.header.SeriesInstanceUID)
    return sr.ReferencedSegment(
        sop_class_uid=scene.segmentation_class,
        sop_instance_uid=scene.segmentation_uid,
        segment_number=number,
        source_images=[
            sr.SourceImageForSegmentation(
                image.sop_class_uid, image.sop_instance_uid, frames_of(image)
            )
            for image in images
        ]
        or None,
        source_series=None if images else sr.SourceSeriesForSegmentation(series),
    )


def _outlines(lesion: Lesion, mask: Mask, source: SourceSeries) -> list[sr.ImageRegion]:
    found = []
    for part in _ranked(lesion):
        corners = outline(mask.values[part.k], part, mask.geometry.pixel_area_mm2)
        image = source.instances[part.k]
        found.append(
            sr.ImageRegion(
                graphic_type="POLYLINE" if len(corners) > 1 else "POINT",
                graphic_data=corners,
                source_image=sr.SourceImageForRegion(
                    image.sop_class_uid, image.sop_instance_uid, frames_of(image)
                ),
            )
        )
    return found


def _ranked(lesion: Lesion) -> list[Any]:
    """The lesion's slices, the densest first: a viewer opens the first image it is told."""
    return sorted(lesion.slices, key=lambda each: (-each.peak_hu, -each.score, each.k))


def _measurement(finding: Measurement, key: str, scene: Scene) -> sr.Measurement:
    """A number, and the map it was taken from: the one of its own quantity, or of its key.

    TID 300 has two places for such a source. Real World Value Map used for measurement (126100)
    is kept to objects of that storage class, so a map is the image the number is inferred from.
    """
    maps = [
        each
        for each in scene.maps
        if key == map_key(each.values) or finding.what == each.values.what
    ]
    measurement = sr.Measurement(
        name=codes.concept(finding.what),
        value=finding.value,
        unit=codes.concept(finding.unit),
        method=codes.concept(finding.method) if finding.method is not None else None,
        finding_sites=_sites(finding.site),
        referenced_images=[
            sr.SourceImageForMeasurement(SOP_CLASS, scene.provenance.uid(each.role))
            for each in maps
        ]
        or None,
    )
    if finding.derivation:
        _explain(measurement, finding.derivation)
    return measurement


def _peak(curve: Curve) -> list[sr.Measurement]:
    """Highest value of a curve and its time; the curve itself is a text of the report."""
    highest, at_s = curve_peak(curve)
    numbers = [
        _number(curve.what, highest, curve.unit, curve.method, most=True),
        _number(codes.TIME_OF_PEAK, at_s, codes.SECOND, curve.method),
    ]
    for number, said in zip(numbers, ("Peak of", "Time of the peak of"), strict=True):
        _explain(number, f"{said} {curve.label}")
    return numbers


def _certainty(finding: Observation) -> sr.Measurement:
    """A model's probability, in per cent, and which answer it belongs to."""
    measurement = _number(codes.CERTAINTY, 100.0 * (finding.probability or 0.0), codes.PERCENT)
    _explain(measurement, f"Certainty of {finding.what.meaning}: {finding.value.meaning}")
    return measurement


def _explain(measurement: sr.Measurement, sentence: str) -> None:
    """What a reader is shown in place of the bare concept name (TID 300 row 16, TID 1210)."""
    meaning = sr.TextContentItem(
        name=codes.concept(codes.EQUIVALENT_MEANING),
        value=sentence,
        relationship_type=_MODIFIES,
    )
    if "ContentSequence" not in measurement[0]:
        measurement[0].ContentSequence = sr.ContentSequence()
    measurement[0].ContentSequence.append(meaning)


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


def _sites(site: Code | None) -> list[sr.FindingSite] | None:
    return [sr.FindingSite(codes.concept(site))] if site is not None else None
