"""Bearer tokens of API clients: JWT, one algorithm, every claim required and checked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import jwt

from dicom_services.errors import AccessError, ConfigError

ISSUER: Final = "radloop"
AUDIENCE: Final = "radloop-api"
LIFETIME: Final = timedelta(minutes=15)
_ALGORITHM: Final = "HS256"
_KIND: Final = "access"
_LEEWAY_S: Final = 5
_LEAST_BYTES: Final = 32
_CLAIMS: Final = ["exp", "iat", "nbf", "sub", "jti", "typ", "aud", "iss"]
_MOST_CHARACTERS: Final = 2048


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a good token says."""

    user: UUID
    generation: int
    """Must be the user's; a changed password or a disabled account raises it."""


def issue(key: bytes, bearer: Bearer, now: datetime) -> str:
    """A token that lives for LIFETIME from `now`."""
    at = int(now.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(bearer.user),
        "jti": secrets.token_hex(16),
        "typ": _KIND,
        "gen": bearer.generation,
        "iat": at,
        "nbf": at,
        "exp": at + int(LIFETIME.total_seconds()),
    }
    return jwt.encode(claims, _checked(key), algorithm=_ALGORITHM)


def read(key: bytes, token: str, now: datetime) -> Bearer:
    """What `token` says, if it is ours, of the right kind and of this time.

    Raises
    ------
    AccessError
        `token_refused`, whatever was wrong.
    """
    if len(token) > _MOST_CHARACTERS:
        raise AccessError("token_refused")
    try:
        claims = jwt.decode(
            token,
            _checked(key),
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # Times are judged below by the clock that is given.
            options={
                "require": _CLAIMS,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        at = now.timestamp()
        issued, begins, ends = (_whole(claims[name]) for name in ("iat", "nbf", "exp"))
        lasting = LIFETIME.total_seconds() + _LEEWAY_S
        if not (max(issued, begins) <= at + _LEEWAY_S and at < ends + _LEEWAY_S):
            raise AccessError("token_refused")
        if claims["typ"] != _KIND or claims["aud"] != AUDIENCE or ends - issued > lasting:
            raise AccessError("token_refused")
        return Bearer(UUID(claims["sub"]), _whole(claims.get("gen")))
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        raise AccessError("token_refused") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _checked(key: bytes) -> bytes:
    if len(key) < _LEAST_BYTES:
        raise ConfigError("secret_short", name="token_key")
    return key
