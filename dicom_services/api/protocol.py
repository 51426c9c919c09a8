"""HTTP for slow and hostile clients: bounds on headers, and patience that ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dicom_services.api.dicomweb.retrieve import TRANSPORT

MOST_UNPARSED_BYTES: Final = 64 << 10
HEADER_S: Final = 15.0
BODY_S: Final = 30.0
TAKE_S: Final = 60.0
_LOOK_S: Final = 5.0
_REFUSALS: Final = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, which by itself waits for ever and collects headers without end.

    A connection that has not said its headers after HEADER_S, sends nothing of its body for BODY_S
    or takes nothing of its answer for TAKE_S is closed; so is one whose headers, trailers or chunk
    lines grow beyond MOST_UNPARSED_BYTES.
    """

    _unparsed = 0
    _in_header = True
    _in_body = False
    _got_body = False
    _since = 0.0
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._since = self.loop.time()
        self._look = self.loop.call_later(_LOOK_S, self._looked)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting."""
        if self._look:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes that made neither a whole header nor a piece of a body are counted."""
        self._got_body = False
        if not (self._in_header and self._unparsed):
            self._since = self.loop.time()
        super().data_received(data)
        if self._in_header or (self._in_body and not self._got_body):
            self._unparsed += len(data)
            if self._unparsed > MOST_UNPARSED_BYTES:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        # For answers that the kernel passes on, see dicomweb/pump.py.
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]
        self._in_header, self._unparsed = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes after the body is no header that anybody asked for."""
        if self._in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here on a body may come."""
        self._in_header, self._in_body, self._unparsed = False, True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._got_body, self._unparsed = True, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take the answer now."""
        self._since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._since = self.loop.time()
        super().resume_writing()

    def _looked(self) -> None:
        self._look = self.loop.call_later(_LOOK_S, self._looked)
        waited = self.loop.time() - self._since
        flow: Any = self.flow
        if flow.write_paused:
            if waited > TAKE_S:
                self.transport.abort()
        elif self._in_header:
            # Between requests the server's own keep-alive limit holds.
            if waited > HEADER_S and self.timeout_keep_alive_task is None:
                self._refuse(408)
        elif self._in_body and not flow.read_paused and waited > BODY_S:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self.cycle.response_started:
            self.transport.abort()
            return
        line = b"HTTP/1.1 %d %s\r\n" % (status, _REFUSALS[status])
        self.transport.write(line + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
