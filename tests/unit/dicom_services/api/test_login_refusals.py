"""A flood of refused logins does not flood the audit, and is told in it."""

from __future__ import annotations

from dicom_services.api.login_refusals import MOST_A_MINUTE, LoginRefusals


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_of_those_who_try_too_often_one_a_minute_is_noted_and_the_rest_counted():
    clock = Clock()
    refusals = LoginRefusals(clock)
    told = [refusals.unnoted("password", "too_many_tries") for _ in range(100)]
    assert told == [0] + [None] * 99
    clock.now += 60
    assert refusals.unnoted("password", "too_many_tries") == 99
    clock.now += 60
    assert refusals.unnoted("password", "too_many_tries") == 0


def test_wrong_passwords_of_people_are_all_noted():
    refusals = LoginRefusals(Clock())
    told = [refusals.unnoted("password", "login_refused") for _ in range(MOST_A_MINUTE + 5)]
    assert told == [0] * MOST_A_MINUTE + [None] * 5
    # One kind's flood hides no other kind.
    assert refusals.unnoted("code", "login_refused") == 0


def test_what_the_audit_could_not_take_is_told_later():
    clock = Clock()
    refusals = LoginRefusals(clock)
    assert refusals.unnoted("password", "login_refused") == 0
    refusals.put_back("password", "login_refused", 1)
    assert refusals.unnoted("password", "login_refused") == 1
