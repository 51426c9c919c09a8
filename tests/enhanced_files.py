"""Writes a volume of several times as one Enhanced MR or CT object, for tests.

Only what a reader of perfusion asks for is in it: the macros of the acquisition are not.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage

from dicom_services.dicom.ct_writer import made_uid
from dicom_services.dicom.dynamic_writer import (
    FIRST,
    RESCALE_INTERCEPT,
    Described,
    common,
    corner,
    decimal,
    directions,
    pixels,
)
from dicom_services.domain.volume import Volume


def write_enhanced(volume: Volume, path: Path, described: Described | None = None) -> Path:
    """Write all times as one Enhanced MR or CT object (PS3.3 sections A.36 and A.38)."""
    told = Described() if described is None else described
    path.parent.mkdir(parents=True, exist_ok=True)
    _enhanced(volume, told).save_as(path, enforce_file_format=True)
    return path


def _item(**elements: object) -> list[Dataset]:
    """A sequence of one item."""
    one = Dataset()
    for name, value in elements.items():
        setattr(one, name, value)
    return [one]


def _enhanced(volume: Volume, told: Described) -> Dataset:
    mr = volume.acquisition.modality == "MR"
    data = common(volume, told, EnhancedMRImageStorage if mr else EnhancedCTImageStorage, 0, 0)
    last = FIRST + timedelta(seconds=volume.times_s[-1])
    data.ContentDate, data.ContentTime = f"{last:%Y%m%d}", f"{last:%H%M%S.%f}"
    data.AcquisitionDateTime = f"{FIRST:%Y%m%d%H%M%S.%f}"
    data.AcquisitionDuration = 1000.0 * (volume.times_s[-1] - volume.times_s[0])
    data.AcquisitionNumber = 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"]
    data.PixelPresentation, data.VolumetricProperties = "MONOCHROME", "VOLUME"
    data.VolumeBasedCalculationTechnique = "NONE"
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    data.PresentationLUTShape, data.ContentQualification = "IDENTITY", "RESEARCH"
    data.AcquisitionContextSequence = []
    if mr:
        _enhanced_mr(data, volume)
    data.SharedFunctionalGroupsSequence = [_shared(volume)]
    slices = volume.geometry.shape[0]
    frames = [(t, k) for t in range(len(volume.times_s)) for k in range(slices)]
    data.PerFrameFunctionalGroupsSequence = [_frame(volume, t, k) for t, k in frames]
    data.NumberOfFrames = len(frames)
    _dimensions(data, told)
    pixels(data, volume, volume.values)
    return data


def _enhanced_mr(data: Dataset, volume: Volume) -> None:
    """What an Enhanced MR object says once (PS3.3 section C.8.13.1)."""
    data.ResonantNucleus, data.KSpaceFiltering = "1H", "NONE"
    data.MagneticFieldStrength = volume.acquisition.field_strength_t or 3.0
    data.ApplicableSafetyStandardAgency = "IEC"
    data.ComplexImageComponent, data.AcquisitionContrast = "MAGNITUDE", "PERFUSION"
    data.PulseSequenceName, data.MRAcquisitionType = "epi", "2D"
    data.EchoPulseSequence, data.MultipleSpinEcho, data.MultiPlanarExcitation = (
        "GRADIENT",
        "NO",
        "NO",
    )
    data.PhaseContrast, data.TimeOfFlightContrast, data.SteadyStatePulseSequence = (
        "NO",
        "NO",
        "NONE",
    )
    data.EchoPlanarPulseSequence, data.SaturationRecovery = "YES", "NO"
    data.SpectrallySelectedSuppression = "FAT"


def _shared(volume: Volume) -> Dataset:
    acquisition, groups = volume.acquisition, Dataset()
    groups.PixelMeasuresSequence = _item(
        PixelSpacing=[decimal(n) for n in volume.geometry.pixel_spacing_mm],
        SliceThickness=decimal(acquisition.slice_thickness_mm or 5.0),
    )
    groups.PlaneOrientationSequence = _item(ImageOrientationPatient=directions(volume))
    groups.FrameAnatomySequence = _item(
        FrameLaterality="U",
        AnatomicRegionSequence=_item(
            CodeValue="69536005", CodingSchemeDesignator="SCT", CodeMeaning="Head"
        ),
    )
    kind = {
        "FrameType": ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"],
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
    }
    if acquisition.modality == "CT":
        groups.CTImageFrameTypeSequence = _item(**kind)
        groups.PixelValueTransformationSequence = _item(
            RescaleIntercept=RESCALE_INTERCEPT, RescaleSlope=1, RescaleType="HU"
        )
        groups.CTXRayDetailsSequence = _item(KVP=decimal(acquisition.tube_voltage_kv or 80.0))
        groups.CTExposureSequence = _item(
            XRayTubeCurrentInmA=float(acquisition.tube_current_ma or 200.0)
        )
        return groups
    contrast = {"ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "PERFUSION"}
    groups.MRImageFrameTypeSequence = _item(**kind, **contrast)
    groups.PixelValueTransformationSequence = _item(
        RescaleIntercept=0, RescaleSlope=1, RescaleType="US"
    )
    if acquisition.echo_time_ms is not None:
        groups.MREchoSequence = _item(EffectiveEchoTime=float(acquisition.echo_time_ms))
    groups.MRTimingAndRelatedParametersSequence = _item(
        RepetitionTime=decimal(acquisition.repetition_time_ms or 1500.0),
        FlipAngle=decimal(acquisition.flip_angle_degrees or 60.0),
        EchoTrainLength=1,
        RFEchoTrainLength=0,
        GradientEchoTrainLength=1,
    )
    return groups


def _frame(volume: Volume, t: int, k: int) -> Dataset:
    moment = FIRST + timedelta(seconds=volume.times_s[t])
    groups = Dataset()
    groups.FrameContentSequence = _item(
        FrameAcquisitionNumber=t + 1,
        FrameAcquisitionDateTime=f"{moment:%Y%m%d%H%M%S.%f}",
        FrameReferenceDateTime=f"{moment:%Y%m%d%H%M%S.%f}",
        FrameAcquisitionDuration=1.0,
        DimensionIndexValues=[k + 1, t + 1],
        TemporalPositionIndex=t + 1,
        StackID="1",
        InStackPositionNumber=k + 1,
    )
    groups.PlanePositionSequence = _item(ImagePositionPatient=corner(volume, k))
    return groups


def _dimensions(data: Dataset, told: Described) -> None:
    """Slice, then time (PS3.3 section C.7.6.17)."""
    uid = made_uid(told.seed, "dimensions")
    data.DimensionOrganizationSequence = _item(DimensionOrganizationUID=uid)
    content = Tag("FrameContentSequence")
    data.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=uid,
            DimensionIndexPointer=Tag(name),
            FunctionalGroupPointer=content,
            DimensionDescriptionLabel=words,
        )[0]
        for name, words in (
            ("InStackPositionNumber", "Slice"),
            ("TemporalPositionIndex", "Time"),
        )
    ]
