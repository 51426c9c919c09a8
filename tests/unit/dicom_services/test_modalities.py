"""Who may send."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_services.errors import ConfigError, CorruptError, MissingError
from dicom_services.modalities import (
    Modality,
    active,
    read_modalities,
    resolve,
    with_modality,
    without_modality,
    write_modalities,
)

CT1 = Modality("CT1", "10.0.0.5", 104)
STACK = Path("/srv/one")
HERE = Modality("HERE", "127.0.0.1", 11112, query=True, quiet_s=2.0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("", "10.0.0.5", 104), "modality_aet"),
        (("SEVENTEEN_LETTERS", "10.0.0.5", 104), "modality_aet"),
        ((" CT", "10.0.0.5", 104), "modality_aet"),
        (("C\\T", "10.0.0.5", 104), "modality_aet"),
        (("CT\n", "10.0.0.5", 104), "modality_aet"),
        (("CT", "ct.example", 104), "modality_host"),
        (("CT", "10.0.0.5", 0), "modality_port"),
        (("CT", "10.0.0.5", 65536), "modality_port"),
        (("CT", "10.0.0.5", 104, False, 0.0), "modality_quiet"),
    ],
)
def test_wrong_modality_is_refused(fields, code):
    with pytest.raises(ConfigError) as caught:
        Modality(*fields)
    assert caught.value.code == code


def test_sixteen_printable_characters_are_an_ae_title():
    Modality("CT ROOM-1_(LEFT)", "10.0.0.5", 104)


def test_sender_may_store_and_echo_and_no_more_unless_asked_for():
    allowed = {key for key, value in CT1.for_orthanc(STACK).items() if value is True}
    assert allowed == {"AllowEcho", "AllowStore"}
    assert HERE.for_orthanc(STACK)["AllowFind"] is True


def test_titles_that_orthanc_cannot_use_as_names_stay_apart():
    names = {Modality(aet, "10.0.0.5", 104).name for aet in ("CT1", "CT 1", "CT_1", "CT-1")}
    assert len(names) == 4
    assert all(name.replace("-", "").isalnum() for name in names)


def test_other_machines_are_active_only_with_dicom_listen():
    assert active((CT1, HERE), dicom_listen=False) == (HERE,)
    assert active((CT1, HERE), dicom_listen=True) == (CT1, HERE)


def test_file_is_read_back_and_a_broken_one_is_an_error(tmp_path):
    path = tmp_path / "modalities.json"
    assert read_modalities(path) == ()
    write_modalities(path, (HERE, CT1))
    assert read_modalities(path) == (CT1, HERE)
    path.write_text('[{"aet": "CT1"}]')
    with pytest.raises(CorruptError, match="modalities_file"):
        read_modalities(path)


def test_second_entry_of_a_title_replaces_the_first():
    moved = Modality("CT1", "10.0.0.6", 104)
    assert with_modality((CT1, HERE), moved) == (HERE, moved)
    assert without_modality((CT1, HERE), "CT1") == (HERE,)
    with pytest.raises(MissingError, match="modality_unknown"):
        without_modality((HERE,), "CT1")


def test_names_become_addresses_once():
    assert resolve("localhost") == "127.0.0.1"
    assert resolve("10.1.2.3") == "10.1.2.3"
    with pytest.raises(ConfigError, match="modality_host"):
        resolve("no-such-host.invalid")
