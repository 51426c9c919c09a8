"""The gate on other people's files: what it refuses is listed, each with why that is right."""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom.data
import pytest
from pydicom import Dataset

from dicom_services.dicom.write import encode, encode_refusal, to_bytes
from dicom_services.gate import refusal_of_file
from tests import sources
from tests.dicom_files import ct_slice, stored_ramp
from tests.dicom_files import to_bytes as ct_bytes

BUNDLED = Path(pydicom.data.__file__).parent

# File name: reason, and why a person agrees. Everything that is not listed must pass.
NO_IDENTITY = "has no study, series, instance or class, as pydicom stripped it for its tests"
INDEX = "an index of a medium, which names no instance"
OF_PYDICOM: dict[str, tuple[str, str]] = {
    "chrSQEncoding.dcm": ("uid_missing", NO_IDENTITY),
    "chrSQEncoding1.dcm": ("uid_missing", NO_IDENTITY),
    **{
        f"{name}.dcm": ("uid_missing", "a colour palette, which belongs to no study")
        for name in ("fall", "hotiron", "hotmetalblue", "pet", "pet20step", "spring", "summer")
    },
    "winter.dcm": ("duplicate", "names its Content Creator twice"),
    "JPEG2000-embedded-sequence-delimiter.dcm": (
        "frame_size",
        "its code stream was edited to contain a delimiter, and so claims three billion columns",
    ),
    "JPEGLSNearLossless_08.dcm": ("uid_missing", NO_IDENTITY),
    "JPEGLSNearLossless_16.dcm": ("uid_missing", NO_IDENTITY),
    "MR_truncated.dcm": ("length", "cut off on purpose in its pixel data"),
    "rtplan_truncated.dcm": ("length", "cut off on purpose in a sequence"),
    "SC_rgb_jls_lossy_line.dcm": ("uid_missing", NO_IDENTITY),
    "SC_rgb_jls_lossy_sample.dcm": ("uid_missing", NO_IDENTITY),
    "SC_rgb_jpeg.dcm": ("vr", "changes from implicit to explicit VR in the middle"),
    "UN_sequence.dcm": ("uid_missing", NO_IDENTITY),
    "empty_charset_LEI.dcm": ("uid_missing", NO_IDENTITY),
    "meta_missing_tsyntax.dcm": ("transfer_syntax", "its header names no transfer syntax"),
    "nested_priv_SQ.dcm": ("group", "begins with an element of the forbidden group 1"),
    "no_meta_group_length.dcm": ("uid_missing", NO_IDENTITY),
    "priv_SQ.dcm": ("uid_missing", NO_IDENTITY),
    **{
        f"DICOMDIR{name}": ("uid_missing", INDEX)
        for name in ("", "-bigEnd", "-empty.dcm", "-implicit", "-nopatient", "-reordered")
    },
    "DICOMDIR-nooffset": ("length", "an index that was cut off"),
}
OF_SHARED: dict[str, tuple[str, str]] = {
    "HTJ2KLossless_08_RGB.dcm": ("uid_missing", NO_IDENTITY),
    "HTJ2K_08_RGB.dcm": ("uid_missing", NO_IDENTITY),
    "JLSL_08_07_0_1F.dcm": ("uid_missing", NO_IDENTITY),
    "JLSL_16_15_1_1F.dcm": ("uid_missing", NO_IDENTITY),
    "bad_sequence.dcm": ("uid", "its instance is named by a word"),
    "emri_small_jpeg_2k_lossless_too_short.dcm": ("truncated", "cut off on purpose"),
    **{
        f"CT.1.3.12.2.1107.5.1.4.60064.300000221208081134280000165{n}": (
            "uid_missing",
            "its identifiers were emptied to make it anonymous",
        )
        for n in range(73, 93)
    },
}
SHARED = ("odd-dicom", "chest-ct", "ct-torso", "cardiac-cine", "seg-sr-samples", "chest-xray")


def judged(folder: Path) -> tuple[dict[str, str], int]:
    """Reasons of the DICOM files below a folder that are refused, and how many passed."""
    refused, passed = {}, 0
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with path.open("rb") as stream:
            data = stream.read()
        found = refusal_of_file(data)
        if found is None:
            passed += 1
        elif found.reason != "not_dicom":
            refused[path.name] = found.reason
        else:
            # Without the prefix it is nothing for an archive, whatever else it may be.
            assert data[128:132] != b"DICM"
    return refused, passed


def reasons_of(listed: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: reason for name, (reason, _) in listed.items()}


def test_of_pydicoms_own_files_only_the_listed_ones_are_refused():
    refused, passed = judged(BUNDLED)
    assert refused == reasons_of(OF_PYDICOM)
    assert passed >= 150


def test_of_the_shared_collections_only_the_listed_ones_are_refused(shared_data: Path):
    refused: dict[str, str] = {}
    passed: Counter[str] = Counter()
    for name in SHARED:
        if (shared_data / name).is_dir():
            found, passed[name] = judged(shared_data / name)
            refused.update(found)
    present = {path.name for name in SHARED for path in (shared_data / name).rglob("*")}
    assert refused == {k: v for k, v in reasons_of(OF_SHARED).items() if k in present}
    assert passed.total() >= 300 or os.environ.get("RADLOOP_TEST_DATA")


def test_the_list_says_why_in_words():
    for reason, why in (*OF_PYDICOM.values(), *OF_SHARED.values()):
        assert reason
        assert len(why.split()) >= 4


@pytest.mark.parametrize("findings", [sources.findings(), sources.nothing()])
def test_our_own_results_pass(findings):
    for each in encode(findings, sources.source(), sources.provenance()):
        assert refusal_of_file(to_bytes(each)) is None
    for each in encode_refusal("no_heart", {}, sources.source(), sources.provenance()):
        assert refusal_of_file(to_bytes(each)) is None


def slices() -> list[Dataset]:
    """A small series as pydicom reads it back."""
    files = []
    for k, stored in enumerate(stored_ramp((6, 16, 16))):
        ds = ct_slice(stored, k, 2.0 * k)
        ds.PatientBirthDate, ds.PositionReferenceIndicator = "", ""
        ds.ReferringPhysicianName = ""
        files.append(pydicom.dcmread(io.BytesIO(ct_bytes(ds))))
    return files


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_highdicoms_segmentations_pass(kind: str):
    series = slices()
    mask = np.zeros((6, 16, 16), np.uint8)
    mask[1:4, 2:9, 3:8] = 1
    told = hd.seg.SegmentDescription(
        1, "heart", hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"),
        hd.sr.CodedConcept("80891009", "SCT", "Heart"), "MANUAL",
    )  # fmt: skip
    result = hd.seg.Segmentation(
        series, mask, kind, [told], hd.UID(), 1, hd.UID(), 1, "a", "b", "1", "c"
    )
    assert refusal_of_file(to_bytes(result)) is None


def test_highdicoms_parametric_map_passes():
    unit = hd.sr.CodedConcept("1", "UCUM", "no units")
    mapping = hd.pm.RealWorldValueMapping("1", "x", unit, (0.0, 1.0), slope=1, intercept=0)
    result = hd.pm.ParametricMap(
        slices(),
        np.random.default_rng(0).random((6, 16, 16)),
        hd.UID(),
        1,
        hd.UID(),
        1,
        "a",
        "b",
        "1",
        "c",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_width=1, window_center=0.5)],
    )
    assert refusal_of_file(to_bytes(result)) is None
