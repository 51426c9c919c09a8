"""Seeded studies and their manifest: what is sent, what must become of it, counted beforehand."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import MRImageStorage, RLELossless

from ai_nodes.analysis import Outcome, analyse
from ai_nodes.registry import PIPELINES
from dicom_services.body import LABELS
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.dicom.write import to_bytes
from dicom_services.phantom import Phantom
from dicom_services.phantom_command import demo_phantom
from tests.pacs import numbers

MATRIX: Final = 128
SLICES: Final = 24
BODIES: Final = (7, 8, 9, 10, 12, 13)
"""Seeds of bodies whose plan these few slices show whole; a study stamps its number into one."""
SCORE: Final = "112058"
"""DCM Calcium score."""


@dataclass(frozen=True, slots=True)
class Image:
    """One file of the manifest."""

    path: Path
    sop: str
    series: str
    context: tuple[str, str]
    pixels: str
    """SHA-256 of Pixel Data as it stands in the file."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How a study must end: `results` is modality to number of objects."""

    state: str
    code: str = ""
    results: dict[str, int] = field(default_factory=dict)
    scores: tuple[float, ...] = ()
    segmentation: str = ""
    """SHA-256 of the SEG's Pixel Data, "" where there is none."""


@dataclass(frozen=True, slots=True)
class ChaosStudy:
    """One study of the manifest."""

    number: int
    kind: str
    uid: str
    images: tuple[Image, ...]
    expected: Expected


def make_corpus(folder: Path, count: int, seed: int) -> tuple[ChaosStudy, ...]:
    """Write `count` studies below `folder`, and the manifest beside them.

    What is expected of a kind comes from the pipeline itself, run on the same bytes before
    anything is disturbed; that the score is right besides follows from the phantom's plan.
    """
    draw = random.Random(seed)
    bodies = [
        demo_phantom(seed=body, slices=SLICES, matrix=MATRIX)
        for body in draw.sample(BODIES, min(len(BODIES), 1 + count // 5))
    ]
    known: dict[tuple[str, int], Expected] = {}
    studies = []
    for number, kind in zip(range(count), _kinds(count, draw), strict=False):
        base = draw.randrange(len(bodies))
        where = folder / f"{number:04d}"
        _KINDS[kind](_stamped(bodies[base], number), where, f"chaos-{seed}-{number}")
        images = tuple(_image(path) for path in sorted(where.glob("*.dcm")))
        if (kind, base) not in known:
            known[kind, base] = _expected(kind, bodies[base], where)
        uid = str(
            pydicom.dcmread(images[0].path, specific_tags=["StudyInstanceUID"])[0x20000D].value
        )
        studies.append(ChaosStudy(number, kind, uid, images, known[kind, base]))
    text = json.dumps([asdict(one) for one in studies], default=str, indent=1)
    (folder / "manifest.json").write_text(text + "\n")
    return tuple(studies)


def _kinds(count: int, draw: random.Random) -> Iterator[str]:
    """Every kind at least once where there is room, two thirds plain calcium."""
    others = [kind for kind in _KINDS if kind != "calcium"]
    draw.shuffle(others)
    for number in range(count):
        yield others[number // 3 % len(others)] if number % 3 == 2 else "calcium"


def _stamped(body: Phantom, number: int) -> Phantom:
    """The body with the study's number in one corner, as four pixels of air."""
    values = body.volume.values.copy()
    values[:, 0, :4] = [-1024 + int(digit) for digit in f"{number:04d}"]
    return _with(body, values)


def _with(body: Phantom, values: NDArray[np.int16] | NDArray[np.float32]) -> Phantom:
    return replace(body, volume=replace(body.volume, values=values))


def _image(path: Path) -> Image:
    data = pydicom.dcmread(path)
    return Image(
        path=path,
        sop=str(data.SOPInstanceUID),
        series=str(data.SeriesInstanceUID),
        context=(str(data.SOPClassUID), str(data.file_meta.TransferSyntaxUID)),
        pixels=pixel_hash(data),
    )


def pixel_hash(data: Dataset) -> str:
    """SHA-256 of Pixel Data as it stands in the file."""
    return hashlib.sha256(data.PixelData).hexdigest()


def _expected(kind: str, body: Phantom, folder: Path) -> Expected:
    if kind in _NOT_WANTED:
        return Expected("done", _NOT_WANTED[kind])
    files = [path.read_bytes() for path in sorted(folder.glob("ct-*.dcm"))]
    outcome = analyse(files, PIPELINES["calcium"], {})
    made = {str(one.Modality): one for one in outcome.objects}
    # Read back, as the archive will have it: a decimal string holds sixteen characters.
    report = pydicom.dcmread(io.BytesIO(to_bytes(made["SR"])))
    scores = tuple(numbers(report, SCORE))
    if kind in ("calcium", "compressed", "scout"):
        _require_plan(body, scores, outcome)
    return Expected(
        outcome.state,
        outcome.code,
        dict(Counter(str(one.Modality) for one in outcome.objects)),
        scores,
        pixel_hash(made["SEG"]) if "SEG" in made else "",
    )


def _require_plan(body: Phantom, scores: tuple[float, ...], outcome: Outcome) -> None:
    found = any(abs(score - body.score) <= 1e-3 * body.score for score in scores)
    if outcome.state != "done" or not found:
        raise AssertionError("the undisturbed pipeline does not find what was planted")


# How each kind is written.


def _plain(body: Phantom, folder: Path, seed: str) -> None:
    write_ct_series(body.volume, folder, seed=seed, patient_id=seed, patient_name=seed)


def _compressed(body: Phantom, folder: Path, seed: str) -> None:
    _plain(body, folder, seed)
    _each(folder, lambda data: data.compress(RLELossless, generate_instance_uid=False))


def _scout(body: Phantom, folder: Path, seed: str) -> None:
    """A second series that no rule wants."""
    _plain(body, folder, seed)
    for path in sorted(folder.glob("ct-*.dcm"))[:2]:
        data = pydicom.dcmread(path)
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        data.SeriesInstanceUID += ".9"
        data.SOPInstanceUID += ".9"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(path.with_name(path.name.replace("ct", "scout")))


def _zero(body: Phantom, folder: Path, seed: str) -> None:
    """What was planted is taken out again: a score of zero is a result, too."""
    values = np.where(body.labels == LABELS["lesion"], 40, body.volume.values)
    _plain(_with(body, values), folder, seed)


def _contrast(body: Phantom, folder: Path, seed: str) -> None:
    """Blood as bright as a contrast agent makes it."""
    blood = np.isin(body.labels, [LABELS["heart"], LABELS["aorta"]])
    _plain(_with(body, body.volume.values + 260 * blood), folder, seed)


def _wide(body: Phantom, folder: Path, seed: str) -> None:
    """Every other slice: 6 mm apart."""
    _plain(body, folder, seed)
    for path in sorted(folder.glob("*.dcm"))[1::2]:
        path.unlink()


def _gap(body: Phantom, folder: Path, seed: str) -> None:
    _plain(body, folder, seed)
    sorted(folder.glob("*.dcm"))[SLICES // 2].unlink()


def _few(body: Phantom, folder: Path, seed: str) -> None:
    _plain(body, folder, seed)
    for path in sorted(folder.glob("*.dcm"))[3:]:
        path.unlink()


def _resonance(body: Phantom, folder: Path, seed: str) -> None:
    def turn(data: Dataset) -> None:
        data.Modality, data.SOPClassUID = "MR", MRImageStorage
        data.file_meta.MediaStorageSOPClassUID = MRImageStorage

    _few(body, folder, seed)
    _each(folder, turn)


def _quality(body: Phantom, folder: Path, seed: str) -> None:
    write_ct_series(body.volume, folder, seed=seed, patient_id=seed, patient_name="CATPHAN^504")


def _each(folder: Path, change: Callable[[Any], object]) -> None:
    for path in folder.glob("*.dcm"):
        data = pydicom.dcmread(path)
        change(data)
        data.save_as(path, enforce_file_format=True)


_NOT_WANTED: Final = {"few": "no_rule", "resonance": "no_rule", "quality": "phantom-by-name"}
_KINDS: Final[dict[str, Callable[[Phantom, Path, str], None]]] = {
    "calcium": _plain,
    "compressed": _compressed,
    "scout": _scout,
    "zero": _zero,
    "contrast": _contrast,
    "wide": _wide,
    "gap": _gap,
    "few": _few,
    "resonance": _resonance,
    "quality": _quality,
}
