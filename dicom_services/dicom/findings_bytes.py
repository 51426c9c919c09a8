"""The findings document as the archive keeps it: JSON, packed by gzip."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

MOST_BYTES: Final = 64 << 20
"""Unpacked: two hundred lesions in a thousand slices each are a tenth of it."""

_GZIP: Final = 31
_LEVEL: Final = 6


def pack(document: Mapping[str, Any]) -> bytes:
    """The same bytes for the same document: no name and no time is in them."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return packer.compress(text) + packer.flush()


def unpack(data: bytes) -> dict[str, Any] | None:
    """The document; None of what is no document of ours, or grows beyond `MOST_BYTES`."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        text = unpacker.decompress(data, MOST_BYTES)
        document = json.loads(text, parse_constant=_no_number) if unpacker.eof else None
    except (zlib.error, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and "schema" in document else None


def _no_number(word: str) -> float:
    """NaN and infinities, which are no JSON and would not leave again."""
    raise ValueError(word)
