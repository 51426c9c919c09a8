"""How a crash is recognised, what is taken away after it, and what is left alone."""

from __future__ import annotations

import gzip
import importlib
import json
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_services.quarantine import Quarantine, digest_of_uid
from tests import fake_orthanc
from tests.dicom_files import part10

EXITED = "2026-01-02 03:04:05,678 WARN exited: orthanc ({}; not expected)\n"
SPAWNED = "2026-01-02 03:04:06,679 INFO spawned: 'orthanc' with pid 4711\n"
SEGV = EXITED.format("terminated by SIGSEGV")


def uid(tag: tuple[int, int], value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", *tag, b"UI", len(value)) + value


def body(sop: str, levels: int = 0) -> bytes:
    """A Part 10 file of four identifiers and nested sequences."""
    deep = struct.pack("<HH2sHIHHI", 0x40, 0xA730, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return part10(
        uid((0x8, 0x16), b"1.2.840.10008.5.1.4.1.1.7")
        + uid((0x8, 0x18), sop.encode())
        + uid((0x20, 0xD), b"1.2.3")
        + uid((0x20, 0xE), b"1.2.4")
        + deep * levels
        + end * levels
    )


class Rig:
    """Starts of an Orthanc that has been told how the one before it ended."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = tmp_path
        self.orthanc = fake_orthanc.install()
        self.orthanc.storage = tmp_path / "orthanc"
        for name in ("archive", "probe"):
            module = importlib.import_module(f"orthanc_plugins.{name}")
            monkeypatch.setattr(module, "orthanc", self.orthanc)
        self.module = importlib.import_module("orthanc_plugins.poison")
        monkeypatch.setattr(self.module, "SETTLED_S", 0.0)
        self.quarantine = Quarantine(tmp_path / "quarantine", 1_000_000, 100)
        self.gone: list[tuple[str, str]] = []
        self.log = tmp_path / "supervisord.log"
        self.log.write_text(SPAWNED)
        self.max_bytes = 1_000_000

    def start(self, ended: str = "") -> Any:
        """A new Orthanc after one that `ended` so."""
        with self.log.open("a") as file:
            file.write(ended + SPAWNED)
        settings = {
            "run": str(self.home),
            "storage": str(self.home / "orthanc"),
            "supervisor_log": str(self.log),
            "quarantine": str(self.home / "quarantine"),
            "quarantine_bytes": self.max_bytes,
            "quarantine_records": 100,
            "object_scale": 1.0,
        }
        poison = self.module.Poison(settings, self.orthanc.LogWarning)
        poison.first_aid()
        poison.finish(lambda study, series: self.gone.append((study, series)))
        return poison

    def reading(self, instance: str) -> None:
        """A breadcrumb, as it is there in the middle of a reading."""
        crumb = json.dumps([instance, self.orthanc.bodies[instance]])
        (self.home / "reading").write_text(crumb.ljust(128))

    def place(self, instance: str) -> Path:
        name = self.orthanc.bodies[instance]
        return self.home / "orthanc" / name[:2] / name[2:4] / name

    def reasons(self) -> list[tuple[str, str]]:
        return [(one.reason, one.source) for one in self.quarantine.records()[0]]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield Rig(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (SPAWNED, ""),
        (SEGV + SPAWNED, "SIGSEGV"),
        (EXITED.format("terminated by SIGABRT (core dumped)") + SPAWNED, "SIGABRT"),
        (SEGV, "SIGSEGV"),
        (EXITED.format("terminated by SIGKILL") + SPAWNED, ""),
        (EXITED.format("terminated by SIGTERM") + SPAWNED, ""),
        (EXITED.format("exit status 1") + SPAWNED, ""),
        (SEGV + SPAWNED + EXITED.format("exit status 0") + SPAWNED, ""),
        (SEGV + SPAWNED + "WARN stopped: orthanc (terminated by SIGTERM)\n" + SPAWNED, ""),
        (SEGV + "INFO supervisord started with pid 1\n" + SPAWNED, ""),
        (SEGV.replace("orthanc", "worker_0") + SPAWNED, ""),
    ],
)
def test_only_a_fault_of_the_orthanc_before_counts(tmp_path: Path, told: str, fault: str) -> None:
    from orthanc_plugins.crashes import last_fault

    (tmp_path / "supervisord.log").write_text(SPAWNED + told)
    assert last_fault(tmp_path / "supervisord.log") == fault


def test_fault_stands_in_the_log_before_when_the_log_was_just_rotated(tmp_path: Path) -> None:
    from orthanc_plugins.crashes import last_fault

    (tmp_path / "supervisord.log.1").write_text(SEGV)
    (tmp_path / "supervisord.log").write_text(SPAWNED)
    assert last_fault(tmp_path / "supervisord.log") == "SIGSEGV"


def test_deep_instance_that_was_being_read_is_taken_away_at_the_first_crash(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0", 3))
    rig.orthanc.receive("st", "se", 1, body=body("1.2.1", 60))
    deep = rig.place("se-1")
    rig.reading("se-1")
    rig.start(SEGV)
    assert not deep.exists()
    assert rig.orthanc.series["se"]["instances"] == ["se-0"]
    assert rig.reasons() == [("depth", "poison")]
    assert rig.quarantine.is_poison(digest_of_uid("1.2.1"))
    assert rig.gone == [("st", "se")]
    assert json.loads(rig.orthanc.study_metadata["st"]["radloop"]) == {"se": ["se-1"]}


def test_deep_instance_is_found_among_the_files_last_touched(rig: Rig) -> None:
    for number in range(20):
        rig.orthanc.receive("st", f"s{number}", 1, body=body("1.2.0", 60 if number == 7 else 2))
    rig.start(SEGV)
    assert "s7" not in rig.orthanc.series
    assert len(rig.orthanc.series) == 19


@pytest.mark.parametrize("ended", ["", EXITED.format("terminated by SIGKILL")])
def test_nothing_is_judged_where_there_was_no_crash(rig: Rig, ended: str) -> None:
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0", 60))
    rig.reading("se-0")
    rig.start(ended)
    assert rig.reasons() == []
    assert rig.orthanc.series["se"]["instances"] == ["se-0"]


def test_two_crashes_in_a_row_on_one_instance_take_it_away(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 2, body=body("1.2.0"))
    rig.reading("se-0")
    assert rig.start(SEGV).unexplained
    assert rig.reasons() == []
    rig.reading("se-0")
    rig.start(SEGV)
    assert rig.reasons() == [("poison", "poison")]
    assert rig.orthanc.series["se"]["instances"] == ["se-1"]


def test_reading_that_ended_well_in_between_acquits(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0"), Modality="CT")
    for _ in range(4):
        rig.reading("se-0")
        poison = rig.start(SEGV)
        assert poison.facts("se-0") == {"Modality": "CT"}
    assert rig.reasons() == []


def test_two_crashes_on_two_instances_are_nobodys_fault(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 2, body=body("1.2.0"))
    for instance in ("se-0", "se-1"):
        rig.reading(instance)
        rig.start(SEGV)
    assert rig.reasons() == []


def test_breadcrumb_is_there_while_reading_and_gone_after_it(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0"))
    poison = rig.start()
    seen: list[str] = []
    answer = rig.orthanc._answer

    def look(path: str) -> Any:
        seen.append((rig.home / "reading").read_text().strip())
        return answer(path)

    rig.orthanc._answer = look
    poison.facts("se-0")
    assert seen == ["", json.dumps(["se-0", rig.orthanc.bodies["se-0"]])]
    assert (rig.home / "reading").read_text().strip() == ""


@pytest.mark.parametrize("left", ["", "[", "7", '["a"]', '["a", "../../etc/passwd"]', "\xff"])
def test_broken_breadcrumb_hinders_nothing(rig: Rig, left: str) -> None:
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0"))
    (rig.home / "reading").write_text(left)
    rig.start(SEGV)
    rig.start(SEGV)
    assert rig.reasons() == []


def test_removal_that_the_next_crash_interrupted_is_finished_later(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 2, body=body("1.2.0", 60))
    rig.reading("se-0")
    rig.orthanc.broken = True
    with pytest.raises(fake_orthanc.OrthancException):
        rig.start(SEGV)
    rig.orthanc.broken = False
    rig.start()
    assert rig.orthanc.series == {}
    assert len(rig.reasons()) == 2
    assert rig.gone == [("st", "se"), ("st", "se")]


def test_poison_leaves_orthancs_reach_even_where_there_is_no_room_for_a_copy(rig: Rig) -> None:
    rig.max_bytes = 0
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0", 60))
    rig.reading("se-0")
    rig.start(SEGV)
    assert rig.orthanc.series == {}
    kept = [path.read_bytes() for path in (rig.home / "quarantine").glob("*.dcm")]
    assert kept == [body("1.2.0", 60)]


# What is uploaded.


@pytest.mark.parametrize("origin", ["RestApi", "Plugins", "Unknown"])
def test_upload_that_the_gate_refuses_is_taken_away_unread(rig: Rig, origin: str) -> None:
    rig.orthanc.receive("st", "se", 1, origin=origin, body=body("1.2.0", 30))
    rig.orthanc.receive("st", "se", 1, origin=origin, body=body("1.2.1", 3))
    poison = rig.start()
    poison.screen(["se-0", "se-1"], lambda *gone: rig.gone.append(gone))
    assert rig.reasons() == [("depth", "upload")]
    assert rig.orthanc.series["se"]["instances"] == ["se-1"]
    assert rig.orthanc.read == []


def test_what_came_by_dicom_was_judged_by_the_front(rig: Rig) -> None:
    rig.orthanc.receive("st", "se", 1, body=body("1.2.0", 30))
    rig.start().screen(["se-0"], lambda *_: None)
    assert rig.reasons() == []


def test_marked_instance_is_not_taken_by_upload_until_it_is_released(rig: Rig) -> None:
    rig.quarantine.mark_poison(digest_of_uid("1.2.0"))
    rig.orthanc.receive("st", "se", 1, origin="RestApi", body=body("1.2.0"))
    poison = rig.start()
    poison.screen(["se-0"], lambda *_: None)
    assert rig.reasons() == [("poison", "upload")]
    rig.quarantine.forget_poison(digest_of_uid("1.2.0"))
    rig.orthanc.receive("st", "se", 1, origin="RestApi", body=body("1.2.0"))
    poison.screen(["se-0"], lambda *_: None)
    assert rig.orthanc.series["se"]["instances"] == ["se-0"]


def test_refused_upload_stays_unread_where_it_cannot_be_kept(rig: Rig) -> None:
    rig.max_bytes = 0
    rig.orthanc.receive("st", "se", 1, origin="RestApi", body=body("1.2.0", 30))
    poison = rig.start()
    poison.screen(["se-0"], lambda *_: None)
    assert rig.orthanc.series["se"]["instances"] == ["se-0"]
    with pytest.raises(ValueError, match="not read"):
        poison.facts("se-0")


# The child that reads.


def teach_the_child_to_die(fake: Any) -> None:
    """An Orthanc whose parser ends its process when the file says so."""

    class Parsed:
        def __init__(self, data: bytes) -> None:
            if b"DEADLY" in data:
                signal.raise_signal(signal.SIGSEGV)
            if b"FAULTY" in data:
                raise fake_orthanc.OrthancException(15, "Bad file format")

        def GetInstanceSimplifiedJson(self) -> str:  # noqa: N802
            return "{}"

        GetInstanceJson = GetInstanceSimplifiedJson

        def HasInstancePixelData(self) -> bool:  # noqa: N802
            return False

    fake.CreateDicomInstance = Parsed


def test_child_names_each_file_that_kills_it_and_outlives_an_error(rig: Rig) -> None:
    teach_the_child_to_die(rig.orthanc)
    from orthanc_plugins.probe import probe

    paths = []
    for number, word in enumerate(("fine", "DEADLY", "FAULTY", "fine", "DEADLY", "DEADLY", "fine")):
        paths.append(rig.home / f"{number}.dcm")
        paths[-1].write_bytes(word.encode() * 10)
    paths.append(rig.home / "absent.dcm")
    probed = probe(paths, 20.0)
    assert [path.name for path in probed.deadly] == ["1.dcm", "4.dcm", "5.dcm"]
    assert probed.tried == len(paths)


def test_file_that_the_gate_lets_pass_but_kills_the_child_is_poison(rig: Rig) -> None:
    teach_the_child_to_die(rig.orthanc)
    rig.orthanc.receive("st", "se", 3, body=body("1.2.0"))
    rig.place("se-1").write_bytes(body("1.2.1") + b"\x11\0\x11\0LO\6\0DEADLY")
    rig.start(SEGV)
    assert rig.reasons() == [("poison", "poison")]
    assert rig.orthanc.series["se"]["instances"] == ["se-0", "se-2"]


# The sweep.


def test_sweep_takes_away_what_is_deep_and_counts_what_is_only_odd(rig: Rig) -> None:
    from orthanc_plugins.sweep import Sweep

    rig.orthanc.receive("st", "deep", 2, body=body("1.2.0", 30))
    rig.orthanc.receive("st", "odd", 3, body=body("1.2.0")[:-3])
    rig.orthanc.receive("st", "good", 4, body=body("1.2.0"))
    sweep = Sweep(rig.start(), rig.home / "sweep.json", lambda *_: None, rig.orthanc.LogWarning)
    assert sweep.view()["percent"] == 100
    sweep.ask()
    sweep.work()
    assert sorted(rig.orthanc.series) == ["good", "odd"]
    view = sweep.view()
    assert (view["files"], view["quarantined"], view["percent"]) == (9, 2, 100)
    assert view["suspect"] == {"length": 3}
    again = Sweep(rig.start(), rig.home / "sweep.json", lambda *_: None, rig.orthanc.LogWarning)
    assert again.view()["files"] == 9


def test_sweep_takes_findings_beside_a_report_for_no_fault(rig: Rig) -> None:
    from orthanc_plugins.sweep import Sweep

    rig.orthanc.receive("st", "se", 2, body=body("1.2.0"))
    name = "12345678-1234-1234-1234-123456789abc"
    beside = rig.place("se-0").parents[2] / name[:2] / name[2:4] / name
    beside.parent.mkdir(parents=True)
    beside.write_bytes(gzip.compress(b'{"schema": 2}'))
    # A file that only begins like one is judged like any other.
    rig.place("se-1").write_bytes(b"\x1f\x8b\x08" + body("1.2.1")[3:-3])
    sweep = Sweep(rig.start(), rig.home / "sweep.json", lambda *_: None, rig.orthanc.LogWarning)
    sweep.ask()
    sweep.work()
    view = sweep.view()
    assert (view["files"], view["quarantined"], view["suspect"]) == (3, 0, {"preamble": 1})
