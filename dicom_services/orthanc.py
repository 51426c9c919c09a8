"""Orthanc over HTTP: pooled connections, parallel fetching, storing by STOW; only our errors."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import httpx

from dicom_services.errors import AccessError, InputError, MissingError, UnavailableError

Level = Literal["patients", "studies", "series", "instances"]

FINDINGS: Final = "radloop-findings"
"""Name of the attachment that holds a report's findings as packed JSON."""

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}\Z")
_TRIES: Final = 3
_PAUSE_S: Final = 0.3
_PIECE: Final = 1 << 20
_FAILED_SOP_SEQUENCE: Final = "00081198"
_REFERENCED_SOP_SEQUENCE: Final = "00081199"
_FAILURE_REASON: Final = "00081197"
# PS3.3 C.14.1.1: 0x0110 processing failure and 0xA7xx out of resources pass; others do not.
_PASSING_REASONS: Final = frozenset({0x0110, *range(0xA700, 0xA800)})


class Orthanc:
    """A connection to one Orthanc; threads may share it.

    Parameters
    ----------
    url : str
        For example "http://127.0.0.1:8042".
    user, password : str
    threads : int
        Parallel requests of `fetch`.
    timeout_s : float
        Longest silence of Orthanc within one request.
    """

    def __init__(
        self, url: str, user: str, password: str, *, threads: int = 4, timeout_s: float = 60.0
    ) -> None:
        self._threads = threads
        self._client = httpx.Client(
            base_url=url,
            auth=(user, password),
            # gzip would cost Orthanc 48 ms an instance (HttpCompressionEnabled).
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            limits=httpx.Limits(max_connections=threads + 4, keepalive_expiry=2.0),
            # A proxy of the environment must never see images.
            trust_env=False,
        )

    def __enter__(self) -> Orthanc:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def system(self) -> dict[str, Any]:
        """Orthanc's name, versions and ports; the cheapest proof that it answers and knows us."""
        return _object(self.get_json("/system"))

    def status(self) -> dict[str, Any]:
        """What our plugin inside Orthanc says of its jobs."""
        return _object(self.get_json("/radloop/status"))

    def instances_of(self, series: str) -> list[str]:
        """Orthanc ids of a series' instances, sorted, for Orthanc lists them in any order.

        Raises
        ------
        MissingError
            `orthanc_missing` when there is no such series.
        """
        described = _object(self.get_json(f"/series/{_checked(series)}"))
        return sorted(str(instance) for instance in described.get("Instances", []))

    def fetch(self, instances: Sequence[str]) -> list[bytes]:
        """The DICOM files of `instances`, in their order, by parallel requests."""
        paths = [f"/instances/{_checked(instance)}/file" for instance in instances]
        if len(paths) < 2:
            return [self.get_bytes(path) for path in paths]
        with ThreadPoolExecutor(self._threads, "fetch") as pool:
            waiting = [pool.submit(self.get_bytes, path) for path in paths]
            try:
                return [fetched.result() for fetched in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stow(self, files: Sequence[bytes]) -> int:
        """Store DICOM files by one STOW-RS request; storing what is there already is a success.

        Returns
        -------
        int
            How many Orthanc confirmed, which is all of them.

        Raises
        ------
        UnavailableError
            `stow_failed` when Orthanc could not store all of them now.
        InputError
            `stow_refused` when it never will.
        """
        if not files:
            return 0
        boundary = secrets.token_hex(16)
        content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"--{boundary}--\r\n".encode()
        length = sum(len(head) + len(file) + 2 for file in files) + len(tail)

        def body() -> Iterator[bytes]:
            for file in files:
                yield head
                yield file
                yield b"\r\n"
            yield tail

        headers = {
            "Accept": "application/dicom+json",
            "Content-Type": content_type,
            "Content-Length": str(length),
        }
        answer = self._send(
            "POST", "/dicom-web/studies", headers=headers, body=body, pass_on=(409,)
        )
        _require_stored(answer, len(files))
        return len(files)

    def store(self, file: Path) -> bool:
        """Store one DICOM file; whether it is new, for another may have its UID already.

        Raises
        ------
        InputError
            `orthanc_refused` when Orthanc takes it for no DICOM.
        """

        def body() -> Iterator[bytes]:
            with file.open("rb") as stream:
                while piece := stream.read(_PIECE):
                    yield piece

        headers = {
            "Content-Type": "application/dicom",
            "Content-Length": str(file.stat().st_size),
        }
        # Sent once: after a broken connection a second try would find the first one's instance.
        answer = self._send("POST", "/instances", headers=headers, body=body, again=False)
        return _object(_json(answer)).get("Status") == "Success"

    def find(self, level: Level, query: Mapping[str, str]) -> list[str]:
        """Orthanc ids of what matches `query`, DICOM keywords to values."""
        singular = {"patients": "Patient", "studies": "Study", "series": "Series"}
        body = {
            "Level": singular.get(level, "Instance"),
            "Query": dict(query),
            "CaseSensitive": True,
        }
        found = self.post_json("/tools/find", body, again=True)
        return [str(name) for name in found] if isinstance(found, list) else []

    def metadata(self, level: Level, name: str, key: str) -> str | None:
        """One metadata value of a resource; None where it has none."""
        path = f"/{level}/{_checked(name)}/metadata/{key}"
        try:
            return self._send("GET", path).content.decode("utf-8", "replace")
        except MissingError:
            return None

    def set_metadata(self, level: Level, name: str, key: str, value: str) -> None:
        """Keep `value` as one metadata value of a resource."""
        path = f"/{level}/{_checked(name)}/metadata/{key}"
        self._send("PUT", path, body=lambda: (value.encode(),))

    def attachment(self, level: Level, name: str, key: str) -> bytes | None:
        """What is kept beside a resource under a name; None where there is nothing."""
        try:
            return self.get_bytes(f"/{level}/{_checked(name)}/attachments/{key}/data")
        except MissingError:
            return None

    def attach(self, level: Level, name: str, key: str, data: bytes) -> None:
        """Keep `data` beside a resource under a name; what was there is replaced.

        The name stands in the configuration's UserContentType.
        """
        path = f"/{level}/{_checked(name)}/attachments/{key}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}
        self._send("PUT", path, headers=headers, body=lambda: (data,))

    def delete(self, level: Level, name: str) -> None:
        """Remove a resource and everything below it."""
        self._send("DELETE", f"/{level}/{_checked(name)}")

    def get_bytes(self, path: str) -> bytes:
        """Body of a GET."""
        return self._send("GET", path).content

    def get_json(self, path: str, **query: str | int) -> Any:
        """JSON of a GET."""
        return _json(self._send("GET", path, query=query))

    def put_json(self, path: str, body: object) -> Any:
        """PUT JSON; the answer's JSON, None where it has none."""
        return self._json_out("PUT", path, body, again=True)

    def post_json(self, path: str, body: object, *, again: bool = False, **query: str | int) -> Any:
        """POST JSON; sent again after a broken connection only where `again` says it may."""
        return self._json_out("POST", path, body, again=again, query=query)

    def delete_path(self, path: str) -> None:
        """DELETE any path, such as a modality."""
        self._send("DELETE", path)

    def _json_out(
        self,
        method: str,
        path: str,
        body: object,
        *,
        again: bool,
        query: Mapping[str, str | int] | None = None,
    ) -> Any:
        text = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = self._send(
            method, path, headers=headers, body=lambda: (text,), query=query or {}, again=again
        )
        return _json(answer) if answer.content.strip() else None

    def _send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | None = None,
        query: Mapping[str, str | int] | None = None,
        pass_on: Iterable[int] = (),
        again: bool = True,
    ) -> httpx.Response:
        """Send until it is answered, at most three times; translate whatever is no success."""
        for left in reversed(range(_TRIES)):
            try:
                answer = self._client.request(
                    method,
                    path,
                    headers=dict(headers or {}),
                    params=dict(query) if query else None,
                    content=body() if body else None,
                )
            except httpx.ConnectError:
                # Nothing was sent, so sending again repeats nothing.
                if not left:
                    raise UnavailableError("orthanc_unreachable") from None
            except httpx.TimeoutException:
                raise UnavailableError("orthanc_timeout") from None
            except (httpx.TransportError, httpx.InvalidURL):
                if not left or not again:
                    raise UnavailableError("orthanc_broken_answer") from None
            else:
                _require_success(answer.status_code, pass_on)
                return answer
            time.sleep(_PAUSE_S)
        raise UnavailableError("orthanc_unreachable")


def _require_success(status: int, pass_on: Iterable[int]) -> None:
    if 200 <= status < 300 or status in pass_on:
        return
    if status in (401, 403):
        raise AccessError("orthanc_login", status=status)
    if status == 404:
        raise MissingError("orthanc_missing")
    if status >= 500:
        raise UnavailableError("orthanc_failed", status=status)
    raise InputError("orthanc_refused", status=status)


def _require_stored(answer: httpx.Response, expected: int) -> None:
    """Every instance must stand in the answer's list of stored ones, none in the failed ones'."""
    told = _json(answer)
    stored = _items(told, _REFERENCED_SOP_SEQUENCE)
    failed = _items(told, _FAILED_SOP_SEQUENCE)
    if not failed and len(stored) >= expected:
        return
    reasons = {
        int(value)
        for item in failed
        for value in item.get(_FAILURE_REASON, {}).get("Value", [])
        if isinstance(value, int)
    }
    facts = {"failed": expected - len(stored), "of": expected, "reason": min(reasons, default=0)}
    if not reasons or reasons & _PASSING_REASONS:
        raise UnavailableError("stow_failed", **facts)
    raise InputError("stow_refused", **facts)


def _items(dataset: Any, tag: str) -> list[dict[str, Any]]:
    sequence = dataset.get(tag, {}) if isinstance(dataset, dict) else {}
    return [item for item in sequence.get("Value", []) if isinstance(item, dict)]


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise UnavailableError("orthanc_broken_answer") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnavailableError("orthanc_broken_answer")
    return value


def _checked(name: str) -> str:
    """An Orthanc id, so that no other text ever becomes part of a path."""
    if not _ID.match(name):
        raise MissingError("orthanc_id")
    return name
