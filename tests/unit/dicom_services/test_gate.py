"""The gate refuses what would stop a reader, and nothing a modality writes."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import data_element_generator
from pydicom.filewriter import dcmwrite

from dicom_services import gate
from dicom_services.gate import (
    REASONS,
    Refusal,
    refusal_of_dataset,
    refusal_of_file,
    refusal_of_query,
)
from tests.dicom_files import NATIVE, ct_slice, stored_ramp, to_bytes
from tests.hostile.build import (
    BIG,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    JPEG,
    JPEG_2000,
    JPEG_LS,
    LITTLE,
    LONG,
    OPEN,
    PLAIN,
    RLE,
    Writer,
    compressed_file,
    file,
    image_file,
    jpeg_2000_head,
    jpeg_head,
    meta_element,
    rle_frame,
    uid,
)

WRITERS = (LITTLE, PLAIN, BIG_ENDIAN)
ITEMS = LITTLE.item() + LITTLE.item(LITTLE.text(0x00081150, "UI", "1.2"))
PRIVATE = LITTLE.text(0x00091001, "LO", "x")
JPEG_4 = jpeg_head(4, 4)


def deflated(body: bytes, tail: bytes = b"") -> bytes:
    machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return file(machine.compress(body) + machine.flush() + tail, DEFLATED)


def with_uids(**changed: str) -> bytes:
    parts = {"sop_class": "1.2.3", "instance": "1.2.4", "study": "1.2.5", **changed}
    return file(LITTLE.identity(**parts))


def many(count: int) -> bytes:
    """Items in sequences of a thousand and one, each of which counts as one element."""
    whole, rest = divmod(count, 1001)
    sequences = [LITTLE.sequence(0x00091000 + n, LITTLE.item() * 1000) for n in range(whole)]
    sequences.append(LITTLE.sequence(0x00181000, LITTLE.item() * rest))
    return image_file(LITTLE, b"".join(sequences))


def bushy(count: int) -> bytes:
    """Items of a sequence, each as deep as may be."""
    return LITTLE.sequence(0x00081140, LITTLE.item(LITTLE.nested(gate.MAX_DEPTH - 1)) * count)


def disordered(count: int) -> bytes:
    """Items whose elements come backwards."""
    tags = range(0x0009FFFF, 0x0009FFFF - gate.MAX_ELEMENTS_OF_ONE, -1)
    item = LITTLE.item(b"".join(LITTLE.element(tag, "CS") for tag in tags))
    return LITTLE.sequence(0x00081140, item * count)


def private_elements(count: int) -> bytes:
    """As many elements of one data set, private ones of as many groups as it takes."""
    tags = ((group << 16) | number for group in range(9, 0xFFFF, 2) for number in range(1, 0xFFFF))
    return b"".join(LITTLE.element(next(tags), "CS") for _ in range(count))


def several(vr: str, value: bytes, count: int, writer: Writer = LITTLE) -> bytes:
    """Elements of a group that may not hold bulk data."""
    return b"".join(writer.element(0x00181000 + n, vr, value) for n in range(count))


# For each reason: what is refused for it, and the nearest thing that passes.
Pair = tuple[bytes, bytes]
PAIRS: dict[str, list[Pair]] = {
    "not_dicom": [(file(LITTLE.identity(), prefix=b"DICN"), file(LITTLE.identity()))],
    "preamble": [
        (
            file(LITTLE.identity(), preamble=head.ljust(128, b"\0")),
            file(LITTLE.identity(), preamble=b"II*\0".ljust(128, b"\0")),
        )
        for head in (
            *(b"MZ\x90", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xce", b"#!/bin/sh"),
            *(b"PK\3\4", b"%PDF-1.7", b"\n <script>", b"<html>", b"\x1f\x8b", b"\xca\xfe\xba\xbe"),
        )
    ],
    "meta": [
        (file(LITTLE.identity(), group_length=4), file(LITTLE.identity())),
        (file(LITTLE.identity(), group_length=0xFFFFFFF0), file(LITTLE.identity())),
        (
            bytes(128) + b"DICM\2\0\1\0zz\0\0" + LITTLE.identity(),
            bytes(128) + b"DICM" + meta_element(0x10, "UI", uid(EXPLICIT)) + LITTLE.identity(),
        ),
    ],
    "transfer_syntax": [
        (file(LITTLE.identity(), wrong), file(LITTLE.identity(), EXPLICIT))
        for wrong in ("", "1.2.3", "1.2.840.113619.5.2", "1.2.840.10008.1.2.1\n", "../../x")
    ],
    "truncated": [
        (image_file()[:-33], image_file()),
        (
            image_file(LITTLE, LITTLE.element(0x00081140, "SQ", LITTLE.item()[:4])),
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item())),
        ),
        (compressed_file([JPEG_4], end=False), compressed_file([JPEG_4])),
        (compressed_file([JPEG_4])[:-20], compressed_file([JPEG_4])),
    ],
    "length": [
        (
            image_file(LITTLE, LITTLE.element(0x00081030, vr, b"ab", OPEN - 15)),
            image_file(LITTLE, LITTLE.element(0x00081030, vr, b"ab")),
        )
        for vr in ("UT", "UN", "OB", "UC")
    ]
    + [
        (
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item(b"", length=2))),
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item())),
        ),
        (
            # An element that reaches out of its item, though not out of the file.
            image_file(
                LITTLE,
                LITTLE.sequence(
                    0x00081140, LITTLE.item(LITTLE.element(0x00081150, "UI", b"", length=2))
                ),
            ),
            image_file(LITTLE, LITTLE.sequence(0x00081140, ITEMS)),
        ),
    ],
    "vr": [
        (image_file(LITTLE, LITTLE.element(0x00081030, vr, b"ab")), image_file(LITTLE, PRIVATE))
        for vr in ("XX", "??", "lo", "O ")
    ]
    + [
        # Explicit elements under implicit VR, which some readers would follow.
        (file(LITTLE.identity() + bytes(1 << 16), IMPLICIT), file(PLAIN.identity(), IMPLICIT)),
    ],
    "group": [
        (file(LITTLE.identity() + LITTLE.text(tag, "LO", "x")), file(LITTLE.identity()))
        for tag in (0x00000002, 0x00010010, 0x00020010, 0x00030001, 0x00060001, 0x00070001)
    ]
    + [(image_file() + LITTLE.text(0xFFFF0001, "LO", "x"), image_file())],
    "undefined_length": [
        (
            image_file(LITTLE, LITTLE.element(0x00091001, "OB", LITTLE.sequence_end(), OPEN)),
            image_file(LITTLE, LITTLE.element(0x00091001, "UN", LITTLE.sequence_end(), OPEN)),
        ),
        (
            image_file(BIG_ENDIAN, BIG_ENDIAN.sequence(0x00091001, b"", is_open=True, vr="UN")),
            image_file(BIG_ENDIAN, BIG_ENDIAN.sequence(0x00091001, b"", is_open=True)),
        ),
    ],
    "sequence": [
        (image_file(w, w.element(0x00081140, "SQ", wrong, length)), image_file(w, sound))
        for w, sound in ((w, w.sequence(0x00081140, w.item(), is_open=True)) for w in WRITERS)
        for wrong, length in (
            (w.item_end(), OPEN),
            (w.item() + w.sequence_end(4), OPEN),
            (w.item(b"", length=OPEN) + w.sequence_end() * 2, OPEN),
            (w.item(b"", length=OPEN) + w.item_end(6) + w.sequence_end(), OPEN),
            (w.sequence_end(), 8),
        )
    ]
    + [
        (image_file(LITTLE, LITTLE.element(0x00081140, "SQ", bytes(8))), image_file()),
        (file(LITTLE.identity() + LITTLE.item()), file(LITTLE.identity())),
        # A reader that knows the attribute reads an item header of eight bytes from these.
        (image_file(PLAIN, PLAIN.element(0x00081140, "SQ", PLAIN.item()[:4])), image_file(PLAIN)),
        (
            image_file(PLAIN, PLAIN.element(0x00081140, "SQ", b"\xfe\xff") + b"\0\xe0" + bytes(6)),
            image_file(PLAIN, PLAIN.element(0x00081140, "SQ", b"")),
        ),
    ],
    "depth": [
        (image_file(w, w.nested(gate.MAX_DEPTH + 1, is_open=o)), image_file(w, w.nested(24)))
        for w in WRITERS
        for o in (False, True)
    ],
    "elements": [
        (many(gate.MAX_ELEMENTS), many(gate.MAX_ELEMENTS - 100)),
        # In one sequence: readers with linked lists walk n * n / 2 items.
        (
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item() * 29_000)),
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item() * 28_000)),
        ),
        (image_file(LITTLE, bushy(800)), image_file(LITTLE, bushy(600))),
        (image_file(LITTLE, disordered(3)), image_file(LITTLE, disordered(2))),
        (
            compressed_file([b""] * gate.MAX_ELEMENTS),
            compressed_file([JPEG_4] + [b""] * (gate.MAX_ELEMENTS - 100), frames="9"),
        ),
        (
            file(LITTLE.identity() + private_elements(gate.MAX_ELEMENTS_OF_ONE - 4)),
            file(LITTLE.identity() + private_elements(gate.MAX_ELEMENTS_OF_ONE - 5)),
        ),
    ],
    "duplicate": [
        (image_file(LITTLE, PRIVATE * 2), image_file(LITTLE, PRIVATE)),
        (
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item(PRIVATE * 2))),
            image_file(LITTLE, LITTLE.sequence(0x00081140, LITTLE.item(PRIVATE) * 2)),
        ),
        (
            bytes(128) + b"DICM" + meta_element(0x10, "UI", uid(EXPLICIT)) * 2 + LITTLE.identity(),
            bytes(128) + b"DICM" + meta_element(0x10, "UI", uid(EXPLICIT)) + LITTLE.identity(),
        ),
    ],
    "value_length": [
        (
            image_file(w, w.element(0x00081030, vr, b"7" * (gate.MAX_TEXT_BYTES + 2))),
            image_file(w, w.element(0x00081030, vr, b"7" * gate.MAX_TEXT_BYTES)),
        )
        for w, vr in ((LITTLE, "UT"), (LITTLE, "UC"), (LITTLE, "UN"), (PLAIN, ""))
    ]
    + [
        (
            image_file(LITTLE, several("UT", b"7" * (gate.MAX_TEXT_BYTES // 3), 4)),
            image_file(LITTLE, several("OB", b"7" * (gate.MAX_TEXT_BYTES // 3), 4)),
        ),
    ],
    "values": [
        (image_file(w, several(vr, value, 50, w)), image_file(w, several(vr, value, 10, w)))
        for w, vr, value in (
            (LITTLE, "LO", b"1\\" * 30_000),
            (LITTLE, "US", bytes(60_000)),
            (LITTLE, "UC", b"\\" * 60_000),
            (LITTLE, "UN", b"1\\" * 30_000),
            (PLAIN, "IS", b"1\\" * 30_000),
            (PLAIN, "US", bytes(60_000)),
        )
    ],
    "encapsulation": [
        (
            file(LITTLE.identity() + LITTLE.element(0x7FE00010, "OB", wrong, OPEN), JPEG),
            compressed_file([JPEG_4]),
        )
        for wrong in (
            LITTLE.item(b"", length=OPEN),
            LITTLE.item_end(),
            LITTLE.item() + LITTLE.item(JPEG_4) + LITTLE.sequence_end(8),
            LITTLE.text(0x00081030, "LO", "x") + LITTLE.sequence_end(),
        )
    ]
    + [
        (compressed_file([wrong], RLE), compressed_file([rle_frame([bytes(8)] * 2)], RLE))
        for wrong in (
            bytes(10),
            rle_frame([bytes(8)], count=0),
            rle_frame([bytes(8)], count=16),
            rle_frame([bytes(8)] * 2, count=3),
            struct.pack("<16I", 1, 63, *([0] * 14)) + bytes(8),
            struct.pack("<16I", 2, 64, 0xFFFFFFF0, *([0] * 13)) + bytes(8),
        )
    ],
    "frame_size": [
        (compressed_file([jpeg_head(65535, 65535)]), compressed_file([JPEG_4])),
        (compressed_file([jpeg_head(4, 5)]), compressed_file([jpeg_head(4, 4)])),
        (
            compressed_file([jpeg_head(9, 4, 0xF7)], JPEG_LS),
            compressed_file([jpeg_head(4, 4, 0xF7)], JPEG_LS),
        ),
        (
            compressed_file([jpeg_2000_head(1 << 20, 1 << 20)], JPEG_2000),
            compressed_file([jpeg_2000_head(4, 4)], JPEG_2000),
        ),
    ],
    "pixel_length": [
        (
            file(LITTLE.identity() + LITTLE.image(4, 4) + LITTLE.pixels(bytes(30))),
            file(LITTLE.identity() + LITTLE.image(4, 4) + LITTLE.pixels(bytes(32))),
        ),
        (
            file(LITTLE.identity() + LITTLE.image(4, 4, frames="3") + LITTLE.pixels(bytes(64))),
            file(LITTLE.identity() + LITTLE.image(4, 4, frames="2") + LITTLE.pixels(bytes(64))),
        ),
        (
            compressed_file([JPEG_4] * 2, frames="3"),
            compressed_file([JPEG_4] * 3, frames="3"),
        ),
        (compressed_file([]), compressed_file([JPEG_4])),
    ],
    "frames": [
        (
            file(LITTLE.identity() + LITTLE.image(frames=str(gate.MAX_FRAMES + 1))),
            file(LITTLE.identity() + LITTLE.image(frames=str(gate.MAX_FRAMES))),
        ),
        (
            file(LITTLE.identity() + LITTLE.image(frames="9" * 40)),
            file(LITTLE.identity() + LITTLE.image(frames="-1")),
        ),
    ],
    "pixel_size": [
        (
            file(LITTLE.identity() + LITTLE.image(65535, 65535) + LITTLE.pixels(bytes(64))),
            file(LITTLE.identity() + LITTLE.image(0, 65535) + LITTLE.pixels(bytes(64))),
        ),
        (
            compressed_file([JPEG_4], rows=65535, columns=65535),
            compressed_file([JPEG_4], rows=4096, columns=4096),
        ),
    ],
    "deflate": [
        (file(b"\xff\xfe no deflate", DEFLATED), deflated(LITTLE.identity())),
        (deflated(LITTLE.identity())[:-4], deflated(LITTLE.identity(), b"\0")),
        (deflated(LITTLE.identity(), b"MZ program behind it"), deflated(LITTLE.identity())),
    ],
    "inflated_size": [
        (
            deflated(LITTLE.identity() + LITTLE.pixels(bytes(gate.MAX_INFLATED_BYTES))),
            deflated(LITTLE.identity() + LITTLE.pixels(bytes(1 << 20))),
        ),
    ],
    "uid_missing": [
        (with_uids(sop_class=""), with_uids()),
        (with_uids(instance=" "), with_uids()),
        (file(LITTLE.parts()[0]), with_uids()),
    ],
    "uid": [
        (with_uids(study=wrong), with_uids(study="1.2.826"))
        for wrong in ("../../etc", "1.2\r\n3", "abc", "1.2\\1.3", "1..2", "1.2.", ".1", "1." * 33)
    ]
    + [(with_uids(instance="1" + ".1" * 32), with_uids(instance="1" + ".1" * 31))],
}
# `poison` is what the archive's own crash says, not the structure.
OF_STRUCTURE = REASONS.keys() - {"poison", "odd_length"}
NUMBERED = [
    pytest.param(reason, *pair, id=f"{reason}-{number}")
    for reason, pairs in PAIRS.items()
    for number, pair in enumerate(pairs)
]


def test_every_reason_has_a_file_that_provokes_it():
    assert PAIRS.keys() == OF_STRUCTURE


@pytest.mark.parametrize(("reason", "refused", "passed"), NUMBERED)
def test_a_reason_meets_its_file_and_spares_the_neighbour(reason, refused, passed):
    found = refusal_of_file(refused)
    assert found is not None
    assert found.reason == reason
    assert 0 <= found.offset <= len(refused)
    assert refusal_of_file(passed) is None


@pytest.mark.parametrize("syntax", NATIVE)
def test_an_image_passes_in_every_native_syntax(syntax):
    assert refusal_of_file(to_bytes(ct_slice(stored_ramp((1, 16, 16))[0]), syntax)) is None


@pytest.mark.parametrize("syntax", [JPEG_2000, JPEG_LS, RLE])
def test_an_image_passes_in_compressed_syntaxes(syntax):
    assert refusal_of_file(to_bytes(ct_slice(stored_ramp((1, 64, 64))[0]), syntax)) is None


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("depth", [1, gate.MAX_DEPTH])
def test_sequences_pass_up_to_the_limit_in_every_form(writer, is_open, depth):
    core = writer.text(0x00081150, "UI", "1.2.3")
    assert refusal_of_file(image_file(writer, writer.nested(depth, is_open=is_open))) is None
    nested = writer.nested(depth, is_open=is_open, core=core)
    assert refusal_of_file(image_file(writer, nested)) is None


@pytest.mark.parametrize("depth", [gate.MAX_DEPTH + 1, 50, 3000, 30_000])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("is_open", [False, True])
def test_no_depth_costs_the_gate_its_stack(writer, is_open, depth):
    data = image_file(writer, writer.nested(depth, is_open=is_open))
    found = refusal_of_file(data)
    assert found is not None
    assert found.reason == "depth"


def test_an_unknown_value_of_undefined_length_is_walked_as_implicit():
    inner = PLAIN.item(PLAIN.text(0x00081150, "UI", "1.2"), is_open=True)
    unknown = LITTLE.element(0x00091001, "UN", inner + LITTLE.sequence_end(), OPEN)
    assert refusal_of_file(image_file(LITTLE, unknown)) is None
    deep = PLAIN.item(PLAIN.nested(gate.MAX_DEPTH))
    unknown = LITTLE.element(0x00091001, "UN", deep + LITTLE.sequence_end(), OPEN)
    assert refusal_of_file(image_file(LITTLE, unknown)).reason == "depth"


def test_a_private_sequence_in_implicit_vr_is_walked_without_a_dictionary():
    private = PLAIN.nested(gate.MAX_DEPTH, 0x00091001)
    assert refusal_of_file(image_file(PLAIN, private)) is None
    private = PLAIN.nested(gate.MAX_DEPTH + 1, 0x00091001)
    assert refusal_of_file(image_file(PLAIN, private)).reason == "depth"


def test_pixels_that_look_like_an_item_are_pixels():
    pixels = PLAIN.pixels(b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 4)
    assert refusal_of_file(image_file(PLAIN, pixels=pixels)) is None


@pytest.mark.parametrize("writer", WRITERS)
def test_zeros_behind_a_file_are_padding_and_bytes_are_not(writer):
    assert refusal_of_file(image_file(writer) + bytes(512)) is None
    assert refusal_of_file(image_file(writer) + bytes(3)) is None
    assert refusal_of_file(image_file(writer) + bytes(512) + b"\1") is not None
    assert refusal_of_file(image_file(writer) + b"\1\2\3") is not None


def test_data_set_trailing_padding_passes():
    assert refusal_of_file(image_file() + LITTLE.element(0xFFFCFFFC, "OB", bytes(64))) is None


def test_a_data_set_is_judged_as_the_file_around_it():
    for writer in WRITERS:
        assert refusal_of_dataset(writer.identity(), writer.syntax) is None
        assert refusal_of_dataset(writer.identity() + b"\1", writer.syntax).reason == "truncated"
    assert refusal_of_dataset(LITTLE.identity(), "1.2.3") == Refusal("transfer_syntax", 0)


def test_a_message_has_an_even_length_and_a_file_any():
    odd = LITTLE.identity() + LITTLE.element(0x00400555, "UT", b"odd")
    assert refusal_of_dataset(odd, EXPLICIT) == Refusal("odd_length", len(odd))
    assert refusal_of_dataset(odd + LITTLE.element(0x00400556, "UT", b"odd"), EXPLICIT) is None
    assert refusal_of_file(file(odd)) is None


def test_a_data_set_may_start_anywhere():
    data = image_file()
    start = data.index(LITTLE.identity()[:16])
    assert refusal_of_dataset(data, EXPLICIT, start) is None


def test_identity_may_be_waived():
    body = LITTLE.text(0x00100010, "PN", "A^B")
    assert refusal_of_dataset(body, EXPLICIT).reason == "uid_missing"
    assert refusal_of_dataset(body, EXPLICIT, identity=False) is None
    assert refusal_of_file(file(body), identity=False) is None


def test_a_query_needs_no_identity_but_structure():
    assert refusal_of_query(PLAIN.text(0x00080052, "CS", "STUDY"), IMPLICIT) is None
    assert refusal_of_query(PLAIN.nested(30), IMPLICIT).reason == "depth"
    assert refusal_of_query(b"", IMPLICIT) is None


def test_several_frames_of_one_video_stream_pass():
    data = compressed_file([JPEG_4], "1.2.840.10008.1.2.4.102", frames="250")
    assert refusal_of_file(data) is None


def test_the_kind_of_buffer_makes_no_difference(tmp_path: Path):
    import mmap

    data = image_file()
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert refusal_of_file(view) is None
    assert refusal_of_file(bytearray(data)) is None
    assert refusal_of_file(memoryview(data)) is None
    assert refusal_of_file(memoryview(data)[:-2]) == refusal_of_file(data[:-2])


def test_reasons_are_words_without_a_value_of_the_file():
    assert all(name.isidentifier() and words for name, words in REASONS.items())


# Properties.

VALUES: dict[str, st.SearchStrategy] = {
    "LO": st.text("ABCäöé ", max_size=20),
    "PN": st.text("ABC^", max_size=4),
    "UT": st.text("ABC\n", max_size=300),
    "UI": st.from_regex(r"[1-9](\.[1-9][0-9]{0,5}){1,6}", fullmatch=True),
    "IS": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
    "DS": st.lists(st.integers(-(10**9), 10**9), max_size=5),
    "US": st.integers(0, 65535),
    "FD": st.lists(st.floats(allow_nan=False), max_size=3),
    "OB": st.binary(max_size=100).map(lambda b: b + bytes(len(b) % 2)),
    "OW": st.binary(max_size=100).map(lambda b: b + bytes(len(b) % 2)),
    "UN": st.binary(max_size=100).map(lambda b: b + bytes(len(b) % 2)),
    "AT": st.integers(0x00080000, 0x00FF0000),
}


def _like_items(value: bytes) -> bool:
    return isinstance(value, bytes) and value[:2] == b"\xfe\xff"


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 4) -> Dataset:
    """Private and unknown elements of random kinds, with sequences of defined or open length."""
    ds = Dataset()
    tags = draw(
        st.lists(st.integers(0x00091010, 0x009910FF).map(lambda n: n | 0x10000), max_size=6)
    )
    for tag in sorted(set(tags)):
        kind = draw(st.sampled_from([*VALUES, "SQ"] if depth else list(VALUES)))
        if kind == "SQ":
            items = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
            for item in items:
                item.is_undefined_length_sequence_item = draw(st.booleans())
            ds.add_new(tag, "SQ", items)
            ds[tag].is_undefined_length = draw(st.booleans())
        else:
            ds.add_new(tag, kind, draw(VALUES[kind].filter(lambda v: not _like_items(v))))
    return ds


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(extra=data_sets(), syntax=st.sampled_from(NATIVE))
def test_whatever_pydicom_writes_passes(extra: Dataset, syntax: str):
    ds = ct_slice(stored_ramp((1, 4, 4))[0])
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.update(extra)
    ds.file_meta = FileMetaDataset()
    assert refusal_of_file(to_bytes(ds, syntax)) is None


def _starts(data: bytes) -> set[int]:
    """Where an element of the top level of a file in explicit VR begins, after the first."""
    first = data.index(b"\x08\x00\x16\x00UI")
    found = set()
    for one in data_element_generator(io.BytesIO(data[first:]), False, True):
        # Sequences of undefined length come converted.
        at = one.value_tell if isinstance(one, RawDataElement) else one.file_tell
        found.add(first + at - (12 if one.VR in LONG else 8))
    return found - {first}


def test_a_file_cut_at_any_byte_is_refused_or_ends_where_an_element_ends():
    """Cut between two elements a file is sound in itself; what is missing shows as missing."""
    body = LITTLE.identity() + LITTLE.image() + LITTLE.pixels(bytes(32))
    data = file(body)
    passing = {n for n in range(len(data)) if refusal_of_file(data[:n]) is None}
    assert passing <= _starts(data)
    assert max(passing) == data.index(b"\xe0\x7f\x10\x00OW")
    assert min(passing) == len(file(LITTLE.identity()))


@pytest.mark.parametrize(
    "data",
    [
        compressed_file([JPEG_4] * 3),
        file(LITTLE.identity() + LITTLE.nested(5, 0x00400555, is_open=True)),
        file(LITTLE.identity() + LITTLE.nested(5, 0x00400555)),
    ],
)
def test_a_file_cut_inside_pixels_or_sequences_is_refused(data: bytes):
    assert refusal_of_file(data) is None
    passing = {n for n in range(len(data)) if refusal_of_file(data[:n]) is None}
    assert passing <= _starts(data)


def test_a_deflated_file_cut_anywhere_is_refused():
    data = deflated(LITTLE.identity() + LITTLE.image())
    assert all(refusal_of_file(data[:n]) is not None for n in range(len(data)))


SOURCES = [
    to_bytes(ct_slice(stored_ramp((1, 8, 8))[0])),
    to_bytes(ct_slice(stored_ramp((1, 8, 8))[0]), IMPLICIT),
    to_bytes(ct_slice(stored_ramp((1, 8, 8))[0]), BIG),
    to_bytes(ct_slice(stored_ramp((1, 8, 8))[0]), DEFLATED),
    compressed_file([rle_frame([bytes(8)] * 2)], RLE),
    image_file(PLAIN, PLAIN.nested(20, is_open=True)),
    image_file(LITTLE, LITTLE.nested(20)),
]


@settings(max_examples=400, deadline=None)
@given(
    source=st.sampled_from(SOURCES),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=8)), max_size=8),
    cut=st.integers(0, 2000),
)
def test_no_mutation_makes_the_gate_raise_or_wait(source: bytes, edits, cut: int):
    data = bytearray(source)
    for at, piece in edits:
        at %= len(data)
        data[at : at + len(piece)] = piece
    del data[len(data) - cut % len(data) :]
    start = time.process_time()
    found = refusal_of_file(bytes(data))
    assert found is None or found.reason in REASONS
    assert time.process_time() - start < 1.0


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400), syntax=st.sampled_from([*NATIVE, RLE, JPEG]))
def test_no_bytes_make_the_gate_raise(data: bytes, syntax: str):
    for found in (refusal_of_dataset(data, syntax), refusal_of_query(data, syntax)):
        assert found is None or found.reason in REASONS


def test_what_the_gate_lets_through_pydicom_reads_to_its_end():
    for data in (pair[1] for pairs in PAIRS.values() for pair in pairs if len(pair[1]) < 1 << 20):
        ds = pydicom.dcmread(io.BytesIO(data))
        assert str(ds.SOPInstanceUID) in (INSTANCE, "1.2.4", "1" + ".1" * 31)


def test_the_worst_file_costs_the_gate_less_than_two_seconds():
    start = time.process_time()
    assert refusal_of_file(many(gate.MAX_ELEMENTS - 100)) is None
    assert time.process_time() - start < 2.0


def test_written_files_survive_a_second_writing():
    """A file that passes, read and written by pydicom, passes again."""
    data = pydicom.dcmread(io.BytesIO(image_file(LITTLE, LITTLE.nested(5))))
    stream = io.BytesIO()
    dcmwrite(stream, data)
    assert refusal_of_file(stream.getvalue()) is None


def test_a_site_with_memory_may_take_larger_objects():
    one = many(gate.MAX_ELEMENTS + 5_000)
    assert refusal_of_file(one) is not None
    assert refusal_of_file(one, scale=4.0) is None
    assert refusal_of_file(one[:-1], scale=4.0) is not None
    too_deep = image_file(LITTLE, LITTLE.nested(gate.MAX_DEPTH + 1))
    assert refusal_of_file(too_deep, scale=100.0) == refusal_of_file(too_deep)


@pytest.mark.parametrize("tag", [0x00280106, 0x00280107, 0x00280120, 0x54001010, 0x60003000])
def test_a_number_of_minus_two_in_implicit_vr_is_no_sequence(tag):
    assert refusal_of_file(image_file(PLAIN, PLAIN.element(tag, "SS", b"\xfe\xff"))) is None
    assert refusal_of_file(image_file(PLAIN, PLAIN.element(tag, "OW", b"\xfe\xff\1\0"))) is None


def test_pixel_data_have_the_form_that_their_transfer_syntax_says():
    native = ct_slice(stored_ramp((1, 4, 4))[0])
    whole = to_bytes(native)
    assert refusal_of_file(whole) is None
    assert refusal_of_dataset(_data_set(whole), JPEG) == Refusal("encapsulation", _pixels(whole))


def test_a_data_set_must_be_the_instance_it_came_as():
    body = _data_set(to_bytes(ct_slice(stored_ramp((1, 4, 4))[0])))
    own = str(ct_slice(stored_ramp((1, 4, 4))[0]).SOPInstanceUID).encode()
    assert refusal_of_dataset(body, EXPLICIT, instance=own) is None
    assert refusal_of_dataset(body, EXPLICIT, instance=own + b"1") == Refusal("uid", 0)


def _data_set(whole: bytes) -> bytes:
    return whole[144 + int.from_bytes(whole[140:144], "little") :]


def _pixels(whole: bytes) -> int:
    return _data_set(whole).index(b"\xe0\x7f\x10\x00") + 12
