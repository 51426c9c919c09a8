"""Accounts: logging in, how sessions end, one-time codes, bearer tokens, patients."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from dicom_services.access.principal import may_see
from dicom_services.errors import AccessError, InputError, MissingError, RadloopError
from tests.records import PASSWORD, PATIENT


def refusal(call, *values):
    with pytest.raises(AccessError) as refused:
        call(*values)
    return refused.value.code


def everything_stored(store):
    """Every byte of the database and its journal."""
    return b"".join(file.read_bytes() for file in store.folder.iterdir())


# Logging in


def test_who_knows_the_password_gets_a_session(store):
    made = store.user(display_name="Dr Ann Ünal", all_patients=True)
    begun = store.accounts.login(" ANN ", PASSWORD)
    again = store.accounts.session(begun.session)
    assert again == begun
    assert (again.user, again.name, again.role) == (made, "ann", "radiologist")
    assert again.display_name == "Dr Ann Ünal"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "four words of yours"),
        ("ann", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("ann' OR '1'='1", PASSWORD),
        ("ann\0", PASSWORD),
        ("\ud800", "\ud800"),
        ("a" * 1_000_000, PASSWORD),
        ("code-only", PASSWORD),
        ("gone", PASSWORD),
    ],
)
def test_every_other_login_is_refused_with_one_answer(store, name, password):
    store.user()
    store.user("gone")
    store.accounts.disable("gone")
    store.accounts.add_user("code-only", "doctor", None)
    assert refusal(store.accounts.login, name, password) == "login_refused"
    assert refusal(store.accounts.issue_bearer, name, password) == "login_refused"


def test_an_unknown_name_takes_as_long_as_a_known_one(store):
    store.user()
    store.user("gone")
    store.accounts.disable("gone")
    spans = {}
    refusal(store.accounts.login, "warm-up", "wrong words of mine")
    for name in ("ann", "nobody", "gone"):
        begin = time.thread_time()
        for _ in range(4):
            refusal(store.accounts.login, name, "wrong words of mine")
        spans[name] = time.thread_time() - begin
    assert max(spans.values()) < 2 * min(spans.values())


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_after_five_wrong_tries_even_the_right_password_waits_15_minutes(store, name):
    store.user()
    for _ in range(5):
        assert refusal(store.accounts.login, name, "wrong words of mine") == "login_refused"
    assert refusal(store.accounts.login, name, PASSWORD) == "too_many_tries"
    store.clock.go(minutes=14, seconds=59)
    assert refusal(store.accounts.issue_bearer, name, PASSWORD) == "too_many_tries"
    store.clock.go(seconds=1)
    if name == "ann":
        assert store.accounts.login(name, PASSWORD).name == "ann"


def test_the_lock_says_how_long_and_asking_does_not_prolong_it(store):
    for _ in range(5):
        refusal(store.accounts.login, "ann", "wrong words of mine")
    store.clock.go(minutes=10)
    with pytest.raises(AccessError) as refused:
        store.accounts.login("ann", PASSWORD)
    assert refused.value.facts == {"seconds": 300}


def test_a_success_begins_the_count_anew(store):
    store.user()
    for _ in range(3):
        for _ in range(4):
            refusal(store.accounts.login, "ann", "wrong words of mine")
        store.accounts.login("ann", PASSWORD)


def test_the_lock_of_one_name_is_nobody_elses(store):
    store.user()
    store.user("bob")
    for _ in range(6):
        refusal(store.accounts.login, "ann", "wrong words of mine")
    assert store.accounts.login("bob", PASSWORD).name == "bob"


def test_of_50_parallel_wrong_tries_only_five_are_judged(store):
    store.user()
    with ThreadPoolExecutor(50) as pool:
        codes = list(
            pool.map(lambda _: refusal(store.accounts.login, "ann", "wrong words"), range(50))
        )
    assert codes.count("login_refused") == 5
    assert codes.count("too_many_tries") == 45


def test_a_hash_of_older_parameters_is_renewed_by_a_login(store):
    store.user()
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    store.run("UPDATE users SET password = :weak", weak=weak)
    begun = store.accounts.login("ann", PASSWORD)
    assert store.run("SELECT password FROM users").scalar() != weak
    assert store.accounts.session(begun.session)
    assert store.accounts.login("ann", PASSWORD)


# Sessions


def test_a_cookie_has_256_bits_and_only_its_digest_is_stored(store):
    store.user()
    cookies = {store.accounts.login("ann", PASSWORD).session for _ in range(3)}
    assert len(cookies) == 3
    held = everything_stored(store)
    for cookie in cookies:
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", cookie)
        assert cookie.encode() not in held


def test_neither_password_nor_code_is_stored(store):
    store.user()
    code = store.accounts.login_code("ann")
    held = everything_stored(store)
    assert PASSWORD.encode() not in held
    assert code.replace("-", "").encode() not in held


@pytest.mark.parametrize(
    ("minutes", "alive"), [(29.9, True), (30, False), (60, False), (60 * 24 * 365, False)]
)
def test_a_session_ends_after_30_idle_minutes(store, minutes, alive):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    store.clock.go(minutes=minutes)
    assert (store.accounts.session(begun.session) is not None) == alive


def test_a_session_in_use_lives_12_hours_and_no_longer(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    for _ in range(12 * 4 - 1):
        store.clock.go(minutes=15)
        assert store.accounts.session(begun.session)
    store.clock.go(minutes=14, seconds=59)
    last = store.accounts.session(begun.session)
    assert last
    assert (last.expires_at - store.clock()).total_seconds() == 1
    store.clock.go(seconds=1)
    assert store.accounts.session(begun.session) is None


def test_what_is_asked_for_every_second_never_idles_out(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    for _ in range(45):
        store.clock.go(seconds=59)
        assert store.accounts.session(begun.session)


def test_only_looking_at_a_session_does_not_keep_it_alive(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    for _ in range(29):
        store.clock.go(minutes=1)
        assert store.accounts.session(begun.session, in_use=False)
    store.clock.go(minutes=1)
    assert store.accounts.session(begun.session, in_use=False) is None


def test_an_ended_session_does_not_come_back_with_the_clock(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    store.clock.go(hours=1)
    assert store.accounts.session(begun.session) is None
    # Another login clears away what has ended.
    store.accounts.login("ann", PASSWORD)
    store.clock.go(hours=-1)
    assert store.accounts.session(begun.session) is None


def test_a_clock_that_goes_back_an_hour_ends_no_session(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    store.clock.go(hours=-1)
    assert store.accounts.session(begun.session)


@pytest.mark.parametrize(
    "cookie", ["", "x", "A" * 43, "A" * 44, "ä" * 43, "\0" * 43, "' OR 1=1 --", "A" * 10_000_000]
)
def test_a_made_up_cookie_is_nobodys(store, cookie):
    store.user()
    store.accounts.login("ann", PASSWORD)
    assert store.accounts.session(cookie) is None
    store.accounts.logout(cookie)


def test_the_stored_digest_is_no_cookie(store):
    store.user()
    store.accounts.login("ann", PASSWORD)
    digest = store.run("SELECT id FROM sessions").scalar()
    assert store.accounts.session(digest) is None


def test_logout_ends_one_session_and_no_other(store):
    store.user()
    first, second = (store.accounts.login("ann", PASSWORD) for _ in range(2))
    store.accounts.logout(first.session)
    assert store.accounts.session(first.session) is None
    assert store.accounts.session(second.session)
    assert len(store.accounts.sessions("ann")) == 1


def test_each_session_has_its_own_csrf_value(store):
    store.user()
    first, second = (store.accounts.login("ann", PASSWORD) for _ in range(2))
    assert first.csrf != second.csrf
    assert store.accounts.session(first.session).csrf == first.csrf
    assert first.csrf not in (first.session, "")


ENDINGS = {
    "disabled": lambda accounts: accounts.disable("ann"),
    "another password": lambda accounts: accounts.set_password("ann", "other words of mine"),
    "logged out everywhere": lambda accounts: accounts.logout_everywhere("ann"),
}


@pytest.mark.parametrize("what", ENDINGS)
def test_sessions_and_tokens_end_at_once_when(store, what):
    store.user()
    store.user("bob")
    begun = [store.accounts.login("ann", PASSWORD) for _ in range(3)]
    token = store.accounts.issue_bearer("ann", PASSWORD)
    bobs = store.accounts.login("bob", PASSWORD)
    ENDINGS[what](store.accounts)
    assert [store.accounts.session(one.session) for one in begun] == [None] * 3
    assert refusal(store.accounts.bearer, token) == "token_refused"
    assert store.accounts.session(bobs.session)


@pytest.mark.parametrize("what", ["disabled", "another password"])
def test_codes_end_at_once_when(store, what):
    store.user()
    code = store.accounts.login_code("ann")
    ENDINGS[what](store.accounts)
    assert refusal(store.accounts.login_with_code, "ann", code) == "login_refused"


def test_a_disabled_account_enabled_again_needs_a_new_login(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    store.accounts.disable("ann")
    store.accounts.enable("ann")
    assert store.accounts.session(begun.session) is None
    assert store.accounts.login("ann", PASSWORD)


def test_another_password_also_opens_a_locked_account(store):
    store.user()
    for _ in range(6):
        refusal(store.accounts.login, "ann", "wrong words of mine")
    store.accounts.set_password("ann", "other words of mine")
    assert store.accounts.login("ann", "other words of mine")


def test_another_role_counts_from_the_next_request(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    store.accounts.set_role("ann", "clinician", all_patients=True)
    again = store.accounts.session(begun.session)
    assert (again.role, again.all_patients) == ("clinician", True)


# One-time codes


def test_a_code_is_readable_and_logs_in_once(store):
    store.user()
    code = store.accounts.login_code("ann")
    assert re.fullmatch(r"([2-9A-HJKMNP-TV-Z]{4}-){3}[2-9A-HJKMNP-TV-Z]{4}", code)
    assert store.accounts.login_with_code("ann", code).name == "ann"
    assert refusal(store.accounts.login_with_code, "ann", code) == "login_refused"


def test_a_code_may_be_typed_without_its_dashes_and_in_small_letters(store):
    store.user()
    code = store.accounts.login_code("ann")
    assert store.accounts.login_with_code("Ann", f" {code.replace('-', ' ').lower()} ")


def test_of_50_parallel_tries_with_one_code_exactly_one_logs_in(store):
    store.user()
    code = store.accounts.login_code("ann")

    def attempt(_):
        try:
            return store.accounts.login_with_code("ann", code).session
        except AccessError as error:
            return error.code

    with ThreadPoolExecutor(50) as pool:
        ends = list(pool.map(attempt, range(50)))
    assert sum(len(end) == 43 for end in ends) == 1


@pytest.mark.parametrize(("minutes", "good"), [(59.9, True), (60, False)])
def test_a_code_lives_an_hour(store, minutes, good):
    store.user()
    code = store.accounts.login_code("ann")
    store.clock.go(minutes=minutes)
    if good:
        assert store.accounts.login_with_code("ann", code)
    else:
        assert refusal(store.accounts.login_with_code, "ann", code) == "login_refused"


def test_a_code_is_its_owners_alone_and_the_newest_one_counts(store):
    store.user()
    store.user("bob")
    first = store.accounts.login_code("ann")
    second = store.accounts.login_code("ann")
    assert refusal(store.accounts.login_with_code, "bob", second) == "login_refused"
    assert refusal(store.accounts.login_with_code, "ann", first) == "login_refused"
    assert store.accounts.login_with_code("ann", second)


@pytest.mark.parametrize("code", ["", "-", "\ud800", "\0", "A" * 10_000_000, "%", "0000-0000"])
def test_a_made_up_code_is_refused(store, code):
    store.user()
    store.accounts.login_code("ann")
    assert refusal(store.accounts.login_with_code, "ann", code) == "login_refused"


def test_guessing_codes_is_locked_like_guessing_passwords(store):
    store.user()
    code = store.accounts.login_code("ann")
    for _ in range(5):
        refusal(store.accounts.login_with_code, "ann", "2222-2222-2222-2222")
    assert refusal(store.accounts.login_with_code, "ann", code) == "too_many_tries"


def test_a_code_still_opens_an_account_whose_password_is_being_guessed(store):
    store.user()
    for _ in range(6):
        refusal(store.accounts.login, "ann", "wrong words of mine")
    assert store.accounts.login_with_code("ann", store.accounts.login_code("ann"))


def test_a_disabled_account_gets_no_code(store):
    store.user()
    store.accounts.disable("ann")
    with pytest.raises(InputError, match="user_disabled"):
        store.accounts.login_code("ann")


# Bearer tokens


def test_a_bearer_token_is_its_owner_without_cookie_or_csrf(store):
    made = store.user("bob", "doctor")
    store.accounts.assign("bob", PATIENT)
    told = store.accounts.bearer(store.accounts.issue_bearer("bob", PASSWORD))
    assert (told.user, told.session, told.csrf) == (made, "", "")
    assert may_see(told, PATIENT)


def test_a_bearer_token_ends_after_a_quarter_of_an_hour(store):
    store.user()
    token = store.accounts.issue_bearer("ann", PASSWORD)
    store.clock.go(minutes=15, seconds=6)
    assert refusal(store.accounts.bearer, token) == "token_refused"


def test_a_cookie_is_no_token_and_a_token_no_cookie(store):
    store.user()
    begun = store.accounts.login("ann", PASSWORD)
    assert refusal(store.accounts.bearer, begun.session) == "token_refused"
    assert store.accounts.session(store.accounts.issue_bearer("ann", PASSWORD)) is None


# Managing accounts


def test_an_assigned_patient_is_seen_until_it_is_taken_away(store):
    store.user("bob", "doctor")
    begun = store.accounts.login("bob", PASSWORD)
    assert not may_see(store.accounts.session(begun.session), PATIENT)
    assert store.accounts.assign("bob", PATIENT)
    assert not store.accounts.assign("bob", PATIENT)
    assert may_see(store.accounts.session(begun.session), PATIENT)
    assert store.accounts.assigned("bob") == {PATIENT}
    assert store.accounts.unassign("bob", PATIENT)
    assert not store.accounts.unassign("bob", PATIENT)
    assert not may_see(store.accounts.session(begun.session), PATIENT)


def test_500_pairs_of_user_and_patient_are_as_assigned(store):
    import random

    chance = random.Random(7)
    names = [f"user{i}" for i in range(10)]
    patients = [f"{i:032x}" for i in range(50)]
    pairs = {(name, patient) for name in names for patient in patients if chance.random() < 0.2}
    for name in names:
        store.accounts.add_user(name, "doctor", None)
    for name, patient in pairs:
        store.accounts.assign(name, patient)
    for name in names:
        code = store.accounts.login_code(name)
        principal = store.accounts.login_with_code(name, code)
        seen = {patient for patient in patients if may_see(principal, patient)}
        assert seen == {patient for whose, patient in pairs if whose == name}


@pytest.mark.parametrize("key", ["", "4711", "Doe^John", "A" * 32, "a" * 33])
def test_only_keys_are_assigned_never_identifiers(store, key):
    store.user()
    with pytest.raises(InputError, match="patient_key"):
        store.accounts.assign("ann", key)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"name": ""}, "user_name"),
        ({"name": "-x"}, "user_name"),
        ({"name": "a b"}, "user_name"),
        ({"name": "ünal"}, "user_name"),
        ({"name": "a" * 65}, "user_name"),
        ({"name": "a\nb"}, "user_name"),
        ({"name": "ANN"}, "user_exists"),
        ({"role": "owner"}, "role_unknown"),
        ({"role": ""}, "role_unknown"),
        ({"password": "short"}, "password_short"),
        ({"password": "xbobx words and"}, "password_name"),
        ({"display_name": "x" * 101}, "user_display_name"),
        ({"display_name": "a\x1b[31m"}, "user_display_name"),
        ({"display_name": "a\u202eb"}, "user_display_name"),
    ],
)
def test_an_account_that_cannot_be_is_refused(store, values, code):
    store.user()
    new = {"name": "bob", "role": "doctor", "password": PASSWORD, "display_name": ""} | values
    with pytest.raises(InputError, match=code):
        store.accounts.add_user(
            new["name"], new["role"], new["password"], display_name=new["display_name"]
        )
    assert [one.name for one in store.accounts.users()] == ["ann"]


def test_whoever_is_not_there_cannot_be_changed(store):
    accounts = store.accounts
    for call in (
        lambda: accounts.user("nobody"),
        lambda: accounts.disable("nobody"),
        lambda: accounts.enable("nobody"),
        lambda: accounts.set_password("nobody", PASSWORD),
        lambda: accounts.set_role("nobody", "doctor"),
        lambda: accounts.login_code("nobody"),
        lambda: accounts.assign("nobody", PATIENT),
        lambda: accounts.unassign("nobody", PATIENT),
        lambda: accounts.assigned("nobody"),
        lambda: accounts.sessions("nobody"),
        lambda: accounts.logout_everywhere("nobody"),
    ):
        with pytest.raises(MissingError, match="user_unknown"):
            call()


def test_users_are_listed_by_name_with_their_patients(store):
    store.user("zoe", "admin")
    store.user("bob", "doctor", display_name="Bob")
    store.accounts.assign("bob", PATIENT)
    store.accounts.add_user("cleo", "clinician", None)
    store.accounts.disable("zoe")
    told = [
        (one.name, one.role, one.patients, one.has_password, one.disabled)
        for one in store.accounts.users()
    ]
    assert told == [
        ("bob", "doctor", 1, True, False),
        ("cleo", "clinician", 0, False, False),
        ("zoe", "admin", 0, True, True),
    ]
    assert store.accounts.user("Bob").display_name == "Bob"


def test_no_message_holds_what_was_typed(store):
    store.user()
    for call in (
        lambda: store.accounts.login("sentinel-name", "sentinel password"),
        lambda: store.accounts.login_with_code("sentinel-name", "sentinel code"),
        lambda: store.accounts.bearer("sentinel.token.x"),
        lambda: store.accounts.add_user("sentinel name", "doctor", PASSWORD),
        lambda: store.accounts.add_user("x", "sentinel", PASSWORD),
    ):
        with pytest.raises(RadloopError) as refused:
            call()
        assert "sentinel" not in str(refused.value)
