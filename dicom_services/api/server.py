"""The gateway's server: how it listens, how patient it is, how it ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from socket import socket
from typing import Final

import uvicorn

from dicom_services.api.app import build_app
from dicom_services.api.config import GatewayConfig
from dicom_services.api.context import Context, close_context, open_context
from dicom_services.api.delivery import delivering
from dicom_services.api.protocol import PatientProtocol

# The supervisor kills after ten.
_GRACE_S: Final = 6
_CONNECTIONS: Final = 2048
# They wait for the disk and for Orthanc rather than compute.
_THREADS: Final = 32
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


async def serve(config: GatewayConfig, listener: socket) -> None:
    """Serve on a listening socket until the supervisor ends the process."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "gateway"))
    context = await open_context(config)
    try:
        async with delivering(context):
            await _Server(_uvicorn(config, context), context).serve([listener])
    finally:
        await close_context(context)


def _uvicorn(config: GatewayConfig, context: Context) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(context),
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        # Addresses name studies: no line of them.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
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
