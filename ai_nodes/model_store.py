"""Fetched models on this machine's disk: put there whole or not at all, checked against hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from ai_nodes.manifest import RECEIPT, Manifest, Model, WeightFile
from ai_nodes.model_convert import convert
from ai_nodes.model_sources import HUB, Places, pieces
from ai_nodes.tensor_file import check_tensor_file
from dicom_services.errors import (
    ConfigError,
    CorruptError,
    MissingError,
    RadloopError,
    UnavailableError,
)

State = Literal["unpublished", "absent", "fetched"]
Say = Callable[[str, int, int], None]
"""Told path, bytes so far and bytes in all while a file comes."""

_PIECE: Final = 1 << 20
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LARGEST_RECEIPT: Final = 1 << 20
_GROWS: Final = 2
"""A converted file is about as large as its source, and both are there for a moment."""


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Models in `home`/<name>/<version>; `home` is 0700 and this account's."""

    manifest: Manifest
    home: Path
    hub: str = HUB
    hub_token: str = ""

    def folder(self, model: Model) -> Path:
        """Where its files are, or would be."""
        return self.home / model.name / model.version

    def state(self, model: Model) -> State:
        """Whether its files are there; not whether they are right."""
        if not model.published:
            return "unpublished"
        return "fetched" if (self.folder(model) / RECEIPT).is_file() else "absent"

    def fetch(self, model: Model, say: Say = lambda *_: None) -> bool:
        """Get a model and check it; False where it was there and right.

        Raises
        ------
        MissingError
            `weights_unpublished`, and as its sources.
        CorruptError
            `weights_hash` with the `file`'s number: the source gave other bytes; nothing is kept.
        UnavailableError
            `disk_full`, and as its sources.
        InputError
            As `convert`.
        """
        if not model.published:
            raise MissingError("weights_unpublished", model=model.name)
        with self._alone(model):
            if self.state(model) == "fetched":
                try:
                    self.verify(model)
                    return False
                except CorruptError:
                    # Fetched anew; until then what is there stays, and is refused.
                    pass
            incoming = self.home / f".{model.name}.incoming"
            # Of a fetch that was killed; nobody else is at it while we hold the lock.
            shutil.rmtree(incoming, ignore_errors=True)
            try:
                self._require_room(model)
                for one in (incoming, incoming / "files", incoming / "scratch"):
                    one.mkdir(mode=0o700)
                self._fill(model, incoming / "files", incoming / "scratch", say)
                self._put(model, incoming / "files")
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise UnavailableError("disk_full") from None
                raise ConfigError("data_folder_not_writable") from None
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
        return True

    def verify(self, model: Model) -> None:
        """Read every file of a fetched model and compare.

        Raises
        ------
        MissingError
            `weights_missing`.
        CorruptError
            `weights_hash` with the `file`'s number.
        """
        for at in range(len(self.wanted(model))):
            self.verify_file(model, at)

    def verify_file(self, model: Model, at: int) -> None:
        """As `verify`, of one file by its number."""
        path, wanted = self.wanted(model)[at]
        if not _holds(path, wanted):
            raise CorruptError("weights_hash", model=model.name, file=at)

    def wanted(self, model: Model) -> list[tuple[Path, str]]:
        """Each file of a fetched model and the SHA-256 it must have.

        The manifest's own where the file is as it came or the manifest pins what a conversion
        gives; else what the receipt says, which is as safe as the folder it lies in.

        Raises
        ------
        MissingError
            `weights_missing`.
        CorruptError
            `weights_hash` when receipt and manifest do not speak of the same sources.
        """
        folder = self.folder(model)
        told = self._receipt(folder, model)
        found = []
        for at, one in enumerate(model.file):
            receipt = told.get(one.path, {})
            if receipt.get("source_sha256") != one.sha256:
                raise CorruptError("weights_hash", model=model.name, file=at)
            pinned = one.live_sha256 if one.convert else one.sha256
            found.append((folder / one.path, pinned or str(receipt.get("sha256", ""))))
        return found

    def digest(self, model: Model) -> str:
        """One SHA-256 for all live files: of the only one, or over the list of several.

        Raises
        ------
        As `wanted`.
        """
        hashes = [digest for _, digest in self.wanted(model)]
        if len(hashes) == 1:
            return hashes[0]
        lines = [f"{digest}  {one.path}\n" for digest, one in zip(hashes, model.file, strict=True)]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    def _receipt(self, folder: Path, model: Model) -> dict[str, dict[str, Any]]:
        try:
            with (folder / RECEIPT).open("rb") as file:
                told = json.loads(file.read(_LARGEST_RECEIPT))
            return {str(one["path"]): dict(one) for one in told["files"]}
        except FileNotFoundError:
            raise MissingError("weights_missing", model=model.name) from None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            raise CorruptError("weights_hash", model=model.name, file=-1) from None

    @contextmanager
    def _alone(self, model: Model) -> Iterator[None]:
        """One fetch of a model at a time; the kernel lets go of a lock whose holder died."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.home.chmod(0o700)
            handle = os.open(self.home / f".{model.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            raise ConfigError("data_folder_not_writable") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _require_room(self, model: Model) -> None:
        largest = max(one.bytes for one in model.file)
        needed = model.bytes + (_GROWS - 1) * largest
        free = shutil.disk_usage(self.home).free
        if free < needed:
            raise UnavailableError("disk_full", needed_mb=needed >> 20, free_mb=free >> 20)

    def _fill(self, model: Model, files: Path, scratch: Path, say: Say) -> None:
        told = []
        for at, one in enumerate(model.file):
            live = files / one.path
            live.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                told.append(self._one(one, live, scratch, say))
            except RadloopError as error:
                # The same error, and of which model and file it speaks.
                error.facts.update(model=model.name, file=at)
                raise
        receipt = {
            "version": 1,
            "model": model.name,
            "model_version": model.version,
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": told,
        }
        with _made(files / RECEIPT) as file:
            file.write(json.dumps(receipt, indent=2).encode() + b"\n")

    def _one(self, one: WeightFile, live: Path, scratch: Path, say: Say) -> dict[str, Any]:
        came = scratch / ".checkpoint" if one.convert else live
        places = Places(self.manifest.folder, scratch, self.hub, self.hub_token)
        _take(one, came, places, say)
        digest = one.sha256
        if one.convert:
            largest = 2 * one.bytes
            convert(came, live, kind=one.convert, key=one.key, largest_bytes=largest)
            came.unlink()
            digest = _sha256(live)
            if one.live_sha256 not in ("", digest):
                raise CorruptError("weights_hash", stage="converted")
        elif live.suffix == ".safetensors":
            with live.open("rb") as file:
                check_tensor_file(file)
        return {"path": one.path, "source_sha256": one.sha256, "sha256": digest}

    def _put(self, model: Model, files: Path) -> None:
        """The whole folder under its name at once."""
        place = self.folder(model)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        for folder in (files, *(one for one in files.rglob("*") if one.is_dir())):
            _sync(folder)
        aside = self.home / f".{model.name}.old"
        shutil.rmtree(aside, ignore_errors=True)
        if place.exists():
            place.rename(aside)
        files.rename(place)
        _sync(place.parent)
        shutil.rmtree(aside, ignore_errors=True)


def _take(one: WeightFile, came: Path, places: Places, say: Say) -> None:
    """All sources of a file, one after another, into `came`; counted and hashed on the way."""
    digest, size = hashlib.sha256(), 0
    with _made(came) as file:
        for source in one.source:
            for piece in pieces(source, places, one.bytes):
                size += len(piece)
                if size > one.bytes:
                    raise CorruptError("weights_hash", reason="longer")
                digest.update(piece)
                file.write(piece)
                say(one.path, size, one.bytes)
    if size < one.bytes:
        raise CorruptError("weights_hash", reason="shorter")
    if digest.hexdigest() != one.sha256:
        raise CorruptError("weights_hash", reason="other")


@contextmanager
def _made(path: Path) -> Iterator[Any]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _holds(path: Path, wanted: str) -> bool:
    try:
        return not path.is_symlink() and _sha256(path) == wanted
    except OSError:
        return False


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
