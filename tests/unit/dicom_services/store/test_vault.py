"""The vault: what is sealed opens in its own place only, and a flipped bit opens nothing."""

from __future__ import annotations

import random
import uuid

import pytest

from dicom_services.errors import ConfigError, CorruptError
from dicom_services.store.vault import Vault

OLD, NEW = b"o" * 32, b"n" * 32
TEXT = "rib, not calcium: Müller^Jürgen".encode()
ANN, BOB = uuid.UUID(int=1), uuid.UUID(int=2)


def test_what_was_sealed_opens():
    vault = Vault([OLD])
    assert vault.open("corrections.note", "1", vault.seal("corrections.note", "1", TEXT)) == TEXT


def test_the_same_text_is_never_sealed_the_same():
    vault = Vault([OLD])
    sealed = {vault.seal("a.b", "1", TEXT) for _ in range(1000)}
    assert len({one[5:17] for one in sealed}) == 1000
    assert not any(TEXT[:8] in one for one in sealed)


def test_1000_flipped_bits_are_all_refused():
    vault = Vault([OLD])
    sealed = vault.seal("a.b", "1", TEXT * 4)
    chance = random.Random(7)
    flips = chance.sample(range(8 * len(sealed)), 1000)
    for flip in flips:
        changed = bytearray(sealed)
        changed[flip // 8] ^= 1 << flip % 8
        with pytest.raises(CorruptError):
            vault.open("a.b", "1", bytes(changed))


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_cut_one_is_refused(cut):
    vault = Vault([OLD])
    with pytest.raises(CorruptError):
        vault.open("a.b", "1", vault.seal("a.b", "1", TEXT)[:cut])


@pytest.mark.parametrize(
    ("purpose", "row"), [("a.b", "2"), ("a.c", "1"), ("a", "b1"), ("a.b1", "")]
)
def test_it_opens_in_no_other_place(purpose, row):
    vault = Vault([OLD])
    with pytest.raises(CorruptError, match="sealed_altered"):
        vault.open(purpose, row, vault.seal("a.b", "1", TEXT))


def test_after_a_new_key_the_old_ones_rows_still_open_and_new_ones_need_the_new_key():
    before, after = Vault([OLD]), Vault([NEW, OLD])
    old, new = before.seal("a.b", "1", TEXT), after.seal("a.b", "1", TEXT)
    assert after.open("a.b", "1", old) == after.open("a.b", "1", new) == TEXT
    with pytest.raises(CorruptError, match="sealed_key_unknown"):
        before.open("a.b", "1", new)
    assert before.key_id != after.key_id


def test_once_its_key_is_gone_it_cannot_be_read():
    sealed = Vault([OLD]).seal("a.b", "1", TEXT)
    with pytest.raises(CorruptError, match="sealed_key_unknown"):
        Vault([NEW]).open("a.b", "1", sealed)


def test_a_readers_key_is_always_the_same_and_nobody_elses():
    vault = Vault([OLD])
    assert vault.reader_key(ANN) == Vault([OLD]).reader_key(ANN)
    assert len(vault.reader_key(ANN)) == 32
    assert (
        len({vault.reader_key(ANN), vault.reader_key(BOB), Vault([NEW]).reader_key(ANN), OLD}) == 4
    )


def test_after_a_new_key_a_reader_still_gets_the_old_one():
    before, after = Vault([OLD]), Vault([NEW, OLD])
    assert after.reader_keys(ANN)[before.key_id] == before.reader_key(ANN)
    assert list(after.reader_keys(ANN)) == [after.key_id, before.key_id]


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, b""]])
def test_a_wrong_key_is_refused(keys):
    with pytest.raises(ConfigError):
        Vault(keys)
