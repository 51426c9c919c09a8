"""STOW-RS: objects are judged by the gate and by whose they are, then stored one by one."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from dicom_services.access.principal import Principal
from dicom_services.api.dicomweb.accept import BYTES, DICOM, JSON
from dicom_services.api.dicomweb.admission import Admission, Refused
from dicom_services.api.dicomweb.answers import (
    ProblemError,
    Receive,
    Scope,
    Send,
    header,
    json_of,
    send_problem,
    send_whole,
)
from dicom_services.api.dicomweb.belonging import FOREIGN, Belonging
from dicom_services.api.dicomweb.description import Content, with_description
from dicom_services.api.dicomweb.multipart import Part, boundary_of, parts_of, pieces_of
from dicom_services.api.dicomweb.origin import base_url
from dicom_services.api.dicomweb.paths import Resource
from dicom_services.api.dicomweb.upstream import Upstream
from dicom_services.api.upload import require_room
from dicom_services.errors import UnavailableError
from dicom_services.log import event

if TYPE_CHECKING:
    from dicom_services.api.context import Context

_AT_ONCE: Final = 3
"""Objects of one request under way: one is judged while another is stored."""
_SPACE_EVERY_BYTES: Final = 64 << 20
# PS3.18 table I.2-2 and PS3.7 annex C: cannot understand, out of resources, not authorised.
_CANNOT_UNDERSTAND: Final = 0xC000
_CONFLICT: Final = 0xC409
_NO_RESOURCES: Final = 0xA700
_PROCESSING: Final = 0x0110
_NOT_AUTHORIZED: Final = 0x0124
_REASONS: Final = {"archive_silent": _PROCESSING, "disk_full": _NO_RESOURCES}
_BINARY: Final = ("", "binary", "8bit", "identity")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object: stored where `code` is ""."""

    sop_class: str
    sop_instance: str
    study: str
    series: str
    code: str = ""
    reason: int = 0


class Store:
    """Storing of one gateway."""

    def __init__(self, context: Context, upstream: Upstream) -> None:
        self._context = context
        self._upstream = upstream
        self._admission = Admission(context.config)

    async def store(self, resource: Resource, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to `/studies` or `/studies/{study}`.

        Raises
        ------
        ProblemError
            For a body that is no multipart of DICOM files, or a study that is not the caller's.
        UnavailableError
            `disk_full`, `audit_unavailable`, or Orthanc's.
        """
        boundary = _boundary(scope)
        principal: Principal = scope["state"]["principal"]
        belonging = Belonging(self._upstream, self._context.patient_keys, principal, resource.study)
        if resource.study and not await belonging.may_enter(resource.study):
            raise ProblemError(404, FOREIGN)
        outcomes: list[Outcome] = []
        try:
            pieces = self._checked(pieces_of(receive))
            await self._store_all(parts_of(pieces, boundary, self._spool), belonging, outcomes)
        finally:
            await self._note(principal, outcomes)
        if not outcomes:
            raise ProblemError(400, "multipart", why="empty")
        await _answer(scope, send, outcomes)

    async def _store_all(
        self, parts: AsyncIterator[Part], belonging: Belonging, outcomes: list[Outcome]
    ) -> None:
        """Each part as soon as it is whole, while the next ones arrive; in their order."""
        room = asyncio.Semaphore(_AT_ONCE)
        waiting: list[asyncio.Task[Outcome]] = []

        async def one(part: Part) -> Outcome:
            try:
                with part.file:
                    return await self._store_one(part, belonging)
            finally:
                room.release()

        try:
            async for part in parts:
                try:
                    await room.acquire()
                except BaseException:
                    part.file.close()
                    raise
                waiting.append(asyncio.create_task(one(part)))
        finally:
            # What was taken whole is finished, also when the rest never comes.
            outcomes += [
                told
                for told in await asyncio.gather(*waiting, return_exceptions=True)
                if isinstance(told, Outcome)
            ]
        for task in waiting:
            task.result()

    async def _store_one(self, part: Part, belonging: Belonging) -> Outcome:
        if part.kind not in (DICOM, BYTES, "") or part.encoding not in _BINARY:
            return Outcome("", "", "", "", "part_type", _CANNOT_UNDERSTAND)
        judged = await asyncio.to_thread(self._admission.judge, part.file)
        if isinstance(judged, Refused):
            return Outcome(
                judged.sop_class, judged.sop_instance, "", "", judged.reason, _CANNOT_UNDERSTAND
            )
        told = (judged.sop_class, judged.sop_instance, judged.study, judged.series)
        try:
            if why := await belonging.why_not(judged):
                reason = _NOT_AUTHORIZED if why == FOREIGN else _CONFLICT
                return Outcome(*told, why, reason)
            description = await belonging.description(judged.study)
            content = with_description(part.file, judged, description)
            code = await self._send(content)
        except UnavailableError:
            code = "archive_silent"
        self._context.studies.forget(judged.study)
        return Outcome(*told, code, _REASONS.get(code, _CANNOT_UNDERSTAND) if code else 0)

    async def _send(self, content: Content) -> str:
        """Store one object in Orthanc; "" or why it did not take it. Twice is once."""
        headers = {"Content-Type": DICOM, "Accept": "application/json"}
        async with await self._upstream.request(
            "POST", "/instances", headers, body=content.pieces(), length=content.length
        ) as answer:
            body = await answer.whole(1 << 20)
        if answer.status != 200:
            return "archive_refused" if self._has_room() else "disk_full"
        try:
            status = json.loads(body).get("Status")
        except (ValueError, AttributeError):
            status = ""
        return "" if status in ("Success", "AlreadyStored") else "archive_refused"

    def _has_room(self) -> bool:
        """Whether the disk has room for more."""
        try:
            require_room(self._context.config)
        except UnavailableError:
            return False
        return True

    def _spool(self) -> IO[bytes]:
        """A file without a name, so that nothing of it is left whatever happens."""
        return tempfile.TemporaryFile(dir=self._context.config.scratch)

    async def _checked(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body, as long as the disk has room for it."""
        got = _SPACE_EVERY_BYTES
        async for piece in pieces:
            got += len(piece)
            if got >= _SPACE_EVERY_BYTES:
                got = 0
                require_room(self._context.config)
            yield piece

    async def _note(self, principal: Principal, outcomes: list[Outcome]) -> None:
        """One row for each study that something was meant for."""
        by_study: dict[str, Counter[str]] = {}
        for one in outcomes:
            counts = by_study.setdefault(one.study, Counter())
            counts["failed" if one.code else "stored"] += 1
        keys = self._context.patient_keys
        for study, counts in by_study.items():
            await asyncio.to_thread(
                self._context.audit.write,
                principal,
                "store",
                study_key=keys.study(study) if study else "",
                outcome="done" if counts["stored"] else "refused",
                facts=dict(counts),
            )
        stored = sum(counts["stored"] for counts in by_study.values())
        event("dicomweb.store", count=len(outcomes), instances=stored)


def _boundary(scope: Scope) -> str:
    """Of a multipart of DICOM files.

    Raises
    ------
    ProblemError
        415 for anything else.
    """
    if header(scope, b"content-encoding") not in ("", "identity"):
        raise ProblemError(415, "content_encoding")
    kind, boundary = boundary_of(header(scope, b"content-type"))
    if not boundary or kind not in ("", DICOM):
        raise ProblemError(415, "content_type")
    return boundary


async def _answer(scope: Scope, send: Send, outcomes: list[Outcome]) -> None:
    """What became of each, PS3.18 10.5.3 and table I.2-1."""
    failed = [one for one in outcomes if one.code]
    if len(failed) == len(outcomes) and {one.code for one in failed} <= set(_REASONS):
        # Nothing is wrong with them: the same again later.
        await send_problem(scope, send, 503, failed[0].code, {"failed": len(failed)})
        return
    base = base_url(scope)
    told: dict[str, Any] = {}
    if stored := [one for one in outcomes if not one.code]:
        if len({one.study for one in stored}) == 1:
            url = f"{base}/studies/{stored[0].study}"
            told["00081190"] = {"vr": "UR", "Value": [url]}
        told["00081199"] = {"vr": "SQ", "Value": [_referenced(one, base) for one in stored]}
    if failed:
        told["00081198"] = {"vr": "SQ", "Value": [_failed(one) for one in failed]}
    status = 200 if not failed else 202 if stored else 409
    await send_whole(send, status, JSON, json_of(dict(sorted(told.items()))))


def _named(one: Outcome) -> dict[str, Any]:
    uids = {"00081150": one.sop_class, "00081155": one.sop_instance}
    return {tag: {"vr": "UI", "Value": [uid]} if uid else {"vr": "UI"} for tag, uid in uids.items()}


def _referenced(one: Outcome, base: str) -> dict[str, Any]:
    url = f"{base}/studies/{one.study}/series/{one.series}/instances/{one.sop_instance}"
    return {**_named(one), "00081190": {"vr": "UR", "Value": [url]}}


def _failed(one: Outcome) -> dict[str, Any]:
    """The reason as a number, and in words where other servers have them: Error Comment."""
    comment = {"00000902": {"vr": "LO", "Value": [f"radloop: {one.code}"]}}
    return {
        **_named(one),
        "00081197": {"vr": "US", "Value": [one.reason]},
        "00741048": {"vr": "SQ", "Value": [comment]},
    }
