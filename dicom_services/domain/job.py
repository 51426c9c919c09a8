"""The message between the router and the node: which instances, which pipeline, after whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dicom_services.errors import CorruptError

VERSION: Final = 2
BEFORE: Final = 1
"""The version before: without `others` and `after`; may lie in a queue during an update."""
MOST_OTHERS: Final = 256
MOST_AFTER: Final = 256
_ORTHANC_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}\Z")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]{0,40}\Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class Part:
    """A further series of the input: Orthanc id, digest and number of its instances.

    Raises
    ------
    CorruptError
        `job_message` when a field is not of its form.
    """

    series: str
    instances: str
    count: int

    def __post_init__(self) -> None:
        sound = (
            isinstance(self.series, str)
            and isinstance(self.instances, str)
            and _ORTHANC_ID.match(self.series)
            and _DIGEST.match(self.instances)
            and _is_count(self.count)
        )
        if not sound:
            raise CorruptError("job_message")


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one pipeline on one series, or on several, as `tests/wire/job.json` pins it.

    Parameters
    ----------
    id : str
        40 hex digits: digest of rule, pipeline, settings, versions, instances, run and `after`.
    rule, pipeline, queue : str
    study, series : str
        Orthanc identifiers; no DICOM UID and no tag travels through the queue.
    instances : str
        40 hex digits: digest of the sorted Orthanc instance ids the decision was made on.
    count : int
        Number of those instances.
    run : int
        Raised only by a person's "Run again".
    supersedes : str
        Job id of the earlier run whose results this one replaces; "" when there is none.
    supersedes_version : str
        Version of the pipeline in that run: its results are named by it.
    settings : dict
        The rule's settings for the pipeline, plain JSON.
    others : tuple of Part
        Further series of the study that belong to the input.
    after : tuple of str
        Ids of the jobs that have to end first.

    Raises
    ------
    CorruptError
        `job_message` when a field is missing, unknown or not of its form.
    """

    id: str
    rule: str
    pipeline: str
    queue: str
    study: str
    series: str
    instances: str
    count: int
    run: int = 0
    supersedes: str = ""
    supersedes_version: str = ""
    settings: dict[str, float | int | str | bool] = field(default_factory=dict)
    others: tuple[Part, ...] = ()
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sound = (
            all(
                isinstance(text, str)
                for text in (self.id, self.rule, self.pipeline, self.queue, self.study, self.series)
            )
            and isinstance(self.instances, str)
            and isinstance(self.supersedes, str)
            and isinstance(self.supersedes_version, str)
            and _VERSION.match(self.supersedes_version)
            and _DIGEST.match(self.id)
            and _DIGEST.match(self.instances)
            and (self.supersedes == "" or _DIGEST.match(self.supersedes))
            and all(_NAME.match(name) for name in (self.rule, self.pipeline, self.queue))
            and all(_ORTHANC_ID.match(name) for name in (self.study, self.series))
            and _is_count(self.count)
            and type(self.run) is int
            and 0 <= self.run <= 1_000_000
            and isinstance(self.settings, dict)
            and all(
                isinstance(name, str) and isinstance(value, (int, float, str, bool))
                for name, value in self.settings.items()
            )
            and len(self.others) <= MOST_OTHERS
            and len({self.series, *(part.series for part in self.others)}) == len(self.others) + 1
            and len(self.after) <= MOST_AFTER
            and all(isinstance(job, str) and _DIGEST.match(job) for job in self.after)
            and len({self.id, *self.after}) == len(self.after) + 1
        )
        if not sound:
            raise CorruptError("job_message")

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Job:
        """Read a message; anything that is not exactly one raises `CorruptError("job_message")`."""
        fields = dict(message) if isinstance(message, Mapping) else {}
        version = fields.pop("version", None)
        further = {name: fields.pop(name) for name in ("others", "after") if name in fields}
        expected = {VERSION: {"others", "after"}, BEFORE: set()}
        if type(version) is not int or further.keys() != expected.get(version):
            raise CorruptError("job_message")
        if not all(isinstance(value, list) for value in further.values()):
            raise CorruptError("job_message")
        try:
            parts = tuple(Part(**part) for part in further.get("others", []))
            return cls(**fields, others=parts, after=tuple(further.get("after", [])))
        except TypeError:
            raise CorruptError("job_message") from None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= 1_000_000
