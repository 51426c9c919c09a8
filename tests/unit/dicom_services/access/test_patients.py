"""Keys of patients and studies: stable, keyed, and apart from each other."""

from __future__ import annotations

import re

import pytest

from dicom_services.access.patients import PatientKeys
from dicom_services.errors import ConfigError

KEYS = PatientKeys(b"k" * 32)


def test_a_key_is_32_hexadecimal_digits_and_the_same_each_time():
    assert re.fullmatch(r"[0-9a-f]{32}", KEYS.patient("4711"))
    assert KEYS.patient("4711") == PatientKeys(b"k" * 32).patient("4711")


def test_padding_is_not_significant_and_case_is():
    assert KEYS.patient(" 4711 ") == KEYS.patient("4711")
    assert KEYS.study("1.2.3\0") == KEYS.study("1.2.3")
    assert KEYS.patient("a") != KEYS.patient("A")


def test_a_patient_and_a_study_of_one_name_have_different_keys():
    assert KEYS.patient("1.2.3") != KEYS.study("1.2.3")


def test_another_secret_gives_other_keys():
    assert PatientKeys(b"l" * 32).patient("4711") != KEYS.patient("4711")


@pytest.mark.parametrize("odd", ["", "山田", "Ünal^Ö", "\ud800", "a\0b", "x" * 100_000])
def test_whatever_stands_in_the_field_has_a_key(odd):
    assert len(KEYS.patient(odd)) == 32


def test_a_short_secret_is_refused():
    with pytest.raises(ConfigError, match="secret_short"):
        PatientKeys(b"short")
