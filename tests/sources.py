"""Source series, provenance and findings that need no scanner and no pipeline."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_services.dicom.provenance import Provenance
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import (
    Code,
    Curve,
    Finding,
    Lesion,
    LesionSlice,
    Mask,
    Measurement,
    Observation,
    ParametricMap,
)
from dicom_services.domain.geometry import Geometry

WHOLE = "1.2.826.0.1.3680043.8.498.4.1"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
FRAME = "1.2.826.0.1.3680043.8.498.5"
CORONARY = Code("41801008", "SCT", "Coronary artery")
LAD = Code("59438005", "SCT", "Left anterior descending coronary artery")
CALCIFICATION = Code("36222008", "SCT", "Calcification")
ABNORMAL = Code("49755003", "SCT", "Morphologically Altered Structure")
HEART = Code("80891009", "SCT", "Heart")
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
SCORE = Code("112058", "DCM", "Calcium score")
AGATSTON = Code("112055", "DCM", "Agatston scoring method")
VOLUME = Code("112056", "DCM", "Volume score")
WARNING = Code("warning", "99RADLOOP", "Warning")


def geometry(
    shape: tuple[int, int, int] = (12, 40, 48),
    spacing_mm: tuple[float, float] = (0.7, 0.5),
    step_mm: tuple[float, float, float] = (0.0, 0.0, 3.0),
    row: tuple[float, float, float] = (1.0, 0.0, 0.0),
    column: tuple[float, float, float] = (0.0, 1.0, 0.0),
    origin_mm: tuple[float, float, float] = (-120.5, -80.25, 40.0),
) -> Geometry:
    """A grid; `row` and `column` are the directions in which i and j rise, `step_mm` that of k."""
    affine = np.eye(4)
    affine[:3, 0] = step_mm
    affine[:3, 1] = np.array(column) * spacing_mm[0]
    affine[:3, 2] = np.array(row) * spacing_mm[1]
    affine[:3, 3] = origin_mm
    return Geometry(affine, shape, FRAME)


def tilted(degrees: float) -> tuple[tuple[float, ...], tuple[float, ...], NDArray[np.float64]]:
    """Row, column and normal of a plane turned about x and then z."""
    angle = np.radians(degrees)
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    turn = np.radians(degrees / 2)
    about_z = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    rotation = about_z @ about_x
    return tuple(rotation[:, 0]), tuple(rotation[:, 1]), rotation[:, 2]


def _grids() -> dict[str, Geometry]:
    row, column, normal = tilted(25.0)
    return {
        "plain": geometry(),
        "reversed": geometry(step_mm=(0.0, 0.0, -3.0)),
        "oblique": geometry(row=row, column=column, step_mm=tuple(normal * 2.5)),
        "oblique and reversed": geometry(row=row, column=column, step_mm=tuple(-normal)),
        "sagittal": geometry(row=(0, 1, 0), column=(0, 0, -1), step_mm=(1.25, 0, 0)),
    }


def source(grid: Geometry | None = None, **attributes: Any) -> SourceSeries:
    """The series of `grid`; an attribute given as None is missing in its header."""
    grid = grid or geometry()
    header = Dataset()
    plain: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "Doe^Jane",
        "PatientID": "P-17",
        "IssuerOfPatientID": "HOSPITAL",
        "PatientBirthDate": "19510203",
        "PatientSex": "F",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
        "StudyDate": "20240501",
        "StudyTime": "101500",
        "StudyID": "S1",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Roe^Richard",
        "StudyDescription": "CARDIAC CT",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesNumber": 3,
        "Modality": "CT",
        "SOPClassUID": CT_CLASS,
        "FrameOfReferenceUID": grid.frame_uid,
        "Rows": grid.shape[1],
        "Columns": grid.shape[2],
        "PixelSpacing": [f"{value:.10g}" for value in grid.pixel_spacing_mm],
        "ImageOrientationPatient": [f"{value:.10f}" for value in directions(grid)],
        "SliceThickness": "3",
    }
    plain.update(attributes)
    for name, value in plain.items():
        if value is not None:
            setattr(header, name, value)
    return SourceSeries(header, instances(grid))


def directions(grid: Geometry) -> tuple[float, ...]:
    """Image Orientation (Patient) of `grid`."""
    row, column = grid.affine[:3, 2], grid.affine[:3, 1]
    return (*(row / np.linalg.norm(row)), *(column / np.linalg.norm(column)))


def instances(grid: Geometry) -> tuple[SourceInstance, ...]:
    """One instance for each slice, with positions rounded as scanners round them."""
    found = []
    for k in range(grid.shape[0]):
        x, y, z = (round(float(value), 6) for value in grid.to_patient_mm(np.array((k, 0, 0))))
        uid = f"1.2.826.0.1.3680043.8.498.3.{k + 1}"
        found.append(SourceInstance(CT_CLASS, uid, (x, y, z), k + 1))
    return tuple(found)


def provenance(**fields: Any) -> Provenance:
    """A run of the pipeline "calcium"."""
    card = ModelCard(
        name="calcium-rule",
        version="1.0.0",
        sha256="ab" * 32,
        family="rule",
        intended_use="Research on coronary calcium.",
        trained_on="No data; a rule.",
    )
    plain = Provenance(
        job="0123456789abcdef0123456789abcdef01234567",
        pipeline="calcium",
        version="1.0.0",
        title="Coronary calcium",
        procedure=Code("25045-6", "LN", "CT unspecified body region"),
        card=card,
        software_version="0.1.0",
        started=datetime(2024, 5, 1, 12, 30, 15, 250, timezone(timedelta(hours=2))),
        inputs_sha256="cd" * 32,
    )
    return replace(plain, **fields)


def findings(grid: Geometry | None = None) -> tuple[Finding, ...]:
    """Two lesions of 2x3 and 1x2 pixels in slices 4, 5 and 8, a heart region and their numbers."""
    grid = grid or geometry()
    calcium = np.zeros(grid.shape, bool)
    calcium[4, 10:12, 20:23] = True
    calcium[5, 10:12, 20:23] = True
    calcium[8, 30, 7:9] = True
    heart = np.zeros(grid.shape, bool)
    heart[2:11, 5:35, 4:40] = True
    area = grid.pixel_area_mm2
    first = Lesion(
        id="L1",
        tracking="lesion 1",
        site=LAD,
        center_mm=_place(grid, 4.5, 10.5, 21.0),
        volume_mm3=12 * grid.voxel_volume_mm3,
        peak_hu=420.0,
        score=6 * area * 7,
        slices=(
            LesionSlice(4, 10.5, 21.0, 6 * area, 420.0, 4, 6 * area * 4),
            LesionSlice(5, 10.5, 21.0, 6 * area, 310.0, 3, 6 * area * 3),
        ),
    )
    second = Lesion(
        id="L2",
        tracking="lesion 2",
        site=CORONARY,
        center_mm=_place(grid, 8, 30, 7.5),
        volume_mm3=2 * grid.voxel_volume_mm3,
        peak_hu=150.0,
        score=2 * area,
        slices=(LesionSlice(8, 30.0, 7.5, 2 * area, 150.0, 1, 2 * area),),
    )
    total = first.score + second.score
    return (
        Mask(
            CALCIFICATION,
            ABNORMAL,
            "Coronary calcium",
            calcium,
            grid,
            CORONARY,
            "total",
            lesions=(first, second),
        ),
        Mask(HEART, ANATOMY, "Heart", heart, grid, None, "heart", (90, 140, 255)),
        Measurement(SCORE, total, Code("{score}", "UCUM", "score"), CORONARY, AGATSTON, "total"),
        Measurement(
            SCORE,
            total * grid.slice_spacing_mm / 3.0,
            Code("{score}", "UCUM", "score"),
            CORONARY,
            AGATSTON,
            "total",
            "Agatston score multiplied by slice spacing over 3 mm",
        ),
        Measurement(
            VOLUME,
            14 * grid.voxel_volume_mm3,
            Code("mm3", "UCUM", "cubic millimeter"),
            CORONARY,
            None,
            "total",
        ),
        Measurement(SCORE, first.score, Code("{score}", "UCUM", "score"), LAD, AGATSTON, "LAD"),
        Observation(
            Code("rumberger", "99RADLOOP", "Rumberger category"),
            Code("rumberger_11_100", "99RADLOOP", "11 to 100: mild"),
            CORONARY,
            None,
            "total",
        ),
        Observation(WARNING, Code("tube_voltage", "99RADLOOP", "Tube voltage is not 120 kV")),
        Observation(WARNING, Code("slice_thickness", "99RADLOOP", "Slices are not 3 mm thick")),
    )


def with_set_aside(grid: Geometry | None = None, calcium: bool = True) -> tuple[Finding, ...]:
    """Those of `findings`, or an empty calcium mask, and 3x3 pixels that are set aside."""
    grid = grid or geometry()
    found = findings(grid) if calcium else (*nothing(grid), findings(grid)[1])
    values = np.zeros(grid.shape, bool)
    values[6, 20:23, 30:33] = True
    area = 9 * grid.pixel_area_mm2
    lesion = Lesion(
        id="S1",
        tracking="lesion 3",
        site=HEART,
        center_mm=_place(grid, 6, 21, 31),
        volume_mm3=9 * grid.voxel_volume_mm3,
        peak_hu=900.0,
        score=4 * area,
        slices=(LesionSlice(6, 21.0, 31.0, area, 900.0, 4, 4 * area),),
        counted=False,
        reason=Code("bone", "99RADLOOP", "Bone or cartilage that goes on outside of the heart"),
    )
    what = Code("set_aside", "99RADLOOP", "Bright, in the heart's outline, not counted")
    spatial = Code("309825002", "SCT", "Spatial and Relational Concept")
    aside = Mask(
        what, spatial, "Set aside", values, grid, HEART, "set-aside", lesions=(lesion,),
        unlisted_lesions=2, in_report=False,
    )  # fmt: skip
    return (*found, aside)


FLOW = Code("113055", "DCM", "Regional Cerebral Blood Flow")
TMAX = Code("113084", "DCM", "Tmax")
BRAIN = Code("12738006", "SCT", "Brain")
SECONDS = Code("s", "UCUM", "second")
FLOW_UNIT = Code("mL/(100.g.min)", "UCUM", "mL/100g/min")
SVD = Code("126311", "DCM", "Singular Value Decomposition (SVD) deconvolution")
AIF = Code("arterial_input", "99RADLOOP", "Arterial input function")
ARTERY = Code("17232002", "SCT", "Middle cerebral artery")


def perfusion(grid: Geometry | None = None) -> tuple[Finding, ...]:
    """Two maps that are defined inside of a box, a region, its mean flow, and an input curve."""
    grid = grid or geometry()
    inside = np.zeros(grid.shape, bool)
    inside[:, 2:-2, 3:-3] = True
    ramp = np.arange(inside.size, dtype=np.float32).reshape(grid.shape)
    flow = np.where(inside, 60.0 + 40.0 * np.sin(ramp), np.nan).astype(np.float32)
    delay = np.where(inside, 3.0 + 2.0 * np.cos(ramp), np.nan).astype(np.float32)
    slow = inside & (delay > 4.5)
    mean = float(np.nanmean(flow[slow]))
    return (
        ParametricMap(FLOW, flow, FLOW_UNIT, grid, "CBF", (0.0, 100.0), "PET", SVD, BRAIN),
        ParametricMap(TMAX, delay, SECONDS, grid, "Tmax", None, "HOT_IRON", SVD, BRAIN),
        Mask(CALCIFICATION, ABNORMAL, "Hypoperfusion", slow, grid, BRAIN, "hypoperfusion"),
        Measurement(FLOW, mean, FLOW_UNIT, BRAIN, None, "hypoperfusion", "Mean flow of the region"),
        Measurement(
            VOLUME,
            float(slow.sum()) * grid.voxel_volume_mm3,
            Code("mm3", "UCUM", "cubic millimeter"),
            BRAIN,
            None,
            "hypoperfusion",
        ),
        Curve(
            AIF,
            (0.0, 1.25, 8.5, 8.5, 3.0),
            (0.0, 1.5, 3.0, 4.5, 6.5),
            Code("/s", "UCUM", "per second"),
            ARTERY,
            "AIF",
            ((2, 10, 11), (2, 10, 12)),
        ),
    )


def multi_frame(grid: Geometry | None = None, times: int = 1) -> SourceSeries:
    """All slices of all times as frames of one enhanced instance, time after time."""
    grid = grid or geometry()
    plain = source(grid, Modality="MR", SOPClassUID=ENHANCED_MR)
    slices = len(plain.instances)
    frames = [
        replace(each, sop_class_uid=ENHANCED_MR, sop_instance_uid=WHOLE, number=1, frame=frame)
        for frame, each in enumerate(plain.instances * times, 1)
    ]
    return SourceSeries(plain.header, tuple(frames[:slices]), tuple(frames[slices:]))


def several_series(grid: Geometry | None = None, times: int = 3) -> SourceSeries:
    """A series for each time; those after the first have other UIDs."""
    plain = source(grid or geometry())
    later = [
        replace(
            each, sop_instance_uid=f"{each.sop_instance_uid}.{time}", series_uid=f"1.2.9.{time}"
        )
        for time in range(1, times)
        for each in plain.instances
    ]
    return SourceSeries(plain.header, plain.instances, tuple(later))


def nothing(grid: Geometry | None = None) -> tuple[Finding, ...]:
    """A run that scored zero: an empty mask and zeros."""
    grid = grid or geometry()
    empty = np.zeros(grid.shape, bool)
    unit = Code("{score}", "UCUM", "score")
    return (
        Mask(CALCIFICATION, ABNORMAL, "Coronary calcium", empty, grid, CORONARY, "total"),
        Measurement(SCORE, 0.0, unit, CORONARY, AGATSTON, "total"),
    )


def _place(grid: Geometry, k: float, j: float, i: float) -> tuple[float, float, float]:
    x, y, z = grid.to_patient_mm(np.array((k, j, i)))
    return float(x), float(y), float(z)


GRIDS = _grids()
"""What every object on a grid must keep its place on."""
