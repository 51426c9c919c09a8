"""Examines a running stack: who answers, who is asked for a password, what is open to whom."""

from __future__ import annotations

from pathlib import Path

from dicom_services.checks import Check, check
from dicom_services.data_folder import DataFolder, State
from dicom_services.doctor_gateway import running_gateway_checks
from dicom_services.errors import AccessError, RadloopError
from dicom_services.modalities import active, read_modalities
from dicom_services.orthanc import Orthanc
from dicom_services.ports import listeners
from dicom_services.remedies import remedy
from dicom_services.settings import Settings
from dicom_services.stack import connect
from dicom_services.supervision import ProcessState, Supervisor, stack_processes
from dicom_services.wake_up import wake_up

_MANY_RESTARTS = 5


def service_checks(folder: DataFolder, settings: Settings, state: State) -> list[Check]:
    """Every check of a stack whose supervisor answers."""
    processes = Supervisor(folder).processes()
    return [
        *(_process(folder, one) for one in processes),
        check(
            state.workers,
            "workers",
            f"{state.workers} on this machine" if state.workers else "none: jobs wait for others",
            "radloop up --workers 1",
            bad="WARN",
        ),
        *_owners(folder, state),
        _speed(processes),
        *_orthanc(folder, state),
        *_redis(folder, settings, state),
        *_reach(folder, state),
        *running_gateway_checks(folder, settings, state),
    ]


def _process(folder: DataFolder, one: ProcessState) -> Check:
    found = f"{one.state}, {one.restarts} restarts"
    log = f"read {folder.logs / one.name}.log"
    if one.state != "RUNNING":
        return Check("FAIL", f"process {one.name}", found, log)
    good = one.restarts <= _MANY_RESTARTS
    return check(good, f"process {one.name}", found, log, bad="WARN")


def _owners(folder: DataFolder, state: State) -> list[Check]:
    """Whether the ports are held by this stack and by nobody else."""
    ours = set(stack_processes(folder))
    checks = []
    ports = {"HTTP": state.http_port, "DICOM": state.dicom_port, "Redis": state.redis_port}
    for name, port in ports.items():
        held = listeners(port)
        good = bool(held) and held <= ours
        found = "ours" if good else "nobody listens" if not held else "another program's"
        advice = "radloop down, end that program or disable its service, radloop up"
        checks.append(check(good, f"{name} port", f"{port} is {found}", advice))
    return checks


def _speed(processes: tuple[ProcessState, ...]) -> Check:
    pid = next((one.pid for one in processes if one.name == "orthanc"), 0)
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        environment = []
    good = b"TCP_NODELAY=1" in environment
    found = "TCP_NODELAY=1" if good else "TCP_NODELAY is not set: C-STORE ten times slower"
    return check(good, "Orthanc's sockets", found, "radloop down && radloop up")


def _orthanc(folder: DataFolder, state: State) -> list[Check]:
    checks = []
    with Orthanc(f"http://127.0.0.1:{state.http_port}", "", "", timeout_s=5.0) as stranger:
        try:
            stranger.system()
            found, asked = "answers anybody", False
        except AccessError:
            found, asked = "asks for a password", True
        except RadloopError as error:
            found, asked = str(error), False
    checks.append(check(asked, "Orthanc's door", found, "radloop down && radloop up"))
    try:
        with connect(folder, state, timeout_s=5.0) as orthanc:
            version = str(orthanc.system().get("Version", ""))
            checks.append(check(version, "Orthanc answers", version, ""))
            router = orthanc.status()
    except RadloopError as error:
        return [*checks, Check("FAIL", "Orthanc answers", str(error), remedy(error.code))]
    waits = router.get("queue_answers") is False
    found = "answers" if not waits else "waits for Redis"
    return [*checks, check(not waits, "our plugin", found, remedy("redis_unreachable"))]


def _redis(folder: DataFolder, settings: Settings, state: State) -> list[Check]:
    try:
        told = wake_up(folder, state.redis_port, settings.queue.names)
    except RadloopError as error:
        return [Check("FAIL", "Redis answers", str(error), remedy(error.code))]
    waiting = ", ".join(f"{count} waiting for {name}" for name, count in told.waiting.items())
    kept = "kept over a restart" if told.persistent else "lost at a restart"
    return [
        check(True, "Redis answers", waiting, ""),
        check(told.persistent, "queue", kept, "radloop down && radloop up"),
        _foreign(folder),
    ]


def _foreign(folder: DataFolder) -> Check:
    """Messages in the queue that were not ours; the workers' logs are out of a forger's reach."""
    count = 0
    for log in folder.logs.glob("worker_*.log"):
        with log.open("rb") as lines:
            count += sum(b'"event": "queue.forged"' in line for line in lines)
    found = f"{count} foreign messages in the workers' logs" if count else "no foreign messages"
    advice = "somebody knows Redis's password: radloop down, delete secrets/redis, radloop up"
    return check(not count, "queue's messages", found, advice, bad="WARN")


def _reach(folder: DataFolder, state: State) -> list[Check]:
    """What of the stack the network can see, and what it gets to hear there."""
    modalities = read_modalities(folder.modalities_json)
    senders = active(modalities, dicom_listen=state.dicom_listen)
    names = ", ".join(f"{one.aet} at {one.address}" for one in senders) or "nobody"
    inner = (state.http_port, state.orthanc_dicom_port)
    ports = " and ".join(str(port) for port in inner)
    orthanc = f"ports {ports} are bound to every address; Orthanc answers this machine alone"
    listed = ",".join(str(port) for port in inner)
    close = "to close them to others: sudo iptables -I INPUT ! -i lo -p tcp -m multiport "
    close += f"--dports {listed} -j DROP"
    dicom = Check("OK", "DICOM reach", f"port {state.dicom_port}, this machine only: {names}")
    if state.dicom_listen:
        found = f"port {state.dicom_port} takes connections; may send: {names}"
        advice = "AE titles are no secret: let a firewall admit those addresses alone"
        dicom = Check("WARN", "DICOM reach", found, advice)
    silent = [one.aet for one in modalities if one not in senders]
    checks = [
        Check("WARN", "Orthanc's reach", orthanc, close),
        dicom,
    ]
    if silent:
        found = f"registered on other machines, refused now: {', '.join(silent)}"
        checks.append(Check("WARN", "modalities", found, "radloop up --dicom-listen"))
    return checks
