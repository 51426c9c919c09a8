"""RQ's own dependencies under our rules of Redis: who waits, who moves on, who is not believed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.job import JobStatus

from ai_nodes.messages import AllowedJob, AllowedQueue, SignedJSON
from dicom_services.redis_config import redis_config
from orthanc_plugins.queueing import JobQueue

PASSWORD = "only of this test"
MESSAGE = json.loads((Path(__file__).parents[1] / "wire" / "job.json").read_text())


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis with the configuration of the stack."""
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    (folder / "redis.conf").write_text(redis_config(number, folder, PASSWORD))
    server = subprocess.Popen(["redis-server", folder / "redis.conf"], stdout=subprocess.DEVNULL)
    try:
        until_up(number)
        yield number
    finally:
        server.terminate()
        server.wait(10)


def until_up(number: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", number), 1.0).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("no Redis")


class Ends:
    """The plugin's end of the queue and the node's."""

    def __init__(self, port: int, folder: Path) -> None:
        key, password = folder / "key", folder / "password"
        key.write_text(os.urandom(32).hex())
        password.write_text(PASSWORD)
        where = {"host": "127.0.0.1", "port": port, "password_file": str(password)}
        settings = {"signing_key_file": str(key), "job_timeout_s": 60, "retry_s": [1, 5]}
        self.plugin = JobQueue({**settings, "redis": where})
        self.redis = redis.Redis(host="127.0.0.1", port=port, password=PASSWORD)
        self.serializer = SignedJSON(bytes.fromhex(key.read_text()))
        self.queue = AllowedQueue(
            "cpu", connection=self.redis, serializer=self.serializer, job_class=AllowedJob
        )

    def put(self, name: str, *after: str) -> None:
        message = {**MESSAGE, "id": name, "after": list(after), "others": []}
        if after:
            self.plugin.enqueue_after(message, after)
        else:
            self.plugin.enqueue(message)

    def fetch(self, name: str) -> AllowedJob:
        """As the worker has it."""
        return AllowedJob.fetch(name, connection=self.redis, serializer=self.serializer)

    def end(self, name: str, status: JobStatus) -> list[str]:
        """What a worker does when a job has ended; ids of the jobs that it moved on."""
        job = self.fetch(name)
        job.set_status(status)
        moved = self.queue.enqueue_dependents(job)
        return [one for names in moved.values() for one in names]

    def succeed(self, name: str, together: threading.Barrier) -> None:
        """As RQ's `handle_job_success`: the end and who moves on are one transaction."""
        job = self.fetch(name)
        together.wait(5.0)
        with self.redis.pipeline() as pipeline:
            while True:
                try:
                    pipeline.watch(job.dependents_key)
                    moved = self.queue.move_dependents_to_ready(job, pipeline=pipeline)
                    if not pipeline.explicit_transaction:
                        pipeline.multi()
                    job.set_status(JobStatus.FINISHED, pipeline=pipeline)
                    pipeline.execute()
                    break
                except redis.WatchError:
                    continue
        self.queue.enqueue_ready_jobs_by_queue(moved)

    def waiting(self) -> list[bytes]:
        return list(self.redis.lrange("rq:queue:cpu", 0, -1))


@pytest.fixture
def ends(port: int, tmp_path: Path) -> Iterator[Ends]:
    made = Ends(port, tmp_path)
    names = list(made.redis.scan_iter("*"))
    if names:
        made.redis.delete(*names)
    with made.redis:
        yield made


A, B, C, JOIN = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)


def test_a_join_waits_for_the_last_of_its_experts_and_is_queued_once(ends: Ends) -> None:
    ends.put(A)
    ends.put(B)
    ends.put(JOIN, A, B)
    ends.put(JOIN, A, B)
    assert ends.plugin.status(JOIN) == "deferred"
    assert ends.waiting() == [A.encode(), B.encode()]
    assert ends.end(A, JobStatus.FINISHED) == []
    assert ends.end(B, JobStatus.FINISHED) == [JOIN]
    assert ends.waiting()[2:] == [JOIN.encode()]
    assert ends.plugin.status(JOIN) == "queued"


def test_experts_that_end_at_the_same_moment_move_their_join_on_exactly_once(ends: Ends) -> None:
    for turn in range(40):
        first, second, join = (f"{letter}{turn:039x}" for letter in "abd")
        ends.put(first)
        ends.put(second)
        ends.put(join, first, second)
        together = threading.Barrier(2)
        workers = [
            threading.Thread(target=ends.succeed, args=(one, together)) for one in (first, second)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(10.0)
        assert ends.waiting().count(join.encode()) == 1, turn


def test_an_expert_that_failed_for_good_does_not_hold_its_join_back(ends: Ends) -> None:
    ends.put(A)
    ends.put(B)
    ends.put(JOIN, A, B)
    ends.end(A, JobStatus.FAILED)
    assert ends.end(B, JobStatus.FAILED) == [JOIN]


@pytest.mark.parametrize("status", ["queued", "started", "scheduled"])
def test_an_expert_that_will_be_tried_again_does(ends: Ends, status: str) -> None:
    ends.put(A)
    ends.put(B)
    ends.put(JOIN, A, B)
    ends.redis.hset(f"rq:job:{A}", "status", status)
    assert ends.end(B, JobStatus.FINISHED) == []


def test_experts_that_redis_forgot_hold_nothing_back(ends: Ends) -> None:
    ends.put(B)
    ends.put(JOIN, A, B)
    assert ends.end(B, JobStatus.FINISHED) == [JOIN]


def test_a_join_of_experts_that_all_ended_is_queued_at_once(ends: Ends) -> None:
    ends.put(A)
    ends.end(A, JobStatus.FINISHED)
    ends.put(JOIN, A)
    assert ends.plugin.status(JOIN) == "queued"


def test_a_join_that_was_queued_anew_is_moved_on_only_while_it_waits(ends: Ends) -> None:
    ends.put(A)
    ends.put(JOIN, A)
    ends.plugin.forget(JOIN)
    ends.put(JOIN)
    # The expert still names it as one that waits.
    assert ends.end(A, JobStatus.FINISHED) == []
    assert ends.waiting() == [A.encode(), JOIN.encode()]


def test_dependencies_that_somebody_wrote_beside_a_job_are_not_believed(ends: Ends) -> None:
    ends.put(A)
    ends.put(B)
    ends.put(JOIN, A, B)
    ends.redis.delete(f"rq:job:{JOIN}:dependencies")
    ends.redis.hset(f"rq:job:{JOIN}", mapping={"dependency_ids": "[]", "dependency_id": ""})
    assert ends.end(A, JobStatus.FINISHED) == []
    assert ends.end(B, JobStatus.FINISHED) == [JOIN]


def test_nobody_can_make_a_job_wait_or_start_that_names_no_other(ends: Ends) -> None:
    ends.put(A)
    ends.put(C)
    ends.redis.hset(f"rq:job:{C}", mapping={"status": "deferred", "dependency_ids": f'["{A}"]'})
    ends.redis.sadd(f"rq:job:{A}:dependents", C)
    assert ends.end(A, JobStatus.FINISHED) == []


FORGED: dict[str, dict[str, Any]] = {
    "unsigned": {"data": b'["os.system",null,["true"],{}]'},
    "no-message": {"data": b""},
    "other-fields": {"data": b"\x80", "dependency_ids": "[", "allow_dependency_failures": "x"},
    "bad-dates": {"created_at": "yesterday"},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_job_among_those_that_wait_is_not_moved_and_stops_nobody(
    ends: Ends, name: str
) -> None:
    ends.put(A)
    ends.put(JOIN, A)
    ends.redis.hset(
        "rq:job:forged", mapping={"status": "deferred", "origin": "cpu", **FORGED[name]}
    )
    ends.redis.sadd(f"rq:job:{A}:dependents", "forged", "nobody")
    assert ends.end(A, JobStatus.FINISHED) == [JOIN]


@pytest.mark.parametrize("kind", ["id", "list"])
def test_unreadable_dependents_are_dropped_and_left_to_the_ledger(ends: Ends, kind: str) -> None:
    ends.put(A)
    ends.put(JOIN, A)
    key = f"rq:job:{A}:dependents"
    if kind == "id":
        ends.redis.sadd(key, b"\xff")
    else:
        ends.redis.delete(key)
        ends.redis.rpush(key, "no set")
    assert ends.end(A, JobStatus.FINISHED) == []
    assert ends.plugin.status(JOIN) == "deferred"
    assert not ends.redis.exists(key)


SPOILT: dict[str, dict[str, Any] | None] = {
    "date": {"created_at": "yesterday"},
    "status": {"status": "somewhere"},
    "bytes": {"status": b"\xff"},
    "number": {"retries_left": "many"},
    "no-status": {"status": ""},
    "no-data": {},
    "no-hash": None,
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_job_that_somebody_spoilt_is_forgotten_and_queued_anew(ends: Ends, name: str) -> None:
    """Or the reconciler would stumble over it for ever, and find no other lost job."""
    ends.put(A)
    ends.put(JOIN, A)
    for job in (A, JOIN):
        spoilt = SPOILT[name]
        if spoilt is None:
            ends.redis.delete(f"rq:job:{job}")
            ends.redis.rpush(f"rq:job:{job}", "no hash")
        elif name == "no-data":
            ends.redis.hdel(f"rq:job:{job}", "data")
        else:
            ends.redis.hset(f"rq:job:{job}", mapping=spoilt)
        assert ends.plugin.status(job) in ("", "created")
        assert not ends.plugin.again(job)
        ends.plugin.forget(job)
    ends.put(A)
    ends.put(JOIN, A)
    assert (ends.plugin.status(A), ends.plugin.status(JOIN)) == ("queued", "deferred")
    assert ends.end(A, JobStatus.FINISHED) == [JOIN]


@pytest.mark.parametrize("kind", ["date", "no-hash"])
def test_something_foreign_in_place_of_an_expert_stops_no_plugin(ends: Ends, kind: str) -> None:
    ends.redis.hset(f"rq:job:{A}", "created_at", "yesterday")
    if kind == "no-hash":
        ends.redis.delete(f"rq:job:{A}")
        ends.redis.rpush(f"rq:job:{A}", "no hash")
    ends.put(JOIN, A)
    assert ends.plugin.status(JOIN) == "queued"


def test_an_expert_that_is_no_hash_any_more_is_not_taken_for_ended(ends: Ends) -> None:
    ends.put(A)
    ends.put(B)
    ends.put(JOIN, A, B)
    ends.redis.delete(f"rq:job:{A}")
    ends.redis.rpush(f"rq:job:{A}", "no hash")
    assert ends.end(B, JobStatus.FINISHED) == []


def test_a_forgotten_expert_takes_along_who_waits_for_it(ends: Ends) -> None:
    """Why the reconciler queues joins anew together with their expert."""
    ends.put(A)
    ends.put(JOIN, A)
    ends.plugin.forget(A)
    ends.put(A)
    assert ends.end(A, JobStatus.FINISHED) == []
    assert ends.plugin.status(JOIN) == "deferred"
