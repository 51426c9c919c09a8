"""What arrives, as the change log tells it: which series changed, and how far all is settled."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from orthanc_plugins import archive

REMEMBERED: Final = 100_000


class Page(NamedTuple):
    """A page of the change log: series with new instances and their first change, and so on.

    `instances` are the new ones by Orthanc id, `last` is the page's last change, `done` says that
    it was the last page.
    """

    series: dict[str, int]
    instances: list[str]
    last: int
    done: bool


def moment() -> str:
    """Now, as Orthanc dates its changes: in UTC, whatever the time zone of this machine."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())


class Arrivals:
    """Reads Orthanc's change log from the last settled change on.

    Nothing is registered on storage: a callback there would take Python's lock for every instance
    and slow the senders, and Orthanc forgets its stable-series events at every restart, while the
    change log stays.
    """

    def __init__(self, started_at: str) -> None:
        self._started_at = started_at
        self._parents: OrderedDict[str, str] = OrderedDict()
        self._saved = -1
        self.position = 0

    def begin(self) -> None:
        """Find where to go on: the saved change, else the first one since this start."""
        saved = archive.read_cursor()
        self.position = self._first_of_this_start() if saved is None else saved

    @property
    def settled(self) -> int:
        """The last change below which nothing is left to do, as it is saved."""
        return self._saved

    def next(self) -> Page:
        """The next page; nothing of its instances was read.

        The position moves only with `done_with`, so a page that could not be worked off is read
        again.
        """
        changes, last, done = archive.changes(self.position)
        page = Page({}, [], last, done)
        for change in changes:
            if change["ChangeType"] == "NewInstance":
                instance = str(change["ID"])
                series = self._series_of(instance)
                if series:
                    page.series.setdefault(series, int(change["Seq"]))
                    page.instances.append(instance)
        return page

    def done_with(self, last: int) -> None:
        """The page up to `last` was worked off."""
        self.position = last

    def save(self, oldest_undecided: int | None) -> None:
        """Keep the position, but never past a study that is not decided on yet."""
        settled = self.position
        if oldest_undecided is not None:
            settled = min(settled, oldest_undecided - 1)
        if settled != self._saved:
            archive.write_cursor(settled)
            self._saved = settled

    def is_behind(self) -> bool:
        """Whether Orthanc has changes that were not read yet."""
        answer = archive.get("/changes?last")
        return answer is not None and int(answer["Last"]) > self.position

    def _first_of_this_start(self) -> int:
        # First start on this archive: what was there before is not ours to analyse.
        position, done = 0, False
        while not done:
            page, last, done = archive.changes(position)
            for change in page:
                if change["Date"] >= self._started_at:
                    return position
                position = int(change["Seq"])
            position = max(position, last)
        return position

    def _series_of(self, instance: str) -> str:
        known = self._parents.get(instance)
        if known is not None:
            return known
        answer: dict[str, Any] | None = archive.get(f"/instances/{instance}")
        if answer is None:
            return ""
        series = str(answer["ParentSeries"])
        # One look at the series names all the instances that came with this one.
        described = archive.series(series)
        for sibling in described["Instances"] if described else [instance]:
            self._parents[sibling] = series
        while len(self._parents) > REMEMBERED:
            self._parents.popitem(last=False)
        return series
