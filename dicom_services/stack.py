"""The stack on one machine: Orthanc, Redis, workers, gateway: up, down and looked at."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_services.configuration import write_configuration, write_modality_configuration
from dicom_services.data_folder import DataFolder, State, first_state
from dicom_services.errors import ConfigError, RadloopError, UnavailableError
from dicom_services.modalities import Modality, active, read_modalities, write_modalities
from dicom_services.orthanc import Orthanc
from dicom_services.orthanc_config import BINARY, SERVICE
from dicom_services.plugin_site import plugin_package, plugin_site
from dicom_services.ports import choose_port, listeners
from dicom_services.routes import check_rules
from dicom_services.settings import Settings, read_secret
from dicom_services.supervision import (
    ProcessState,
    Supervisor,
    end_processes,
    stack_processes,
    wait_for_end,
)
from dicom_services.wake_up import wake_up

Say = Callable[[str], None]
_POLL_S: Final = 0.1
_ALL_JOBS: Final = "/radloop/jobs?limit=5000"
# A program that ends this long after its start again and again will not come up by waiting.
_GIVE_UP_S: Final = 8.0
# Orthanc is back from a crash or a stop well within this.
_RESTART_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` found and did: `restarted` names the programs whose configuration had changed."""

    state: State
    was_running: bool
    restarted: tuple[str, ...]
    processes: tuple[ProcessState, ...]

    @property
    def healthy(self) -> bool:
        """Whether every process runs."""
        return all(process.state == "RUNNING" for process in self.processes)


@dataclass(frozen=True, slots=True)
class StackStatus:
    """What `status` shows; None means that the service did not answer.

    `viewer` is the gateway's address, `waiting` queue name to length, `router` what our plugin says
    of itself, `jobs` state to number of jobs.
    """

    running: bool
    aet: str
    viewer: str
    state: State
    processes: tuple[ProcessState, ...]
    orthanc_version: str | None
    waiting: dict[str, int] | None
    router: dict[str, Any] | None
    jobs: dict[str, int] | None
    disk_free_gb: float


def up(
    folder: DataFolder,
    settings: Settings,
    *,
    dicom_listen: bool | None = None,
    workers: int | None = None,
    say: Say = lambda _: None,
) -> Started:
    """Bring the stack up, or a running one up to date.

    Parameters
    ----------
    folder, settings
    dicom_listen : bool or None
        Whether modalities of other machines may send; None keeps what was chosen before.
    workers : int or None
        How many; None keeps what was chosen before.
    say : callable
        Told what is happening, in short lines.

    Raises
    ------
    ConfigError
        For whatever is not installed or not right, before anything is started.
    UnavailableError
        `orthanc_start`, `redis_start`, `front_start`, `gateway_start` when a service did not
        answer in time.
    """
    _require_programs()
    _require_queues(settings)
    folder.prepare()
    with folder.locked():
        supervisor = Supervisor(folder)
        running = supervisor.answers()
        if not running and end_processes(folder, grace_s=10.0):
            say("ended processes that an earlier supervisor had left behind")
        state = _decide(folder, settings, running, dicom_listen, workers)
        write_configuration(folder, settings, state)
        folder.keep(state)
        restarted: tuple[str, ...] = ()
        if running:
            restarted = supervisor.apply()
            if "orthanc" not in restarted:
                _tell_modalities(folder, state, read_modalities(folder.modalities_json))
            if restarted:
                say(f"configuration changed: {', '.join(restarted)} started anew")
        else:
            say("starting Redis, Orthanc, its front, workers and the gateway")
            supervisor.start(settings.stack.start_timeout_s)
        _wait(folder, state, supervisor, settings, say)
        return Started(state, running, restarted, supervisor.processes())


def down(folder: DataFolder, settings: Settings, say: Say = lambda _: None) -> bool:
    """Stop everything that belongs to the stack; False where nothing ran."""
    if not folder.exists() or not (folder.home / "run").is_dir():
        return False
    with folder.locked():
        supervisor = Supervisor(folder)
        if not supervisor.answers():
            return end_processes(folder, grace_s=10.0) > 0
        say("stopping; a worker may finish a short job first")
        supervisor.shutdown()
        if not wait_for_end(folder, settings.stack.stop_timeout_s):
            say(f"ending {len(stack_processes(folder))} processes that did not stop")
            end_processes(folder, grace_s=5.0)
        return True


def status(folder: DataFolder, settings: Settings) -> StackStatus:
    """Look at every part; nothing is changed and nothing that is missing is an error.

    Raises
    ------
    UnavailableError
        `stack_absent` when there was never a stack in this folder.
    """
    state = folder.state()
    processes = Supervisor(folder).processes()
    version: str | None = None
    router: dict[str, Any] | None = None
    jobs: dict[str, int] | None = None
    waiting: dict[str, int] | None = None
    if processes:
        with suppress(RadloopError), connect(folder, state, timeout_s=5.0) as orthanc:
            version = str(orthanc.system().get("Version", ""))
            router = orthanc.status()
            jobs = dict(Counter(str(one["state"]) for one in orthanc.get_json(_ALL_JOBS)))
        with suppress(RadloopError):
            waiting = wake_up(folder, state.redis_port, settings.queue.names).waiting
    free_gb = shutil.disk_usage(folder.home).free / 1e9
    return StackStatus(
        running=bool(processes),
        aet=settings.orthanc.aet,
        viewer=gateway_address(settings, state),
        state=state,
        processes=processes,
        orthanc_version=version,
        waiting=waiting,
        router=router,
        jobs=jobs,
        disk_free_gb=round(free_gb, 1),
    )


def gateway_host(settings: Settings) -> str:
    """Where this machine reaches its own gateway."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nosec B104
    return everywhere.get(settings.gateway.host, settings.gateway.host)


def gateway_address(settings: Settings, state: State) -> str:
    """What a person on this machine types into a browser."""
    host = gateway_host(settings)
    scheme = "https" if settings.gateway.tls_certificate else "http"
    name = "localhost" if ip_address(host).is_loopback else f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{state.gateway_port}"


def gateway_version(settings: Settings, state: State) -> str:
    """What the gateway says it is; "" where it does not answer."""
    host = gateway_host(settings)
    own = settings.gateway
    address = f"{f'[{host}]' if ':' in host else host}:{state.gateway_port}"
    try:
        if not own.tls_certificate:
            told = httpx.get(f"http://{address}/api/health", trust_env=False, timeout=5.0)
        else:
            # Its own certificate and none else, by the name that stands in it.
            context = ssl.create_default_context(cafile=own.tls_certificate)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            name = certified_name(Path(own.tls_certificate))
            with httpx.Client(verify=context, trust_env=False, timeout=5.0) as client:
                asked = client.build_request("GET", f"https://{address}/api/health")
                asked.extensions["sni_hostname"] = name
                told = client.send(asked)
        return str(told.json()["version"])
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError):
        return ""


def certified_name(certificate: Path) -> str:
    """A name that a certificate holds for."""
    from cryptography import x509

    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    return (hosts or [str(one) for one in addresses] or [""])[0].replace("*", "any")


def connect(
    folder: DataFolder, state: State, *, threads: int = 4, timeout_s: float = 60.0
) -> Orthanc:
    """The stack's Orthanc, as the service user."""
    password = read_secret(folder.secret("orthanc_service"))
    url = f"http://127.0.0.1:{state.http_port}"
    return Orthanc(url, SERVICE, password, threads=threads, timeout_s=timeout_s)


def change_modalities(
    folder: DataFolder, settings: Settings, modalities: Iterable[Modality]
) -> bool:
    """Keep the registered modalities and tell Orthanc; whether it runs and knows them now."""
    state = folder.state()
    known = tuple(modalities)
    with folder.locked():
        write_modalities(folder.modalities_json, known)
        write_modality_configuration(folder, settings, state, known)
        if not Supervisor(folder).answers():
            return False
        until_s = time.monotonic() + _RESTART_S
        while True:
            try:
                _tell_modalities(folder, state, known)
            except UnavailableError:
                # It may just be restarting.
                if time.monotonic() > until_s:
                    raise
                time.sleep(5 * _POLL_S)
            else:
                return True


def _tell_modalities(folder: DataFolder, state: State, modalities: Iterable[Modality]) -> None:
    told = active(modalities, dicom_listen=state.dicom_listen)
    with connect(folder, state, timeout_s=10.0) as orthanc:
        for name in set(orthanc.get_json("/modalities")) - {one.name for one in told}:
            orthanc.delete_path(f"/modalities/{name}")
        for one in told:
            orthanc.put_json(f"/modalities/{one.name}", one.for_orthanc(folder.home))


def _require_queues(settings: Settings) -> None:
    """Every rule's queue must be one that somebody works on, or its jobs would wait for ever."""
    served = set(settings.queue.names)
    rules = check_rules(settings.routing.file)
    if any(rule["queue"] not in served for rule in rules.values()):
        raise ConfigError("routing_queue")


def _require_programs() -> None:
    if not BINARY.exists():
        raise ConfigError("orthanc_missing")
    if shutil.which("redis-server") is None:
        raise ConfigError("redis_server_missing")
    plugin_package()
    if not (plugin_site() / "rq").is_dir():
        raise ConfigError("plugin_site_missing")


def _decide(
    folder: DataFolder,
    settings: Settings,
    running: bool,
    dicom_listen: bool | None,
    workers: int | None,
) -> State:
    """Ports and choices: the earlier ones where they still hold."""
    first = first_state(settings)
    state = folder.state() if folder.exists() else first
    if not running:
        if state.preferred and state.preferred != first.preferred[: len(state.preferred)]:
            state = replace(first, dicom_listen=state.dicom_listen, workers=state.workers)
        http = choose_port(state.http_port)
        dicom = choose_port(state.dicom_port, {http})
        redis = choose_port(state.redis_port, {http, dicom})
        state = replace(state, http_port=http, dicom_port=dicom, redis_port=redis)
        state = replace(state, preferred=first.preferred)
    if not (running and state.orthanc_dicom_port):
        taken = {state.http_port, state.dicom_port, state.redis_port}
        inner = choose_port(state.orthanc_dicom_port or state.dicom_port + 1, taken)
        state = replace(state, orthanc_dicom_port=inner)
    if not (running and state.gateway_port):
        taken = {state.http_port, state.dicom_port, state.redis_port, state.orthanc_dicom_port}
        gateway = choose_port(state.gateway_port or first.gateway_port, taken)
        state = replace(state, gateway_port=gateway)
    if dicom_listen is not None:
        state = replace(state, dicom_listen=dicom_listen)
    if workers is not None:
        state = replace(state, workers=workers)
    return state


def _wait(
    folder: DataFolder, state: State, supervisor: Supervisor, settings: Settings, say: Say
) -> None:
    """Until Redis, Orthanc, the front and the gateway answer and every process runs."""
    begin = time.monotonic()

    def redis() -> bool:
        try:
            wake_up(folder, state.redis_port, ())
        except UnavailableError:
            return False
        return True

    def orthanc() -> bool:
        try:
            with connect(folder, state, timeout_s=5.0) as client:
                return bool(client.system())
        except UnavailableError:
            return False

    def front() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", state.dicom_port)) == 0

    def gateway() -> bool:
        # Another program may have taken the port meanwhile.
        ours = listeners(state.gateway_port) <= set(stack_processes(folder))
        return ours and bool(gateway_version(settings, state))

    services = (("redis", redis), ("orthanc", orthanc), ("front", front), ("gateway", gateway))
    for name, ready in services:
        while not ready():
            waited_s = time.monotonic() - begin
            ending = any(
                one.name == name and one.state in ("BACKOFF", "FATAL")
                for one in supervisor.processes()
            )
            if waited_s > settings.stack.start_timeout_s or (ending and waited_s > _GIVE_UP_S):
                raise UnavailableError(f"{name}_start")
            time.sleep(_POLL_S)
        say(f"{name} answers after {time.monotonic() - begin:.1f} s")
    while any(one.state == "STARTING" for one in supervisor.processes()):
        if time.monotonic() - begin > settings.stack.start_timeout_s:
            return
        time.sleep(_POLL_S)
