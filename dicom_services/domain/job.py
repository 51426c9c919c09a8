"""The message between the router and the node: which instances, which pipeline, which run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dicom_services.errors import CorruptError

VERSION: Final = 1
_ORTHANC_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}\Z")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]{0,40}\Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one pipeline on one series, as `tests/wire/job.json` pins it.

    Parameters
    ----------
    id : str
        40 hex digits: digest of rule, pipeline, settings, versions, instances and run.
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
            and type(self.count) is int
            and 0 < self.count <= 1_000_000
            and type(self.run) is int
            and 0 <= self.run <= 1_000_000
            and isinstance(self.settings, dict)
            and all(
                isinstance(name, str) and isinstance(value, (int, float, str, bool))
                for name, value in self.settings.items()
            )
        )
        if not sound:
            raise CorruptError("job_message")

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Job:
        """Read a message; anything that is not exactly one raises `CorruptError("job_message")`."""
        fields = dict(message) if isinstance(message, Mapping) else {}
        if fields.pop("version", None) != VERSION:
            raise CorruptError("job_message")
        try:
            return cls(**fields)
        except TypeError:
            raise CorruptError("job_message") from None
