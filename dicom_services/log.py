"""One line of JSON per event, from a closed list of fields: no patient ever reaches a log."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Final

FIELDS: Final = frozenset(
    {
        "code",
        "correlation",
        "count",
        "instances",
        "job",
        "megabytes",
        "millis",
        "pipeline",
        "port",
        "process",
        "queue",
        "rule",
        "run",
        "stage",
        "state",
        "status",
        "tries",
        "version",
    }
)
_LOGGER: Final = logging.getLogger("radloop")


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            # A third-party record may hold anything, so only its source is named.
            "event": record.msg if record.name == "radloop" else f"{record.name}:{record.lineno}",
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["at"] = place(record.exc_info[1])
        return json.dumps(line)


def place(error: BaseException | None) -> str:
    """File and line where `error` was raised; never its text."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"


def start(process: str) -> None:
    """Send this process's events to standard error, which the supervisor keeps."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(logging.INFO)
    event("process.started", process=process)


def event(
    name: str,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **fields: str | int | float | bool,
) -> None:
    """Log one event; a field that is not listed raises, so that it is added in review."""
    unknown = fields.keys() - FIELDS
    if unknown:
        raise ValueError("not a log field: " + ", ".join(sorted(unknown)))
    trace = (type(error), error, error.__traceback__) if error else None
    _LOGGER.log(level, name, extra={"fields": fields}, exc_info=trace)
