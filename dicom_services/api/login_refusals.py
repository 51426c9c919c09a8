"""Which refused logins get a row of the audit: every one of a person, few of a flood."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

_MINUTE_S: Final = 60.0
MOST_A_MINUTE: Final = 30
"""Of one way to log in and one code; more come from no people."""
_MOST_BY_CODE: Final = {"too_many_tries": 1}
_Kind = tuple[str, str]


class LoginRefusals:
    """Counts them; those without a row are told in the next row of their kind."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0.0
        self._noted: Counter[_Kind] = Counter()
        self._unnoted: Counter[_Kind] = Counter()

    def unnoted(self, how: str, code: str) -> int | None:
        """None where this one gets no row; else how many had none before it."""
        kind = (how, code)
        with self._lock:
            minute = self._clock() // _MINUTE_S
            if minute != self._minute:
                self._minute = minute
                self._noted.clear()
            if self._noted[kind] >= _MOST_BY_CODE.get(code, MOST_A_MINUTE):
                self._unnoted[kind] += 1
                return None
            self._noted[kind] += 1
            return self._unnoted.pop(kind, 0)

    def put_back(self, how: str, code: str, count: int) -> None:
        """The row could not be written: the next one tells of these as well."""
        with self._lock:
            self._unnoted[how, code] += count
