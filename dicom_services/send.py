"""Sends DICOM files by C-STORE, each in the very bytes and transfer syntax of its file."""

from __future__ import annotations

import re
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import MediaStorageDirectoryStorage
from pynetdicom import AE, _config, build_context, evt

from dicom_services.dicom.archive import is_archive, unpack
from dicom_services.dicom.quiet import quiet
from dicom_services.errors import InputError, UnavailableError
from dicom_services.gate import REASONS
from dicom_services.refusals import refusal_of_path, sentence

# PS3.8 9.3.2.2: context ids are the odd numbers below 256.
CONTEXTS_OF_ONE_ASSOCIATION: Final = 128
_PDU_BYTES: Final = 131_072
_TIMEOUT_S: Final = 30.0
_TRIES: Final = 3
# PS3.8 9.3.4: reasons of the service user.
_DIAGNOSTICS: Final = {3: "send_unknown_sender", 7: "send_unknown_receiver"}
_UNREADABLE: Final = (
    InvalidDicomError,
    OSError,
    EOFError,
    AttributeError,
    ValueError,
    KeyError,
    TypeError,
    NotImplementedError,
    struct.error,
)
_MEANINGS: Final = {
    "0xa7": "refused, out of resources",
    "0xa9": "refused, the file contradicts itself",
    "0xb": "stored with a warning",
    "0xc": "refused, not understood",
    "0x": "refused",
}
_UID: Final = re.compile(r"[0-9.]{1,64}\Z")
_NO_CONTEXT: Final = "kind_not_accepted"
_NO_ANSWER: Final = "no_answer"
_BROKE_OFF: Final = "receiver_broke_off"
# What a radloop that receives says in Error Comment, PS3.7 annex C.
_COMMENT: Final = re.compile(r"radloop gate: ([a-z_]{1,40})\Z")

Advance = Callable[[int, int], None]
Context = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is sent to, under which AE title, and how large objects it takes (`gate`)."""

    host: str
    port: int
    called: str
    calling: str
    object_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A DICOM file and its kind: SOP Class UID and Transfer Syntax UID."""

    path: Path
    context: Context


@dataclass(slots=True)
class Sent:
    """What became of every file.

    Parameters
    ----------
    files, skipped, stored : int
        Sent or tried; left out because they are not DICOM; taken by the receiver.
    statuses : Counter
        C-STORE statuses in hex, and our own words.
    refused : Counter
        By reason: files that our own gate did not let go out.
    reasons : Counter
        Why the gate of the receiver refused, where it says so.
    """

    files: int = 0
    skipped: int = 0
    stored: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def complete(self) -> bool:
        """Whether every DICOM file was sent, and the receiver took all of them."""
        return self.stored == self.files and not self.refused

    def document(self) -> dict[str, Any]:
        """For other programs."""
        counts = {
            "statuses": dict(self.statuses),
            "refused": dict(self.refused),
            "reasons": dict(self.reasons),
        }
        return {"version": 1, **asdict(self), **counts}

    def sentence(self) -> str:
        """For people."""
        text = f"{self.stored} of {self.files} files stored" if self.files else "nothing to send"
        for name, count in self.statuses.items():
            if name != "0x0000":
                text += f"; {count} x {_meaning(name)}"
        if self.reasons:
            text += f"; of the receiver: {sentence(self.reasons)}"
        if self.refused:
            text += f"; {sentence(self.refused)}, not sent"
        if self.skipped:
            text += f"; {self.skipped} files that are not DICOM were left out"
        return text


def _meaning(status: str) -> str:
    """PS3.4 table B.2-1 in words; a few of ours stand for themselves."""
    for start, words in _MEANINGS.items():
        if status.startswith(start):
            return f"{words} ({status})"
    return status.replace("_", " ")


def send_path(path: Path, receiver: Receiver, advance: Advance = lambda *_: None) -> Sent:
    """Send a file, or every DICOM file in a ZIP archive or below a folder.

    The gate judges each before anything else reads it; what it refuses is counted, not sent.

    Parameters
    ----------
    path : Path
    receiver : Receiver
    advance : callable
        Told after every file how many of how many are done.

    Raises
    ------
    InputError
        `not_found`, `no_dicom`, what `archive.unpack` raises; `send_unknown_sender`,
        `send_unknown_receiver`, `send_rejected` when the receiver does not want us.
    UnavailableError
        `send_unreachable`, `send_aborted`.
    """
    if path.is_file() and is_archive(path):
        with tempfile.TemporaryDirectory(prefix="radloop-send-") as unpacked:
            for number, content in enumerate(unpack(path).values()):
                Path(unpacked, f"{number:06d}").write_bytes(content)
            return send_path(Path(unpacked), receiver, advance)
    outgoing, skipped, refused = scan(path, receiver.object_scale)
    if not outgoing and not refused:
        raise InputError("no_dicom", files=skipped)
    sent = Sent(files=len(outgoing), skipped=skipped, refused=refused)
    for group in by_association(outgoing):
        _send_group(group, receiver, sent, advance)
    return sent


def scan(path: Path, object_scale: float = 1.0) -> tuple[list[Outgoing], int, Counter[str]]:
    """DICOM files at or below `path` by name, how many others there are, and what is refused."""
    if not path.exists():
        raise InputError("not_found")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    outgoing: list[Outgoing] = []
    refused: Counter[str] = Counter()
    for one in files:
        reason = _reason(one, object_scale)
        # Its structure is sound, and a DICOMDIR names no study either.
        context = _context(one) if reason in ("", "uid_missing") else None
        if context is not None and not reason:
            outgoing.append(Outgoing(one, context))
        elif reason not in ("", "not_dicom", "uid_missing") or context is not None:
            refused[reason] += 1
    return outgoing, len(files) - len(outgoing) - refused.total(), refused


def _reason(path: Path, object_scale: float) -> str:
    """Why the gate refuses a file; "" where it does not, "not_dicom" where it cannot be read."""
    try:
        refusal = refusal_of_path(path, scale=object_scale)
    except OSError:
        return "not_dicom"
    return refusal.reason if refusal else ""


def by_association(outgoing: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Groups of as few associations as there can be; the order of the files is kept in each."""
    contexts = list(dict.fromkeys(one.context for one in outgoing))
    for start in range(0, len(contexts), CONTEXTS_OF_ONE_ASSOCIATION):
        wanted = set(contexts[start : start + CONTEXTS_OF_ONE_ASSOCIATION])
        yield [one for one in outgoing if one.context in wanted]


def _context(path: Path) -> Context | None:
    try:
        with quiet():
            meta = read_file_meta_info(path)
            kind = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
            instance = str(meta.MediaStorageSOPInstanceUID)
    except _UNREADABLE:
        return None
    # One proposal that cannot be encoded would end the association for all others.
    sound = all(_UID.match(uid) for uid in (*kind, instance))
    return kind if sound and kind[0] != MediaStorageDirectoryStorage else None


def _send_group(
    group: Sequence[Outgoing], receiver: Receiver, sent: Sent, advance: Advance
) -> None:
    """One association, opened again where the receiver breaks it off.

    A file at which it breaks off twice is counted and passed over: a broken file must not hold
    up the others. Of a receiver that stays silent nothing more is expected.
    """
    left, fruitless = list(group), 0
    suspect: Outgoing | None = None
    while left:
        association = _associate(receiver, list(dict.fromkeys(one.context for one in left)))
        accepted = {
            (str(one.abstract_syntax), str(one.transfer_syntax[0]))
            for one in association.accepted_contexts
        }
        count = len(left)
        while left and (association.is_established or not accepted):
            one, began = left[0], time.monotonic()
            status, reason = _store(association, one, accepted)
            if status == _NO_ANSWER:
                silent = time.monotonic() - began >= _TIMEOUT_S
                if silent or one is not suspect:
                    suspect = one
                    break
                status = _BROKE_OFF
            sent.statuses[status] += 1
            if reason:
                sent.reasons[reason] += 1
            # PS3.4 table B.2-1: 0xB000, 0xB006 and 0xB007 are warnings, the instance is stored.
            sent.stored += status in ("0x0000", "0xb000", "0xb006", "0xb007")
            left.pop(0)
            advance(sum(sent.statuses.values()), sent.files)
            if status == _BROKE_OFF:
                # pynetdicom may not know yet that nobody listens.
                break
        if not left:
            association.release()
            return
        association.abort()
        fruitless = fruitless + 1 if len(left) == count else 0
        if fruitless == _TRIES:
            raise UnavailableError("send_aborted", left=len(left))


def _store(association: Any, one: Outgoing, accepted: set[Context]) -> tuple[str, str]:
    """The status, and why the receiver's gate refused, "" where it does not say."""
    if one.context not in accepted:
        return _NO_CONTEXT, ""
    try:
        answer = association.send_c_store(one.path)
    except (RuntimeError, ValueError, AttributeError, OSError):
        # The association ended under us, or the file changed since it was scanned.
        return (_NO_ANSWER if not association.is_established else "unreadable"), ""
    status = answer.get("Status") if answer is not None else None
    if status is None:
        return _NO_ANSWER, ""
    # Text of another system: only a word of the gate's own list is ever shown.
    said = _COMMENT.match(str(answer.get("ErrorComment", "")).strip())
    return f"0x{int(status):04x}", said[1] if said and said[1] in REASONS else ""


def _associate(receiver: Receiver, contexts: Sequence[Context]) -> Any:
    # The bytes of the file go out as they are, in pieces, without being parsed.
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    ours = AE(ae_title=receiver.calling)
    ours.maximum_pdu_size = _PDU_BYTES
    ours.connection_timeout = ours.acse_timeout = ours.network_timeout = _TIMEOUT_S
    ours.dimse_timeout = _TIMEOUT_S
    association = ours.associate(
        receiver.host,
        receiver.port,
        contexts=[build_context(kind, [syntax]) for kind, syntax in contexts],
        ae_title=receiver.called,
        max_pdu=_PDU_BYTES,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
    )
    # pynetdicom ends the association itself where the receiver takes none of our kinds.
    if association.is_established or association.rejected_contexts:
        return association
    if association.is_rejected:
        primitive = association.acceptor.primitive
        diagnostic = int(getattr(primitive, "diagnostic", 0) or 0)
        raise InputError(_DIAGNOSTICS.get(diagnostic, "send_rejected"), reason=diagnostic)
    raise UnavailableError("send_unreachable")


def _no_delay(event: Any) -> None:
    """pynetdicom leaves Nagle's algorithm on, which costs 40 ms an instance."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
