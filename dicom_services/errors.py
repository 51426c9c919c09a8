"""The six errors, named by who can put them right; each has a stable code and PHI-free facts."""

from __future__ import annotations

import re

_CODE = re.compile(r"[a-z][a-z0-9_]{1,62}\Z")
Fact = int | float | str | bool


class RadloopError(Exception):
    """Base of the six; never raised itself.

    Parameters
    ----------
    code : str
        Stable, snake_case; once released it is never renamed.
    facts
        Numbers and words of ours; never text read from a dataset, a file name or another library.
    """

    exit_code: int = 1

    def __init__(self, code: str, **facts: Fact) -> None:
        if not _CODE.match(code):
            raise ValueError("an error code is snake_case")
        self.code = code
        self.facts = facts
        super().__init__(code)

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.code} {facts}".strip()


class InputError(RadloopError):
    """The study does not fit: the job ends refused and the reader sees the code."""

    exit_code = 3


class ConfigError(RadloopError):
    """A file under config/ or an option is wrong: the process does not start."""

    exit_code = 2


class UnavailableError(RadloopError):
    """Another service did not answer: the queue tries again."""

    exit_code = 4


class CorruptError(RadloopError):
    """A checksum, signature or key does not hold: stop and alert."""

    exit_code = 5


class AccessError(RadloopError):
    """The caller may not."""

    exit_code = 6


class MissingError(RadloopError):
    """The caller named nothing that is there."""

    exit_code = 7
