"""When a study counts as complete."""

from __future__ import annotations

import pytest

from orthanc_plugins.completeness import Completeness, expected_instances


def arrive(
    watch: Completeness, now_s: float, *, series: str = "a", count: int = 1, **more: object
) -> None:
    options = {"expected": None, "source": "CT1", "change": 7, **more}
    watch.arrived("study", series, count=count, now_s=now_s, **options)  # type: ignore[arg-type]


def test_a_study_is_complete_once_its_sender_was_quiet_for_long_enough() -> None:
    watch = Completeness(2.0)
    arrive(watch, 10.0)
    assert watch.due(11.9) == []
    assert watch.due(12.0) == ["study"]


def test_every_further_image_starts_the_quiet_time_again() -> None:
    watch = Completeness(2.0)
    arrive(watch, 10.0)
    arrive(watch, 11.5, count=2)
    assert watch.due(12.5) == []
    assert watch.due(13.5) == ["study"]


def test_each_sender_has_its_own_quiet_time() -> None:
    watch = Completeness(15.0, {"CT1": 2.0})
    arrive(watch, 0.0)
    watch.arrived("other", "b", count=1, expected=None, source="MR1", change=9, now_s=0.0)
    assert watch.due(3.0) == ["study"]
    assert watch.due(15.0) == ["study", "other"]


def test_of_two_senders_of_one_study_the_slower_rule_wins() -> None:
    watch = Completeness(15.0, {"CT1": 2.0})
    arrive(watch, 0.0)
    arrive(watch, 0.0, source="MR1")
    assert watch.due(3.0) == []


def test_expected_counts_end_the_waiting_early() -> None:
    watch = Completeness(15.0)
    arrive(watch, 10.0, count=49, expected=50)
    assert watch.due(11.0) == []
    arrive(watch, 11.0, count=50, expected=50)
    assert watch.due(11.5) == ["study"]


def test_a_second_series_of_unknown_length_keeps_the_study_waiting() -> None:
    watch = Completeness(15.0)
    arrive(watch, 10.0, count=50, expected=50)
    arrive(watch, 10.0, series="b", count=3)
    assert watch.due(11.0) == []


def test_the_change_cursor_stays_before_the_oldest_undecided_study() -> None:
    watch = Completeness(2.0)
    assert watch.oldest_change() is None
    arrive(watch, 10.0, change=7)
    arrive(watch, 11.0, change=12)
    assert watch.oldest_change() == 7
    watch.settled("study")
    assert watch.oldest_change() is None


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"NumberOfSeriesRelatedInstances": "50"}, 50),
        ({"ImagesInAcquisition": "64"}, 64),
        ({"NumberOfSeriesRelatedInstances": "50", "ImagesInAcquisition": "64"}, 50),
        ({"ImagesInAcquisition": "1"}, None),
        ({"ImagesInAcquisition": "many"}, None),
        ({"ImagesInAcquisition": "-3"}, None),
        ({}, None),
    ],
)
def test_headers_tell_how_many_images_to_expect(
    facts: dict[str, str], expected: int | None
) -> None:
    assert expected_instances(facts) == expected
