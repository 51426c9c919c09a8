"""Looks for planted patient data wherever it must not be: files, names, Redis, processes, texts."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import urllib.parse
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODECS = (
    *("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le"),
    *("iso8859_5", "iso8859_6", "iso8859_7", "cp1251", "cp1252", "koi8_r"),
    *("shift_jis", "iso2022_jp", "euc_jp", "euc_kr", "gb18030"),
)
SHORTEST = 5
"""Bytes; anything shorter occurs by chance."""
LARGEST_STREAM = 64 << 20


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A planted text; `what` is told instead of it when it is found."""

    what: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A sentinel where none may be, and the form it had there."""

    where: str
    what: str
    form: str


# --- forms -------------------------------------------------------------------------------------


@cache
def forms(sentinel: Sentinel) -> tuple[tuple[str, bytes], ...]:
    """Every way in which a careless program writes a text down."""
    text = sentinel.text
    shapes = {
        "plain": text,
        "upper": text.upper(),
        "lower": text.lower(),
        "reversed": text[::-1],
        "percent": urllib.parse.quote(text, safe=""),
        "percent-lower": re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(text, safe="")),
        "plus": urllib.parse.quote_plus(text),
        "json": json.dumps(text)[1:-1],
        "python": ascii(text)[1:-1],
        "python-bytes": repr(text.encode("utf-8"))[2:-1],
        "xml": "".join(one if one.isascii() else f"&#{ord(one)};" for one in text),
    }
    digits = "".join(one for one in text if one.isdigit())
    if len(digits) >= 8:
        shapes["digits"] = digits
        shapes["digits-reversed"] = digits[::-1]
    found: dict[bytes, str] = {}
    for name, shape in shapes.items():
        for codec in CODECS if name in ("plain", "upper", "lower", "reversed") else ("utf-8",):
            try:
                found.setdefault(shape.encode(codec), f"{name} {codec}")
            except UnicodeEncodeError:
                continue
    plain = dict.fromkeys(text.encode(codec) for codec in ("utf-8", "utf-16-le"))
    for raw in [*plain, *_encoded(text, ("latin-1",))]:
        found.setdefault(raw.hex().encode(), "hex")
        found.setdefault(raw.hex().upper().encode(), "HEX")
        for at in range(3):
            for name, alphabet in (("base64", base64.b64encode), ("base64url", _urlsafe)):
                found.setdefault(_inside(raw, at, alphabet), name)
    return tuple((name, raw) for raw, name in found.items() if len(raw) >= SHORTEST)


def _encoded(text: str, codecs: Iterable[str]) -> Iterator[bytes]:
    for codec in codecs:
        try:
            yield text.encode(codec)
        except UnicodeEncodeError:
            continue


def _urlsafe(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw)


def _inside(raw: bytes, at: int, alphabet: Callable[[bytes], bytes]) -> bytes:
    """The base64 digits that depend on `raw` alone when it stands `at` bytes after a group."""
    coded = alphabet(bytes(at) + raw)
    skip = (0, 2, 3)[at]
    whole = (at + len(raw)) // 3 * 4
    return coded[skip:whole]


# --- bytes -------------------------------------------------------------------------------------


def scan_bytes(blob: bytes, where: str, sentinels: Collection[Sentinel]) -> list[Hit]:
    """Hits in the bytes themselves and in every compressed stream inside them."""
    views = [(where, blob), *((f"{where} (compressed)", one) for one in _streams(blob))]
    starts, wanted = _index(tuple(sentinels))
    found = []
    for place, view in views:
        for at in np.flatnonzero(np.isin(starts, _fours(view))):
            sentinel, form, raw = wanted[at]
            if raw in view:
                found.append(Hit(place, sentinel.what, form))
    return found


@cache
def _index(
    sentinels: tuple[Sentinel, ...],
) -> tuple[NDArray[np.uint32], list[tuple[Sentinel, str, bytes]]]:
    """The first four bytes of every form as a number, and what it is a form of."""
    wanted = [(one, form, raw) for one in sentinels for form, raw in forms(one)]
    starts = np.frombuffer(b"".join(raw[:4] for _, _, raw in wanted), "<u4")
    return starts, wanted


def _fours(view: bytes) -> NDArray[np.uint32]:
    """Every four bytes in a row as a number: which forms may be here is known at once."""
    each = np.frombuffer(view, np.uint8).astype(np.uint32)
    if len(each) < 4:
        return np.zeros(0, np.uint32)
    return np.unique(each[:-3] | each[1:-2] << 8 | each[2:-1] << 16 | each[3:] << 24)


def _streams(blob: bytes) -> Iterator[bytes]:
    whole = memoryview(blob)
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", blob):
        try:
            stream = zlib.decompressobj(wbits=47)
            yield stream.decompress(whole[start.start() :], LARGEST_STREAM)
        except zlib.error:
            continue


def scan_texts(texts: Iterable[tuple[str, str]], sentinels: Collection[Sentinel]) -> list[Hit]:
    """Hits in named texts: answers of commands and routes."""
    return [hit for where, text in texts for hit in scan_bytes(text.encode(), where, sentinels)]


# --- files -------------------------------------------------------------------------------------


def scan_tree(
    folder: Path, sentinels: Collection[Sentinel], bodies_allowed: Collection[Path] = ()
) -> list[Hit]:
    """Hits in names, link targets and contents below a folder.

    Parameters
    ----------
    bodies_allowed : collection of Path
        Folders whose files may hold anything, but whose names are searched all the same.
    """
    hits = []
    for path in sorted(folder.rglob("*")):
        shown = path.relative_to(folder).as_posix()
        hits += scan_bytes(path.name.encode("utf-8", "surrogateescape"), f"name {shown}", sentinels)
        if path.is_symlink():
            hits += scan_bytes(str(path.readlink()).encode(), f"link {shown}", sentinels)
        elif path.is_file() and not any(path.is_relative_to(one) for one in bodies_allowed):
            hits += scan_bytes(read(path), f"file {shown}", sentinels)
    return hits


def read(path: Path) -> bytes:
    """A file that may vanish while it is looked at."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


# --- Redis -------------------------------------------------------------------------------------


def scan_redis(client: Any, sentinels: Collection[Sentinel]) -> list[Hit]:
    """Hits in names and values of every key, whatever its type."""
    hits = []
    for key in client.scan_iter("*"):
        shown = f"redis {key.decode('ascii', 'replace')}"
        hits += scan_bytes(key, f"name {shown}", sentinels)
        for part in _values(client, key):
            hits += scan_bytes(part, shown, sentinels)
    return hits


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    kind = client.type(key).decode()
    if kind == "string":
        yield client.get(key) or b""
    elif kind == "list":
        yield from client.lrange(key, 0, -1)
    elif kind == "set":
        yield from client.smembers(key)
    elif kind == "zset":
        yield from client.zrange(key, 0, -1)
    elif kind == "hash":
        for name, value in client.hgetall(key).items():
            yield name
            yield value
    elif kind == "stream":
        for name, fields in client.xrange(key):
            yield name
            yield from (part for pair in fields.items() for part in pair)
    elif kind != "none":
        raise AssertionError(f"a Redis type nobody searches: {kind}")


# --- processes ---------------------------------------------------------------------------------


def scan_processes(pids: Iterable[int], sentinels: Collection[Sentinel]) -> list[Hit]:
    """Hits in arguments, environment, title and open files of processes."""
    hits = []
    for pid in pids:
        for name in ("cmdline", "environ", "comm"):
            hits += scan_bytes(read(Path("/proc", str(pid), name)), f"{name} of {pid}", sentinels)
        opened = "\0".join(open_files(pid)).encode("utf-8", "surrogateescape")
        hits += scan_bytes(opened, f"open files of {pid}", sentinels)
    return hits


def open_files(pid: int) -> list[str]:
    """Where the file descriptors of a process lead."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for one in Path("/proc", str(pid), "fd").iterdir():
            found.append(str(one.readlink()))
    return found


def descendants(pid: int) -> list[int]:
    """A process and all its children's children."""
    found = [pid]
    for one in found:
        for task in Path("/proc", str(one), "task").glob("*/children"):
            found += [int(child) for child in read(task).split()]
    return found


def compressed(text: str) -> bytes:
    """As RQ keeps a traceback."""
    return zlib.compress(text.encode())


def gzipped(text: str) -> bytes:
    """As logs are rotated."""
    return gzip.compress(text.encode())
