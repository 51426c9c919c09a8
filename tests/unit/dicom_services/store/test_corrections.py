"""Corrections: kept once, numbered, sealed, never changed."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from dicom_services.errors import CorruptError, InputError, MissingError
from dicom_services.store.correction import StoredObject
from dicom_services.store.corrections import Corrections
from dicom_services.store.vault import Vault
from tests.records import KEY, STUDY, correction

SR = StoredObject("SR", "2.25.1", "2.25.2")
SEG = StoredObject("SEG", "2.25.3", "2.25.4")


def test_what_a_reader_sends_comes_back_as_sent(store):
    ann = store.user(display_name="Dr Ann")
    sent = correction(ann, note="ネガティブ \ud83d \x00", outcome={"study": "1.2.3", "score": 4.5})
    added = store.corrections.add(sent)
    assert added.new
    got = store.corrections.get(sent.id)
    assert (got.seq, got.author, got.author_name) == (1, ann, "Dr Ann")
    assert (got.verdict, got.reason, got.note, got.body) == ("modify", "bone", sent.note, sent.body)
    assert got.outcome == {"study": "1.2.3", "score": 4.5}
    assert (got.made_at, got.received_at) == (sent.made_at, store.clock())
    assert (got.delivered, got.objects, got.base, got.concurrent) == (False, (), None, ())
    assert store.corrections.of_study(STUDY) == [got]


def test_the_same_one_sent_again_is_kept_once(store):
    sent = correction(store.user(), outcome={"score": 1})
    first = store.corrections.add(sent)
    store.clock.go(minutes=5)
    second = store.corrections.add(replace(sent, outcome={"score": 2}))
    assert second == replace(first, new=False)
    assert len(store.corrections.of_study(STUDY)) == 1


def test_a_moment_in_another_zone_is_the_same_moment(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    zone = timezone(timedelta(hours=9))
    assert not store.corrections.add(replace(sent, made_at=sent.made_at.astimezone(zone))).new


@pytest.mark.parametrize(
    "change",
    [
        {"note": "another"},
        {"reason": "noise"},
        {"verdict": "reject"},
        {"body": {"lesions": []}},
        {"study_key": "6" * 32},
        {"base": uuid.UUID(int=1)},
    ],
)
def test_the_same_id_for_something_else_is_refused(store, change):
    sent = correction(store.user())
    store.corrections.add(sent)
    with pytest.raises(InputError, match="correction_id_taken"):
        store.corrections.add(replace(sent, **change))
    assert store.corrections.get(sent.id).note == sent.note


def test_the_same_id_of_another_reader_is_refused(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    with pytest.raises(InputError, match="correction_id_taken"):
        store.corrections.add(replace(sent, author=store.user("bob")))


@pytest.mark.parametrize("body", [{"score": float("nan")}, {"x": float("inf")}, {"x": {1, 2}}])
def test_a_body_that_is_no_json_is_refused(store, body):
    with pytest.raises(InputError, match="correction_body"):
        store.corrections.add(correction(store.user(), body=body))


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2027, 3, 4),  # noqa: DTZ001
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    ],
)
def test_a_moment_that_is_none_is_refused(store, moment):
    with pytest.raises(InputError, match="correction_time"):
        store.corrections.add(correction(store.user(), made_at=moment))


def test_corrections_are_numbered_within_their_study(store):
    ann = store.user()
    seqs = [store.corrections.add(correction(ann)).seq for _ in range(3)]
    assert seqs == [1, 2, 3]
    assert store.corrections.add(correction(ann, study_key="6" * 32)).seq == 1


def test_what_another_reader_said_since_is_named(store):
    ann, bob = store.user(), store.user("bob")
    first = store.corrections.add(correction(ann)).id
    seen = store.corrections.add(correction(bob, base=first)).id
    mine = store.corrections.add(correction(ann, base=first)).id
    his = store.corrections.add(correction(bob, base=first)).id
    unseeing = store.corrections.add(correction(ann)).id
    told = {one.id: one.concurrent for one in store.corrections.of_study(STUDY)}
    assert told == {
        first: (),
        seen: (),
        # Ann had not seen Bob's; her own are no news to her.
        mine: (seen,),
        his: (mine,),
        unseeing: (seen, his),
    }


def test_neither_note_nor_body_nor_objects_can_be_read_in_the_database(store):
    sent = correction(store.user(), body={"word": "sentinel"}, outcome={"study": "1.2.840.77"})
    store.corrections.add(sent)
    store.corrections.mark_stored(sent.id, [SR])
    held = b"".join(file.read_bytes() for file in store.folder.iterdir())
    for word in (b"rib, not", b"sentinel", b"1.2.840.77", b"2.25.1", b"bone"):
        assert word not in held


def test_a_delivered_one_is_no_longer_waiting(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    assert [one.id for one in store.corrections.unstored()] == [sent.id]
    store.corrections.mark_failed(sent.id, "orthanc_unreachable")
    assert store.corrections.get(sent.id).tries == 1
    store.corrections.mark_stored(sent.id, [SR, SEG])
    assert store.corrections.unstored() == []
    assert store.corrections.get(sent.id).objects == (SR, SEG)
    assert store.corrections.get(sent.id).delivered


def test_the_first_delivery_counts(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    store.corrections.mark_stored(sent.id, [SR])
    store.corrections.mark_stored(sent.id, [SEG])
    store.corrections.mark_failed(sent.id, "late")
    got = store.corrections.get(sent.id)
    assert (got.objects, got.delivered, got.tries) == ((SR,), True, 0)


def test_those_that_always_fail_hold_up_no_others(store):
    ann = store.user()
    old = [store.corrections.add(correction(ann)).id for _ in range(3)]
    for one in old:
        store.corrections.mark_failed(one, "series_unknown")
    new = store.corrections.add(correction(ann)).id
    assert [one.id for one in store.corrections.unstored(2)] == [new, old[0]]


def test_an_unknown_one_is_missing(store):
    for call in (
        lambda: store.corrections.get(uuid.uuid4()),
        lambda: store.corrections.mark_stored(uuid.uuid4(), [SR]),
        lambda: store.corrections.mark_failed(uuid.uuid4(), "x"),
    ):
        with pytest.raises(MissingError, match="correction_unknown"):
            call()
    assert store.corrections.of_study("7" * 32) == []


COLUMNS = {
    "verdict": "accept",
    "seq": 9,
    "study_key": "6" * 32,
    "made_at": "2027-03-04 11:00:00.000000",
    "received_at": "2027-03-04 11:00:00.000000",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_an_altered_column_is_found(store, column):
    sent = correction(store.user())
    store.corrections.add(sent)
    store.run("DROP TRIGGER corrections_no_update")
    store.run(f"UPDATE corrections SET {column} = :value", value=COLUMNS[column])
    with pytest.raises(CorruptError, match="correction_altered"):
        store.corrections.get(sent.id)


def test_another_author_is_found(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    store.run("DROP TRIGGER corrections_no_update")
    store.run("UPDATE corrections SET author_id = :bob", bob=store.user("bob").hex)
    with pytest.raises(CorruptError, match="correction_altered"):
        store.corrections.get(sent.id)


def test_texts_swapped_between_rows_are_refused_and_hold_up_no_delivery(store):
    ann = store.user()
    first, second, third = (store.corrections.add(correction(ann)) for _ in range(3))
    held = {
        row.id: row.sealed for row in store.run("SELECT hex(id) AS id, sealed FROM corrections")
    }
    assert len(held) == 3
    sealed = store.run("SELECT sealed FROM corrections WHERE seq = 1").scalar()
    store.run("DROP TRIGGER corrections_no_update")
    store.run("UPDATE corrections SET sealed = :sealed WHERE seq = 2", sealed=sealed)
    with pytest.raises(CorruptError, match="sealed_altered"):
        store.corrections.get(second.id)
    with pytest.raises(CorruptError, match="sealed_altered"):
        store.corrections.of_study(STUDY)
    assert [one.id for one in store.corrections.unstored()] == [first.id, third.id]


def test_objects_do_not_open_as_a_body(store):
    first = store.corrections.add(correction(store.user()))
    store.corrections.mark_stored(first.id, [SR])
    store.run("DROP TRIGGER corrections_no_update")
    store.run("UPDATE corrections SET sealed = (SELECT sealed FROM correction_deliveries)")
    with pytest.raises(CorruptError, match="sealed_altered"):
        store.corrections.get(first.id)


def test_after_a_new_key_old_corrections_still_open(store):
    sent = correction(store.user())
    store.corrections.add(sent)
    after = Corrections(store.engine, Vault([b"n" * 32, KEY]), store.clock)
    assert after.get(sent.id).note == sent.note
    later = after.add(correction(sent.author, base=sent.id))
    assert [one.id for one in after.of_study(STUDY)] == [sent.id, later.id]
    with pytest.raises(CorruptError, match="sealed_key_unknown"):
        store.corrections.get(later.id)
