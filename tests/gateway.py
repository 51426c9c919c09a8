"""The gateway's own application on a fresh database, called as a server would call it."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dicom_services.access.principal import Principal
from dicom_services.api.config import GatewayConfig
from dicom_services.api.context import Context, StudyAccess
from dicom_services.api.sessions import Sessions
from dicom_services.data_folder import DataFolder
from dicom_services.store.records import Records, open_records

PASSWORD = "Correct-Horse-Battery-9"
HOST = "localhost:8000"
ORIGIN = f"http://{HOST}"
STUDY = "1.2.826.0.1.3680043.8.498.1"
PATIENT = "PAT-1"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json()["code"])


class KnownStudies:
    """Stands for Orthanc: the studies there are."""

    def __init__(self, studies: Mapping[str, StudyAccess]) -> None:
        self.studies = dict(studies)
        self.asked: list[str] = []

    async def find(self, uid: str) -> StudyAccess | None:
        self.asked.append(uid)
        return self.studies.get(uid)

    async def many(self, uids: Iterable[str]) -> dict[str, StudyAccess]:
        return {uid: self.studies[uid] for uid in uids if uid in self.studies}

    async def keys_of(self, path: str) -> tuple[str, ...]:
        return tuple(one.study_key for one in self.studies.values() if one.orthanc_id in path)


@functools.cache
def _fresh() -> Path:
    """A data folder with its secrets and an empty database, made once."""
    folder = DataFolder(Path(tempfile.mkdtemp(prefix="radloop-test-")) / "data")
    atexit.register(shutil.rmtree, folder.home.parent, ignore_errors=True)
    folder.prepare()
    open_records(folder.places()).close()
    return folder.home


def config_in(home: Path, **changes: Any) -> GatewayConfig:
    """A gateway's configuration whose files lie in `home`."""
    shutil.copytree(_fresh(), home)
    folder = DataFolder(home)
    config = GatewayConfig(
        software_version="0.0.0",
        listen="127.0.0.1",
        port=8000,
        names=(),
        tls_certificate="",
        tls_key="",
        behind_proxy=False,
        viewer=home / "viewer",
        session_idle_minutes=30.0,
        session_hours=12.0,
        upload_bytes=1 << 20,
        orthanc_url="http://127.0.0.1:1",
        orthanc_user="radloop",
        orthanc_password=folder.secret("orthanc_service"),
        database=f"sqlite:///{folder.database}",
        audit_anchor=folder.audit_anchor,
        vault_key=folder.secret("vault_key"),
        audit_key=folder.secret("audit_key"),
        patient_key=folder.secret("patient_key"),
        token_key=folder.secret("token_key"),
        quarantine=folder.quarantine,
        quarantine_bytes=1 << 20,
        quarantine_records=100,
        scratch=home / "scratch",
        reserve_bytes=0,
        object_scale=1.0,
    )
    return replace(config, **changes)


def context_in(home: Path, **changes: Any) -> Context:
    """A context with a real database and no Orthanc."""
    config = config_in(home, **changes)
    records = open_records(config.places)
    keys = records.patients
    known = StudyAccess(STUDY, "0" * 8, keys.study(STUDY), keys.patient(PATIENT))
    return Context(
        config=config,
        http=None,  # type: ignore[arg-type]
        orthanc=None,  # type: ignore[arg-type]
        accounts=records.accounts,
        corrections=records.corrections,
        vault=records.vault,
        audit=records.audit,
        patient_keys=keys,
        studies=KnownStudies({STUDY: known}),  # type: ignore[arg-type]
    )


def records_again(context: Context) -> Records:
    """The same database, opened once more."""
    return open_records(context.config.places)


def log_in(context: Context, name: str, role: str, *patients: str) -> Principal:
    """A new account with these patients, in a session."""
    context.accounts.add_user(name, role, None)
    for patient in patients:
        context.accounts.assign(name, context.patient_keys.patient(patient))
    # A password would cost a tenth of a second each time.
    return context.accounts.login_with_code(name, context.accounts.login_code(name))


def cookie_of(principal: Principal) -> dict[str, str]:
    """What its browser sends with every request, and with those that change something."""
    return {
        "cookie": f"radloop={principal.session}",
        "x-csrf-token": principal.csrf,
        "origin": ORIGIN,
    }


def sessions_of(context: Context) -> Sessions:
    return Sessions(context.accounts, secure=context.config.secure)


def call(
    app: Any,
    method: str,
    path: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    pieces: Iterable[bytes] | None = None,
    server: tuple[str, int] = ("127.0.0.1", 8000),
) -> Answer:
    """One request, as uvicorn hands it on."""
    path, _, query = path.partition("?")
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("host", HOST))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "server": server,
        "client": ("127.0.0.1", 50000),
        "state": {},
    }
    waiting = list(pieces) if pieces is not None else [body]
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(3600)
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    asyncio.run(app(scope, receive, send))
    start = told[0]
    pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in start["headers"]]
    return Answer(
        start["status"],
        dict(pairs),
        b"".join(message.get("body", b"") for message in told[1:]),
        [value for name, value in pairs if name == "set-cookie"],
    )
