"""The functional groups of a multi-frame file (PS3.3 C.7.6.16): what it says of each frame.

pydicom builds objects for every element of every frame; here only what is wanted is picked out of
the bytes, item by item, so that neither time nor memory grows with what nobody asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import BinaryIO, Final

from pydicom.tag import BaseTag

from dicom_services.dicom.header import (
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    PixelSpan,
    tags,
)
from dicom_services.errors import InputError

Values = Mapping[int, bytes]
"""Values of attributes as they stand in the file, by tag."""

_SHARED, _PER_FRAME = tags("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_FIRST_CHOICE: Final = frozenset(
    tags(
        "FrameContentSequence",
        "TemporalPositionSequence",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "CardiacSynchronizationSequence",
        "MREchoSequence",
        "MRTimingAndRelatedParametersSequence",
        "CTExposureSequence",
        "CTXRayDetailsSequence",
        "CTReconstructionSequence",
    )
)
# What a converter found no group for: it counts where no group tells.
_LAST_CHOICE: Final = frozenset(
    tags(
        "UnassignedSharedConvertedAttributesSequence",
        "UnassignedPerFrameConvertedAttributesSequence",
    )
)
# PS3.5 section 7.1.2: representations with two reserved bytes and a length of 32 bits.
_LONG_LENGTH: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_OFFSETS: Final = 0x7FE00001
_LENGTHS: Final = 0x7FE00002
_FLOAT_PIXELS: Final = frozenset((0x7FE00008, 0x7FE00009))
_PIXEL_DATA: Final = 0x7FE00010
_DEEPEST: Final = 24
"""Levels of sequences, as the gate has them."""
_PIECE: Final = 1 << 18
_LARGEST_ITEM: Final = 64 << 20
"""What one frame may be described with; a kilobyte is usual."""
_LONGEST_VALUE: Final = 1 << 12
_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True)
class FrameGroups:
    """What a multi-frame file says of its frames and where their pixels lie.

    Parameters
    ----------
    frames : tuple of mapping
        Of each frame, with what all frames share.
    pixels : PixelSpan or None
    float_pixels : bool
        Whether the pixels are floating-point numbers.
    offsets, lengths : bytes
        Extended Offset Table (7FE0,0001) and its lengths; empty where there are none.
    """

    frames: tuple[Values, ...]
    pixels: PixelSpan | None
    float_pixels: bool
    offsets: bytes
    lengths: bytes


class _CutError(Exception):
    """What is looked at goes on beyond the bytes at hand."""


def read_frame_groups(
    stream: BinaryIO, start: int, syntax: str, little: bool, wanted: Collection[BaseTag], most: int
) -> FrameGroups:
    """Read the functional groups and what follows them up to the pixel data.

    Parameters
    ----------
    stream : binary file
        Of the data set, inflated where it is deflated.
    start : int
        Where the first of the two sequences begins.
    syntax : str
        Transfer Syntax UID.
    little : bool
        Whether numbers are stored least significant byte first.
    wanted : collection of tags
        Of the attributes to keep.
    most : int
        Number of frames; more descriptions are refused.

    Raises
    ------
    InputError
        `frame_groups` when they are broken or describe more frames than there are,
        `file_truncated` when the file ends within them.
    """
    walk = _Walk(stream, start, syntax == IMPLICIT_LITTLE, little, wanted)
    shared: Values = {}
    frames: list[Values] = []
    kept = {_OFFSETS: b"", _LENGTHS: b""}
    while True:
        found = walk.element()
        if found is None:
            return FrameGroups(tuple(frames), None, False, b"", b"")
        tag, vr, length, body = found
        if tag == _SHARED:
            shared = next(iter([*walk.items(vr, length, body, 1)]), {})
        elif tag == _PER_FRAME:
            for values in walk.items(vr, length, body, most):
                frames.append({**shared, **values} if shared else values)
        elif tag == _PIXEL_DATA or tag in _FLOAT_PIXELS:
            span = PixelSpan(vr or "OW", walk.base + body, length)
            floating = tag in _FLOAT_PIXELS
            return FrameGroups(tuple(frames), span, floating, kept[_OFFSETS], kept[_LENGTHS])
        elif tag in kept:
            kept[tag] = walk.value(length, body)
        else:
            walk.skip(vr, length, body)


class _Walk:
    """A place in a stream, and the bytes from there on as far as they were needed."""

    __slots__ = (
        "base",
        "data",
        "explicit",
        "implicit",
        "items_known",
        "long",
        "position",
        "short",
        "stream",
        "wanted",
    )

    def __init__(
        self,
        stream: BinaryIO,
        start: int,
        implicit: bool,
        little: bool,
        wanted: Collection[BaseTag],
    ) -> None:
        order = "<" if little else ">"
        self.implicit = implicit
        self.explicit = Struct(order + "HH2sH").unpack_from
        self.short = Struct(order + "HHL").unpack_from
        self.long = Struct(order + "L").unpack_from
        self.stream = stream
        # The very objects that are asked for later: a dictionary then need not compare them.
        self.wanted = {int(tag): tag for tag in wanted}
        self.base = start
        self.position = 0
        self.items_known: dict[tuple[bool, bytes], Values] = {}
        stream.seek(start)
        self.data = stream.read(_PIECE)

    def element(self) -> tuple[int, str, int, int] | None:
        """Tag, representation, length and first byte of the next element; None at the end."""
        while True:
            try:
                tag, vr, length, body = self._header(self.position)
            except _CutError:
                if not self._more():
                    return None
                continue
            return tag, vr.decode("latin-1"), length, body

    def items(self, vr: str, length: int, body: int, most: int) -> Iterator[Values]:
        """What is wanted of each item of a sequence; moves on to what follows it."""
        with self._inside(vr.encode()):
            yield from self._items(length, body, most)

    @contextmanager
    def _inside(self, vr: bytes) -> Iterator[None]:
        """What an archive did not know it keeps as UN, and in implicit VR (PS3.5 section 6.2.2)."""
        before, self.implicit = self.implicit, self.implicit or vr == b"UN"
        try:
            yield
        finally:
            self.implicit = before

    def _items(self, length: int, body: int, most: int) -> Iterator[Values]:
        end = -1 if length == UNDEFINED_LENGTH else self.base + body + length
        self.position = body
        count = 0
        while self.base + self.position != end:
            if end >= 0 and self.base + self.position > end:
                raise InputError("frame_groups", frames=count)
            try:
                values, position = self._item(self.position)
            except _CutError:
                if not self._more():
                    raise InputError("file_truncated") from None
                continue
            self.position = position
            if values is None:
                return
            count += 1
            if count > most:
                raise InputError("frame_groups", frames=most)
            yield values

    def value(self, length: int, body: int) -> bytes:
        """The value of an element; moves on to what follows it."""
        if length > _LARGEST_ITEM:
            raise InputError("frame_groups")
        while len(self.data) < body + length:
            # What lies before is let go, so that the value moves to the front.
            gone = self.position
            if not self._more():
                raise InputError("file_truncated")
            body -= gone
        self.position = body + length
        return self.data[body : body + length]

    def skip(self, vr: str, length: int, body: int) -> None:
        """Move on to what follows an element."""
        if length != UNDEFINED_LENGTH:
            self._go(self.base + body + length)
            return
        self.position = body
        for _ in self.items(vr, length, body, 1 << 20):
            pass

    def _go(self, place: int) -> None:
        self.base, self.position = place, 0
        self.stream.seek(place)
        self.data = self.stream.read(_PIECE)

    def _more(self) -> bool:
        """Read on, twice as far as before; False at the end of the file."""
        left = self.data[self.position :]
        if len(left) > _LARGEST_ITEM:
            raise InputError("frame_groups")
        self.stream.seek(self.base + len(self.data))
        piece = self.stream.read(max(_PIECE, len(left)))
        self.base += self.position
        self.position = 0
        self.data = left + piece
        return bool(piece)

    def _header(self, position: int) -> tuple[int, bytes, int, int]:
        """Tag, representation, length and first byte of an element."""
        data = self.data
        try:
            if self.implicit:
                group, element, length = self.short(data, position)
                return group << 16 | element, b"", length, position + 8
            group, element, vr, length = self.explicit(data, position)
            if vr in _LONG_LENGTH:
                return group << 16 | element, vr, self.long(data, position + 8)[0], position + 12
            if group == 0xFFFE:
                return group << 16 | element, b"", self.long(data, position + 4)[0], position + 8
        except struct_error:
            raise _CutError from None
        return group << 16 | element, vr, length, position + 8

    def _item(self, position: int) -> tuple[Values | None, int]:
        """What is wanted of an item of functional groups, and where it ends."""
        tag, _, length, body = self._header(position)
        if tag == _SEQUENCE_END:
            return None, body
        if tag != _ITEM:
            raise InputError("frame_groups")
        values: dict[int, bytes] = {}
        rest: dict[int, bytes] = {}
        end = self._end(length, body)
        position = body
        while position != end:
            tag, vr, length, body = self._header(position)
            if tag == _ITEM_END and end < 0:
                return {**rest, **values}, body
            if tag in _FIRST_CHOICE:
                position = self._group(vr, length, body, values)
            elif tag in _LAST_CHOICE:
                position = self._group(vr, length, body, rest)
            else:
                position = self._past(vr, length, body, 0)
            if 0 <= end < position:
                raise InputError("frame_groups")
        return {**rest, **values}, position

    def _end(self, length: int, body: int) -> int:
        """Where a value of that length ends; -1 where a delimiter tells."""
        if length == UNDEFINED_LENGTH:
            return -1
        if body + length > len(self.data):
            raise _CutError
        return body + length

    def _group(self, vr: bytes, length: int, body: int, values: dict[int, bytes]) -> int:
        """Take over what is wanted of a functional group; where it ends."""
        if vr == b"UN":
            with self._inside(vr):
                return self._group(b"", length, body, values)
        end = self._end(length, body)
        if end >= 0:
            # Most groups are the same in all frames.
            content = self.data[body:end] if length <= _LONGEST_VALUE else b""
            known = self.items_known.get((self.implicit, content))
            if known is None:
                found: dict[int, bytes] = {}
                self._first_item(body, end, found)
                known = found
                if content and len(self.items_known) < _REMEMBERED:
                    self.items_known[self.implicit, content] = known
            values.update(known)
            return end
        return self._first_item(body, end, values)

    def _first_item(self, position: int, end: int, values: dict[int, bytes]) -> int:
        """Wanted elements of the first item of a sequence; where the sequence ends."""
        first = True
        while position != end:
            tag, _, length, body = self._header(position)
            if tag == _SEQUENCE_END and end < 0:
                return body
            if tag != _ITEM:
                raise InputError("frame_groups")
            position = self._elements(length, body, values if first else {})
            first = False
            if 0 <= end < position:
                raise InputError("frame_groups")
        return position

    def _elements(self, length: int, body: int, values: dict[int, bytes]) -> int:
        end = self._end(length, body)
        position = body
        while position != end:
            tag, vr, length, body = self._header(position)
            if tag == _ITEM_END and end < 0:
                return body
            position = self._past(vr, length, body, 0)
            if 0 <= end < position:
                raise InputError("frame_groups")
            key = self.wanted.get(tag)
            if key is not None and length <= _LONGEST_VALUE:
                values[key] = self.data[body:position]
        return position

    def _past(self, vr: bytes, length: int, body: int, depth: int) -> int:
        """Where an element ends whose content nobody wants."""
        if length != UNDEFINED_LENGTH:
            if body + length > len(self.data):
                raise _CutError
            return body + length
        if depth > _DEEPEST:
            raise InputError("frame_groups")
        with self._inside(vr):
            return self._past_items(body, depth)

    def _past_items(self, position: int, depth: int) -> int:
        while True:
            tag, _, length, body = self._header(position)
            if tag == _SEQUENCE_END:
                return body
            if tag != _ITEM:
                raise InputError("frame_groups")
            if length != UNDEFINED_LENGTH:
                position = self._past(b"", length, body, depth)
                continue
            position = body
            while True:
                tag, vr, length, body = self._header(position)
                if tag == _ITEM_END:
                    position = body
                    break
                position = self._past(vr, length, body, depth + 1)
