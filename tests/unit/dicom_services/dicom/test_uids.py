"""Derived identifiers: the same for the same thing, another one for anything else."""

from __future__ import annotations

import hashlib

import pytest

from dicom_services.dicom.uids import (
    derived_uid,
    device_uid,
    legal_uid,
    result_uid,
    tracking_uid,
    usable_uid,
)
from tests import sources

JOB = "ab" * 20


def test_a_uid_is_the_first_128_bits_of_a_sha256_under_2_25() -> None:
    digest = hashlib.sha256(b"one\x1ftwo").hexdigest()
    assert derived_uid("one", "two") == f"2.25.{int(digest[:32], 16)}"


def test_parts_do_not_run_into_each_other() -> None:
    assert derived_uid("ab", "c") != derived_uid("a", "bc")


def test_a_result_uid_is_legal_and_stays_what_it_is() -> None:
    uid = result_uid(JOB, "1.0.0", "sr")
    assert legal_uid(uid)
    assert uid == result_uid(JOB, "1.0.0", "sr")


def test_job_version_and_role_each_change_the_uid() -> None:
    uids = {
        result_uid(JOB, "1.0.0", "sr"),
        result_uid("cd" * 20, "1.0.0", "sr"),
        result_uid(JOB, "1.0.1", "sr"),
        result_uid(JOB, "1.0.0", "seg"),
    }
    assert len(uids) == 4


def test_retraining_gives_the_algorithm_another_uid() -> None:
    assert device_uid("net", "1", "aa") != device_uid("net", "1", "bb")


def test_the_same_patient_keeps_a_tracking_uid_through_studies() -> None:
    first = sources.source(StudyInstanceUID="1.2.3").header
    later = sources.source(StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5").header
    assert tracking_uid(first, "calcium", "total") == tracking_uid(later, "calcium", "total")


@pytest.mark.parametrize(
    "other",
    [{"PatientID": "P-18"}, {"IssuerOfPatientID": "CLINIC"}],
)
def test_another_patient_has_another_tracking_uid(other: dict[str, str]) -> None:
    one, two = sources.source().header, sources.source(**other).header
    assert tracking_uid(one, "calcium", "total") != tracking_uid(two, "calcium", "total")


def test_key_and_pipeline_change_the_tracking_uid() -> None:
    header = sources.source().header
    uids = {
        tracking_uid(header, "calcium", "total"),
        tracking_uid(header, "calcium", "LAD"),
        tracking_uid(header, "perfusion", "total"),
    }
    assert len(uids) == 3


@pytest.mark.parametrize("nobody", [None, "", "   "])
def test_without_a_patient_the_tracking_uid_ends_with_the_study(nobody: str | None) -> None:
    first = sources.source(PatientID=nobody, StudyInstanceUID="1.2.3").header
    later = sources.source(PatientID=nobody, StudyInstanceUID="1.2.4").header
    assert tracking_uid(first, "calcium", "total") != tracking_uid(later, "calcium", "total")


@pytest.mark.parametrize(
    ("uid", "legal", "usable"),
    [
        ("1.2.840.10008.1.1", True, True),
        ("1.0.3", True, True),
        ("1.2.0113619", False, True),
        ("abc", False, False),
        ("", False, False),
        ("1", False, False),
        ("1.2.", False, False),
        ("1..2", False, False),
        ("1.2.3\n", False, False),
        ("1." + "2" * 62, True, True),
        ("1." + "2" * 63, False, False),
        ("../../etc", False, False),
    ],
)
def test_which_uids_are_legal_and_which_can_be_referred_to(
    uid: str, legal: bool, usable: bool
) -> None:
    assert (legal_uid(uid), usable_uid(uid)) == (legal, usable)
