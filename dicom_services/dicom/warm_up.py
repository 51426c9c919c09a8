"""Writes one made-up result and forgets it, so that no first job waits for tables to be loaded."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from pydicom import Dataset

from dicom_services.dicom.provenance import Provenance
from dicom_services.dicom.source import SourceInstance, SourceSeries
from dicom_services.dicom.write import encode, to_bytes
from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import Code, Lesion, LesionSlice, Mask, Measurement, Observation
from dicom_services.domain.geometry import Geometry

_CT = "1.2.840.10008.5.1.4.1.1.2"
_SITE = Code("41801008", "SCT", "Coronary artery")
_WHAT = Code("36222008", "SCT", "Calcified")


def warm_up() -> None:
    """Encode a mask with a lesion, a measurement and an observation of four slices."""
    geometry = Geometry(np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]], (4, 16, 16), "2.25.4")
    values = np.zeros(geometry.shape, np.bool_)
    values[1, 2:4, 2:4] = True
    part = LesionSlice(k=1, row=2.5, column=2.5, area_mm2=4.0, peak_hu=200.0, weight=2, score=8.0)
    lesion = Lesion("L1", "lesion", _SITE, (2.5, 2.5, 3.0), 12.0, 200.0, 8.0, (part,))
    one = Code("1", "UCUM", "no units")
    category = Code("49755003", "SCT", "Morphologically Abnormal Structure")
    score = Code("112058", "DCM", "Calcium score")
    findings = (
        Measurement(score, 8.0, one, _SITE, tracking="calcium", derivation="score"),
        Mask(
            _WHAT,
            category,
            "calcium",
            values,
            geometry,
            _SITE,
            tracking="calcium",
            lesions=(lesion,),
        ),
        Observation(score, one, _SITE, tracking="calcium"),
    )
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    card = ModelCard("warm up", "1", "0" * 64, "rule", "none", "Not trained")
    provenance = Provenance(
        job="0" * 40,
        pipeline="warm-up",
        version="1",
        title="Warm up",
        procedure=Code("169069000", "SCT", "CT of chest"),
        card=card,
        software_version="1",
        started=moment,
        inputs_sha256="0" * 64,
    )
    for each in encode(findings, _source(geometry), provenance):
        to_bytes(each)


def _source(geometry: Geometry) -> SourceSeries:
    header = Dataset()
    header.SOPClassUID = _CT
    header.StudyInstanceUID, header.SeriesInstanceUID = "2.25.2", "2.25.3"
    header.FrameOfReferenceUID = geometry.frame_uid
    header.PatientID, header.PatientName, header.Modality = "", "", "CT"
    header.PatientBirthDate = header.PatientSex = header.StudyDate = header.StudyTime = ""
    header.StudyID = header.AccessionNumber = header.ReferringPhysicianName = ""
    header.Rows, header.Columns = geometry.shape[1:]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing, header.SliceThickness = [1.0, 1.0], 3.0
    instances = tuple(
        SourceInstance(_CT, f"2.25.{10 + k}", (0.0, 0.0, 3.0 * k), k + 1)
        for k in range(geometry.shape[0])
    )
    return SourceSeries(header, instances)
