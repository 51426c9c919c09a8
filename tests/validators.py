"""Judges that did not write what they judge: dciodvfy, PixelMed, and plain walks over pydicom."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_services.domain.geometry import Geometry

DCIODVFY = Path(sys.executable).with_name("dciodvfy")
JARS = Path("/usr/share/java")
_XPATH = ("jdk.xml.xpathTotalOpLimit", "jdk.xml.xpathExprOpLimit", "jdk.xml.xpathExprGrpLimit")


def dciodvfy_errors(file: bytes, folder: Path) -> list[str]:
    """Lines in which dciodvfy speaks of an error."""
    path = folder / "object.dcm"
    path.write_bytes(file)
    done = subprocess.run([DCIODVFY, "-new", path], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert said, "dciodvfy said nothing, not even the name of the IOD"
    return [line for line in said if line.startswith("Error") or "(0x00" in line]


def has_pixelmed() -> bool:
    """Whether Debian's libpixelmed-java is installed."""
    return (JARS / "pixelmed.jar").exists()


def pixelmed_errors(path: Path) -> list[str]:
    """Errors of PixelMed's SR validator; fails where it did not come to its end.

    Newer Java limits XPath below what its own stylesheet needs; the limits are lifted.
    """
    jars = ":".join(str(jar) for jar in sorted(JARS.glob("*.jar")))
    command = ["java", *(f"-D{name}=0" for name in _XPATH), "-cp", jars]
    done = subprocess.run(
        [*command, "com.pixelmed.validate.DicomSRValidator", path],
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    assert "Found Root Template TID_1500 (MeasurementReport)" in said
    assert "IOD validation complete" in said
    return [line for line in said if line.startswith("Error")]


def read_back(file: bytes) -> Dataset:
    """Parse a file with nothing left undecoded."""
    dataset = pydicom.dcmread(io.BytesIO(file))
    dataset.walk(lambda _, element: element.value)
    return dataset


def segment_voxels(file: bytes, geometry: Geometry) -> dict[int, NDArray[np.bool_]]:
    """Every segment on `geometry`, frame by frame from the position each frame states."""
    dataset = read_back(file)
    rows, columns, count = dataset.Rows, dataset.Columns, dataset.NumberOfFrames
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: rows * columns * count].reshape(count, rows, columns)
    found: dict[int, NDArray[np.bool_]] = {}
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        index = geometry.to_index(position)
        assert np.abs(index - np.rint(index)).max() < 0.02
        k, j, i = np.rint(index).astype(int)
        assert (j, i) == (0, 0)
        grid = found.setdefault(number, np.zeros(geometry.shape, bool))
        assert not grid[k].any()
        grid[k] = frame.astype(bool)
    return found


def content(dataset: Dataset, value: str, *, scheme: str = "") -> list[Dataset]:
    """Content items anywhere in an SR whose concept name has the code `value`."""
    found = []
    for item in dataset.get("ContentSequence") or ():
        names = item.get("ConceptNameCodeSequence") or [Dataset()]
        code = names[0].get("CodeValue") or names[0].get("LongCodeValue")
        if code == value and scheme in ("", names[0].CodingSchemeDesignator):
            found.append(item)
        found.extend(content(item, value, scheme=scheme))
    return found


def code_value(item: Dataset) -> str:
    """Code of a CODE content item."""
    code = item.ConceptCodeSequence[0]
    return str(code.get("CodeValue") or code.get("LongCodeValue"))


def map_voxels(file: bytes, geometry: Geometry) -> NDArray[np.float32]:
    """A parametric map on `geometry`, frame by frame from its place; NaN where it is padding."""
    dataset = read_back(file)
    shape = (dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    frames = np.frombuffer(dataset.FloatPixelData, np.dtype("<f4")).reshape(shape)
    found = np.full(geometry.shape, np.nan, np.float32)
    padding = dataset.get("FloatPixelPaddingValue")
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        index = geometry.to_index(position)
        assert np.abs(index - np.rint(index)).max() < 0.02
        k, j, i = np.rint(index).astype(int)
        assert (j, i) == (0, 0)
        found[k] = frame if padding is None else np.where(frame == padding, np.nan, frame)
    return found
