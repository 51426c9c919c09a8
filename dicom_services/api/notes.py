"""What the guard notes in the audit, before the first byte of an answer."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from dicom_services.access.principal import Principal
from dicom_services.api.rules import Rule
from dicom_services.store.audit import Audit

_MINUTE_S: Final = 60.0
_MOST: Final = 100_000


class Notes:
    """Writes for the guard; errors are the audit's own, and then nothing may be shown."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._seen: dict[tuple[object, ...], float] = {}

    async def granted(self, principal: Principal, rule: Rule, study_key: str, path: str) -> None:
        """Into the audit, durably: a read once a minute, a write each time."""
        audit = self._audit
        if rule.writes:
            await asyncio.to_thread(
                audit.write,
                principal,
                rule.audit,
                study_key=study_key,
                outcome="begun",
                facts={"method": rule.method, "kind": _kind(path)},
            )
        elif not audit.seen(principal, study_key, rule.audit):
            await asyncio.to_thread(audit.view, principal, study_key, rule.audit)

    async def refusal(self, principal: Principal, rule: Rule, study_key: str, why: str) -> None:
        """Tries at what is not theirs, once a minute each, so that trying floods nothing."""
        if self._first(principal.user, study_key, rule.action, "refused"):
            await asyncio.to_thread(
                self._audit.write,
                principal,
                rule.audit or rule.action,
                study_key=study_key,
                outcome="refused",
                facts={"why": why},
            )

    def _first(self, *key: object) -> bool:
        """Whether this did not happen before in the minute of the clock."""
        minute = time.time() // _MINUTE_S
        if self._seen.get(key) == minute:
            return False
        if len(self._seen) > _MOST:
            self._seen.clear()
        self._seen[key] = minute
        return True


def _kind(path: str) -> str:
    """What a path is about, without what it names."""
    kind = path.split("/")[2] if path.count("/") > 1 else ""
    return kind if kind.isalpha() and len(kind) <= 20 else ""
