"""What a client accepts, and what to ask this Orthanc for so that it gets that."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from dicom_services.api.dicomweb.paths import Form, Level

DICOM: Final = "application/dicom"
BYTES: Final = "application/octet-stream"
JSON: Final = "application/dicom+json"
_ANY: Final = "*/*"
_LONGEST: Final = 4096
_MOST: Final = 64
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",;=\s]+)|([,;=])|\s+')
_SYNTAX: Final = re.compile(r"(?:\*|[0-9][0-9.]{0,63})\Z")
_IMAGES: Final = frozenset({"image/jpeg", "image/png"})
# What frames may be packed in, PS3.18 table 8.7.3-5; each part of the answer says which it is.
_FRAME_TYPES: Final = frozenset(
    {"image/jpeg", "image/jls", "image/jp2", "image/jpx", "image/dicom-rle"}
)


@dataclass(frozen=True, slots=True)
class Media:
    """One of the kinds that a client accepts."""

    kind: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """Of multipart, the kind of its parts; a parameter may stand inside the quotes."""
        return self.parameters.get("type", "").split(";")[0].strip().lower()

    @property
    def syntax(self) -> str:
        """The transfer syntax it asks for; "" where it leaves that open."""
        inside = re.search(r"transfer-syntax=([^; ]+)", self.parameters.get("type", ""))
        told = self.parameters.get("transfer-syntax", inside[1] if inside else "")
        return told if _SYNTAX.match(told) else ""

    @property
    def weight(self) -> float:
        """Its q."""
        text = self.parameters.get("q", "1")
        return float(text) if re.fullmatch(r"[01](\.[0-9]{0,3})?", text) else 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What Orthanc is asked for.

    Parameters
    ----------
    accept : str
        The only form of Accept that it understands: one kind, no list.
    again : str
        What to ask if it cannot do that; "" for nothing.
    single : str
        The kind of the one part that the client wants without its multipart; "" for all of it.
    """

    accept: str
    again: str = ""
    single: str = ""


def media_of(header: str) -> list[Media]:
    """The kinds of an Accept header, the best first; a broken one ends where it breaks."""
    found: list[Media] = []
    kind, name, parameters, wants_value = "", "", dict[str, str](), False
    for token in _TOKEN.finditer(header[:_LONGEST] + ","):
        quoted, word, mark = token.groups()
        text = word if word is not None else quoted
        if mark == ",":
            if kind and len(found) < _MOST:
                found.append(Media(kind, parameters))
            kind, name, parameters, wants_value = "", "", {}, False
        elif mark == ";":
            name, wants_value = "", False
        elif mark == "=":
            wants_value = True
        elif text is not None and not kind:
            kind = text.lower()
        elif text is not None and wants_value and name:
            parameters[name] = text
        elif text is not None:
            name = text.lower()
    return sorted((one for one in found if one.weight > 0), key=lambda one: -one.weight)


def choose(form: Form, level: Level, frames: int, header: str) -> Choice | None:
    """What to ask Orthanc for; None where it has nothing that the client accepts."""
    media = media_of(header) if header.strip() else [Media(_ANY)]
    for one in media:
        if form == "objects":
            choice = _objects(one, level)
        elif form == "frames":
            choice = _frames(one, frames)
        elif form == "bulk":
            choice = _bulk(one)
        elif form == "rendered":
            choice = _rendered(one)
        else:
            choice = _json(one)
        if choice:
            return choice
    return None


def _objects(media: Media, level: Level) -> Choice | None:
    # Without a transfer syntax of the client's choice as stored, for transcoding breaks off in the
    # middle of the answer where this Orthanc cannot do it.
    whole = f'multipart/related; type="{DICOM}"; transfer-syntax={media.syntax or "*"}'
    if media.kind == _ANY or (media.kind == "multipart/related" and media.part in ("", DICOM)):
        return Choice(whole)
    if media.kind == DICOM and level == "instances":
        return Choice(whole, single=DICOM)
    return None


def _frames(media: Media, count: int) -> Choice | None:
    wrapped = media.kind in (_ANY, "multipart/related", "multipart/*")
    kind = media.part if wrapped else media.kind
    if wrapped and kind in ("", _ANY):
        kind = BYTES
    if kind != BYTES and kind not in _FRAME_TYPES:
        return None
    if not wrapped and count != 1:
        return None
    asked = f'multipart/related; type="{kind}"'
    stored = f'multipart/related; type="{BYTES}"; transfer-syntax=*'
    if media.syntax:
        asked += f"; transfer-syntax={media.syntax}"
    again = stored if kind == BYTES and not media.syntax else ""
    return Choice(asked, again, "" if wrapped else kind)


def _bulk(media: Media) -> Choice | None:
    asked = f'multipart/related; type="{BYTES}"'
    if media.kind == _ANY or (
        media.kind == "multipart/related" and media.part in ("", BYTES, _ANY)
    ):
        return Choice(asked)
    return Choice(asked, single=BYTES) if media.kind == BYTES else None


def _rendered(media: Media) -> Choice | None:
    if media.kind in _IMAGES:
        return Choice(media.kind)
    return Choice("image/jpeg") if media.kind in (_ANY, "image/*") else None


def _json(media: Media) -> Choice | None:
    if media.kind in (JSON, "application/json", _ANY, "application/*"):
        return Choice(JSON)
    return None
