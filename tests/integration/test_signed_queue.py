"""Whoever can write to Redis can neither run anything nor stop anybody, and leaves a trace."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pickle
import signal
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import redis

from dicom_services.dicom.ct_writer import write_ct_series
from dicom_services.phantom import Phantom
from dicom_services.phantom_command import demo_phantom
from tests.integration.conftest import Stack
from tests.pacs import ended, jobs, until, view_of
from tests.phi_scan import descendants

FUNCTION = "ai_nodes.worker.run_job"
SERIES = "01234567-89abcdef-01234567-89abcdef-01234567"
JOB = "0123456789abcdef0123456789abcdef01234567"


class Exploit:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.mark}",))


def signed(key: bytes, value: Any) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode() + b"." + body


def message(**changes: Any) -> dict[str, Any]:
    whole = json.loads((Path(__file__).parents[1] / "wire" / "job.json").read_text())
    return {**whole, **changes}


class Attacker:
    """Somebody with Redis's password but, unless it is said, without the signing key."""

    def __init__(self, stack: Stack, mark: Path) -> None:
        self.stack, self.mark = stack, mark
        self.redis = connect(stack)
        self.key = bytes.fromhex(stack.folder.secret("signing_key").read_text().strip())

    def queue(self, name: str | bytes, data: bytes, **fields: Any) -> None:
        """Put a job of the given data and hash fields into the queue."""
        told: dict[Any, Any] = {
            "created_at": "2026-01-02T03:04:05.000000Z",
            "data": data,
            "origin": "cpu",
            "status": "queued",
            "timeout": "60",
            "description": "forged",
            **fields,
        }
        key = b"rq:job:" + (name.encode() if isinstance(name, str) else name)
        self.redis.hset(key, mapping=told)
        self.redis.rpush("rq:queue:cpu", name)

    def forgeries(self) -> dict[str, bytes]:
        """Messages of which none may be worked on, by name."""
        touch = f"touch {self.mark}"
        other = os.urandom(32)
        good = [FUNCTION, None, [message()], {}]
        body = json.dumps(good, separators=(",", ":")).encode()
        return {
            "pickle": pickle.dumps(Exploit(self.mark)),
            "pickle-of-a-call": pickle.dumps(("os.system", None, (touch,), {})),
            "pickle-compressed": zlib.compress(pickle.dumps(Exploit(self.mark))),
            "pickle-behind-a-mark": b"0" * 64 + b"." + pickle.dumps(Exploit(self.mark)),
            "json-unsigned": json.dumps(["os.system", None, [touch], {}]).encode(),
            "json-of-ours-unsigned": body,
            "other-key": signed(other, good),
            "empty-key": signed(b"", good),
            "cut-mark": signed(self.key, good)[1:],
            "changed-body": signed(self.key, good).replace(b'"calcium"', b'"calcite"'),
            "no-mark": b"." + body,
            "empty": b"",
            "not-text": bytes(range(256)),
            "bomb": zlib.compress(bytes(64 << 20)),
        }

    def signed_by_a_thief(self) -> dict[str, bytes]:
        """What the signing key alone does not allow either."""
        touch = f"touch {self.mark}"
        return {
            "another-function": signed(self.key, ["os.system", None, [touch], {}]),
            "a-private-function": signed(self.key, ["ai_nodes.worker.main", None, [], {}]),
            "an-instance": signed(self.key, [FUNCTION, "os.system", [message()], {}]),
            "keywords": signed(self.key, [FUNCTION, None, [message()], {"message": {}}]),
            "no-message": signed(self.key, [FUNCTION, None, ["text"], {}]),
            "other-fields": signed(self.key, [FUNCTION, None, [message(run="x")], {}]),
            "two-messages": signed(self.key, [FUNCTION, None, [message(), message()], {}]),
            "no-list": signed(self.key, {"a": 1}),
        }


def connect(stack: Stack) -> redis.Redis:
    password = stack.folder.secret("redis").read_text().strip()
    return redis.Redis(host="127.0.0.1", port=stack.redis_port, password=password)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return demo_phantom(matrix=256)


@pytest.fixture(scope="module")
def attacker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Attacker:
    return Attacker(stack, tmp_path_factory.mktemp("mark") / "run")


@pytest.fixture(scope="module", autouse=True)
def nobody_dies(stack: Stack, attacker: Attacker) -> Iterator[None]:
    """Over the whole file no process ends and nothing that was forged has run."""
    before = stack.pids()
    yield
    assert not attacker.mark.exists()
    assert stack.pids() == before


def send(stack: Stack, phantom: Phantom, folder: Path, name: str) -> dict[str, Any]:
    """A good study, sent and done; its view."""
    paths = write_ct_series(phantom.volume, folder, seed=f"queue-{name}")
    stack.send(folder)
    return ended(stack.orthanc, str(pydicom.dcmread(paths[0]).StudyInstanceUID))


def drained(attacker: Attacker) -> bool:
    return attacker.redis.llen("rq:queue:cpu") == 0


def failed(attacker: Attacker) -> dict[str, str]:
    """Ids of failed jobs, and the text that is kept of each failure."""
    told = {}
    for name in attacker.redis.zrange("rq:failed:cpu", 0, -1):
        results = attacker.redis.xrevrange(b"rq:results:" + name, count=1)
        kept = results[0][1].get(b"exc_string", b"") if results else b""
        text = zlib.decompress(base64.b64decode(kept)).decode() if kept else ""
        told[name.decode()] = text
    return told


def test_forged_messages_run_nothing_and_each_leaves_a_failed_job_with_a_code(
    stack: Stack, attacker: Attacker
) -> None:
    forged = attacker.forgeries()
    for name, data in forged.items():
        attacker.queue(
            name, data, failure_callback_name="os.abort", success_callback_name="os.abort"
        )
    until(lambda: drained(attacker) and set(forged) <= set(failed(attacker)))
    told = failed(attacker)
    assert {name for name in forged if "job_signature" not in told[name]} == set()
    assert {name for name in forged if told[name].count("Traceback") == 0} == set()
    lines = [json.loads(line) for line in stack.log("worker").splitlines()]
    logged = [one for one in lines if one["event"] == "queue.forged"]
    assert len(logged) >= len(forged)
    assert {one["code"] for one in logged} == {"job_signature", "job_hash"}


def test_even_the_signing_key_calls_nothing_but_our_one_function(
    stack: Stack, attacker: Attacker
) -> None:
    stolen = attacker.signed_by_a_thief()
    for name, data in stolen.items():
        attacker.queue(name, data)
    until(lambda: drained(attacker) and set(stolen) <= set(failed(attacker)))
    for name in ("another-function", "a-private-function", "an-instance", "keywords"):
        assert "job_function" in failed(attacker)[name], name


HASHES: dict[str, dict[str, Any]] = {
    "date": {"created_at": "yesterday"},
    "timeout": {"timeout": "soon"},
    "retries": {"retries_left": "many"},
    "meta": {"meta": pickle.dumps({"again": True})},
    "ttl": {"ttl": "x", "result_ttl": "y", "failure_ttl": "z"},
    "dependency": {"dependency_id": "nobody", "dependency_ids": b"\x80"},
    "bytes": {"description": b"\xff\xfe", "worker_name": b"\xff"},
    "callbacks": {
        "success_callback_name": "os.abort",
        "failure_callback_name": "os.abort",
        "stopped_callback_name": "os.abort",
    },
    "times": {"started_at": "x", "ended_at": "y", "enqueued_at": "z", "last_heartbeat": "q"},
    "group": {"group_id": "../..", "repeats_left": "9", "repeat_intervals": "x"},
}


@pytest.mark.parametrize("name", HASHES)
def test_other_fields_of_a_forged_job_stop_no_worker(
    stack: Stack, attacker: Attacker, name: str
) -> None:
    before = stack.pid("worker")
    attacker.queue(f"hash-{name}", attacker.forgeries()["other-key"], **HASHES[name])
    until(lambda: drained(attacker))
    time.sleep(1.0)
    assert stack.pid("worker") == before


def test_queued_id_of_something_else_than_a_job_stops_no_worker(
    stack: Stack, attacker: Attacker
) -> None:
    before = stack.pid("worker")
    attacker.redis.rpush("rq:job:0123456789abcdef0123456789abcdef01234567", "no hash")
    attacker.redis.rpush("rq:queue:cpu", JOB)
    until(lambda: drained(attacker))
    time.sleep(2.5)
    assert stack.pid("worker") == before
    attacker.redis.delete(f"rq:job:{JOB}")


@pytest.mark.parametrize("name", [b"absent", b"\xff\xfe\x00", b"../../etc", b"a" * 4096])
def test_queued_ids_without_a_job_stop_no_worker(
    stack: Stack, attacker: Attacker, name: bytes
) -> None:
    before = stack.pid("worker")
    attacker.redis.rpush("rq:queue:cpu", name)
    until(lambda: drained(attacker))
    time.sleep(1.0)
    assert stack.pid("worker") == before


def test_message_replayed_under_another_id_runs_nothing_and_fails_nobody_elses_job(
    stack: Stack, attacker: Attacker, phantom: Phantom, tmp_path: Path
) -> None:
    view = send(stack, phantom, tmp_path, "replayed")
    job = jobs(view)[0]
    data = attacker.redis.hget(f"rq:job:{job['job']}", "data")
    assert data
    attacker.queue("replayed", zlib.decompress(data) if data[:1] == b"\x78" else data)
    until(lambda: "replayed" in failed(attacker))
    assert "job_replayed" in failed(attacker)["replayed"]
    assert "job_replayed" in stack.log("worker")
    assert jobs(view_of(stack.orthanc, study_uid(stack, view)))[0] == job


def test_message_replayed_under_its_own_id_after_its_end_changes_nothing(
    stack: Stack, attacker: Attacker, phantom: Phantom, tmp_path: Path
) -> None:
    view = send(stack, phantom, tmp_path, "repeated")
    job = jobs(view)[0]
    count = stack.orthanc.get_json("/statistics")["CountInstances"]
    ends = stack.log("worker").count('"job.ended"')
    attacker.redis.hset(f"rq:job:{job['job']}", "status", "queued")
    attacker.redis.rpush("rq:queue:cpu", job["job"])
    until(lambda: stack.log("worker").count('"job.ended"') > ends)
    assert stack.orthanc.get_json("/statistics")["CountInstances"] == count
    assert jobs(view_of(stack.orthanc, study_uid(stack, view)))[0] == job


def study_uid(stack: Stack, view: dict[str, Any]) -> str:
    study = stack.orthanc.get_json(f"/studies/{view['study']}")
    return str(study["MainDicomTags"]["StudyInstanceUID"])


def test_an_administrator_is_told_of_forged_messages(stack: Stack, attacker: Attacker) -> None:
    attacker.queue("told", attacker.forgeries()["json-unsigned"])
    until(lambda: "told" in failed(attacker))
    told = [line for line in stack.radloop("doctor").splitlines() if "foreign messages" in line]
    assert len(told) == 1
    assert told[0].split()[0] == "WARN"


def test_good_study_after_all_of_it_is_scored(
    stack: Stack, attacker: Attacker, phantom: Phantom, tmp_path: Path
) -> None:
    assert send(stack, phantom, tmp_path, "good")["state"] == "done"


# --- Redis itself ------------------------------------------------------------------------------


def test_redis_answers_nobody_without_its_password(stack: Stack) -> None:
    with redis.Redis(host="127.0.0.1", port=stack.redis_port) as stranger:
        for words in (["PING"], ["INFO"], ["KEYS", "*"], ["HSET", "rq:job:a", "a", "b"]):
            with pytest.raises(redis.AuthenticationError):
                stranger.execute_command(*words)
    with (
        redis.Redis(host="127.0.0.1", port=stack.redis_port, password="guess") as guesser,
        pytest.raises(redis.AuthenticationError),
    ):
        guesser.ping()


def test_redis_listens_on_loopback_only(stack: Stack) -> None:
    port = f"{stack.redis_port:04X}"
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port}")
    ]
    assert [one.split(":")[0] for one in listening] == ["0100007F"]
    with socket.create_connection(("127.0.0.1", stack.redis_port), 2.0):
        pass


DENIED = [
    *("FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "CONFIG GET *", "CONFIG SET dir /tmp"),
    *("DEBUG SLEEP 0", "MODULE LIST", "MODULE LOAD /tmp/a.so", "MONITOR", "ACL LIST", "ACL WHOAMI"),
    *("ACL SETUSER eve on nopass ~* &* +@all", "EVAL return(1) 0", "SCRIPT FLUSH"),
    *("SCRIPT DEBUG YES", "FUNCTION LIST", "KEYS *", "SAVE", "BGSAVE", "BGREWRITEAOF"),
    *("REPLICAOF 127.0.0.1 1", "MIGRATE 127.0.0.1 1 k 0 1", "RESTORE k 0 x", "SWAPDB 0 1"),
    *("CLIENT KILL TYPE normal", "CLIENT PAUSE 1000", "PUBLISH rq:pubsub:x {}", "SLOWLOG GET"),
    *("LATENCY DOCTOR", "CLUSTER INFO", "SORT rq:x", "RANDOMKEY", "COPY rq:a rq:b"),
    *("SET other 1", "GET other", "DEL other", "SUBSCRIBE other", "MEMORY DOCTOR", "WAIT 0 0"),
]


@pytest.mark.parametrize("words", DENIED)
def test_redis_allows_even_us_no_more_than_the_queue_needs(stack: Stack, words: str) -> None:
    denied = "no permissions|command not allowed"
    with connect(stack) as ours, pytest.raises(redis.ResponseError, match=denied):
        ours.execute_command(*words.split(" "))


def test_redis_denies_the_stack_nothing_that_it_asks_for(
    stack: Stack, attacker: Attacker, phantom: Phantom, tmp_path: Path
) -> None:
    """Redis counts what it refused by command; the whole life of a job must add nothing."""

    def rejected() -> dict[str, int]:
        told = attacker.redis.info("commandstats")
        return {name: int(one["rejected_calls"]) for name, one in told.items()}

    before = rejected()
    assert send(stack, phantom, tmp_path / "whole", "denied")["state"] == "done"
    others = set(descendants(stack.pid("worker")))
    paths = write_ct_series(phantom.volume, tmp_path / "killed", seed="queue-killed")
    stack.send(tmp_path / "killed")
    horse = until(lambda: set(descendants(stack.pid("worker"))) - others)
    os.kill(horse.pop(), signal.SIGKILL)
    # It is tried again, which goes through RQ's scheduler.
    uid = str(pydicom.dcmread(paths[0]).StudyInstanceUID)
    assert ended(stack.orthanc, uid)["state"] == "done"
    stack.orthanc.post_json("/radloop/reconcile", None)
    stack.radloop("status")
    time.sleep(16.0)
    after = rejected()
    assert {name: count for name, count in after.items() if count > before.get(name, 0)} == {}
    assert "NoPermission" not in stack.log("worker") + stack.log("orthanc")
