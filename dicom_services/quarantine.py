"""The quarantine: refused files of a data folder, kept within bounds until a person decides.

Standard library and the gate only, so that the plugin inside Orthanc may use it too. Nothing of a
patient is in a file name or a record; the bodies are what they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dicom_services.gate import REASONS

Buffer = bytes | bytearray | memoryview
Content = Buffer | Sequence[Buffer] | Path

SOURCES: Final = ("c-store", "upload", "poison")
_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}\Z")
_WORD: Final = re.compile(r"[a-z][a-z0-9_-]{0,40}\Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_NOT_IN_AN_AE_TITLE: Final = re.compile(r"[^\x20-\x5b\x5d-\x7e]")
_PART: Final = ".part"
_PIECE: Final = 1 << 20
_LARGEST_RECORD: Final = 4096
_LOCK_WAIT_S: Final = 5.0
"""Longer than any holder needs; a holder that was stopped must not stop the front."""
_RECOUNT_S: Final = 60.0
_STALE_PART_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Record:
    """Why one file is in quarantine.

    Parameters
    ----------
    id : str
        Ordered by time, and random.
    when, last : str
        UTC, ISO 8601: when it came first and, if it came again, last.
    reason : str
        One of `gate.REASONS`.
    offset : int
        Byte at which that was seen.
    source : str
        One of SOURCES.
    sender : str
        AE title; "" where there is none.
    bytes : int
    sha256 : str
    kept : bool
        Whether the file itself is there too: not where the quarantine or the disk was full.
    sop_instance_digest : str
        `digest_of_uid` of its SOP Instance UID; "" where it is not known.
    times : int
        How often the very same file came.
    """

    id: str
    when: str
    reason: str
    offset: int
    source: str
    sender: str
    bytes: int
    sha256: str
    kept: bool
    sop_instance_digest: str = ""
    times: int = 1
    last: str = ""

    def __post_init__(self) -> None:
        texts = (self.id, self.when, self.reason, self.source, self.sender, self.sha256, self.last)
        sound = (
            all(isinstance(text, str) and len(text) <= 64 for text in texts)
            and _NAME.match(self.id)
            and _WORD.match(self.reason)
            and _WORD.match(self.source)
            and _DIGEST.match(self.sha256)
            and all(type(number) is int for number in (self.offset, self.bytes, self.times))
            and type(self.kept) is bool
            and (self.sop_instance_digest == "" or _DIGEST.match(self.sop_instance_digest))
        )
        if not sound or datetime.fromisoformat(self.when).tzinfo is None:
            raise ValueError("no record of a quarantine")


@dataclass(frozen=True, slots=True)
class Usage:
    """How full it is; `beyond` counts what came when there was no room for a record either."""

    bytes: int = 0
    records: int = 0
    beyond: int = 0


def digest_of_uid(uid: str | bytes) -> str:
    """What stands for a SOP Instance UID here; the padding of its value does not count."""
    value = uid.encode("ascii", "replace") if isinstance(uid, str) else uid
    return hashlib.sha256(value.strip(b" \0")).hexdigest()


class Quarantine:
    """A folder of refused files; threads and processes may share it.

    Parameters
    ----------
    folder : Path
        Made when the first file is kept.
    max_bytes, max_records : int
        When full, further files leave a record only, then not even that: what is there stays, so
        that nobody can flush it by sending more.
    """

    def __init__(self, folder: Path, max_bytes: int, max_records: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_records = max_records
        self._counted_at = float("-inf")
        self._ids_by_sha256: dict[str, str] = {}
        self._poison: tuple[tuple[int, int, int], frozenset[str]] = ((0, 0, 0), frozenset())

    def keep(
        self,
        data: Content,
        *,
        reason: str,
        offset: int,
        source: str,
        sender: str,
        sop_instance_digest: str = "",
    ) -> str:
        """Keep a refused file and why it was refused; a full or broken disk is no error here.

        Parameters
        ----------
        data : bytes-like, sequence of bytes-like or Path
            The file, whole or in its pieces.
        reason, offset, source, sender, sop_instance_digest
            As in `Record`.

        Returns
        -------
        str
            The id of its record, "" where not even a record could be kept. The same file with the
            same reason raises the count of the record that this object has made of it before.
        """
        if reason not in REASONS or source not in SOURCES:
            raise ValueError("no reason of the gate, or no source of files")
        pieces = _pieces(data)
        try:
            _make_private(self.folder)
            size, sha256 = _measured(pieces)
            now = datetime.now(UTC)
            record = Record(
                id=f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(4)}",
                when=now.isoformat(timespec="milliseconds"),
                reason=reason,
                offset=offset,
                source=source,
                sender=_NOT_IN_AN_AE_TITLE.sub("?", sender)[:16].strip(),
                bytes=size,
                sha256=sha256,
                kept=False,
                sop_instance_digest=sop_instance_digest,
            )
            return self._keep(record, pieces)
        except OSError:
            return ""

    def _keep(self, record: Record, pieces: Callable[[], Iterable[Buffer]]) -> str:
        handle: int | None = None
        part = self.folder / f"{record.id}.dcm{_PART}"
        with self._locked():
            usage = self._usage(record.bytes)
            fits = usage.bytes + record.bytes <= self.max_bytes
            if earlier := self._came_again(record, fits):
                return earlier
            if usage.records >= self.max_records:
                self._save(replace(usage, beyond=usage.beyond + 1))
                return ""
            # Both with their final size from the start: whoever counts now counts all of it.
            self._write(record, durable=False)
            if fits:
                handle = _reserve(part, record.bytes)
            taken = record.bytes if handle is not None else 0
            counted = replace(usage, bytes=usage.bytes + taken, records=usage.records + 1)
            self._save(counted)
            self._ids_by_sha256[record.sha256] = record.id
        kept = handle is not None and _fill(handle, part, pieces)
        if kept:
            try:
                part.rename(part.with_suffix(""))
                self._write(replace(record, kept=True))
            except OSError:
                # The record says that there is no body.
                self._body(record.id).unlink(missing_ok=True)
                kept = False
        if fits and not kept:
            self._forget_usage()
        return record.id

    def _came_again(self, record: Record, fits: bool) -> str:
        earlier = self._ids_by_sha256.get(record.sha256, "")
        try:
            known = self.record(earlier)
        except LookupError:
            return ""
        if known.reason != record.reason or (fits and not known.kept):
            return ""
        self._write(replace(known, times=known.times + 1, last=record.when), durable=False)
        return earlier

    def records(self) -> tuple[list[Record], int]:
        """What can be read, by time, and how many records or bodies without one cannot."""
        found: list[Record] = []
        ids = self.ids()
        for one in ids:
            with contextlib.suppress(LookupError):
                found.append(self.record(one))
        return found, len(ids) - len(found)

    def ids(self) -> list[str]:
        """Of every record or body, readable or not, by time."""
        names = self._names()
        return sorted({Path(name).stem for name in names if name.endswith((".json", ".dcm"))})

    def record(self, name: str) -> Record:
        """The record of one id.

        Raises
        ------
        LookupError
            When there is none that can be read.
        """
        if not _NAME.match(name):
            raise LookupError("quarantine_unknown")
        try:
            with (self.folder / f"{name}.json").open("rb") as file:
                told: Any = json.loads(file.read(_LARGEST_RECORD))
            record = Record(**told)
        except (OSError, ValueError, TypeError, RecursionError):
            raise LookupError("quarantine_unknown") from None
        if record.id != name:
            raise LookupError("quarantine_unknown")
        return record

    def file_of(self, record: Record) -> Path:
        """Where its body lies.

        Raises
        ------
        LookupError
            When it was not kept, or is there no more.
        """
        body = self._body(record.id)
        if not record.kept or not body.is_file():
            raise LookupError("quarantine_not_kept")
        return body

    def remove(self, names: Iterable[str]) -> int:
        """Delete records and their bodies, readable or not; how many were there.

        Raises
        ------
        OSError
            When a file cannot be deleted.
        """
        removed = 0
        if not self.folder.is_dir():
            return removed
        for name in names:
            if not _NAME.match(name):
                continue
            places = (self._body(name), self.folder / f"{name}.json")
            removed += any(place.exists() for place in places)
            # The body first: what may identify a patient must not outlive its record.
            for place in places:
                place.unlink(missing_ok=True)
        # Held only now: ten thousand files take longer than a writer waits.
        with self._locked():
            self._forget_usage()
        return removed

    def purge(self, *, older_than_days: float = 0.0) -> int:
        """Delete everything that came longer ago than that; how many. Marks of poison stay."""
        before = datetime.now(UTC) - timedelta(days=older_than_days)
        name = f"{before:%Y%m%dT%H%M%S}{before.microsecond // 1000:03d}-g"
        ids = {Path(one).name.split(".")[0] for one in self._names()}
        if not older_than_days:
            (self.folder / "usage").unlink(missing_ok=True)
        return self.remove(one for one in sorted(ids) if one < name)

    def usage(self) -> Usage:
        """How full it is, counted now."""
        return self._count()

    def mark_poison(self, digest: str) -> None:
        """Remember that the instance of this `digest_of_uid` stopped a reader.

        Raises
        ------
        OSError
            When it cannot be remembered.
        """
        if not _DIGEST.match(digest):
            raise ValueError("no digest of a UID")
        _make_private(self.folder)
        with self._locked():
            if not self.is_poison(digest):
                self._mark(self._poison[1] | {digest})

    def is_poison(self, digest: str) -> bool:
        """Whether it is marked; one look at the file's date unless marks have changed."""
        place = self.folder / "poison"
        try:
            found = place.stat()
        except OSError:
            self._poison = ((0, 0, 0), frozenset())
            return False
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        known, marks = self._poison
        if known != stamp:
            try:
                lines = place.read_text("ascii", "replace").split()
            except OSError:
                return digest in marks
            marks = frozenset(line for line in lines if _DIGEST.match(line))
            self._poison = (stamp, marks)
        return digest in marks

    def forget_poison(self, digest: str) -> None:
        """Take a mark away.

        Raises
        ------
        OSError
            When it cannot be taken away.
        """
        if not self.is_poison(digest):
            return
        with self._locked():
            if self.is_poison(digest):
                self._mark(self._poison[1] - {digest})

    def _mark(self, digests: Iterable[str]) -> None:
        text = "".join(f"{digest}\n" for digest in sorted(digests))
        _replace(self.folder / "poison", text.encode(), durable=True)

    def _write(self, record: Record, *, durable: bool = True) -> None:
        text = json.dumps(asdict(record), indent=1) + "\n"
        _replace(self.folder / f"{record.id}.json", text.encode(), durable=durable)

    def _body(self, name: str) -> Path:
        return self.folder / f"{name}.dcm"

    def _names(self) -> list[str]:
        """Files that begin with an id."""
        try:
            names = [place.name for place in self.folder.iterdir()]
        except OSError:
            return []
        return [name for name in names if _NAME.match(name.split(".")[0])]

    def _usage(self, more: int) -> Usage:
        """As last noted; counted anew at first, and now and then where `more` do not fit."""
        noted = self._noted()
        full = noted is not None and (
            noted.records >= self.max_records or noted.bytes + more > self.max_bytes
        )
        age = time.monotonic() - self._counted_at
        if noted is None or age == float("inf") or (full and age > _RECOUNT_S):
            noted = self._count(clear=True)
            self._counted_at = time.monotonic()
        return noted

    def _noted(self) -> Usage | None:
        try:
            told: Any = json.loads((self.folder / "usage").read_bytes()[:_LARGEST_RECORD])
            usage = Usage(**told)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        sound = all(type(number) is int and number >= 0 for number in asdict(usage).values())
        return usage if sound else None

    def _count(self, *, clear: bool = False) -> Usage:
        size, ids = 0, set()
        now = time.time()
        for name in self._names():
            place = self.folder / name
            try:
                found = place.stat()
            except OSError:
                continue
            if name.endswith(_PART) and now - found.st_mtime > _STALE_PART_S:
                # Of a writer that was killed.
                if clear:
                    with contextlib.suppress(OSError):
                        place.unlink()
                continue
            ids.add(name.split(".")[0])
            size += 0 if ".json" in name else found.st_size
        noted = self._noted()
        return Usage(size, len(ids), noted.beyond if noted else 0)

    def _save(self, usage: Usage) -> None:
        try:
            _replace(self.folder / "usage", json.dumps(asdict(usage)).encode(), durable=False)
        except OSError:
            self._forget_usage()

    def _forget_usage(self) -> None:
        """Have the next writer count, here and in other processes; the count beyond stays."""
        noted = self._noted()
        with contextlib.suppress(OSError):
            (self.folder / "usage").unlink(missing_ok=True)
        if noted and noted.beyond and self.folder.is_dir():
            counted = self._count()
            with contextlib.suppress(OSError):
                text = json.dumps(asdict(replace(counted, beyond=noted.beyond)))
                _replace(self.folder / "usage", text.encode(), durable=False)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self.folder / "lock", flags, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.002)
            yield
        finally:
            os.close(handle)


def _pieces(data: Content) -> Callable[[], Iterable[Buffer]]:
    """Gives the content in pieces, as often as it is asked."""
    if isinstance(data, Path):
        place = data

        def read() -> Iterator[bytes]:
            with place.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece

        return read
    whole = (data,) if isinstance(data, bytes | bytearray | memoryview) else tuple(data)
    return lambda: whole


def _measured(pieces: Callable[[], Iterable[Buffer]]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    for piece in pieces():
        size += memoryview(piece).nbytes
        digest.update(piece)
    return size, digest.hexdigest()


def _make_private(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)


def _reserve(part: Path, size: int) -> int | None:
    """A new file that says it is as large as it will be; None where the disk does not let us."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(part, flags, 0o600)
    except OSError:
        return None
    try:
        os.ftruncate(handle, size)
    except OSError:
        os.close(handle)
        part.unlink(missing_ok=True)
        return None
    return handle


def _fill(handle: int, part: Path, pieces: Callable[[], Iterable[Buffer]]) -> bool:
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for piece in pieces():
                left = memoryview(piece).cast("B")
                while left:
                    left = left[file.write(left) or 0 :]
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        return False
    return True


def _replace(place: Path, content: bytes, *, durable: bool) -> None:
    """Write a small private file so that a reader sees the old or the new one, never a half."""
    beside = place.with_name(f"{place.name}.{secrets.token_hex(4)}{_PART}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(beside, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(place)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
