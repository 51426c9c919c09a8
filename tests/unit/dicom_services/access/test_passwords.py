"""Passwords: how they are kept, and which are refused."""

from __future__ import annotations

import time
import unicodedata

import pytest
from argon2 import PasswordHasher, extract_parameters

from dicom_services.access.passwords import (
    hash_password,
    needs_rehash,
    require_good,
    verify_password,
)
from dicom_services.errors import InputError

GOOD = "four words of mine"


def test_only_the_password_itself_is_accepted():
    stored = hash_password(GOOD)
    assert verify_password(stored, GOOD)
    assert not verify_password(stored, GOOD + " ")
    assert not verify_password(stored, "")


def test_two_hashes_of_one_password_differ():
    assert hash_password(GOOD) != hash_password(GOOD)


def test_it_is_argon2id_with_at_least_what_owasp_asks():
    parameters = extract_parameters(hash_password(GOOD))
    assert parameters.type.name == "ID"
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2


def test_a_hash_of_weaker_parameters_is_made_anew():
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    assert verify_password(weak, GOOD)
    assert needs_rehash(weak)
    assert not needs_rehash(hash_password(GOOD))


def test_nobodys_password_is_never_right_and_takes_as_long():
    stored = hash_password(GOOD)
    verify_password(None, GOOD)
    spans = {}
    for whose in (stored, None):
        begin = time.thread_time()
        assert not any(verify_password(whose, "wrong words of mine") for _ in range(5))
        spans[whose is None] = time.thread_time() - begin
    assert 0.5 < spans[True] / spans[False] < 2.0


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$v=19$broken", "$2b$12$" + "a" * 53])
def test_a_broken_hash_lets_nobody_in(stored):
    assert not verify_password(stored, GOOD)


def test_composed_and_decomposed_letters_are_one_password():
    stored = hash_password(unicodedata.normalize("NFC", "größere wörter"))
    assert verify_password(stored, unicodedata.normalize("NFD", "größere wörter"))


@pytest.mark.parametrize("odd", ["\ud800" * 12, "\0" * 12, "x" * 10_000_000])
def test_what_nobody_could_type_is_a_wrong_password(odd):
    assert not verify_password(hash_password(GOOD), odd)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_short"),
        ("elevenchars", "password_short"),
        ("x" * 257, "password_long"),
        ("password1234", "password_known"),
        ("P@ssw0rd2027!", "password_known"),
        ("Passwort!!!!!", "password_known"),
        ("passwordpassword", "password_known"),
        ("123456789012", "password_known"),
        ("aaaaaaaaaaaaaa", "password_known"),
        ("abababababab12", "password_known"),
        ("qwertyuiop123", "password_known"),
        ("radiology2027!", "password_known"),
        ("changeme12345", "password_known"),
        ("annas secret words", "password_name"),
    ],
)
def test_what_is_guessed_first_is_refused(password, code):
    with pytest.raises(InputError, match=code):
        require_good(password, "annas")


@pytest.mark.parametrize(
    "password", [GOOD, "correct horse battery", "山田太郎の秘密の言葉です", "Tr0ub4dor&3xyz"]
)
def test_long_ones_of_any_kind_are_fine(password):
    require_good(password, "annas")
