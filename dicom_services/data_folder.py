"""The data folder of a stack: its places, its secrets, what it remembers; all 0600 and 0700."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_services.errors import AccessError, ConfigError, CorruptError, UnavailableError
from dicom_services.settings import Settings, read_secret

if TYPE_CHECKING:
    from dicom_services.store.records import Places

HOME_VARIABLE: Final = "RADLOOP_DATA"
SECRETS: Final = (
    *("orthanc_admin", "orthanc_service", "redis", "signing_key"),
    *("vault_key", "audit_key", "patient_key", "token_key"),
)
_FOLDERS: Final = (
    *("secrets", "run", "logs", "orthanc", "redis", "scratch", "cache", "plugin", "quarantine"),
    "models",
)
# supervisord and redis read these in files of their own with their own quoting.
_UNQUOTABLE: Final = frozenset("\"'\\%;#$`")
# sun_path holds 107 bytes; supervisord first binds "<socket>.<pid>".
_SOCKET_PATH_LIMIT: Final = 107 - 9


@dataclass(frozen=True, slots=True)
class State:
    """What `radloop up` decided and the next one keeps.

    `dicom_port` is the front's, which modalities call; behind it Orthanc has its own.
    `gateway_port` is what browsers call; 0 in a state written before there was a gateway.
    `preferred` are the ports the settings named then; when they change, ports are chosen anew.
    """

    http_port: int
    dicom_port: int
    redis_port: int
    orthanc_dicom_port: int = 0
    dicom_listen: bool = False
    workers: int = 1
    preferred: tuple[int, ...] = ()
    gateway_port: int = 0


@dataclass(frozen=True, slots=True)
class DataFolder:
    """One stack's folder; `home` is absolute."""

    home: Path

    @property
    def state_json(self) -> Path:
        """Ports and choices of the last `up`; its presence makes a folder ours."""
        return self.home / "state.json"

    @property
    def modalities_json(self) -> Path:
        """Registered modalities."""
        return self.home / "modalities.json"

    @property
    def orthanc_json(self) -> Path:
        """Orthanc's configuration, with its passwords."""
        return self.home / "orthanc.json"

    @property
    def redis_conf(self) -> Path:
        """Redis's configuration."""
        return self.home / "redis.conf"

    @property
    def plugin_json(self) -> Path:
        """What our plugin inside Orthanc reads."""
        return self.home / "plugin.json"

    @property
    def node_json(self) -> Path:
        """What the workers read."""
        return self.home / "node.json"

    @property
    def front_json(self) -> Path:
        """What the front reads: its port and who may call."""
        return self.home / "front.json"

    @property
    def gateway_json(self) -> Path:
        """What the gateway reads."""
        return self.home / "gateway.json"

    @property
    def database(self) -> Path:
        """Users, corrections and audit, unless the settings name another database."""
        return self.home / "radloop.db"

    @property
    def audit_anchor(self) -> Path:
        """How many entries the audit has, so that a cut tail is found."""
        return self.home / "audit.anchor"

    @property
    def supervisord_conf(self) -> Path:
        """The supervised programs."""
        return self.home / "supervisord.conf"

    @property
    def supervisord_pid(self) -> Path:
        """Written by supervisord itself."""
        return self.home / "run" / "supervisord.pid"

    @property
    def logs(self) -> Path:
        """One log a program, rotated."""
        return self.home / "logs"

    @property
    def plugin_path(self) -> Path:
        """A folder that holds nothing but a link to our plugin's package."""
        return self.home / "plugin"

    @property
    def quarantine(self) -> Path:
        """Refused files, until a person decides."""
        return self.home / "quarantine"

    def secret(self, name: str) -> Path:
        """The file of one of SECRETS."""
        return self.home / "secrets" / name

    @property
    def socket(self) -> Path:
        """supervisord's control socket; in a short private folder where `home` is too long."""
        beside = self.home / "run" / "supervisor.sock"
        if len(os.fsencode(beside)) <= _SOCKET_PATH_LIMIT:
            return beside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"radloop-{os.getuid()}-{digest}" / "supervisor.sock"

    def places(self, database: str = "") -> Places:
        """Where the records are: in this folder, unless `database` names another one's URL."""
        # Brings the database's packages with it, which few commands need.
        from dicom_services.store.records import Places

        return Places(
            database=database or f"sqlite:///{self.database}",
            audit_anchor=self.audit_anchor,
            vault_key=self.secret("vault_key"),
            audit_key=self.secret("audit_key"),
            patient_key=self.secret("patient_key"),
            token_key=self.secret("token_key"),
        )

    def exists(self) -> bool:
        """Whether a stack was ever started here."""
        return self.state_json.is_file()

    def prepare(self) -> None:
        """Make the folders and, once, the secrets.

        Raises
        ------
        ConfigError
            `data_folder_path`, `data_folder_foreign`, `data_folder_not_writable`.
        AccessError
            `socket_folder_foreign` when somebody else holds the short folder's name.
        """
        if _UNQUOTABLE & set(str(self.home)) or not str(self.home).isprintable():
            raise ConfigError("data_folder_path")
        try:
            if self.home.is_dir() and not self._is_ours():
                raise ConfigError("data_folder_foreign")
            for folder in (self.home, *(self.home / name for name in _FOLDERS)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError:
            raise ConfigError("data_folder_not_writable") from None
        if self.socket.parent.parent != self.home:
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            found = self.socket.parent.lstat()
            if found.st_uid != os.getuid() or found.st_mode != stat.S_IFDIR | 0o700:
                raise AccessError("socket_folder_foreign")
        for name in SECRETS:
            if not self.secret(name).exists():
                write_private(self.secret(name), secrets.token_hex(32) + "\n")
            read_secret(self.secret(name))

    def _is_ours(self) -> bool:
        # A first `up` that stopped half way left folders but no state.
        return self.exists() or {item.name for item in self.home.iterdir()} <= set(_FOLDERS)

    def state(self) -> State:
        """What the last `up` decided.

        Raises
        ------
        UnavailableError
            `stack_absent` when there was none.
        CorruptError
            `state_file`.
        """
        try:
            told = json.loads(self.state_json.read_text())
            return State(**(told | {"preferred": tuple(told["preferred"])}))
        except FileNotFoundError:
            raise UnavailableError("stack_absent") from None
        except (OSError, ValueError, TypeError, KeyError):
            raise CorruptError("state_file") from None

    def keep(self, state: State) -> None:
        """Remember `state`."""
        write_private(self.state_json, json.dumps(asdict(state), indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes a stack.

        Raises
        ------
        UnavailableError
            `stack_busy` when another one does.
        """
        with (self.home / "run" / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UnavailableError("stack_busy") from None
            yield


def data_folder(named: Path | None = None) -> DataFolder:
    """The folder named, else RADLOOP_DATA, else the user's own."""
    if named is None:
        from_environment = os.environ.get(HOME_VARIABLE, "")
        share = os.environ.get("XDG_DATA_HOME", "") or "~/.local/share"
        named = Path(from_environment) if from_environment else Path(share) / "radloop"
    return DataFolder(named.expanduser().absolute())


def first_state(settings: Settings) -> State:
    """What a stack that never ran starts from."""
    named = settings.ports
    ports = (named.http, named.dicom, named.redis)
    return State(
        *ports,
        workers=settings.workers.count,
        preferred=(*ports, named.gateway),
        gateway_port=named.gateway,
    )


def write_private(path: Path, text: str) -> bool:
    """Replace a file atomically, readable by its owner alone; False where it was the same."""
    try:
        if path.read_text(encoding="utf-8") == text and path.stat().st_mode & 0o777 == 0o600:
            return False
    except (OSError, ValueError):
        pass
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise ConfigError("data_folder_not_writable") from None
    return True
