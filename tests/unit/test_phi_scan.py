"""The scanner finds what is planted, in every form and place, before its silence counts."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.parse
import zlib
from pathlib import Path

import pytest

from tests.phi_scan import (
    Sentinel,
    compressed,
    descendants,
    gzipped,
    scan_bytes,
    scan_processes,
    scan_tree,
)

NAME = Sentinel("name", "Grünwaldsson")
CYRILLIC = Sentinel("cyrillic", "Цветкова")
JAPANESE = Sentinel("japanese", "山田太郎丸")
PHONE = Sentinel("phone", "+49 (89) 5550-17321")
UID = Sentinel("uid", "1.2.826.0.1.3680043.10.1.99.4711")
ALL = (NAME, CYRILLIC, JAPANESE, PHONE, UID)

FORMS = {
    "utf-8": lambda text: text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big": lambda text: text.encode("utf-16-be"),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64 in a sentence": lambda text: base64.b64encode(b'{"a":"' + text.encode() + b'"}'),
    "base64 two on": lambda text: base64.b64encode(b"ab" + text.encode()),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(b"x" + text.encode()),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "percent": lambda text: urllib.parse.quote(text, safe="").encode(),
    "plus": lambda text: urllib.parse.quote_plus(text).encode(),
    "json": lambda text: json.dumps({"a": text}).encode(),
    "repr": lambda text: repr(text).encode(),
    "repr of bytes": lambda text: repr(text.encode()).encode(),
    "ascii": lambda text: ascii(text).encode(),
    "upper": lambda text: text.upper().encode(),
    "lower": lambda text: text.lower().encode(),
    "reversed": lambda text: text[::-1].encode(),
    "zlib": lambda text: b"head" + compressed(f"Traceback: {text}") + b"tail",
    "gzip": lambda text: gzipped(f"line {text}\n"),
    "zlib of json": lambda text: zlib.compress(json.dumps([text]).encode()),
}
NATIONAL = [
    (NAME, "latin-1"),
    (CYRILLIC, "iso8859_5"),
    (CYRILLIC, "cp1251"),
    (JAPANESE, "shift_jis"),
    (JAPANESE, "iso2022_jp"),
    (JAPANESE, "gb18030"),
]


@pytest.mark.parametrize("sentinel", ALL, ids=lambda one: one.what)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_text_is_found(sentinel: Sentinel, form: str) -> None:
    blob = b"before " + FORMS[form](sentinel.text) + b" after"
    assert {hit.what for hit in scan_bytes(blob, "here", ALL)} == {sentinel.what}


@pytest.mark.parametrize(("sentinel", "codec"), NATIONAL)
def test_national_character_sets_are_found(sentinel: Sentinel, codec: str) -> None:
    blob = b"PN=" + sentinel.text.encode(codec)
    assert {hit.what for hit in scan_bytes(blob, "here", ALL)} == {sentinel.what}


def test_a_number_is_found_without_its_punctuation() -> None:
    assert scan_bytes(b"tel 49895550 17321".replace(b" ", b""), "here", [PHONE])


def test_innocent_bytes_hold_nothing() -> None:
    innocent = Path(__file__).with_name("test_wire.py").read_bytes() + os.urandom(1 << 20)
    assert scan_bytes(innocent, "here", ALL) == []


def test_names_links_and_contents_of_a_folder_are_searched(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / f"{NAME.text}.log").touch()
    (deep / "link").symlink_to(f"/nowhere/{CYRILLIC.text}")
    (deep / "sound.log").write_text(UID.text)
    assert {(hit.where.split()[0], hit.what) for hit in scan_tree(tmp_path, ALL)} == {
        ("name", "name"),
        ("link", "cyrillic"),
        ("file", "uid"),
    }


def test_where_bodies_are_allowed_names_are_searched_all_the_same(tmp_path: Path) -> None:
    storage = tmp_path / "orthanc"
    storage.mkdir()
    (storage / "0a1b").write_text(NAME.text)
    assert scan_tree(tmp_path, ALL, [storage]) == []
    (storage / UID.text).touch()
    assert {hit.what for hit in scan_tree(tmp_path, ALL, [storage])} == {"uid"}


def test_arguments_environment_and_open_files_of_processes_are_searched(tmp_path: Path) -> None:
    opened = tmp_path / f"{JAPANESE.text}.dcm"
    opened.touch()
    program = "import sys, time; file = open(sys.argv[2]); print('up', flush=True); time.sleep(60)"
    environment = {**os.environ, "STUDY": CYRILLIC.text}
    command = [sys.executable, "-c", program, NAME.text, str(opened)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert process.pid in descendants(os.getpid())
            hits = scan_processes([process.pid], ALL)
        finally:
            process.kill()
    assert {(hit.where.split()[0], hit.what) for hit in hits} >= {
        ("cmdline", "name"),
        ("environ", "cyrillic"),
        ("open", "japanese"),
    }
