"""What a DICOMweb path names: the resource, and in which form it is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["studies", "series", "instances"]
Form = Literal["search", "objects", "metadata", "rendered", "frames", "bulk"]

PREFIX: Final = "/dicom-web"
_UID: Final = r"[0-9][0-9.]{0,63}"
_RESOURCE: Final = re.compile(
    rf"/studies/(?P<study>{_UID})"
    rf"(?:/series/(?P<series>{_UID})(?:/instances/(?P<instance>{_UID}))?)?"
    r"(?P<below>/[^?]*)?\Z"
)
_FRAMES: Final = re.compile(r"/frames/([0-9]{1,9}(?:,[0-9]{1,9}){0,255})(/rendered)?\Z")
# The plugin's own form: tags, and item numbers between them.
_BULK: Final = re.compile(r"/bulk(?:/[0-9A-Fa-f]{1,8}){1,32}\Z")


@dataclass(frozen=True, slots=True)
class Resource:
    """A study, series or instance, and what is asked of it.

    Parameters
    ----------
    form : Form
        "search" lists what `level` says, below the resource named by the UIDs.
    level : Level
        Of a search what it lists, else what the path names.
    path : str
        The same for Orthanc's plugin, without its root.
    """

    form: Form
    level: Level
    path: str
    study: str = ""
    series: str = ""
    instance: str = ""
    frames: int = 0


def resource_of(path: str) -> Resource | None:
    """What a path below `/dicom-web` names; None where DICOMweb or this archive has no such thing.

    Study-level `/rendered` is not there: this Orthanc refuses it.
    """
    path = path.removeprefix(PREFIX).rstrip("/")
    if path in ("/studies", "/series", "/instances"):
        return Resource("search", _level(path[1:]), path)
    found = _RESOURCE.match(path)
    if not found:
        return None
    study, series, instance = (found[name] or "" for name in ("study", "series", "instance"))
    below = found["below"] or ""
    level: Level = "instances" if instance else "series" if series else "studies"

    def resource(form: Form, listed: Level = level, frames: int = 0) -> Resource:
        return Resource(form, listed, path, study, series, instance, frames)

    if not below:
        return resource("objects")
    if below == "/metadata":
        return resource("metadata")
    if below == "/rendered" and series:
        return resource("rendered")
    if (below == "/series" and level == "studies") or (below == "/instances" and not instance):
        return resource("search", _level(below[1:]))
    if not instance:
        return None
    if frames := _FRAMES.match(below):
        return resource("rendered" if frames[2] else "frames", frames=frames[1].count(",") + 1)
    return resource("bulk") if _BULK.match(below) else None


def _level(word: str) -> Level:
    if word == "studies":
        return "studies"
    return "series" if word == "series" else "instances"
