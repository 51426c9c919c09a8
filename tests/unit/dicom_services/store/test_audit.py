"""The audit: durable before it returns, coalesced, and every change of it is found."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from dicom_services.errors import ConfigError, UnavailableError
from dicom_services.store.audit import COMMAND_LINE, Audit
from dicom_services.store.database import migrate, open_database
from dicom_services.store.tables import AuditRow
from tests.records import KEY, STUDY, Clock

ROOT = Path(__file__).resolve().parents[4]


def rows(store):
    return list(store.audit.rows())


def fill(store, count=40):
    ann = store.principal()
    for number in range(count):
        store.clock.go(seconds=1)
        store.audit.write(ann, f"test.{number}", study_key=STUDY, facts={"number": number})


# Writing


def test_a_row_says_who_did_what_when_to_which_study(store):
    ann = store.principal()
    store.audit.write(ann, "correct", study_key=STUDY, outcome="refused", facts={"count": 3})
    (row,) = rows(store)
    assert (row.at, row.actor, row.actor_id) == (
        "2027-03-04T12:00:00.000000Z",
        "ann",
        str(ann.user),
    )
    assert (row.action, row.study_key, row.outcome) == ("correct", STUDY, "refused")
    assert json.loads(row.facts) == {"count": 3}


def test_without_a_principal_the_actor_is_named(store):
    store.audit.write(None, "user.add", actor=COMMAND_LINE)
    store.audit.write(None, "login", outcome="refused", actor="Robert'); DROP TABLE\n")
    store.audit.write(None, "login", outcome="refused")
    assert [row.actor for row in rows(store)] == [COMMAND_LINE, "unprintable", ""]


@pytest.mark.parametrize(
    "values",
    [
        {"action": ""},
        {"action": "view\n"},
        {"action": "x" * 65},
        {"study_key": "1.2.840.113619"},
        {"outcome": "Müller^Jürgen"},
        {"facts": {"text": "x" * 101}},
        {"facts": {str(number): "x" for number in range(1000)}},
        {"facts": {"text": "Müller^Jürgen"}},
        {"facts": {"text": "Doe^John"}},
        {"facts": {"text": "1.2.840.113619"}},
        {"facts": {"text": "line\nbreak"}},
    ],
)
def test_a_row_holds_words_and_keys_only(store, values):
    with pytest.raises(ValueError, match="audit row"):
        store.audit.write(store.principal(), **({"action": "view"} | values))
    assert rows(store) == []


def test_views_of_one_study_within_a_minute_are_one_row(store):
    ann, bob = store.principal(), store.principal("bob")
    for _ in range(100):
        store.audit.view(ann, STUDY, "view.images")
    assert len(rows(store)) == 1
    store.audit.view(ann, STUDY, "view.report")
    store.audit.view(ann, "6" * 32, "view.images")
    store.audit.view(bob, STUDY, "view.images")
    assert len(rows(store)) == 4
    store.clock.go(seconds=59)
    store.audit.view(ann, STUDY, "view.images")
    assert len(rows(store)) == 4
    store.clock.go(seconds=1)
    store.audit.view(ann, STUDY, "view.images")
    assert len(rows(store)) == 5


def test_who_began_in_the_minute_just_over_does_not_make_others_write_again(store):
    ann, bob = store.principal(), store.principal("bob")
    store.clock.go(minutes=1)
    store.audit.view(ann, STUDY, "view")
    store.clock.go(seconds=-1)
    store.audit.view(bob, STUDY, "view")
    store.clock.go(seconds=1)
    store.audit.view(ann, STUDY, "view")
    assert [row.actor for row in rows(store)] == ["ann", "bob"]


def test_a_clock_that_goes_back_an_hour_writes_a_row_a_minute(store):
    ann = store.principal()
    store.audit.view(ann, STUDY, "view")
    store.clock.go(hours=-1)
    for _ in range(10):
        store.audit.view(ann, STUDY, "view")
    assert len(rows(store)) == 2
    assert store.audit.verify().intact


def test_an_event_loop_can_ask_whether_a_view_would_wait(store):
    ann = store.principal()
    assert not store.audit.seen(ann, STUDY, "view")
    store.audit.view(ann, STUDY, "view")
    assert store.audit.seen(ann, STUDY, "view")
    store.clock.go(minutes=1)
    assert not store.audit.seen(ann, STUDY, "view")


def test_of_50_parallel_views_one_row_is_on_the_disk_before_any_returns(store):
    ann = store.principal()
    url = store.engine.url.database
    gate = threading.Barrier(50)

    def look(_):
        gate.wait()
        store.audit.view(ann, STUDY, "view")
        with sqlite3.connect(url) as other:
            return other.execute("SELECT count(*) FROM audit").fetchone()[0]

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(look, range(50))) == {1}


def test_parallel_writers_of_two_processes_make_one_chain(store):
    other = store.another_audit()
    ann = store.principal()

    def write(number):
        (store.audit if number % 2 else other).write(ann, f"test.{number}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(200)))
    report = store.audit.verify()
    assert (report.rows, report.anchored, report.intact) == (200, 200, True)
    assert {row.action for row in rows(store)} == {f"test.{number}" for number in range(200)}


def test_rows_are_found_by_user_study_and_time(store):
    ann, bob = store.principal(), store.principal("bob")
    store.audit.write(ann, "a")
    store.audit.write(bob, "b", study_key=STUDY)
    store.clock.go(hours=1)
    store.audit.write(ann, "c", study_key=STUDY)
    found = store.audit.rows
    assert [row.action for row in found(actor="ann")] == ["a", "c"]
    assert [row.action for row in found(study_key=STUDY)] == ["b", "c"]
    assert [row.action for row in found(since=store.clock())] == ["c"]
    assert [row.action for row in found(actor="ann", study_key=STUDY)] == ["c"]


def test_a_record_that_never_began_is_whole(store):
    assert store.audit.verify().intact


# Changes are found


def put_back(store, table):
    with store.engine.begin() as connection:
        connection.execute(delete(AuditRow))
        if table:
            connection.execute(insert(AuditRow), table)


def changes(chance: random.Random) -> dict[str, Callable[[list[dict]], None]]:
    def edit(table):
        row = chance.choice(table)
        column = chance.choice([name for name in row if name != "seq"])
        text = row[column] or "x"
        at = chance.randrange(len(text))
        letters = "0123456789abcdef" if column in ("chain", "mac") else "abcxyz0189"
        letter = chance.choice([one for one in letters if one != text[at]])
        row[column] = text[:at] + letter + text[at + 1 :]

    def delete(table):
        del table[chance.randrange(len(table))]

    def swap(table):
        one, other = chance.sample(table, 2)
        one["seq"], other["seq"] = other["seq"], one["seq"]

    def cut(table):
        del table[chance.randrange(len(table)) :]

    def renumber(table):
        at = chance.randrange(len(table))
        del table[at]
        for row in table[at:]:
            row["seq"] -= 1

    return {"edit": edit, "delete": delete, "swap": swap, "cut": cut, "renumber": renumber}


def test_1000_single_edits_deletions_swaps_and_cuts_are_all_found(store):
    fill(store)
    for trigger in ("update", "delete", "insert"):
        store.run(f"DROP TRIGGER audit_no_{trigger}")
    # Durable writes are not what is tried here, and would take most of the time.
    whole = [row.model_dump() for row in rows(store)]
    anchor = store.folder / "audit.anchor"
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else store.folder
    light = open_database(f"sqlite:///{memory / f'radloop-audit-{uuid.uuid4().hex}'}")
    try:
        migrate(light)
        store.engine, audit = light, Audit(light, anchor, KEY)
        for trigger in ("update", "delete", "insert"):
            store.run(f"DROP TRIGGER audit_no_{trigger}")
        chance = random.Random(7)
        kinds = changes(chance)
        found = dict.fromkeys(kinds, 0)
        for number in range(1000):
            kind = list(kinds)[number % len(kinds)]
            table = [dict(row) for row in whole]
            kinds[kind](table)
            put_back(store, table)
            found[kind] += not audit.verify().intact
        assert found == dict.fromkeys(kinds, 200)
        put_back(store, whole)
        assert audit.verify().intact
    finally:
        light.dispose()
        for part in ("", "-wal", "-shm"):
            Path(str(light.url.database) + part).unlink(missing_ok=True)


def test_one_change_is_one_problem_at_its_row(store):
    fill(store)
    store.run("DROP TRIGGER audit_no_update")
    store.run("UPDATE audit SET outcome = 'refused' WHERE seq = 17")
    (problem,) = store.audit.verify().problems
    assert (problem.seq, problem.what) == (17, "changed")


def test_a_cut_tail_is_found_though_what_is_left_is_a_good_chain(store):
    fill(store)
    store.run("DROP TRIGGER audit_no_delete")
    store.run("DELETE FROM audit WHERE seq > 35")
    assert [(one.seq, one.what) for one in store.audit.verify().problems] == [(36, "cut")]


def test_a_cut_tail_stays_found_when_more_is_written_after_it(store):
    fill(store)
    store.run("DROP TRIGGER audit_no_delete")
    store.run("DELETE FROM audit WHERE seq > 35")
    fill(store, 20)
    assert [(one.seq, one.what) for one in store.audit.verify().problems] == [
        (40, "anchor_differs")
    ]


def test_all_rows_gone_is_found(store):
    fill(store)
    store.run("DROP TRIGGER audit_no_delete")
    store.run("DELETE FROM audit")
    assert not store.audit.verify().intact
    fill(store, 3)
    assert not store.audit.verify().intact


def test_whoever_has_no_key_cannot_make_a_row_of_their_own(store):
    fill(store)
    (store.folder / "other").mkdir()
    forger = Audit(store.engine, store.folder / "other" / "audit.anchor", b"f" * 32, store.clock)
    forger.write(store.principal(), "forged")
    assert [(one.seq, one.what) for one in store.audit.verify().problems] == [(41, "changed")]


ANCHORS = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "not json": lambda path: path.write_bytes(b"\xff\xfe{"),
    "a list": lambda path: path.write_text("[]"),
    "set back": lambda path: path.write_text(
        json.dumps(json.loads(path.read_text()) | {"count": 3})
    ),
    "unsigned": lambda path: path.write_text('{"count": 0, "chain": "' + "0" * 64 + '"}'),
}


@pytest.mark.parametrize("what", ANCHORS)
def test_a_changed_anchor_is_found_and_stays_found(store, what):
    fill(store)
    ANCHORS[what](store.folder / "audit.anchor")
    assert [one.what for one in store.audit.verify().problems] == ["anchor_missing"]
    fill(store, 2)
    assert not store.audit.verify().intact


def test_an_older_anchor_put_back_alone_is_no_change_of_the_record(store):
    fill(store, 5)
    older = (store.folder / "audit.anchor").read_bytes()
    fill(store, 5)
    (store.folder / "audit.anchor").write_bytes(older)
    report = store.audit.verify()
    assert (report.intact, report.rows, report.anchored) == (True, 10, 5)


def test_after_a_person_accepts_it_the_record_goes_on_and_says_so(store):
    fill(store)
    store.run("DROP TRIGGER audit_no_delete")
    store.run("DELETE FROM audit WHERE seq > 35")
    assert not store.audit.accept().intact
    fill(store, 3)
    report = store.audit.verify()
    assert (report.intact, report.rows, report.anchored) == (True, 39, 39)
    assert [row.action for row in rows(store)][35] == "audit.accept"


def test_rows_cannot_be_changed_through_the_database(store):
    fill(store, 3)
    for statement in (
        "UPDATE audit SET outcome = 'x' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT seq, at, actor_id, actor, 'x', study_key, outcome, "
        "facts, chain, mac FROM audit WHERE seq = 2",
    ):
        with (
            sqlite3.connect(store.engine.url.database) as plain,
            pytest.raises(sqlite3.IntegrityError, match="append-only"),
        ):
            plain.execute(statement)
    assert store.audit.verify().intact


# When it cannot be written


def test_a_database_that_takes_no_row_shows_nothing(store):
    fill(store, 2)
    store.run("CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'full'); END")
    ann = store.principal()
    with pytest.raises(UnavailableError, match="audit_unavailable"):
        store.audit.view(ann, STUDY, "view")
    assert not store.audit.seen(ann, STUDY, "view")
    with pytest.raises(UnavailableError, match="audit_unavailable"):
        store.audit.write(ann, "correct")
    store.run("DROP TRIGGER no_room")
    store.audit.view(ann, STUDY, "view")
    assert store.audit.verify().intact


def test_all_who_wait_are_told_when_it_cannot_be_written(store):
    store.run("CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'full'); END")
    ann = store.principal()

    def look(number):
        with pytest.raises(UnavailableError, match="audit_unavailable"):
            store.audit.view(ann, f"{number % 4:032x}", "view")
        return True

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(look, range(40)))


def test_an_anchor_that_cannot_be_written_shows_nothing(store):
    fill(store, 2)
    anchor = store.folder / "audit.anchor"
    beside = store.folder / ".audit.anchor.new"
    beside.mkdir()
    with pytest.raises(UnavailableError, match="audit_unavailable"):
        store.audit.write(store.principal(), "correct")
    beside.rmdir()
    assert json.loads(anchor.read_text())["count"] == 2
    # The row is there and the anchor behind it: nothing was changed.
    assert store.audit.verify().intact
    store.audit.write(store.principal(), "correct")
    assert store.audit.verify().anchored == 4


def test_no_failure_tells_what_was_to_be_written(store, caplog):
    store.run("CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'full'); END")
    with pytest.raises(UnavailableError) as refused:
        store.audit.write(store.principal("sentinel"), "sentinel", facts={"x": "sentinel"})
    assert "sentinel" not in str(refused.value)
    assert "sentinel" not in caplog.text


KILLED = """
import sys
from pathlib import Path
from dicom_services.store import anchor, audit
from dicom_services.store.database import open_database
from tests.records import KEY, Store
import os, signal
folder = Path(sys.argv[1])
store = Store(open_database(f"sqlite:///{folder / 'radloop.db'}"), folder)
place = sys.argv[2]
real = anchor.AnchorFile.write
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def at_anchor(self, told):
    if place == "before":
        die()
    if place == "half":
        (folder / ".audit.anchor.new").write_bytes(b'{"count": 4')
        die()
    real(self, told)
    die()
for number in range(int(sys.argv[3])):
    store.audit.write(store.principal(), f"killed.{number}")
anchor.AnchorFile.write = at_anchor
store.audit.write(store.principal(), "last")
"""


@pytest.mark.parametrize("place", ["before", "half", "after"])
@pytest.mark.parametrize("earlier", [0, 3])
def test_a_kill_between_row_and_anchor_does_not_look_like_a_change(store, place, earlier):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.folder), place, str(earlier)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert store.audit.verify().intact
    store.audit.write(store.principal(), "afterwards")
    report = store.audit.verify()
    assert report.intact
    assert report.anchored == report.rows >= earlier + 1


def test_a_short_key_is_refused(store):
    with pytest.raises(ConfigError, match="secret_short"):
        Audit(store.engine, store.folder / "audit.anchor", b"short", Clock())


def test_a_copy_of_the_whole_folder_verifies(store, tmp_path_factory):
    fill(store)
    store.engine.dispose()
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(store.folder, copy, dirs_exist_ok=True)
    engine = open_database(f"sqlite:///{copy / 'radloop.db'}")
    assert Audit(engine, copy / "audit.anchor", KEY).verify().intact
    engine.dispose()
