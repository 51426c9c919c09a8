"""The gateway's entry: `python -m dicom_services.api`, started by the supervisor."""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Final

import uvicorn
import uvloop

from dicom_services import log
from dicom_services.api.app import build_app
from dicom_services.api.config import GatewayConfig, read_config
from dicom_services.api.context import Context, close_context, open_context
from dicom_services.api.delivery import delivering
from dicom_services.api.protocol import PatientProtocol
from dicom_services.errors import RadloopError

CONFIG_VARIABLE: Final = "RADLOOP_GATEWAY_CONFIG"
# The supervisor kills after ten.
_GRACE_S: Final = 6
_CONNECTIONS: Final = 2048
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class _Server(uvicorn.Server):
    """Tells what lasts, such as event streams, that the gateway is about to end."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End what lasts, then what is under way, then stop."""
        self._context.stopping.set()
        await super().shutdown(sockets)


async def serve(config: GatewayConfig) -> None:
    """Serve until the supervisor ends the process."""
    context = await open_context(config)
    try:
        async with delivering(context):
            await _Server(_uvicorn(config, context), context).serve()
    finally:
        await close_context(context)


def _uvicorn(config: GatewayConfig, context: Context) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(context),
        host=config.listen,
        port=config.port,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        # Addresses name studies: no line of them.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=1024,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=config.tls_certificate or None,
        ssl_keyfile=config.tls_key or None,
        ssl_context_factory=_tls if config.tls else None,
    )


def _tls(_: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """As Mozilla's "intermediate": TLS 1.2 with forward secrecy, or 1.3."""
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    return context


def main() -> None:
    """Read the configuration and serve."""
    log.start("gateway")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        config = read_config(Path(os.environ[CONFIG_VARIABLE]))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config))
    except (RadloopError, KeyError, OSError) as error:
        log.event("gateway.not_started", level=40, error=error)
        sys.exit(1)


main()
