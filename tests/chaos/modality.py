"""A sender as modalities are: stores what it has, keeps what was acknowledged, resends the rest."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pynetdicom import AE, _config, build_context, evt

from tests.chaos.corpus import ChaosStudy, Image

VERIFICATION: Final = "1.2.840.10008.1.1"
ANSWER_S: Final = 15.0
"""How long an answer is waited for before the association is given up."""
_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class Account:
    """What all senders together know; `acknowledged` are SOP Instance UIDs."""

    acknowledged: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    """Study Instance UIDs of which something was sent."""
    associations: int = 0
    broken: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Modality:
    """A registered sender; `port` may be that of a link in front of the stack."""

    aet: str
    called: str
    port: int
    account: Account
    stop: threading.Event

    def send(self, study: ChaosStudy, draw: random.Random) -> bool:
        """Send a study until every image is acknowledged; False when stopped before."""
        images = list(study.images)
        if draw.random() < 0.5:
            draw.shuffle(images)
        with self.account.lock:
            self.account.begun.add(study.uid)
        for number, part in enumerate(_parts(images, draw.choice((1, 1, 2, 3)))):
            # Long enough now and then for what came before to be taken for the whole study.
            self.stop.wait(draw.choice((0.0, 1.0, 4.0)) if number else 0.0)
            left = list(part)
            while left and not self.stop.is_set():
                left = self._once(left, draw.choice((0.0, 0.02, 0.1)))
                if left:
                    self.stop.wait(_PAUSE_S)
            if left:
                return False
        return True

    def _once(self, images: Sequence[Image], pause_s: float) -> list[Image]:
        """One association, `pause_s` between images; what was not acknowledged in it."""
        association = associate(self, sorted({one.context for one in images}))
        with self.account.lock:
            self.account.associations += 1
        left = list(images)
        for image in images:
            if not association.is_established or self.stop.is_set():
                break
            self.stop.wait(pause_s)
            status = _store(association, image)
            with self.account.lock:
                if status == "0x0000":
                    self.account.acknowledged.add(image.sop)
                    left.remove(image)
                else:
                    known = self.account.refusals
                    known[status] = known.get(status, 0) + 1
            if status == "":
                break
        if left:
            with self.account.lock:
                self.account.broken += 1
            association.abort()
        else:
            association.release()
        return left

    def echo(self) -> bool:
        """Whether the stack answers C-ECHO."""
        association = associate(self, [(VERIFICATION, "1.2.840.10008.1.2")], timeout_s=5.0)
        if not association.is_established:
            return False
        try:
            answer = association.send_c_echo()
        except (RuntimeError, ValueError, OSError):
            answer = None
        association.release() if answer is not None else association.abort()
        return answer is not None and answer.get("Status") == 0


def associate(
    modality: Modality, contexts: Sequence[tuple[str, str]], timeout_s: float = ANSWER_S
) -> Any:
    """An association, established or not."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    ours = AE(ae_title=modality.aet)
    ours.maximum_pdu_size = 131_072
    ours.connection_timeout = ours.acse_timeout = timeout_s
    ours.dimse_timeout = ours.network_timeout = timeout_s
    return ours.associate(
        "127.0.0.1",
        modality.port,
        contexts=[build_context(kind, [syntax]) for kind, syntax in contexts],
        ae_title=modality.called,
        max_pdu=131_072,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
    )


def _store(association: Any, image: Image) -> str:
    """The status in hex; "" where there was no answer."""
    try:
        answer = association.send_c_store(image.path)
    except (RuntimeError, ValueError, AttributeError, OSError):
        return ""
    status = answer.get("Status") if answer is not None else None
    return "" if status is None else f"0x{int(status):04x}"


def _parts(images: list[Image], count: int) -> list[list[Image]]:
    return [part for part in (images[n::count] for n in range(count)) if part]


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
