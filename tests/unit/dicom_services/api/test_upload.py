"""Where files lie in an uploaded body, and which of them pass the gate."""

from __future__ import annotations

import io
import json
import tempfile

import numpy as np
import pytest

from dicom_services.api.upload import judge, parts_of, require_room
from dicom_services.errors import InputError, UnavailableError
from dicom_services.quarantine import Quarantine
from tests.dicom_files import ct_slice, to_bytes
from tests.gateway import config_in

FORM = "multipart/form-data; boundary=line"


def body(content: bytes) -> io.IOBase:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.flush()
    return file


def form(*files: bytes) -> bytes:
    head = b'--line\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    return b"".join(head + file + b"\r\n" for file in files) + b"--line--\r\n"


def read(content: bytes, kind: str) -> list[bytes]:
    with body(content) as file:
        return [content[part.start : part.end] for part in parts_of(file, kind)]


def test_plain_body_is_one_file():
    assert read(b"abc", "application/dicom") == [b"abc"]
    assert read(b"", "") == [b""]


def test_form_holds_its_files_byte_for_byte():
    files = [b"a\r\nb", b"", b"--lin", b"\r\n\r\n", bytes(range(256)) * 100]
    assert read(form(*files), FORM) == files
    assert read(form(b"x"), 'Multipart/Form-Data; charset=utf-8; boundary="line"') == [b"x"]


def test_fields_that_are_no_files_are_left_out():
    field = b'--line\r\nContent-Disposition: form-data; name="token"\r\n\r\nx\r\n'
    assert read(field + form(b"y"), FORM) == [b"y"]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"line", b"--line", b"--line\r\n", b"--line--", b"--line\r\n\r\n--line--"),
        *(b"--line\r\nA: b\r\n\r\nabc", form(b"abc")[:-6], b"x" + form(b"abc")),
        b"--line\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\nabc\r\n--line--",
        b"--line\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--line--",
    ],
)
def test_form_that_is_none_is_refused(content):
    with body(content) as file, pytest.raises(InputError, match="upload_form"):
        parts_of(file, FORM)


def test_form_without_a_boundary_is_refused():
    with body(form(b"x")) as file, pytest.raises(InputError, match="upload_form"):
        parts_of(file, "multipart/form-data")


def test_sound_files_pass_and_others_are_kept_aside(tmp_path):
    config = config_in(tmp_path / "data")
    good = to_bytes(ct_slice(np.zeros((8, 8), np.int16), 0, 0.0))
    with body(form(good, good[:-3], b"", b"MZ" + good[2:])) as file:
        parts = parts_of(file, FORM)
        refused = [judge(file, part, config) for part in parts]
    assert refused[0] is None
    assert [one.reason for one in refused[1:]] == ["length", "not_dicom", "preamble"]
    kept, _ = Quarantine(config.quarantine, 1 << 20, 100).records()
    assert {one.source for one in kept} == {"upload"}
    assert {one.reason for one in kept} == {"length", "preamble"}


def test_nothing_is_taken_when_the_disk_is_nearly_full(tmp_path):
    require_room(config_in(tmp_path / "data"))
    with pytest.raises(UnavailableError, match="disk_full"):
        require_room(config_in(tmp_path / "full", reserve_bytes=1 << 62))


def test_problem_of_a_refused_file_names_no_more_than_its_reason():
    from dicom_services.api.problems import document

    told = json.loads(document(422, "gate_refused", "c", {"reason": "depth", "offset": 9}))
    assert (told["reason"], told["offset"]) == ("depth", 9)
