"""What may pass to Orthanc: gate, poison and disk; what may not is kept in quarantine."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from dicom_services import gate
from dicom_services.front import dimse
from dicom_services.front.body import Body, Room
from dicom_services.front.config import FrontConfig
from dicom_services.quarantine import Quarantine, digest_of_uid

_DISK_LOOK_S: Final = 0.5
_STRIKES: Final = 2
"""How often an instance may take Orthanc with it, each time tried twice."""
_MOST_STRIKES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """A refusal as the sender gets it: DIMSE status and Error Comment."""

    code: str
    status: int
    comment: str


class Judgement:
    """Judges messages for all associations of the front."""

    def __init__(self, config: FrontConfig) -> None:
        self._store = config.store
        self._reserve_bytes = config.reserve_bytes
        self._scale = config.object_scale
        self._quarantine = Quarantine(
            config.quarantine, config.quarantine_bytes, config.quarantine_records
        )
        self._lock = threading.Lock()
        self._looked_s = float("-inf")
        self._disk_is_free = True
        self._strikes: OrderedDict[str, int] = OrderedDict()
        self.room = Room(config.scratch, self._has_disk)

    def of_object(
        self,
        command: dimse.Command,
        body: Body,
        transfer_syntax: str,
        sender: str,
        sound_until: int = 0,
    ) -> Verdict | None:
        """Whether an instance may be stored; None if so.

        One that ends where `sound_until` said that its pixel data would end has been judged whole.
        """
        digest = digest_of_uid(command.sop_instance)
        refusal = None
        if sound_until != body.length or body.length & 1:
            refusal = gate.refusal_of_dataset(
                body.data(), transfer_syntax, instance=command.sop_instance, scale=self._scale
            )
        if refusal is None and not (command.has_sound_uids and command.sop_instance):
            refusal = gate.Refusal("uid", 0)
        if refusal is None and self._quarantine.is_poison(digest):
            refusal = gate.Refusal("poison", 0)
        if refusal is not None:
            return self._keep(command, body, transfer_syntax, sender, refusal)
        return None if self._has_disk() else self.no_room()

    def sound_until(self, command: dimse.Command, body: Body, transfer_syntax: str) -> int:
        """How far an instance may be passed on before it is whole, as `gate.sound_until`."""
        if not command.has_sound_uids or not self._has_disk():
            return -1
        if self._quarantine.is_poison(digest_of_uid(command.sop_instance)):
            return -1
        return gate.sound_until(
            body.data(), transfer_syntax, instance=command.sop_instance, scale=self._scale
        )

    def of_query(self, body: Body, transfer_syntax: str) -> str:
        """Why an identifier may not be parsed; "" if it may."""
        refusal = gate.refusal_of_query(body.data(), transfer_syntax)
        return refusal.reason if refusal else ""

    def no_room(self) -> Verdict:
        """The answer when the disk is nearly full."""
        return Verdict("disk_full", dimse.OUT_OF_RESOURCES, "disk nearly full")

    def archive_silent(self) -> Verdict:
        """The answer when Orthanc is away."""
        return Verdict("archive_silent", dimse.OUT_OF_RESOURCES, "archive does not answer")

    def archive_left(
        self, command: dimse.Command, body: Body, transfer_syntax: str, sender: str
    ) -> Verdict:
        """The answer when Orthanc has ended twice while it stored this instance."""
        digest = digest_of_uid(command.sop_instance)
        with self._lock:
            strikes = self._strikes.pop(digest, 0) + 1
            self._strikes[digest] = strikes
            if len(self._strikes) > _MOST_STRIKES:
                self._strikes.popitem(last=False)
        if strikes < _STRIKES:
            return self.archive_silent()
        try:
            self._quarantine.mark_poison(digest)
        except OSError:
            return self.archive_silent()
        return self._keep(command, body, transfer_syntax, sender, gate.Refusal("poison", 0))

    def was_answered(self, command: dimse.Command) -> None:
        """Orthanc has answered: this instance is innocent of what happened before."""
        if self._strikes:
            with self._lock:
                self._strikes.pop(digest_of_uid(command.sop_instance), None)

    def _keep(
        self,
        command: dimse.Command,
        body: Body,
        transfer_syntax: str,
        sender: str,
        refusal: gate.Refusal,
    ) -> Verdict:
        head = dimse.part10_header(command, transfer_syntax)
        with memoryview(body.data()) as content:
            self._quarantine.keep(
                [head, content],
                reason=refusal.reason,
                offset=refusal.offset,
                source="c-store",
                sender=sender,
                sop_instance_digest=digest_of_uid(command.sop_instance),
            )
        # What pynetdicom and DCMTK print; never longer than 64 characters.
        comment = f"radloop gate: {refusal.reason}"
        return Verdict(refusal.reason, dimse.CANNOT_UNDERSTAND, comment)

    def _has_disk(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._looked_s > _DISK_LOOK_S:
            self._looked_s = now_s
            try:
                found = os.statvfs(self._store)
                self._disk_is_free = found.f_bavail * found.f_frsize >= self._reserve_bytes
            except OSError:
                self._disk_is_free = False
        return self._disk_is_free
