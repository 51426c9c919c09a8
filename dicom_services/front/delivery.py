"""What goes to Orthanc and what it answers, over as many associations as that takes."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Final

from dicom_services.front import dimse, pdu
from dicom_services.front.backend import Backend, BackendError, BackendRejectedError
from dicom_services.front.body import IN_MEMORY_BYTES, Body
from dicom_services.front.incoming import Message
from dicom_services.front.judgement import Judgement, Verdict
from dicom_services.log import event

_MOST_TRIES: Final = 2
_MOST_BUFFERS: Final = 256
_LONGEST_HEADER: Final = 1 << 20
_EARLY_BYTES: Final = 64 << 10
_HELD_BACK: Final = 2
_ANSWER_S: Final = 300.0
"""Storing takes milliseconds; a retrieval says something with every image."""
_REPEATABLE: Final = (dimse.C_STORE_RQ, dimse.C_ECHO_RQ)

Bytes = bytes | bytearray | memoryview


class Delivery:
    """The messages of one association on their way to Orthanc.

    Parameters
    ----------
    backend : Backend
        Open.
    judgement : Judgement
    wait_s : float
        How long Orthanc may be away.
    sender : str
        AE title.
    refuse : callable
        Answers the modality in Orthanc's stead.
    """

    def __init__(
        self,
        backend: Backend,
        judgement: Judgement,
        wait_s: float,
        sender: str,
        refuse: Callable[[Message, Verdict], None],
    ) -> None:
        self._backend = backend
        self._judgement = judgement
        self._wait_s = wait_s
        self._sender = sender
        self._refuse = refuse
        # By message id; the answer's command set as far as it has come.
        self._unanswered: dict[int, Message] = {}
        self._answer = bytearray()

    @property
    def is_idle(self) -> bool:
        """Whether Orthanc owes no answer."""
        return not self._unanswered

    def pass_early(self, message: Message) -> None:
        """Pass on what is sound of an instance that is still arriving; the rest is held back.

        Only native pixel data go early: what stands before them has been judged, and inside them
        there is nothing to parse. Their last bytes wait for the judgement of the whole.
        """
        body = message.body
        if message.sound_until < 0 or body is None or not body.in_memory:
            return
        if self._unanswered or not self._backend.is_open:
            return
        if not message.sound_until and body.length >= message.look_again:
            # Each look is at all of it: doubling keeps the sum of them in proportion.
            message.look_again = 2 * body.length
            message.sound_until = self._early_end(message, body)
        # DCMTK breaks off at a fragment of odd length.
        end = (min(body.length, message.sound_until) - _HELD_BACK) & ~1
        if message.sound_until > 0 and end - message.sent >= _EARLY_BYTES:
            try:
                self._send_data(message, body, end, last=False)
            except OSError:
                # It is sent anew when it is whole.
                self.take_back(message)
                message.sound_until = -1

    def take_back(self, message: Message) -> None:
        """Have Orthanc drop what it has of a message: it drops what does not end."""
        if message.sent:
            self._backend.lost()
            message.sent = 0

    def deliver(self, message: Message) -> None:
        """Send a whole message, over a new association where the old one is gone.

        Raises
        ------
        BackendError
            Orthanc is away, and this message cannot wait for it.
        """
        command = message.command
        if command.field & dimse.RESPONSE or command.field == dimse.C_CANCEL_RQ:
            # Means nothing to a new association, so it is sent once or not at all.
            try:
                if self._backend.is_open:
                    self._send(message)
                return
            except OSError:
                pass
            finally:
                message.close()
            self._recover()
            return
        if command.message_id in self._unanswered:
            message.close()
            raise pdu.ProtocolError("message_id")
        self._unanswered[command.message_id] = message
        if self._backend.is_open:
            with contextlib.suppress(OSError):
                self._send(message)
                return
        message.sent = 0
        self._recover()

    def receive(self) -> list[bytes]:
        """Units of Orthanc's for the modality."""
        try:
            units = self._backend.receive()
        except OSError:
            self._recover()
            return []
        found = []
        for unit in units:
            if unit[0] == pdu.P_DATA:
                self._note_answers(unit)
                found.append(unit)
            elif unit[0] == pdu.ABORT:
                self._recover(has_aborted=True)
                break
        return found

    def check_time(self, now_s: float) -> None:
        """Come again, or give up, where Orthanc owes an answer for too long."""
        if self._unanswered and now_s - self._backend.idle_since_s > _ANSWER_S:
            event("front.archive_slow", count=len(self._unanswered))
            self._recover(has_aborted=True)

    def close(self) -> None:
        """Forget what is not answered."""
        for message in self._unanswered.values():
            message.close()
        self._unanswered.clear()

    def _early_end(self, message: Message, body: Body) -> int:
        if message.command.field != dimse.C_STORE_RQ:
            return -1
        syntax = self._backend.accepted[message.context]
        end = self._judgement.sound_until(message.command, body, syntax)
        if not end and body.length > _LONGEST_HEADER:
            return -1
        return end if end <= IN_MEMORY_BYTES else -1

    def _send(self, message: Message) -> None:
        message.tries += 1
        if message.body is None:
            self._backend.send(_command(message))
        else:
            self._send_data(message, message.body, message.body.length, last=True)

    def _send_data(self, message: Message, body: Body, end: int, *, last: bool) -> None:
        """Send a data set from where it was sent to, up to `end`; its command set first."""
        waiting: list[Bytes] = [] if message.sent else _command(message)
        most = (self._backend.longest - pdu.HEADER_BYTES) & ~1
        with memoryview(body.data()) as data:
            # As much at once as the socket takes; a large object still goes out in turns.
            for start in range(message.sent, max(end, 1), most):
                stop = min(start + most, end)
                head = pdu.data_header(
                    message.context, stop - start, command=False, last=last and stop == end
                )
                waiting += (head, data[start:stop])
                if stop == end or len(waiting) >= _MOST_BUFFERS:
                    self._backend.send(waiting)
                    waiting = []
        message.sent = end

    def _note_answers(self, unit: bytes) -> None:
        """Which requests a P-DATA-TF of Orthanc's answers for good."""
        position = pdu.HEADER_BYTES
        while position + pdu.HEADER_BYTES <= len(unit):
            length, _, flags = struct.unpack_from(">IBB", unit, position)
            if flags & 1:
                self._answer += unit[position + pdu.HEADER_BYTES : position + 4 + length]
                if flags & 2:
                    answer = dimse.parse_command(bytes(self._answer))
                    self._answer.clear()
                    self._note_answer(answer)
            position += 4 + length

    def _note_answer(self, answer: dimse.Command) -> None:
        if not answer.field & dimse.RESPONSE or answer.status in dimse.PENDING:
            return
        done = self._unanswered.pop(answer.responded_id, None)
        if done is not None:
            self._judgement.was_answered(done.command)
            done.close()

    def _recover(self, *, has_aborted: bool = False) -> None:
        """Orthanc has left: come again with what it has not answered, if that can be repeated.

        One that says that it leaves (`has_aborted`) has not crashed.
        """
        while True:
            self._backend.lost()
            self._answer.clear()
            for message in list(self._unanswered.values()):
                message.sent = 0
                message.deaths += not has_aborted
                if message.command.field not in _REPEATABLE:
                    raise BackendError
                if message.tries >= _MOST_TRIES:
                    self._give_up(message)
            if not self._unanswered:
                return
            event("front.archive_again", count=len(self._unanswered))
            try:
                self._backend.open(self._wait_s)
                for message in self._unanswered.values():
                    self._send(message)
                return
            except (BackendError, BackendRejectedError):
                self._answer_silence()
                return
            except OSError:
                has_aborted = False

    def _answer_silence(self) -> None:
        """Orthanc does not come back: every instance under way is refused, and may come again."""
        for message in list(self._unanswered.values()):
            if message.command.field != dimse.C_STORE_RQ:
                raise BackendError
            self._refuse_unanswered(message, self._judgement.archive_silent())

    def _give_up(self, message: Message) -> None:
        """Twice Orthanc has left without an answer to this one."""
        if message.command.field != dimse.C_STORE_RQ or message.body is None:
            raise BackendError
        if message.deaths < _MOST_TRIES:
            self._refuse_unanswered(message, self._judgement.archive_silent())
            return
        syntax = self._backend.accepted[message.context]
        verdict = self._judgement.archive_left(message.command, message.body, syntax, self._sender)
        self._refuse_unanswered(message, verdict)

    def _refuse_unanswered(self, message: Message, verdict: Verdict) -> None:
        del self._unanswered[message.command.message_id]
        try:
            self._refuse(message, verdict)
        finally:
            message.close()


def _command(message: Message) -> list[Bytes]:
    command_set = message.command_set
    head = pdu.data_header(message.context, len(command_set), command=True, last=True)
    return [head, command_set]
