"""Sends the hostile corpus over three routes to a real stack and looks at what is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from dicom_services.data_folder import DataFolder
from dicom_services.errors import RadloopError
from dicom_services.gate import REASONS
from dicom_services.orthanc import Orthanc
from dicom_services.supervision import Supervisor
from tests.hostile.corpus import Case
from tests.hostile.scu import BrokenOffError, Context, RejectedError, Scu, echo

MOST_S: Final = 10.0
MOST_BYTES: Final = 1 << 30
_ANALYZE_S: Final = 60.0
_COMMENT: Final = re.compile(r"radloop gate: ([a-z_]+)")
_CODES_OF_EXIT: Final = (0, 2, 3)
_CONTEXTS: Final = 120
_PAGE, _PAGES = 50, 40


@dataclass(slots=True)
class Report:
    """What happened on a route; `faults` is empty where nothing broke."""

    route: str
    files: int = 0
    stored: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""
    peak_mb: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def took(self, name: str, seconds: float) -> None:
        """Note how long a request took."""
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = round(seconds, 2), name
        if seconds > MOST_S:
            self.faults.append(f"{name}: {seconds:.1f} s")

    def document(self) -> dict[str, Any]:
        """For a JSON line."""
        return {**asdict(self), "refused": dict(self.refused), "faults": self.faults[:40]}


class Watch:
    """The processes of a stack: which there were, and how much memory each ever had."""

    def __init__(self, folder: DataFolder) -> None:
        self._supervisor = Supervisor(folder)
        self.before = self.pids()
        for pid in self.before.values():
            # Forget the peak of the past.
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def pids(self) -> dict[str, int]:
        """Of every supervised process, by name."""
        return {one.name: one.pid for one in self._supervisor.processes()}

    def peaks_mb(self) -> dict[str, int]:
        """The most memory each has had."""
        return self._memory_mb("VmHWM:")

    def resident_mb(self) -> dict[str, int]:
        """The memory each has now."""
        return self._memory_mb("VmRSS:")

    def _memory_mb(self, field: str) -> dict[str, int]:
        found = {}
        for name, pid in self.pids().items():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                found[name] = int(status.split(field)[1].split()[0]) // 1024
        return found

    def close(self, report: Report) -> None:
        """Note deaths and memory."""
        after = self.pids()
        report.faults += [
            f"{name} died" for name, pid in self.before.items() if after.get(name) != pid
        ]
        report.peak_mb = self.peaks_mb()
        report.faults += [
            f"{name}: {peak} MB" for name, peak in report.peak_mb.items() if peak > MOST_BYTES >> 20
        ]


def by_store(
    cases: Iterable[Case], folder: DataFolder, *, calling: str = "RADLOOP"
) -> tuple[Report, list[Case]]:
    """Route a: C-STORE of raw bytes; the report, and the cases that were stored."""
    began, report, stored = time.monotonic(), Report("c-store"), []
    watch, port = Watch(folder), folder.state().dicom_port
    contexts: list[Context] = []
    scu: Scu | None = None
    for case in cases:
        report.files += 1
        context = (case.sop_class, case.syntax)
        start = time.monotonic()
        try:
            if scu is None or context not in contexts:
                if scu is not None:
                    scu.close()
                contexts = [context, *(one for one in contexts if one != context)][:_CONTEXTS]
                scu = None
                scu = Scu(port, contexts, calling=calling, timeout_s=60.0)
            number = scu.context_of(context)
            if not number:
                report.refused["context"] += 1
                contexts.remove(context)
                scu.close()
                scu = None
                continue
            status, comment = scu.store(case.sop_class, case.instance, number, case.body)
        except (BrokenOffError, RejectedError) as error:
            # An answer too, if not a good one; a proposal that no standard knows ends like that.
            report.refused[f"{type(error).__name__}"] += 1
            if scu is not None:
                scu.socket.close()
            if _are_uids(*context, case.instance):
                report.faults.append(f"{case.name}: {error}")
            contexts, scu = [], None
            continue
        except TimeoutError:
            report.faults.append(f"{case.name}: no answer")
            if scu is not None:
                scu.socket.close()
            contexts, scu = [], None
            continue
        finally:
            report.took(case.name, time.monotonic() - start)
        said = _COMMENT.search(comment)
        if status == 0:
            report.stored += 1
            stored.append(case)
        elif said and said[1] in REASONS:
            report.refused[said[1]] += 1
        else:
            report.refused[f"0x{status:04x}"] += 1
    if scu is not None:
        scu.close()
    watch.close(report)
    report.seconds = round(time.monotonic() - began, 1)
    return report, stored


def _are_uids(*texts: str) -> bool:
    return all(re.fullmatch(r"[0-9.]{1,64}", one) for one in texts)


def alive(folder: DataFolder, orthanc: Orthanc, stored: Iterable[Case]) -> Report:
    """Whether the stack still answers, and reads everything that it has stored."""
    began, report = time.monotonic(), Report("read back")
    watch = Watch(folder)
    if echo(folder.state().dicom_port) != 0:
        report.faults.append("no C-ECHO")

    def ask(name: str, path: str) -> None:
        start = time.monotonic()
        try:
            orthanc.get_bytes(path)
            report.stored += 1
        except RadloopError as error:
            # What cannot be decoded or found has no picture; that is an answer.
            report.refused[error.code] += 1
        report.took(f"{name} {path.rsplit('/', 1)[-1]}", time.monotonic() - start)

    # Page by page, as a viewer asks; each reads all files of its page.
    for page in range(0, _PAGES * _PAGE, _PAGE):
        ask("all", f"/dicom-web/studies?limit={_PAGE}&offset={page}")
        ask("all", f"/dicom-web/instances?limit={_PAGE}&offset={page}")
    for case in stored:
        report.files += 1
        for one in orthanc.find("instances", {"SOPInstanceUID": case.instance}):
            for what in ("tags", "simplified-tags", "preview", "frames", "file"):
                ask(case.name, f"/instances/{one}/{what}")
            root = f"/dicom-web/studies/{case.study}/series/{case.study}.1"
            if case.whole is None:
                ask(case.name, f"{root}/instances/{case.instance}/metadata")
    watch.close(report)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def by_send(
    cases: Iterable[Case],
    folder: DataFolder,
    profile: Path,
    *,
    calling: str = "RADLOOP",
    together: bool = False,
) -> Report:
    """Route b: `radloop send`, a folder for each class or one for all."""
    began, report = time.monotonic(), Report("send")
    watch = Watch(folder)
    environment = {**os.environ, "RADLOOP_DATA": str(folder.home), "RADLOOP_CONFIG": str(profile)}
    with tempfile.TemporaryDirectory(prefix="hostile-") as home:
        kinds = _write(cases, Path(home))
        for kind in [Path(home)] if together else kinds:
            report.files += sum(1 for one in kind.rglob("*.dcm"))
            command = [sys.executable, "-m", "dicom_services.cli", "send", str(kind)]
            code, text, peak = _command([*command, "--aet", calling], environment, 300.0)
            report.refused[f"exit {code}"] += 1
            _judge(report, kind.name, code, text, peak)
        for kind in kinds:
            shutil.rmtree(kind)
    watch.close(report)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def by_analyze(cases: Iterable[Case]) -> Report:
    """Route c: `radloop analyze` of each file, in a fork of this process that has all loaded."""
    import ai_nodes.cli
    import dicom_services.cli

    began, report = time.monotonic(), Report("analyze")
    main = dicom_services.cli.main
    assert ai_nodes.cli.analyze is not None
    with tempfile.TemporaryDirectory(prefix="hostile-") as home:
        for case in cases:
            report.files += 1
            path = Path(home, "in.dcm")
            path.write_bytes(case.file)
            words = ["radloop", "analyze", str(path), "--out", str(Path(home, "out"))]
            words += ["--everything-above-130"]
            start = time.monotonic()
            code, text, peak = _forked(main, words, Path(home, "said"))
            report.took(case.name, time.monotonic() - start)
            said = _code_said(text) if code else "done"
            report.refused[said] += 1
            if not said:
                report.faults.append(f"{case.name}: no code: {text[-300:]}")
            report.stored += code == 0
            _judge(report, case.name, code, text, peak)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _code_said(text: str) -> str:
    """The code of an error, with the reason of the gate if it was that one."""
    code = r"(?:^|refused: )([a-z]+(?:_[a-z]+)+)( .*reason=([a-z_]+))?"
    found = re.findall(code, text, re.MULTILINE)
    return " ".join((found[-1][0], found[-1][2])).strip() if found else ""


def _judge(report: Report, name: str, code: int, text: str, peak: int) -> None:
    report.peak_mb["command"] = max(report.peak_mb.get("command", 0), peak >> 20)
    if code not in _CODES_OF_EXIT:
        report.faults.append(f"{name}: exit {code}: {text[-300:]}")
    if "Traceback" in text:
        report.faults.append(f"{name}: traceback: {text[-600:]}")
    if peak > MOST_BYTES:
        report.faults.append(f"{name}: {peak >> 20} MB")


def _write(cases: Iterable[Case], home: Path) -> list[Path]:
    for case in cases:
        folder = home / case.kind
        folder.mkdir(exist_ok=True)
        (folder / f"{case.number:04d}.dcm").write_bytes(case.file)
    return sorted(home.iterdir())


# A process made by a large one counts the large one's memory as its own peak, so a small one
# stands between.
_MEASURED: Final = """
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
os.write(int(sys.argv[1]), str(peak).encode())
sys.exit(code if code >= 0 else 128 - code)
"""


def _command(words: list[str], environment: dict[str, str], limit_s: float) -> tuple[int, str, int]:
    """Exit code, what it said, peak memory of a command and its children."""
    with tempfile.TemporaryFile("w+") as said:
        reading, writing = os.pipe()
        command = [sys.executable, "-c", _MEASURED, str(writing), *words]
        process = subprocess.Popen(
            command, env=environment, stdout=said, stderr=said, pass_fds=(writing,)
        )
        os.close(writing)
        process.returncode, _ = _wait(process.pid, limit_s)
        with os.fdopen(reading) as measured:
            peak = int(measured.read() or 0) << 10
        said.seek(0)
        return process.returncode, said.read(), peak


def _forked(main: Any, words: list[str], said: Path) -> tuple[int, str, int]:
    """The same of a function in a fork, with what it needs beside what this process has."""
    pid = os.fork()
    if not pid:
        code = 70
        try:
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = words
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:  # noqa: BLE001 - told to the parent, which counts it
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    begun_with = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    code, usage = _wait(pid, _ANALYZE_S)
    text = said.read_text("utf-8", "replace") if said.exists() else ""
    return code, text, max(0, (usage.ru_maxrss << 10) - begun_with)


def _wait(pid: int, limit_s: float) -> tuple[int, resource.struct_rusage]:
    end = time.monotonic() + limit_s
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            return os.waitstatus_to_exitcode(status), usage
        time.sleep(0.005)
