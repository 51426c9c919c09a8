"""Bearer tokens: what is ours is read, and everything else is refused alike."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from dicom_services.access import tokens
from dicom_services.errors import AccessError, ConfigError

KEY = b"k" * 32
NOW = datetime(2027, 3, 4, 12, 0, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
BEARER = tokens.Bearer(uuid.UUID(int=7), 3)
GOOD = {
    "iss": "radloop",
    "aud": "radloop-api",
    "sub": str(BEARER.user),
    "jti": "1",
    "typ": "access",
    "gen": 3,
    "iat": AT,
    "nbf": AT,
    "exp": AT + 900,
}


def signed(key=KEY, algorithm="HS256", **changes):
    claims = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    # PyJWT's own encode refuses to sign half of these.
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm=algorithm)


def unsigned(header, claims):
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_what_is_issued_is_read():
    assert tokens.read(KEY, tokens.issue(KEY, BEARER, NOW), NOW) == BEARER


def test_no_two_tokens_are_the_same():
    assert tokens.issue(KEY, BEARER, NOW) != tokens.issue(KEY, BEARER, NOW)


@pytest.mark.parametrize(
    ("seconds", "good"),
    [(-6, False), (-4, True), (0, True), (899, True), (904, True), (905, False), (3600, False)],
)
def test_a_token_lives_a_quarter_of_an_hour_give_or_take_five_seconds(seconds, good):
    token = tokens.issue(KEY, BEARER, NOW)
    then = NOW + timedelta(seconds=seconds)
    if good:
        assert tokens.read(KEY, token, then) == BEARER
    else:
        with pytest.raises(AccessError, match="token_refused"):
            tokens.read(KEY, token, then)


def test_the_table_of_bad_ones_starts_from_a_good_one():
    assert tokens.read(KEY, signed(), NOW) == BEARER


BAD = {
    "another key": signed(key=b"l" * 32),
    "another algorithm": signed(key=b"k" * 64, algorithm="HS512"),
    "HS384 with our key": signed(key=KEY + KEY, algorithm="HS384"),
    "algorithm none": unsigned({"alg": "none", "typ": "JWT"}, GOOD),
    "algorithm None": unsigned({"alg": "None", "typ": "JWT"}, GOOD),
    "no algorithm": unsigned({"typ": "JWT"}, GOOD),
    "refresh as access": signed(typ="refresh"),
    "typ a list": signed(typ=["access"]),
    "another audience": signed(aud="radloop-viewer"),
    "ours among several": signed(aud=["radloop-api", "other"]),
    "another issuer": signed(iss="radloop2"),
    "expired": signed(iat=AT - 1000, nbf=AT - 1000, exp=AT - 100),
    "not yet": signed(nbf=AT + 60),
    "issued tomorrow": signed(iat=AT + 86400, exp=AT + 86400 + 900),
    "lives for a year": signed(exp=AT + 31_536_000),
    "times as text": signed(exp=str(AT + 900)),
    "times as fractions": signed(iat=AT + 0.5),
    "not a user": signed(sub="ann"),
    "sub a number": signed(sub=7),
    "generation as text": signed(gen="3"),
    "generation true": signed(gen=True),
    "no generation": signed(gen=...),
    **{f"no {name}": signed(**{name: ...}) for name in GOOD if name != "gen"},
    **{f"{name} null": signed(**{name: None}) for name in GOOD},
    "empty": "",
    "not a token": "abc",
    "two parts": "a.b",
    "not base64": "ä.ö.ü",
    "megabytes": "a" * 3_000_000,
    "cut": signed()[:-2],
}


@pytest.mark.parametrize("what", BAD)
def test_every_other_token_is_refused_alike(what):
    with pytest.raises(AccessError) as refused:
        tokens.read(KEY, BAD[what], NOW)
    assert str(refused.value) == "token_refused"


def test_a_flipped_character_anywhere_is_refused():
    token = signed()
    for at, letter in enumerate(token[:-1]):
        changed = token[:at] + ("A" if letter != "A" else "B") + token[at + 1 :]
        with pytest.raises(AccessError, match="token_refused"):
            tokens.read(KEY, changed, NOW)


def test_a_short_key_signs_nothing():
    with pytest.raises(ConfigError, match="secret_short"):
        tokens.issue(b"short", BEARER, NOW)
