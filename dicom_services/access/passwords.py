"""Passwords: argon2id with bounded memory, and which ones are refused."""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dicom_services.errors import InputError

LEAST_CHARACTERS: Final = 12
# Longer ones bring nothing and would be work for whoever sends megabytes.
MOST_CHARACTERS: Final = 256
# OWASP Password Storage Cheat Sheet, Argon2id: at least 19 MiB with two passes.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=32 * 1024, parallelism=1)
# At most this many at once: a flood of logins costs those who log in time, not the images' cores.
_SLOTS: Final = threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) // 2))
_FEWEST_DIFFERENT: Final = 6
# Stems of what stands in every list of stolen passwords, once digits around them are gone.
_KNOWN_STEMS: Final = frozenset(
    {
        *("password", "passwort", "administrator", "admin", "welcome", "letmein", "iloveyou"),
        *("qwerty", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "changeme", "default"),
        *("hospital", "radiology", "radiologist", "radloop", "orthanc", "doctor", "clinician"),
        *("secret", "princess", "football", "baseball", "superman", "sunshine", "monkey"),
        *("dragon", "trustno", "test", "letmeinnow", "welcomehome", "mypassword", "thepassword"),
    }
)
_LOOKALIKES: Final = str.maketrans("@4301$5!", "aaeoissi")
_RUNS: Final = (
    "0123456789012345678901234567890",
    "abcdefghijklmnopqrstuvwxyzabcdef",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn",
)
_AROUND: Final = re.compile(r"\A[\W\d_]+|[\W\d_]+\Z")


def hash_password(password: str) -> str:
    """An argon2id hash with its salt and parameters; needs 32 MiB and tens of milliseconds."""
    with _SLOTS:
        return _HASHER.hash(_bytes(password))


def verify_password(stored: str | None, password: str) -> bool:
    """Whether it is the one; as slow for an absent user (None) as for a present one."""
    password = password[: MOST_CHARACTERS + 1]
    with _SLOTS:
        try:
            return _HASHER.verify(stored or _nobody(), _bytes(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(stored: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    try:
        return _HASHER.check_needs_rehash(stored)
    except InvalidHashError:
        return True


def require_good(password: str, name: str = "") -> None:
    """Refuse what is guessed first (NIST SP 800-63B, 5.1.1.2: length and known ones, no classes).

    Raises
    ------
    InputError
        `password_short`, `password_long`, `password_known` or `password_name`.
    """
    plain = _normal(password).casefold()
    if len(plain) < LEAST_CHARACTERS:
        raise InputError("password_short", least=LEAST_CHARACTERS)
    if len(plain) > MOST_CHARACTERS:
        raise InputError("password_long", most=MOST_CHARACTERS)
    if name and (name in plain or plain in name):
        raise InputError("password_name")
    stem = _AROUND.sub("", plain).translate(_LOOKALIKES)
    if len(set(plain)) < _FEWEST_DIFFERENT or stem in _KNOWN_STEMS or _repeats(plain):
        raise InputError("password_known")
    if any(plain in run or plain in run[::-1] for run in _RUNS):
        raise InputError("password_known")


def _repeats(plain: str) -> bool:
    """One word again and again."""
    whole = range(1, len(plain) // 2 + 1)
    return any(plain == (plain[:size] * len(plain))[: len(plain)] for size in whole)


def _normal(password: str) -> str:
    # The same password typed on two keyboards may be composed differently (RFC 8265 uses NFC).
    return unicodedata.normalize("NFC", password)


def _bytes(password: str) -> bytes:
    # What JSON can hold but UTF-8 cannot is a wrong password, not a failure.
    return _normal(password).encode("utf-8", "surrogatepass")


_nobodys_hash: str | None = None
_nobodys_lock: Final = threading.Lock()


def _nobody() -> str:
    """A hash with today's parameters that belongs to no one."""
    global _nobodys_hash
    with _nobodys_lock:
        if _nobodys_hash is None:
            _nobodys_hash = _HASHER.hash("nobody has this one")
        return _nobodys_hash
