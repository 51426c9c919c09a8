"""A confined process keeps its memory, its threads and its open files, and nothing else."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_services.dicom import confinement
from dicom_services.dicom.child import Limits, Send, start_child
from dicom_services.dicom.confinement import confine
from dicom_services.errors import UnavailableError

LIMITS = Limits(256 << 20, 256 << 20, 20, 20, 30.0)
PARENT = os.getpid()


def tried(what: Callable[[], object], keep: tuple[int, ...] = ()) -> str:
    """What became of `what` in a confined child: "done" or the name of its error."""

    def work(send: Send) -> None:
        confine()
        try:
            what()
        except OSError as error:
            send(type(error).__name__)
        else:
            send("done")

    (answer,) = start_child(work, LIMITS, keep=keep).messages()
    return str(answer)


def program() -> None:
    subprocess.run(["/bin/true"], check=True, timeout=5)


FORBIDDEN: dict[str, Callable[[Path], object]] = {
    "a TCP socket": lambda _: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "a UDP socket": lambda _: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "a local socket": lambda _: socket.socket(socket.AF_UNIX),
    "a pair of sockets": lambda _: socket.socketpair(),
    "a program": lambda _: program(),
    "becoming a program": lambda _: os.execv("/bin/true", ["true"]),
    "a child": lambda _: os.fork(),
    "a signal to its parent": lambda _: os.kill(PARENT, signal.SIGTERM),
    "a new file": lambda folder: (folder / "new").write_bytes(b""),
    "writing a file": lambda folder: (folder / "there").write_bytes(b"changed"),
    "appending": lambda folder: (folder / "there").open("ab"),
    "deleting": lambda folder: (folder / "there").unlink(),
    "renaming": lambda folder: (folder / "there").rename(folder / "other"),
    "a folder": lambda folder: (folder / "new").mkdir(),
    "a link": lambda folder: (folder / "new").symlink_to("/etc/passwd"),
    "rights": lambda folder: (folder / "there").chmod(0o777),
    "cutting": lambda folder: os.truncate(folder / "there", 0),
    "an anonymous file": lambda _: os.memfd_create("x"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_it_may_not_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_bytes(b"before")
    assert tried(lambda: FORBIDDEN[name](tmp_path)) in ("PermissionError", "BlockingIOError")
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_bytes() == b"before"


def test_it_reads_files_and_writes_those_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"before")
    handle = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT, 0o600)

    def work() -> None:
        os.write(handle, (tmp_path / "there").read_bytes())

    assert tried(work, keep=(handle,)) == "done"
    os.close(handle)
    assert (tmp_path / "out").read_bytes() == b"before"


def test_it_starts_threads() -> None:
    def work() -> None:
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(sum(range(1000))))
        thread.start()
        thread.join()
        if answers != [499500]:
            raise OSError

    assert tried(work) == "done"


def test_it_cannot_go_back() -> None:
    def work() -> None:
        confine()
        socket.socket()

    assert tried(work) == "PermissionError"


def test_a_system_without_the_filter_is_told_and_nothing_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confinement.platform, "machine", lambda: "vax")
    with pytest.raises(UnavailableError, match="confinement_missing"):
        confine()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_jump_of_the_filter_leads_beyond_its_end(machine: str) -> None:
    code = confinement._program(machine)
    lines = [code[at : at + 8] for at in range(0, len(code), 8)]
    assert len(lines) < 256
    for at, line in enumerate(lines):
        if line[0] != 0x06:
            assert max(line[2], line[3]) + at + 1 < len(lines)
    assert platform.machine() in ("x86_64", "aarch64")
