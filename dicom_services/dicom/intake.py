"""What a person hands in on the command line: a folder, a file or a ZIP, as series of files."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicom_services.dicom import archive
from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.header import (
    Header,
    has,
    integer,
    numbers,
    raw_bytes,
    read_header,
    tags,
    text,
    words,
)
from dicom_services.dicom.quiet import quiet
from dicom_services.errors import InputError
from dicom_services.gate import refusal_of_file
from dicom_services.refusals import most_frequent, refusal_of_path

Fact = str | float | int | list[str] | None

MOST_FILES: Final = 100_000
_MEMORY_BYTES: Final = 512 << 20
"""Beside the largest file, which the gate maps."""
_CPU_S: Final = 60
_CPU_S_PER_FILE: Final = 0.02
_ONE_FILE_S: Final = 10.0
"""A header takes a millisecond; one of a million elements, 16 s."""
_MOST_DEATHS: Final = 16

_TEXTS: Final = (
    "Modality",
    "SOPClassUID",
    "SeriesDescription",
    "StudyDescription",
    "ProtocolName",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "PatientID",
    "PatientName",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "SequenceName",
    "PulseSequenceName",
    "MRAcquisitionType",
    "AcquisitionContrast",
    "DiffusionBValue",
)
_NUMBERS: Final = (
    "SliceThickness",
    "KVP",
    "SpacingBetweenSlices",
    "EchoTime",
    "RepetitionTime",
    "FlipAngle",
    "MagneticFieldStrength",
)
_COUNTS: Final = (
    "ImagesInAcquisition",
    "NumberOfFrames",
    "NumberOfTemporalPositions",
    "TemporalPositionIdentifier",
)
_MATRIX: Final = ("Rows", "Columns", "NumberOfTimeSlots")
_GROUPING: Final = ("StudyInstanceUID", "SeriesInstanceUID")
# Type 1 in a DICOMDIR and nowhere else, PS3.3 F.3.2.2.
_MEDIA_INDEX: Final = "OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity"
_KEYWORDS: Final = (
    *_TEXTS,
    *_NUMBERS,
    *_COUNTS,
    *_MATRIX,
    *_GROUPING,
    "ImageType",
    _MEDIA_INDEX,
)
_TAGS: Final = dict(zip(_KEYWORDS, tags(*_KEYWORDS), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class InputSeries:
    """Files that name the same series; whether they make a volume, reading tells.

    Parameters
    ----------
    series_uid, study_uid, modality : str
        As the first file names them; "" where it does not.
    files : tuple of bytes or Path
        In the order of their names.
    facts : dict
        Attributes a routing rule may ask for, by DICOM keyword, of the first file; absent ones
        are left out. `InstanceCount` is the number of files.
    ignored : int
        Files of the same input that are not DICOM, cannot be read or are media indexes.
    refused : mapping
        Files of the same input that the gate refuses, by its reason; which series they are of,
        nobody looked.
    """

    series_uid: str
    study_uid: str
    modality: str
    files: tuple[bytes | Path, ...]
    facts: dict[str, Fact] = field(default_factory=dict)
    ignored: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


def open_input(path: Path, *, object_scale: float = 1.0) -> list[InputSeries]:
    """Find the series in a folder (with all its folders), a single file or a ZIP archive.

    The gate judges each file before its header is read, both in a child with limits: a file that
    ends it counts as one that cannot be read. Links to folders are not followed.

    Parameters
    ----------
    path : Path
    object_scale : float
        How many times as large as usual an object may be for the gate: enhanced files of more
        than some thousand frames need it.

    Raises
    ------
    InputError
        `not_found`, `gate_refused` with the most frequent reason where nothing else is left,
        `no_dicom` with the number of files looked at, `too_many_files`, and what `archive.unpack`
        raises.
    """
    files = _files(path)
    groups: dict[str, list[bytes | Path]] = {}
    facts: dict[str, dict[str, Fact]] = {}
    refused: Counter[str] = Counter()
    for file, found in zip(files, _facts_of_all(files, object_scale), strict=True):
        if isinstance(found, str):
            refused[found] += 1
        if not isinstance(found, dict):
            continue
        key = str(found["SeriesInstanceUID"])
        groups.setdefault(key, []).append(file)
        facts.setdefault(key, found)
    ignored = len(files) - sum(map(len, groups.values())) - refused.total()
    if not groups and refused:
        raise InputError("gate_refused", files=refused.total(), reason=most_frequent(refused))
    if not groups:
        raise InputError("no_dicom", files=len(files))
    return [
        InputSeries(
            series_uid=key,
            study_uid=str(facts[key]["StudyInstanceUID"]),
            modality=str(facts[key].get("Modality", "")),
            files=tuple(members),
            facts=_routing_facts(facts[key], len(members)),
            ignored=ignored,
            refused=dict(refused),
        )
        for key, members in groups.items()
    ]


def _routing_facts(first: dict[str, Fact], count: int) -> dict[str, Fact]:
    told = {keyword: fact for keyword, fact in first.items() if keyword not in _GROUPING}
    return told | {"InstanceCount": count}


def _files(path: Path) -> Sequence[bytes | Path]:
    if path.is_dir():
        return _walk(path)
    if not path.is_file():
        raise InputError("not_found")
    if archive.is_archive(path):
        return list(archive.unpack(path).values())
    return [path]


def _walk(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        found += [file for name in sorted(names) if (file := Path(place, name)).is_file()]
        if len(found) > MOST_FILES:
            raise InputError("too_many_files", limit=MOST_FILES)
    return found


def _facts_of_all(
    files: Sequence[bytes | Path], object_scale: float
) -> list[dict[str, Fact] | str | None]:
    """Facts of each file, or why the gate refuses it, or None where it cannot be read.

    What ends the child is skipped.
    """
    facts: list[dict[str, Fact] | str | None] = []
    deaths = 0
    while len(facts) < len(files):
        try:
            for found in _facts_in_child(files[len(facts) :], object_scale):
                facts.append(found)
        except InputError:
            deaths += 1
            facts.append(None)
            if deaths > _MOST_DEATHS:
                raise InputError("decoder_died", count=deaths) from None
    return facts


def _facts_in_child(files: Sequence[bytes | Path], object_scale: float) -> Iterator[Any]:
    cpu_s = _CPU_S + int(_CPU_S_PER_FILE * len(files))

    def work(send: Send) -> None:
        with quiet():
            for file in files:
                # The default action of its signal is to end the process: the file is skipped.
                signal.setitimer(signal.ITIMER_PROF, _ONE_FILE_S)
                send(_judged(file, object_scale))

    memory_bytes = _MEMORY_BYTES + max(map(_mapped_bytes, files), default=0)
    limits = Limits(memory_bytes, memory_bytes, cpu_s, cpu_s, 10.0 * cpu_s)
    return start_child(work, limits).messages()


def _mapped_bytes(file: bytes | Path) -> int:
    try:
        return file.stat().st_size if isinstance(file, Path) else 0
    except OSError:
        return 0


def _judged(file: bytes | Path, object_scale: float = 1.0) -> dict[str, Fact] | str | None:
    try:
        if isinstance(file, Path):
            refusal = refusal_of_path(file, identity=False, scale=object_scale)
        else:
            refusal = refusal_of_file(file, identity=False, scale=object_scale)
        if refusal is not None:
            return None if refusal.reason == "not_dicom" else refusal.reason
        return _facts(read_header(file, _TAGS.values()))
    except (InputError, OSError):
        return None


def _facts(header: Header) -> dict[str, Fact] | None:
    """What one file says of its series; None for media indexes and what names no object."""
    grouping = {keyword: text(header, _TAGS[keyword]) for keyword in _GROUPING}
    class_or_modality = has(header, _TAGS["SOPClassUID"]) or has(header, _TAGS["Modality"])
    names_object = class_or_modality or any(grouping.values())
    if not names_object or has(header, _TAGS[_MEDIA_INDEX]):
        return None
    facts: dict[str, Fact] = dict(grouping)
    for keyword in _TEXTS:
        if value := _decoded(header, _TAGS[keyword]):
            facts[keyword] = value
    for keyword in (*_NUMBERS, *_COUNTS):
        values = numbers(header, _TAGS[keyword])
        if values:
            facts[keyword] = values[0]
    for keyword in _MATRIX:
        count = integer(header, _TAGS[keyword])
        if count is not None:
            facts[keyword] = count
    if image_type := words(header, _TAGS["ImageType"]):
        facts["ImageType"] = [*image_type]
    return facts


def _decoded(header: Header, tag: BaseTag) -> str:
    """Text in the file's own character set; values of a multi-valued one joined as in DICOM."""
    if not raw_bytes(header, tag):
        return ""
    try:
        value = header.dataset[tag].value
    except Exception:  # noqa: BLE001 - pydicom raises almost anything on broken values
        return text(header, tag)
    several = value if isinstance(value, MultiValue) else [value]
    return "\\".join(str(one) for one in several if one is not None).strip()
