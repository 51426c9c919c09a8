"""Patients planted in every place of a study appear nowhere but in the stored files themselves."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
import redis
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pynetdicom import AE, _config, build_context

from dicom_services.data_folder import DataFolder
from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.domain.volume import Volume
from dicom_services.errors import RadloopError
from dicom_services.orthanc import Orthanc
from dicom_services.phantom_command import demo_phantom
from dicom_services.stack import connect
from tests.integration.conftest import PROFILE, SENDER, Stack
from tests.pacs import ended, image_series, jobs, until, view_of
from tests.phi_scan import (
    Hit,
    Sentinel,
    compressed,
    descendants,
    scan_bytes,
    scan_processes,
    scan_redis,
    scan_texts,
    scan_tree,
)

# Keyword, and the text that is planted there; {} is a mark that tells the studies apart.
TEXTS = {
    "PatientID": "PID-{}-90817",
    "OtherPatientIDs": "OTHERID-{}-4471",
    "IssuerOfPatientID": "Issuer{}Hospital",
    "AccessionNumber": "ACC{}55501",
    "StudyID": "SID{}778",
    "StudyDescription": "Followup{}afterBypass",
    "SeriesDescription": "Native{}Thorax",
    "ProtocolName": "Protocol{}Cor",
    "ReferringPhysicianName": "Referrer{}^Karla",
    "PerformingPhysicianName": "Performer{}^Otto",
    "OperatorsName": "Operator{}^Ina",
    "RequestingPhysician": "Requester{}^Udo",
    "InstitutionName": "Clinic{}OnTheHill",
    "InstitutionAddress": "Hill{}Street 4, 81377 Town",
    "InstitutionalDepartmentName": "Ward{}Seven",
    "StationName": "Station{}",
    "DeviceSerialNumber": "Serial{}0042",
    "PatientAddress": "Garden{}Lane 17",
    "PatientComments": "Comment{}of the ward",
    "ImageComments": "Image{}comment",
    "AdditionalPatientHistory": "History{}infarction",
    "Occupation": "Baker{}",
    "RequestedProcedureDescription": "Requested{}procedure",
}
NAMES = {
    "Done": ("ISO_IR 100", "Grünwaldsson", "Zoëlinde"),
    "Short": ("ISO_IR 144", "Цветковская", "Анастасия"),
    "Killed": ("ISO_IR 192", "山田山田太郎", "عبداللطيف"),
    "Again": ("ISO_IR 126", "Παπαδοπούλου", "Ελευθερία"),
    "Broken": ("ISO_IR 192", "Müllerström", "김철수영희"),
    "Nested": ("ISO_IR 100", "Øvergårdsen", "Bjørnhild"),
}
ATTACKER = Sentinel("text of a stranger", "STRANGERSAYS77")
"""In forged messages and unknown AE titles: kept in Redis by whoever put it there, never logged."""
SLICES = 24
Change = Callable[[Dataset], None]


@dataclass(frozen=True)
class Patient:
    """One study on the sender's disk, and every text that may not leave it."""

    mark: str
    folder: Path
    uid: str
    sentinels: tuple[Sentinel, ...]
    uids: tuple[Sentinel, ...]


@dataclass
class Told:
    """What the stack said and showed while the studies went through."""

    screens: list[tuple[str, str]] = field(default_factory=list)
    """Of commands: their user may see UIDs of the files they are called with."""
    answers: list[tuple[str, str]] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    """Seen on the way, in processes and temporary folders."""
    looks: int = 0
    seen: set[str] = field(default_factory=set)


def planted(mark: str, number: int) -> tuple[Change, tuple[Sentinel, ...]]:
    """A change that makes a data set the named patient's, and what it plants."""
    charset, family, given = NAMES[mark]
    texts = {keyword: text.format(mark) for keyword, text in TEXTS.items()}
    birth, phone = f"193704{10 + number}", f"+49 (89) 5550-1732{number}"
    private, nested = f"Vendor{mark}Secret", f"Scheduled{mark}Step"

    def change(data: Dataset) -> None:
        data.SpecificCharacterSet = charset
        data.PatientName = f"{family}^{given}"
        data.PatientBirthDate = birth
        data.PatientTelephoneNumbers = phone
        for keyword, text in texts.items():
            setattr(data, keyword, text)
        block = data.private_block(0x0029, f"CREATOR {mark}", create=True)
        block.add_new(1, "LO", private)
        block.add_new(2, "UN", f"raw {private}".encode().ljust(40))
        item = Dataset()
        item.ScheduledProcedureStepDescription = nested
        data.RequestAttributesSequence = [item]

    told = [Sentinel(f"{mark} {keyword}", text.split("^")[0]) for keyword, text in texts.items()]
    told += [
        Sentinel(f"{mark} family name", family),
        Sentinel(f"{mark} given name", given),
        Sentinel(f"{mark} birth date", birth),
        Sentinel(f"{mark} phone", phone),
        Sentinel(f"{mark} private tag", private),
        Sentinel(f"{mark} nested", nested),
    ]
    return change, tuple(told)


def write(
    root: Path, mark: str, number: int, volume: Volume, more: Change | None = None
) -> Patient:
    """Write a study into a folder and files that are named after its patient."""
    folder = root / f"folder-{mark}-of-{NAMES[mark][1]}"
    change, told = planted(mark, number)
    uids = {}
    for k, path in enumerate(write_ct_series(volume, folder, seed=f"phi-{mark}")):
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            change(data)
            if more is not None:
                more(data)
            pydicom.dcmwrite(path, data, enforce_file_format=False)
            if k in (0, volume.geometry.shape[0] // 2):
                uids[f"instance {k}"] = str(data.SOPInstanceUID)
        uids |= {
            "study": str(data.StudyInstanceUID),
            "series": str(data.SeriesInstanceUID),
            "frame of reference": str(data.FrameOfReferenceUID),
        }
        path.rename(folder / f"slice-{mark}-{k:04d}.dcm")
    told += (
        Sentinel(f"{mark} folder", f"folder-{mark}"),
        Sentinel(f"{mark} file", f"slice-{mark}"),
    )
    named = tuple(Sentinel(f"{mark} {what} UID", uid) for what, uid in uids.items())
    return Patient(mark, folder, uids["study"], told, named)


def with_texts_for_numbers(data: Dataset) -> None:
    """What readers convert holds words; their errors repeat them."""
    for keyword, text in {
        "SliceThickness": "ThickBroken",
        "KVP": "VoltBroken",
        "ImagePositionPatient": "PosBroken1\\PosBroken2\\PosBroken3",
        "PixelSpacing": "GapBroken1\\GapBroken2",
        "InstanceNumber": "NumBroken",
        "SeriesNumber": "SerBroken",
        "StudyDate": "DayBroken",
        "ContentTime": "TimeBroken",
        "RescaleSlope": "SlopeBroken",
    }.items():
        value = text.encode() + b" " * (len(text) % 2)
        tag = Tag(tag_for_keyword(keyword))
        # pydicom itself would not take such a value.
        raw = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        data[tag] = raw


BROKEN_WORDS = tuple(
    Sentinel(f"Broken {word}", f"{word}Broken")
    for word in ("Thick", "Volt", "Pos", "Gap", "Num", "Ser", "Day", "Time", "Slope")
)


def nested_too_deep(data: Dataset) -> None:
    """What the gate refuses, with a name in every level."""
    for level in range(40):
        outer = Dataset()
        outer.RequestedProcedureDescription = f"RequestedNestedprocedure {level}"
        outer.ReferencedStudySequence = [data.RequestAttributesSequence[0]]
        data.RequestAttributesSequence = [outer]


# --- the stack and what goes through it --------------------------------------------------------


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack started from a shell that knows a patient and would allow core dumps."""
    root = tmp_path_factory.mktemp("clean")
    folder = DataFolder(root / "data")
    (root / "temp").mkdir()
    profile = root / "profile.toml"
    profile.write_text(PROFILE.read_text().replace("retry_s = [1, 5, 20]", "retry_s = [1]"))
    command = Stack(folder, Orthanc("http://127.0.0.1:1", "", ""), profile)
    allowed = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (allowed[1], allowed[1]))
    shell = {"STUDY": "/archive/folder-Done", "MAKEFLAGS": "-- STUDY=/archive/folder-Done"}
    try:
        command.radloop("up", TMPDIR=str(root / "temp"), **shell)
        command.radloop("modality", "add", SENDER, "127.0.0.1", "11112")
        with connect(folder, folder.state()) as orthanc:
            yield Stack(folder, orthanc, profile)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, allowed)
        command.orthanc.close()
        command.radloop("down")


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patient]:
    """Every study on the sender's side."""
    root = tmp_path_factory.mktemp("sender")
    whole = demo_phantom(matrix=256).volume
    geometry = whole.geometry
    few = Volume(
        whole.values[:SLICES],
        type(geometry)(geometry.affine, (SLICES, *geometry.shape[1:]), geometry.frame_uid),
        whole.unit,
        whole.series,
        whole.acquisition,
    )
    changes = {"Broken": with_texts_for_numbers, "Nested": nested_too_deep}
    volumes = {"Done": whole, "Killed": whole, "Again": whole}
    return {
        mark: write(root, mark, number, volumes.get(mark, few), changes.get(mark))
        for number, mark in enumerate(NAMES)
    }


@pytest.fixture(scope="module")
def sentinels(patients: dict[str, Patient]) -> tuple[Sentinel, ...]:
    """All but UIDs."""
    told = [one for patient in patients.values() for one in patient.sentinels]
    return (*told, *BROKEN_WORDS)


@pytest.fixture(scope="module")
def everything(
    patients: dict[str, Patient], sentinels: tuple[Sentinel, ...]
) -> tuple[Sentinel, ...]:
    """UIDs and what strangers say too."""
    uids = [one for patient in patients.values() for one in patient.uids]
    return (*sentinels, *uids, ATTACKER)


def stack_pids(stack: Stack) -> list[int]:
    """supervisord and everything below it."""
    return descendants(int(stack.folder.supervisord_pid.read_text()))


@pytest.fixture(scope="module")
def told(
    stack: Stack,
    patients: dict[str, Patient],
    everything: tuple[Sentinel, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Told:
    """Everything goes through everything, and is watched on its way."""
    told, stop = Told(), threading.Event()
    # Short ones only, or a look takes too long to see what is brief.
    watched = [one for one in everything if "name" in one.what or "UID" in one.what]
    watched += [one for one in everything if one.what.endswith(("folder", "file", "PatientID"))]
    places = (stack.data / "scratch", stack.data.parent / "temp")

    def watch() -> None:
        while not stop.wait(0.3):
            told.hits += scan_processes(stack_pids(stack), watched)
            for path in (one for place in places for one in place.rglob("*")):
                told.seen.add(path.name)
            told.looks += 1

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        through(stack, patients, told, tmp_path_factory.mktemp("out"))
    finally:
        stop.set()
        thread.join()
    return told


def through(stack: Stack, patients: dict[str, Patient], told: Told, out: Path) -> None:
    """The whole story."""

    def command(*words: str, code: int | tuple[int, ...] = 0) -> str:
        codes = code if isinstance(code, tuple) else (code,)
        environment = {"TMPDIR": str(stack.data.parent / "temp")}
        for wanted in codes[:-1]:
            try:
                text = stack.radloop(*words, code=wanted, **environment)
                break
            except AssertionError:
                continue
        else:
            text = stack.radloop(*words, code=codes[-1], **environment)
        told.screens.append((f"radloop {words[0]}", text))
        return text

    def send(mark: str, code: int = 0) -> None:
        command("send", str(patients[mark].folder), "--aet", SENDER, code=code)

    send("Done")
    assert ended(stack.orthanc, patients["Done"].uid)["state"] == "done"
    send("Short")
    assert ended(stack.orthanc, patients["Short"].uid)["state"] == "refused"
    scheduler = descendants(stack.pid("worker"))
    send("Killed")
    kill_every_horse(stack, patients["Killed"].uid, spared=scheduler)
    assert ended(stack.orthanc, patients["Killed"].uid)["state"] == "failed"
    send("Again")
    until(lambda: view_of(stack.orthanc, patients["Again"].uid)["state"] == "running")
    os.kill(stack.pid("orthanc"), signal.SIGKILL)
    assert ended(stack.orthanc, patients["Again"].uid)["state"] in ("done", "failed")
    send("Broken")
    assert ended(stack.orthanc, patients["Broken"].uid)["state"] in ("refused", "failed")
    send("Nested", code=3)
    call_as_a_modality_without_a_gate(stack, patients["Nested"])
    call_as_a_stranger(stack)
    forge_messages(stack)
    ask_and_offend_orthanc(stack, patients, told)
    analyse_by_hand(patients, command, out)
    look_around(stack, patients, told, command)


def kill_every_horse(stack: Stack, uid: str, spared: list[int]) -> None:
    """Kill each process that takes the job, until nobody takes it again."""
    killed = set()

    def failed() -> bool:
        if view_of(stack.orthanc, uid)["state"] == "running":
            for pid in set(descendants(stack.pid("worker"))) - set(spared) - killed:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return bool(view_of(stack.orthanc, uid)["state"] == "failed")

    until(failed, 120.0)
    assert len(killed) >= 2


def call_as_a_modality_without_a_gate(stack: Stack, patient: Patient) -> None:
    """Send what our own gate would not let go out, as a scanner does."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    files = sorted(patient.folder.iterdir())
    meta = pydicom.filereader.read_file_meta_info(files[0])
    context = build_context(meta.MediaStorageSOPClassUID, [meta.TransferSyntaxUID])
    association = AE(SENDER).associate(
        "127.0.0.1", stack.dicom_port, contexts=[context], ae_title="RADLOOP"
    )
    assert association.is_established
    for path in files[:3]:
        assert association.send_c_store(path).Status >= 0xA000
    association.release()


def call_as_a_stranger(stack: Stack) -> None:
    """An AE title is a text from the network, and may be anything."""
    context = build_context("1.2.840.10008.1.1")
    for calling, called in ((ATTACKER.text, "RADLOOP"), (SENDER, ATTACKER.text)):
        association = AE(calling).associate(
            "127.0.0.1", stack.dicom_port, contexts=[context], ae_title=called
        )
        assert association.is_rejected or association.is_aborted


def forge_messages(stack: Stack) -> None:
    """Bad messages, each with a text that a log might repeat."""
    client = connection(stack)
    for name, data in {
        "unsigned": f'["os.system", null, ["echo {ATTACKER.text}"], {{}}]'.encode(),
        "no-json": b"0" * 64 + b"." + ATTACKER.text.encode(),
        f"id-{ATTACKER.text}": b"",
    }.items():
        fields: dict[Any, Any] = {
            "created_at": "2026-01-02T03:04:05.000000Z",
            "data": data,
            "origin": "cpu",
            "status": "queued",
            "timeout": "60",
            "description": ATTACKER.text,
        }
        client.hset(f"rq:job:{name}", mapping=fields)
        client.rpush("rq:queue:cpu", name)
    until(lambda: client.llen("rq:queue:cpu") == 0)
    time.sleep(1.0)
    # What a stranger wrote is his; what we wrote of it stays.
    for key in client.scan_iter("*"):
        if ATTACKER.text.encode() in key:
            client.delete(key)
    for name in ("unsigned", "no-json"):
        client.hdel(f"rq:job:{name}", "data", "description")
    for key in client.scan_iter("rq:*:cpu"):
        if client.type(key) == b"zset":
            client.zrem(key, f"id-{ATTACKER.text}")


def ask_and_offend_orthanc(stack: Stack, patients: dict[str, Patient], told: Told) -> None:
    """Queries by name and bodies that are refused: what Orthanc says of them."""
    broken = sorted(patients["Broken"].folder.iterdir())[0].read_bytes()
    orthanc = stack.orthanc
    orthanc.find("studies", {"PatientName": NAMES["Done"][1] + "*"})
    tries: dict[str, Callable[[], Any]] = {
        "stow of a cut file": lambda: orthanc.stow([broken[:2000]]),
        "stow of text": lambda: orthanc.stow([broken[400:]]),
        "a name as an id": lambda: orthanc.get_json(f"/patients/{TEXTS['PatientID']}"),
        "a name as a job": lambda: orthanc.get_json("/radloop/series/PID-Done-90817"),
    }
    for name, attempt in tries.items():
        with pytest.raises(RadloopError) as caught:
            attempt()
        told.answers.append((f"error of {name}", f"{caught.value} {caught.value.__cause__!r}"))


def analyse_by_hand(patients: dict[str, Patient], command: Callable[..., str], out: Path) -> None:
    """`radloop analyze` and `send` with every kind of input that may go wrong."""
    hand = str(out)
    done, broken = patients["Done"].folder, patients["Broken"].folder
    command("analyze", str(patients["Short"].folder), "--out", hand, code=3)
    command("analyze", str(broken), "--out", hand, code=3)
    command("analyze", str(patients["Nested"].folder), "--out", hand, code=3)
    command("analyze", str(done / "absent"), "--out", hand, code=2)
    command("analyze", str(done), "--series", "1.2.3", "--out", hand, code=2)
    command("analyze", str(done), "--region", str(next(done.iterdir())), "--out", hand, code=3)
    command("send", str(done / "absent"), "--aet", SENDER, code=(2, 3))
    command("send", str(done), "--aet", "NOBODY", code=(3, 4))
    parent = done.parent
    archive = parent / f"zip-{done.name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(broken.iterdir())[:9]:
            packed.write(path, f"{done.name}/{path.name}")
    command("analyze", str(archive), "--out", hand, code=3)
    command("send", str(archive), "--aet", SENDER)
    cut = parent / f"cut-{done.name}.zip"
    cut.write_bytes(archive.read_bytes()[:-50])
    command("send", str(cut), "--aet", SENDER, code=3)
    command("routes", "explain", str(done))
    command("routes", "explain", str(broken))
    command("gate", str(patients["Nested"].folder), code=3)


def look_around(
    stack: Stack, patients: dict[str, Patient], told: Told, command: Callable[..., str]
) -> None:
    """Everything that shows a person or a program how it stands."""
    for words in (
        ("status",),
        ("status", "--json"),
        ("jobs", "list"),
        ("jobs", "--json"),
        ("jobs", "dead"),
        ("quarantine", "list"),
        ("modality", "list"),
    ):
        command(*words)
    command("doctor", code=(0, 1))
    refused = re.search(r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}", command("quarantine", "list"))
    assert refused
    command("quarantine", "show", refused[0])
    orthanc = stack.orthanc
    for path in ("/radloop/status", "/radloop/jobs", "/changes", "/statistics", "/jobs?expand"):
        told.answers.append((path, str(orthanc.get_json(path))))
    metrics = orthanc.get_bytes("/tools/metrics-prometheus").decode()
    told.answers.append(("/tools/metrics-prometheus", metrics))
    for patient in patients.values():
        view = view_of(orthanc, patient.uid)
        told.answers.append((f"view of {patient.mark}", str(view)))
        if view["series"]:
            series = image_series(view)["series"]
            command("jobs", "show", series)
            told.answers.append(
                (f"series of {patient.mark}", str(orthanc.get_json(f"/radloop/series/{series}")))
            )
            for job in jobs(view)[:1]:
                command("jobs", "show", job["job"])


def connection(stack: Stack) -> redis.Redis:
    password = (stack.data / "secrets" / "redis").read_text().strip()
    return redis.Redis(host="127.0.0.1", port=stack.redis_port, password=password)


# --- the scans ---------------------------------------------------------------------------------


def test_no_log_no_configuration_and_no_name_in_the_data_folder(
    stack: Stack, told: Told, everything: tuple[Sentinel, ...]
) -> None:
    data = stack.data
    bodies = [data / "orthanc", data / "quarantine"]
    # Records of the quarantine are searched, bodies beside them are not.
    hits = scan_tree(data, everything, bodies)
    for record in (data / "quarantine").rglob("*.json"):
        hits += scan_bytes(record.read_bytes(), f"record {record.name}", everything)
    # A stranger's words stay in Redis's journal, where he put them.
    hits = [one for one in hits if "redis/" not in one.where or one.what != ATTACKER.what]
    assert hits == []
    assert list((data / "quarantine").rglob("*.json"))
    assert {path.name.split(".")[0] for path in (data / "logs").iterdir()} >= {
        *("orthanc", "redis", "front", "worker_0", "supervisord")
    }


def test_nothing_in_redis(stack: Stack, told: Told, everything: tuple[Sentinel, ...]) -> None:
    client = connection(stack)
    kept = set(client.scan_iter("rq:*"))
    assert any(key.startswith(b"rq:job:") for key in kept)
    assert any(key.startswith(b"rq:results:") for key in kept), "no kept failure was searched"
    assert scan_redis(client, everything) == []


def test_no_screen_of_a_command(told: Told, sentinels: tuple[Sentinel, ...]) -> None:
    assert len(told.screens) > 30
    # Two commands answer about one's own files, on the screen only: what the rules compare in them,
    # and which of them the gate refuses.
    asked = {"radloop routes": r".*", "radloop gate": r".* (family name|folder|file)"}
    hits = scan_texts(told.screens, sentinels)
    assert [one for one in hits if not re.fullmatch(asked.get(one.where, ""), one.what)] == []


def test_no_answer_no_metric_and_no_error_text(
    told: Told, everything: tuple[Sentinel, ...]
) -> None:
    assert len(told.answers) > 15
    assert scan_texts(told.answers, everything) == []


def test_no_process_of_the_stack(
    stack: Stack, told: Told, everything: tuple[Sentinel, ...]
) -> None:
    pids = stack_pids(stack)
    assert len(pids) >= 5
    assert told.looks > 20
    assert told.hits == []
    assert scan_processes(pids, everything) == []


def test_no_temporary_file_is_left_and_none_was_named_after_a_patient(
    stack: Stack, told: Told, everything: tuple[Sentinel, ...]
) -> None:
    left = [path for path in (stack.data / "scratch").rglob("*") if path.is_file()]
    temp = [path for path in (stack.data.parent / "temp").rglob("*") if path.is_file()]
    assert (left, temp) == ([], [])
    assert scan_texts([("temporary name", name) for name in told.seen], everything) == []
    shared = [(f"name {path.name}", path.name) for path in Path("/tmp").iterdir()]
    assert scan_texts(shared, everything) == []


def test_nobody_may_read_what_holds_patients(stack: Stack, told: Told) -> None:
    for place in ("orthanc", "quarantine", "logs", "redis", "secrets", "scratch"):
        assert (stack.data / place).stat().st_mode & 0o077 == 0, place
    for path in (stack.data / "quarantine").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_no_process_that_dies_leaves_a_dump(stack: Stack, told: Told) -> None:
    for pid in stack_pids(stack):
        limits = Path("/proc", str(pid), "limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), pid


def test_stored_files_do_hold_what_was_planted(
    stack: Stack, told: Told, patients: dict[str, Patient]
) -> None:
    """The positive control of the whole: the sentinels did go through."""
    # Headers are enough, and pixels would take long.
    stored = (stack.data / "orthanc").rglob("*-*")
    blob = b"".join(path.read_bytes()[:8192] for path in stored)
    wanted = [
        one
        for mark in ("Done", "Short", "Killed", "Broken")
        for one in patients[mark].sentinels
        if not one.what.endswith(("folder", "file"))
    ]
    found = {hit.what for hit in scan_bytes(blob, "storage", wanted)}
    assert {one.what for one in wanted} - found == set()


def test_scanner_finds_what_is_planted_in_this_very_stack(
    stack: Stack, told: Told, sentinels: tuple[Sentinel, ...]
) -> None:
    """The positive control of every place that was found clean."""
    one = sentinels[0]
    client = connection(stack)
    values: dict[str, Callable[[str], object]] = {
        "string": lambda key: client.set(key, one.text),
        "list": lambda key: client.rpush(key, one.text),
        "set": lambda key: client.sadd(key, one.text),
        "zset": lambda key: client.zadd(key, {one.text: 1}),
        "hash": lambda key: client.hset(key, "exc_info", compressed(f"Traceback {one.text}")),
        "stream": lambda key: client.xadd(key, {"a": compressed(one.text)}),
    }
    for kind, put in values.items():
        put(f"rq:planted:{kind}")
        found = scan_redis(client, [one])
        client.delete(f"rq:planted:{kind}")
        assert {hit.where.split(" (")[0] for hit in found} == {f"redis rq:planted:{kind}"}, kind
    for place in ("logs", "scratch", "cache", "run"):
        file = stack.data / place / "planted"
        file.write_bytes(f"line\n{one.text}\n".encode("utf-16"))
        found = scan_tree(stack.data, [one], [stack.data / "orthanc", stack.data / "redis"])
        file.unlink()
        assert {hit.where for hit in found} == {f"file {place}/planted"}


def test_results_written_by_hand_name_nobody_outside_of_dicom(
    told: Told, sentinels: tuple[Sentinel, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = next(tmp_path_factory.getbasetemp().glob("out*"))
    texts = [(path.name, path.read_text()) for path in out.rglob("*.json")]
    assert texts
    assert scan_texts(texts, sentinels) == []
    assert all(path.suffix in (".json", ".dcm") for path in out.rglob("*"))
