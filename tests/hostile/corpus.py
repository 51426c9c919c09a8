"""The hostile corpus: seeded files of many classes, each made to break one kind of reader."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicom_services.dicom.write import encode, to_bytes
from tests import sources
from tests.dicom_files import ct_slice, stored_ramp
from tests.dicom_files import to_bytes as ct_bytes
from tests.hostile import build
from tests.hostile.build import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    ENHANCED_CT,
    EXPLICIT,
    JPEG,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    LITTLE,
    OPEN,
    PLAIN,
    REPORT,
    RLE,
    SECONDARY,
    Writer,
)

ROOT: Final = "1.2.826.0.1.3680043.10.1.66"
KINDS: Final = (CT, SECONDARY, ENHANCED_CT, REPORT)
DEPTHS: Final = (1, 2, 10, 23, 24, 25, 40, 50, 198, 200, 1000, 3000, 10_000, 30_000)
SPLIT: Final = 20


@dataclass(slots=True)
class Case:
    """One hostile file; `body` is its data set, for routes that have no file around it."""

    kind: str
    number: int
    body: bytes
    syntax: str = EXPLICIT
    sop_class: str = CT
    instance: str = ""
    study: str = ""
    whole: bytes | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.kind}-{self.number:04d}"

    @property
    def file(self) -> bytes:
        """As a Part 10 file, or what is there instead of one."""
        if self.whole is not None:
            return self.whole
        return build.file(self.body, self.syntax, sop_class=self.sop_class, instance=self.instance)


@dataclass(slots=True)
class Maker:
    """Makes one case: random numbers of its own, identifiers of its own, its place in its class."""

    kind: str
    number: int
    seed: int
    shared: Path | None = None
    random: random.Random = field(init=False)
    study: str = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed} {self.kind} {self.number}")
        self.study = f"{ROOT}.{self.seed}.{self.random.randrange(10**12)}"

    @property
    def instance(self) -> str:
        """SOP Instance UID."""
        return self.study + ".1.1"

    def heavy(self, most: int) -> int:
        """The first of a class is as large as may be, the others of any size below."""
        return most if self.number == 0 else int(most ** self.random.random()) + 1

    def writer(self, big: bool = True) -> Writer:
        """Any of the uncompressed syntaxes."""
        return self.random.choice((LITTLE, LITTLE, PLAIN, PLAIN, *((BIG_ENDIAN,) if big else ())))

    def image(
        self,
        w: Writer = LITTLE,
        extra: bytes = b"",
        *,
        image: bytes | None = None,
        pixels: bytes | None = None,
        first: bytes = b"",
        syntax: str = "",
        patient: bytes = b"",
    ) -> Case:
        """An image with one thing wrong: `extra` stands between groups 8 and 20."""
        head, modality, series = w.parts(instance=self.instance, study=self.study)
        body = first + head + modality + extra + patient + series
        body += w.image() if image is None else image
        body += w.pixels(bytes(32)) if pixels is None else pixels
        return self.case(body, syntax or w.syntax)

    def case(self, body: bytes, syntax: str = EXPLICIT, whole: bytes | None = None) -> Case:
        """Any data set."""
        return Case(
            self.kind, self.number, body, syntax, CT, self.instance, self.study, whole=whole
        )

    def deflated(self, body: bytes, tail: bytes = b"") -> Case:
        """A data set that travels deflated."""
        machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        return self.case(machine.compress(body) + machine.flush() + tail, DEFLATED)

    def compressed(self, fragments: list[bytes], syntax: str, **image: object) -> Case:
        """An image of fragments."""
        body = LITTLE.identity(instance=self.instance, study=self.study)
        body += LITTLE.image(**image) + LITTLE.fragments(fragments)  # type: ignore[arg-type]
        return self.case(body, syntax)

    def of_file(self, data: bytes) -> Case:
        """A file that exists, whatever was done to it; its data set is what follows its header."""
        head = data[132:144]
        length = struct.unpack_from("<I", head, 8)[0] if head[:6] == b"\2\0\0\0UL" else 0
        start = 132 if not 0 < length < 4000 else 144 + length
        case = self.case(data[start:], _header_value(data, 0x10) or EXPLICIT, data)
        case.sop_class = _header_value(data, 2) or CT
        case.instance = _header_value(data, 3) or self.instance
        return case


def _header_value(data: bytes, element: int) -> str:
    """A UID of the file meta information; "" where it cannot be found."""
    at = data.find(struct.pack("<HH2s", 2, element, b"UI"), 132, 2000)
    if at < 0:
        return ""
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    return data[at + 8 : at + 8 + min(length, 64)].rstrip(b"\0 ").decode("latin-1")


Make = Callable[[Maker], Case]
CLASSES: Final[dict[str, Make]] = {}


def _class(make: Make) -> Make:
    CLASSES[make.__name__.strip("_").replace("_", "-")] = make
    return make


def _classes(name: str, make: Callable[[Maker, int], Case], ways: int) -> None:
    """Several classes that differ by a number only."""
    for way in range(ways):
        CLASSES[f"{name}-{way}"] = lambda m, way=way: make(m, way)  # type: ignore[misc]


def _depth(m: Maker) -> int:
    return DEPTHS[m.number % len(DEPTHS)]


# Nesting.


def _nesting(m: Maker, way: int) -> Case:
    w = (LITTLE, LITTLE, PLAIN, PLAIN, BIG_ENDIAN, BIG_ENDIAN)[way]
    tag = m.random.choice((0x00081140, 0x00400555, 0x0040A730, 0x00091001))
    return m.image(w, w.nested(_depth(m), tag, is_open=way % 2 == 1, core=w.element(tag, "LO")))


_classes("nested", _nesting, 6)


@_class
def nested_unknown_open(m: Maker) -> Case:
    inner = PLAIN.item(PLAIN.nested(_depth(m), is_open=m.number % 2 == 0), is_open=True)
    return m.image(LITTLE, LITTLE.element(0x00091001, "UN", inner + LITTLE.sequence_end(), OPEN))


@_class
def nested_unknown(m: Maker) -> Case:
    tag = m.random.choice((0x00091001, 0x00081140, 0x0040A730))
    inner = PLAIN.item(PLAIN.nested(_depth(m), tag))
    return m.image(LITTLE, LITTLE.element(tag, "UN", inner))


@_class
def nested_deflated(m: Maker) -> Case:
    body = LITTLE.identity(instance=m.instance, study=m.study)
    return m.deflated(body + LITTLE.nested(_depth(m), 0x00400555, is_open=m.number % 2 == 0))


@_class
def nested_around_a_bad_vr(m: Maker) -> Case:
    bad = LITTLE.element(0x00091001, m.random.choice(("XX", "  ", "s\0", "@@")), b"abcd")
    return m.image(LITTLE, LITTLE.nested(16 + m.number % 9, core=bad))


@_class
def nested_icons(m: Maker) -> Case:
    icon = LITTLE.image(2, 2) + LITTLE.fragments([b"\xff\xd8"] * 3)
    return m.image(LITTLE, LITTLE.nested(_depth(m), 0x00880200, is_open=True, core=icon))


@_class
def nested_wide(m: Maker) -> Case:
    w = m.writer()
    return m.image(w, w.sequence(0x00081140, w.item(w.nested(23)) * m.heavy(5000)))


@_class
def nested_in_delimited_text(m: Maker) -> Case:
    """A sequence that the dictionary knows, hidden behind a value that starts with a delimiter."""
    deep = PLAIN.nested(_depth(m), is_open=True)
    head = m.random.choice((PLAIN.sequence_end(), PLAIN.item_end(), PLAIN.item()[:4], b"\xfe\xff"))
    return m.image(PLAIN, PLAIN.element(0x00081140, "SQ", head + deep))


# Lengths.


def _false_length(m: Maker) -> int:
    return m.random.choice(
        (0xFFFFFFF0, 0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 1 << 24, 0xFFFF, 40, 33, 3, 1)
    )


def _long_value(m: Maker, way: int) -> Case:
    vr = ("OW", "OB", "UT", "UN", "UC", "OD", "SV", "UR")[way]
    w = m.writer() if way < 4 else LITTLE
    tag = m.random.choice((0x00081030, 0x00091001, 0x00102000, 0x00181000))
    return m.image(w, w.element(tag, vr, b"abcd", _false_length(m)))


_classes("length-of-value", _long_value, 8)


@_class
def length_of_item(m: Maker) -> Case:
    w = m.writer()
    item = w.item(w.text(0x00081150, "UI", "1.2"), length=_false_length(m))
    return m.image(w, w.sequence(0x00081140, item, is_open=m.number % 2 == 0))


@_class
def length_of_sequence(m: Maker) -> Case:
    w = m.writer()
    return m.image(w, w.element(0x00081140, "SQ", w.item() * 3, _false_length(m)))


@_class
def length_of_fragment(m: Maker) -> Case:
    body = LITTLE.item() + LITTLE.item(b"\xff\xd8", length=_false_length(m))
    pixels = LITTLE.element(0x7FE00010, "OB", body + LITTLE.sequence_end(), OPEN)
    return m.image(LITTLE, pixels=pixels, syntax=m.random.choice((JPEG, RLE, JPEG_2000)))


@_class
def length_of_pixels(m: Maker) -> Case:
    w = m.writer()
    return m.image(w, pixels=w.pixels(bytes(32), _false_length(m)))


@_class
def length_of_identity(m: Maker) -> Case:
    w = m.writer()
    tag = m.random.choice((0x00080016, 0x00080018, 0x0020000D))
    return m.image(w, first=w.element(tag, "UI", b"1.2.3\0", _false_length(m)))


@_class
def length_odd(m: Maker) -> Case:
    w = m.writer()
    values = [w.element(0x00091001 + n, "LO", b"x" * (2 * n + 1)) for n in range(9)]
    return m.image(w, b"".join(values))


@_class
def length_of_delimiter(m: Maker) -> Case:
    w = m.writer()
    length = m.random.choice((1, 4, 8, 0xFFFF, OPEN, OPEN - 15))
    item = w.item(b"", length=OPEN) + w.item_end(length if m.number % 2 else 0)
    end = w.sequence_end(0 if m.number % 2 else length)
    return m.image(w, w.element(0x00081140, "SQ", item + end + bytes(16), OPEN))


@_class
def stray_delimiters(m: Maker) -> Case:
    w = m.writer()
    strays = (w.item_end(), w.sequence_end(), w.item(), w.item_end() * 100)
    return m.image(w, m.random.choice(strays) * (1 + m.number % 3))


@_class
def undefined_lengths(m: Maker) -> Case:
    vr = m.random.choice(("OB", "OW", "UT", "LO", "UI", "US", "UN"))
    tag = m.random.choice((0x00091001, 0x00081140, 0x00283006))
    end = m.random.choice((LITTLE.sequence_end(), LITTLE.item_end(), b""))
    if vr in ("LO", "UI", "US"):
        return m.image(LITTLE, LITTLE.element(tag, vr, end, 0xFFFF))
    return m.image(LITTLE, LITTLE.element(tag, vr, end, OPEN))


# Counts.


def _tags(count: int) -> Iterator[int]:
    groups = (group for group in range(9, 0xFFFF, 2))
    tags = (group << 16 | number for group in groups for number in range(0x1000, 0xFFFF))
    return (next(tags) for _ in range(count))


@_class
def many_elements(m: Maker) -> Case:
    w = m.writer(big=False)
    return m.image(w, b"".join(w.element(t, "CS") for t in _tags(m.heavy(1_000_000))))


@_class
def many_elements_backwards(m: Maker) -> Case:
    w = m.writer(big=False)
    tags = list(_tags(m.heavy(60_000)))
    return m.image(w, b"".join(w.element(tag, "CS") for tag in reversed(tags)))


@_class
def many_elements_in_items(m: Maker) -> Case:
    w = m.writer(big=False)
    item = w.item(b"".join(w.element(tag, "CS") for tag in _tags(9_000)))
    return m.image(w, w.sequence(0x00081140, item * m.heavy(30)))


@_class
def many_items(m: Maker) -> Case:
    w = m.writer()
    return m.image(w, w.sequence(0x00081140, w.item() * m.heavy(1_000_000)))


@_class
def many_fragments(m: Maker) -> Case:
    return m.compressed([b""] * m.heavy(100_000), m.random.choice((JPEG, RLE, JPEG_2000)))


@_class
def many_values(m: Maker) -> Case:
    vr, tag = m.random.choice((("IS", 0x00200013), ("DS", 0x30060050), ("LO", 0x00081160)))
    w = m.random.choice((PLAIN, PLAIN, LITTLE))
    value = b"1\\" * m.heavy(5_000_000)
    if w is LITTLE:
        return m.image(w, w.element(tag, "UN", value))
    return m.image(w, w.element(tag, vr, value))


@_class
def many_numbers(m: Maker) -> Case:
    w = m.random.choice((PLAIN, LITTLE))
    parts = [w.element(0x00281101 + n, "US", bytes(60_000)) for n in range(m.heavy(100))]
    return m.image(w, b"".join(parts))


@_class
def long_texts(m: Maker) -> Case:
    count = m.heavy(8)
    text = m.random.choice((b"a", b"\xe4", b"\x1b", b"\\", b"\0", b"=")) * (2 << 20)
    parts = [LITTLE.element(0x00091010 + n, "UT", text) for n in range(count)]
    return m.image(LITTLE, b"".join(parts))


@_class
def many_groups_of_frames(m: Maker) -> Case:
    w = m.writer(big=False)
    code = w.item(w.text(0x00080100, "SH", "1") + w.text(0x00080102, "SH", "DCM"))
    place = w.sequence(0x00209113, w.item(w.text(0x00200032, "DS", "1\\2\\3")))
    frame = w.item(w.sequence(0x00089215, code) + place)
    frames = m.heavy(40_000)
    shared = w.sequence(0x52009229, w.item(place) * 2)
    groups = shared + w.sequence(0x52009230, frame * frames)
    return m.image(w, image=w.image(frames=str(frames)), pixels=groups + w.pixels(bytes(32)))


# Bombs.


@_class
def bomb_deflate(m: Maker) -> Case:
    megabytes = m.heavy(1000)
    machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = LITTLE.identity(instance=m.instance, study=m.study)
    parts = [machine.compress(body + LITTLE.element(0x00281000, "OB", b"", megabytes << 20))]
    parts += [machine.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return m.case(b"".join(parts) + machine.flush(), DEFLATED)


@_class
def broken_deflate(m: Maker) -> Case:
    case = m.deflated(LITTLE.identity(instance=m.instance, study=m.study) + LITTLE.image())
    body = bytearray(case.body)
    for _ in range(m.random.randrange(1, 4)):
        body[m.random.randrange(len(body))] ^= 1 << m.random.randrange(8)
    return m.case(bytes(body) + bytes(m.random.randrange(20)), DEFLATED)


@_class
def bomb_rle(m: Maker) -> Case:
    run = b"\x81\0" * m.heavy(100_000)
    segments = m.random.choice(([run], [run] * 15, [b"\x80"] * 2, [b"\x7f\1"], [b""]))
    count = m.random.choice((None, 0, 1, 15, 16, 0xFFFFFFFF))
    size = m.random.choice((4, 1024, 16_000, 65_535))
    return m.compressed([build.rle_frame(segments, count)], RLE, rows=size, columns=size)


def _claim(m: Maker) -> tuple[int, int]:
    return m.random.choice(((65_535, 65_535), (4, 65_535), (16_384, 16_384), (4, 4), (0, 0)))


@_class
def bomb_jpeg(m: Maker) -> Case:
    head = build.jpeg_head(*_claim(m), marker=m.random.choice((0xC0, 0xC1, 0xC2, 0xC3)))
    size = m.random.choice((4, 16_000))
    return m.compressed(
        [head], m.random.choice((JPEG, JPEG_LOSSLESS)), rows=size, columns=size, bits=8
    )


@_class
def bomb_jpeg_ls(m: Maker) -> Case:
    head = build.jpeg_head(*_claim(m), marker=0xF7, bits=16)
    return m.compressed([head], JPEG_LS, rows=m.random.choice((4, 16_000)), columns=4)


@_class
def bomb_jpeg_2000(m: Maker) -> Case:
    rows, columns = m.random.choice(((1 << 31, 1 << 31), (1 << 20, 1 << 20), (4, 4), (0, 1)))
    head = build.jpeg_2000_head(rows, columns, m.random.choice((1, 3, 16_384)))
    size = m.random.choice((4, 16_000))
    return m.compressed([head], JPEG_2000, rows=size, columns=size)


@_class
def noise_as_code_stream(m: Maker) -> Case:
    noise = m.random.randbytes(m.random.randrange(2, 4000) // 2 * 2)
    heads = (b"", b"\xff\xd8\xff", b"\xff\x4f\xff\x51\0\x29", bytes(4))
    syntaxes = (JPEG, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE, "1.2.840.10008.1.2.4.102")
    syntax = m.random.choice((*syntaxes, "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.8.1"))
    return m.compressed([m.random.choice(heads) + noise], syntax, rows=16, columns=16)


@_class
def damaged_code_stream(m: Maker) -> Case:
    syntax = m.random.choice((JPEG_LS, JPEG_2000, RLE))
    data = bytearray(ct_bytes(ct_slice(stored_ramp((1, 64, 64))[0]), syntax))
    start = data.index(b"\xe0\x7f\x10\x00") + 30
    for _ in range(m.random.randrange(1, 20)):
        data[m.random.randrange(start, len(data) - 8)] = m.random.randrange(256)
    return m.of_file(bytes(data))


# Representations.


@_class
def unknown_vr(m: Maker) -> Case:
    vr = m.random.choice(("XX", "ZZ", "AA", "QQ", "S1", "\0\0", "lo", "  ", "\xff\xff"))
    head = struct.pack("<HH", 9, 0x1001) + vr.encode("latin-1")
    return m.image(LITTLE, head + m.random.choice((b"\4\0abcd", b"\0\0\4\0\0\0abcd")))


@_class
def wrong_vr(m: Maker) -> Case:
    w = LITTLE
    wrong = (
        w.element(0x00080050, "SQ", w.item()),
        w.element(0x00080060, "OB", b"CT"),
        w.element(0x00100010, "FD", bytes(8)),
        w.element(0x00081140, "LO", b"no sequence "),
        w.element(0x00081030, "US", b"\1\0\2\0"),
        w.element(0x00080005, "AT", bytes(4)),
        w.element(0x00080020, "UT", b"x" * 400),
    )
    return m.image(w, wrong[m.number % len(wrong)])


@_class
def wrong_vr_of_image(m: Maker) -> Case:
    vrs = ("DS", "SQ", "OB", "FD", "UL", "UI", "AT")
    tag = m.random.choice((0x00280010, 0x00280011, 0x00280100, 0x00280002, 0x00280103))
    wrong = LITTLE.element(tag, m.random.choice(vrs), m.random.choice((b"", b"\4\0\0\0", bytes(8))))
    image = LITTLE.image()
    at = image.index(struct.pack("<HH", 0x28, tag & 0xFFFF))
    return m.image(LITTLE, image=image[:at] + wrong + image[at + 10 :])


@_class
def other_syntax_inside(m: Maker) -> Case:
    outer, inner = m.random.sample((LITTLE, PLAIN, BIG_ENDIAN), 2)
    case = m.image(inner)
    return m.case(case.body, outer.syntax)


# Truncation, at twenty places.


def _cut(m: Maker, case: Case) -> Case:
    place = len(case.body) * (m.number % SPLIT + 1) // (SPLIT + 1)
    return m.case(case.body[: max(place - m.number // SPLIT, 1)], case.syntax)


@_class
def cut_image(m: Maker) -> Case:
    return _cut(m, m.image(m.writer()))


@_class
def cut_sequence(m: Maker) -> Case:
    w = m.writer()
    return _cut(m, m.image(w, w.nested(10, is_open=m.number % 2 == 0)))


@_class
def cut_compressed(m: Maker) -> Case:
    return _cut(m, m.compressed([build.jpeg_head(4, 4)] * 5, JPEG, frames="5"))


@_class
def cut_deflated(m: Maker) -> Case:
    body = LITTLE.identity(instance=m.instance, study=m.study) + LITTLE.image()
    return _cut(m, m.deflated(body + LITTLE.pixels(m.random.randbytes(32))))


# Text.


def _text_image(m: Maker, charset: bytes, value: bytes, vr: str = "PN") -> Case:
    w = m.random.choice((LITTLE, PLAIN))
    value += b" " * (len(value) % 2)
    charset += b" " * (len(charset) % 2)
    tag = {"PN": 0x00100010, "LO": 0x00081030, "UT": 0x0040A160, "LT": 0x00104000}[vr]
    told = w.element(0x00080005, "CS", charset) if charset else b""
    return m.image(w, first=told, extra=w.element(tag, vr, value))


@_class
def unknown_character_set(m: Maker) -> Case:
    names = (b"ISO_IR 999", b"UTF-8", b"../x", b"ISO_IR 100\\ISO_IR 101", b"\\\\\\", b"\x1b%G")
    return _text_image(m, m.random.choice(names), b"M\xfcller^\xe4\xf6")


@_class
def broken_escapes(m: Maker) -> Case:
    names = (b"\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 149", b"\\ISO 2022 IR 58")
    escapes = (b"\x1b", b"\x1b$", b"\x1b$B", b"\x1b$)C\xff", b"\x1b(", b"\x1b$)A\x80", b"\x1b%/E")
    value = b"A^" + m.random.choice(escapes) * m.heavy(30) + m.random.randbytes(4)
    return _text_image(m, m.random.choice(names), value)


@_class
def broken_utf8(m: Maker) -> Case:
    bad = (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xff\xfe", b"\xe2\x82", b"\x80")
    vr = m.random.choice(("PN", "LO", "UT", "LT"))
    return _text_image(m, b"ISO_IR 192", m.random.choice(bad) * m.heavy(3000), vr)


@_class
def multibyte_cut(m: Maker) -> Case:
    names = (b"GB18030", b"GBK", b"ISO_IR 13", b"ISO 2022 IR 159", b"ISO_IR 166")
    return _text_image(m, m.random.choice(names), m.random.randbytes(m.random.randrange(2, 64)))


@_class
def control_characters(m: Maker) -> Case:
    parts = (b"\0", b"\r\n", b"\x1b[2J", b'\n{"event":1}', b"\x08" * 9, b"%s%n", b"=cmd|' /C x'!A0")
    return _text_image(
        m, b"", b"Doe" + m.random.choice(parts) + b"^J", m.random.choice(("PN", "LO"))
    )


@_class
def markup(m: Maker) -> Case:
    parts = (b"<script>alert(1)</script>", b'"><img src=x onerror=alert(1)>', b"';DROP TABLE x;--")
    return _text_image(m, b"", m.random.choice(parts), m.random.choice(("PN", "LO")))


@_class
def absurd_numbers(m: Maker) -> Case:
    w = m.writer()
    values = ("NaN", "inf", "1e999", "-1e308", "0x10", "9" * 16, "", "\\\\\\\\", "1e-999", "--1")
    tags = (0x00200032, 0x00200037, 0x00280030, 0x00180050, 0x00281053, 0x00200013)
    head, modality, series = w.parts(instance=m.instance, study=m.study)
    place = w.text(0x00200032, "DS", "\\".join(m.random.choices(values, k=3)))
    tag = m.random.choice(tags[2:])
    number = w.text(tag, "DS", m.random.choice(values))
    return m.case(
        head + modality + series + place + number + w.image() + w.pixels(bytes(32)), w.syntax
    )


# Order.


@_class
def named_twice(m: Maker) -> Case:
    w = m.writer()
    tag = m.random.choice((0x0020000D, 0x00080018, 0x00080016, 0x00100020))
    return m.image(w, w.text(tag, "UI", "1.2.3.4"), patient=w.text(0x00100020, "LO", "OTHER"))


@_class
def out_of_order(m: Maker) -> Case:
    w = m.writer()
    elements = [
        *w.parts(instance=m.instance, study=m.study),
        w.image(),
        w.text(0x00100020, "LO", "X"),
    ]
    m.random.shuffle(elements)
    return m.case(w.pixels(bytes(32)) + b"".join(elements), w.syntax)


@_class
def foreign_groups(m: Maker) -> Case:
    w = m.writer()
    tags = (0x00000002, 0x00000100, 0x00020010, 0x00020000, 0x00010010, 0x00041220, 0xFFFF0001)
    tag = m.random.choice((*tags, 0x00080001, 0x00070010, 0xFFFEE00D, 0xFFFE0000))
    foreign = w.text(tag, "UI", m.random.choice((build.IMPLICIT, "1.2.840.10008.1.2.2", "")))
    return m.image(w, first=foreign) if m.number % 2 else m.image(w, foreign)


@_class
def padding(m: Maker) -> Case:
    case = m.image(m.writer())
    tail = m.random.choice((bytes(8), bytes(1 << 20), bytes(2 << 20), b"\xff" * 512, bytes(7)))
    return m.case(case.body + tail, case.syntax)


# Sizes.


def _sized(m: Maker, **image: object) -> Case:
    w = m.writer()
    return m.image(w, image=w.image(**image), pixels=w.pixels(bytes(m.random.choice((0, 2, 32)))))  # type: ignore[arg-type]


@_class
def huge_images(m: Maker) -> Case:
    rows, columns = m.random.choice(((65_535, 65_535), (65_535, 1), (0, 65_535), (40_000, 40_000)))
    return _sized(m, rows=rows, columns=columns, samples=m.random.choice((1, 3, 65_535)))


@_class
def huge_frames(m: Maker) -> Case:
    frames = m.random.choice(
        ("2147483647", "999999999999", "99999999999999999999", "1e9", "500000")
    )
    size = m.random.choice((0, 4))
    return _sized(m, frames=frames, rows=size, columns=size)


@_class
def negative_frames(m: Maker) -> Case:
    frames = m.random.choice(
        ("-1", "-2147483648", "0", "+3", "1.5", "abc", " ", "1\\2\\3", "00000")
    )
    return _sized(m, frames=frames)


@_class
def huge_frames_without_pixels(m: Maker) -> Case:
    frames = m.random.choice(("2147483647", "500000", "499999"))
    return m.image(LITTLE, image=LITTLE.image(frames=frames), pixels=b"")


@_class
def absurd_bits(m: Maker) -> Case:
    return _sized(m, bits=m.random.choice((0, 1, 3, 7, 12, 24, 64, 1000, 65_535)))


@_class
def absurd_samples(m: Maker) -> Case:
    kinds = ("RGB", "PALETTE COLOR", "YBR_FULL_422", "MONOCHROME3", "", "YBR_RCT", "XYZ")
    return _sized(
        m, samples=m.random.choice((0, 2, 3, 4, 65_535)), photometric=m.random.choice(kinds)
    )


@_class
def overlays_and_tables(m: Maker) -> Case:
    w = m.writer()
    overlay = w.number(0x60000010, 65_535) + w.number(0x60000011, 65_535)
    overlay += w.number(0x60000100, m.random.choice((1, 16, 999))) + w.number(0x60000102, 99)
    overlay += w.element(0x60003000, "OW", bytes(m.random.choice((0, 8))))
    table = w.element(0x00281101, "US", bytes(6)) + w.element(0x00281201, "OW", b"\1\2")
    return m.image(w, image=w.image() + table, pixels=overlay + w.pixels(bytes(32)))


# Identifiers.


def _named(m: Maker, uid: str) -> Case:
    w = m.random.choice((LITTLE, PLAIN))
    place = m.number % 3
    names = [m.instance, m.study, m.study + ".1"]
    names[place] = uid
    head = w.text(0x00080016, "UI", CT) + w.text(0x00080018, "UI", names[0])
    series = w.text(0x0020000D, "UI", names[1]) + w.text(0x0020000E, "UI", names[2])
    return m.case(head + series + w.image() + w.pixels(bytes(32)), w.syntax)


@_class
def identifiers_as_paths(m: Maker) -> Case:
    return _named(
        m, m.random.choice(("../../../etc/passwd", "/etc/passwd", "..", "C:\\x", "1.2/../3"))
    )


@_class
def identifiers_with_lines(m: Maker) -> Case:
    return _named(
        m, m.random.choice(("1.2\r\n3", "1.2\n", "1.2\x1b[2J", "1.2\0.3", "1.2 .3", "*", "?"))
    )


@_class
def identifiers_too_long(m: Maker) -> Case:
    return _named(m, "1" + ".1" * m.random.choice((32, 100, 16_000, 32_000)))


@_class
def identifiers_empty(m: Maker) -> Case:
    return _named(m, m.random.choice(("", " ", "\0\0", ".", "1", "1..2", "1.2.", "abc")))


@_class
def identity_missing(m: Maker) -> Case:
    w = m.writer()
    parts = [
        p for n, p in enumerate(w.parts(instance=m.instance, study=m.study)) if n != m.number % 3
    ]
    return m.case(b"".join(parts) + w.image() + w.pixels(bytes(32)), w.syntax)


@_class
def identity_in_an_item(m: Maker) -> Case:
    w = m.writer()
    inner = w.identity(instance=m.instance, study=m.study)
    return m.case(w.sequence(0x00081140, w.item(inner)) + w.image() + w.pixels(bytes(32)), w.syntax)


# Files rather than data sets.


@_class
def preambles(m: Maker) -> Case:
    heads = (b"MZ\x90", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"#!/bin/sh\nid\n", b"PK\3\4",
             b"%PDF-1.7", b"<script>", b"\x1f\x8b\x08", b"II*\0", b"GIF89a",
             b"Rar!\x1a\7", b"\xca\xfe\xba\xbe")  # fmt: skip
    case = m.image()
    preamble = heads[m.number % len(heads)].ljust(128, b"\0")
    whole = build.file(case.body, case.syntax, instance=m.instance, preamble=preamble)
    return m.case(case.body, case.syntax, whole)


@_class
def meta_lengths(m: Maker) -> Case:
    case = m.image()
    length = m.random.choice((0, 4, 0xFFFFFFF0, 0x7FFFFFFF, 1000, 20))
    whole = build.file(case.body, case.syntax, instance=m.instance, group_length=length)
    return m.case(case.body, case.syntax, whole)


@_class
def meta_elements(m: Maker) -> Case:
    case = m.image()
    whole = bytearray(case.file)
    at = whole.index(b"\2\0\x10\0UI")
    wrong = (
        build.meta_element(0x12, "UN", b"", _false_length(m)),
        build.meta_element(0x10, "UI", build.uid(build.IMPLICIT)),
        build.meta_element(0x102, "OB", b"x", _false_length(m)),
        build.meta_element(0x13, "XX", b"ab"),
        build.meta_element(0x13, "SQ", LITTLE.item(), OPEN),
        build.meta_element(0x13, "SH", b"x") * 1000,
    )[m.number % 6]
    return m.case(case.body, case.syntax, bytes(whole[:at] + wrong + whole[at:]))


@_class
def foreign_syntaxes(m: Maker) -> Case:
    case = m.image()
    syntax = m.random.choice(("", "1.2.3", "../../x", "1.2.840.113619.5.2", "1.2\n",
                              "1.2.840.10008.1.20", "1.2.840.10008.1.2.1.98", "99"))  # fmt: skip
    whole = build.file(case.body, syntax, instance=m.instance)
    return m.case(case.body, case.syntax, whole)


@_class
def no_dicom(m: Maker) -> Case:
    data = m.random.choice((b"", b"\x89PNG\r\n\x1a\n" + bytes(400), bytes(128) + b"DICM",
                            b"DICM", b"%PDF-1.7\n" * 50, b"no DICOM\n" * 64,
                            m.random.randbytes(4000)))  # fmt: skip
    return m.case(data, EXPLICIT, data)


# What once was sound.


def _sound(m: Maker) -> bytes:
    ds = ct_slice(stored_ramp((1, 32, 32), seed=m.number)[0])
    ds.SOPInstanceUID, ds.StudyInstanceUID = m.instance, m.study
    ds.SeriesInstanceUID = m.study + ".1"
    return ct_bytes(
        ds, m.random.choice((EXPLICIT, build.IMPLICIT, build.BIG, DEFLATED, JPEG_LS, RLE))
    )


_results: list[bytes] = []


def _result(m: Maker) -> bytes:
    if not _results:
        _results.extend(
            to_bytes(one)
            for one in encode(sources.findings(), sources.source(), sources.provenance())
        )
    return m.random.choice(_results)


def _real(m: Maker) -> bytes:
    names = ("odd-dicom", "chest-ct", "seg-sr-samples", "ct-torso", "cardiac-cine")
    if m.shared is None or not m.shared.is_dir():
        return _sound(m)
    files = [p for n in names for p in sorted((m.shared / n).rglob("*")) if p.is_file()]
    small = [p for p in files if 200 < p.stat().st_size < 600_000]
    for path in m.random.sample(small, min(len(small), 50)):
        data = path.read_bytes()
        if data[128:132] == b"DICM":
            return data
    return _sound(m)


def _flip(m: Maker, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(m.random.randrange(1, 30)):
        # Most structure lies before the pixels.
        at = m.random.randrange(132, min(len(out), m.random.choice((400, 2000, len(out)))))
        out[at] = m.random.choice((out[at] ^ 1 << m.random.randrange(8), 0, 0xFF, 0x5C, 0x1B))
    return bytes(out)


def _splice(m: Maker, data: bytes) -> bytes:
    one, two = sorted(m.random.sample(range(132, len(data)), 2))
    piece = data[one : min(two, one + 4000)]
    at = m.random.randrange(132, len(data))
    how = m.random.randrange(3)
    if how == 0:
        return data[:at] + piece + data[at:]
    if how == 1:
        return data[:one] + data[min(two, one + 4000) :]
    return data[:at] + piece * m.random.randrange(2, 20) + data[at:]


def _lengths(m: Maker, data: bytes) -> bytes:
    """Aim at length fields: after a representation, or after a tag."""
    out = bytearray(data)
    places = [n for n in range(140, min(len(out), 60_000)) if data[n : n + 2] in _VRS]
    for at in m.random.sample(places, min(len(places), m.random.randrange(1, 4))):
        long = bytes(out[at : at + 2]).decode() in build.LONG
        new = (
            struct.pack("<I", _false_length(m))
            if long
            else struct.pack("<H", m.random.randrange(1 << 16))
        )
        at += 4 if long else 2
        out[at : at + len(new)] = new
    return bytes(out)


_VRS: Final = frozenset(b"AE AS CS DA DS IS LO OB OW PN SH SQ TM UI UL UN US UT".split())


def _mutate(m: Maker, way: int) -> Case:
    source = (_sound, _result, _real)[way // 3]
    how = (_flip, _splice, _lengths)[way % 3]
    return m.of_file(how(m, source(m)))


_classes("mutated", _mutate, 9)


def cases(seed: int, count: int, shared: Path | None = None) -> Iterator[Case]:
    """`count` cases, each class in turn; the same for the same seed."""
    names = sorted(CLASSES)
    for n in range(count):
        name = names[n % len(names)]
        yield CLASSES[name](Maker(name, n // len(names), seed, shared))
