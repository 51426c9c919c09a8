"""A TLS server on this machine that serves weights as hubs and web servers do, well and badly."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Served:
    """What a server gives; `asked` holds path and Authorization of each request."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    packed: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    endless: set[str] = field(default_factory=set)
    token: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


def certificate(folder: Path) -> Path:
    """A PEM of key and self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return pem


@contextmanager
def serving(pem: Path) -> Iterator[Served]:
    """A server for the length of the block."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            served.asked.append((self.path, self.headers.get("Authorization", "")))
            try:
                _answer(self, served)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    served.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, served: Served) -> None:
    path = handler.path
    if path in served.redirects:
        handler.send_response(302)
        handler.send_header("Location", served.redirects[path])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    status = served.status.get(path, 200 if path in served.files else 404)
    if served.token and handler.headers.get("Authorization") != f"Bearer {served.token}":
        status = 401
    content = served.files.get(path, b"") if status == 200 else b""
    handler.send_response(status)
    if path in served.packed:
        content = zlib.compress(content)
        handler.send_header("Content-Encoding", "deflate")
    if path in served.endless:
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(content)
    told = len(content) + 100 if path in served.broken else len(content)
    handler.send_header("Content-Length", str(told))
    handler.end_headers()
    handler.wfile.write(content)
    handler.close_connection = path in served.broken
