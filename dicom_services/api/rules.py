"""The one table of who may ask for what: a path that does not stand in it does not exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from dicom_services.access.roles import Action

Scope = Literal["public", "page", "user", "study", "explorer"]
Body = Literal["none", "small", "document", "upload"]

# PS3.5 9.1: digits and dots, at most 64.
UID: Final = r"[0-9][0-9.]{0,63}"
_PLACES: Final = {
    "study": rf"(?P<study>{UID})",
    "series": UID,
    "instance": UID,
    "sop": UID,
    "frames": r"[0-9]{1,9}(?:,[0-9]{1,9}){0,255}",
    "job": r"[0-9a-f]{40}",
    "name": r"[A-Za-z0-9_-]{1,80}",
    "rest": r".+",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may do what with one method on one kind of path.

    Parameters
    ----------
    method, pattern : str
        `{study}` and the other places stand for one segment, `{rest}` for anything.
    action : Action
        What the caller's role must allow; nobody is asked where the scope is public or page.
    scope : Scope
        "public": anybody. "page": anybody, but a browser without a session is shown the login.
        "user": whoever is logged in. "study": the caller must be allowed to see the study's
        patient. "explorer": Orthanc's own pages, past this table's studies.
    audit : str
        Name of the entry in the audit; "" for none. Reads leave one entry a user, study, action
        and minute, writes one each.
    body : Body
        How large a body may be.
    """

    method: str
    pattern: str
    action: Action = "session"
    scope: Scope = "user"
    audit: str = ""
    body: Body = "none"

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method not in ("GET", "HEAD")


def _study(method: str, below: str, action: Action, audit: str, body: Body = "none") -> Rule:
    return Rule(method, "/api/studies/{study}" + below, action, "study", audit, body)


def _image(below: str) -> Rule:
    return Rule("GET", "/dicom-web/studies/{study}" + below, "view", "study", "images")


_SERIES: Final = "/series/{series}"
_INSTANCE: Final = "/series/{series}/instances/{instance}"

RULES: Final = (
    # Sessions.
    Rule("GET", "/api/health", scope="public"),
    Rule("POST", "/api/login", scope="public", body="small"),
    Rule("POST", "/api/token", scope="public", body="small"),
    Rule("POST", "/api/logout", body="small"),
    Rule("GET", "/api/session"),
    Rule("GET", "/api/session/outbox-key"),
    Rule("GET", "/api/openapi.json"),
    # Results and what readers say of them.
    Rule("GET", "/api/states", "view", "user", "list"),
    _study("GET", "/results", "view", "results"),
    _study("GET", "/events", "view", "results"),
    _study("POST", "/series/{series}/rerun", "rerun", "rerun", "small"),
    _study("GET", "/reports/{sop}", "view", "results"),
    _study("GET", "/corrections", "view", "corrections"),
    _study("POST", "/corrections", "correct", "correct", "document"),
    _study("GET", "/results/{job}/report.pdf", "report", "report"),
    # Images: DICOMweb, PS3.18 tables 10.3-1 (stored instances) and 10.6.1-2 (searches).
    Rule("GET", "/dicom-web/studies", "view", "user", "list"),
    Rule("GET", "/dicom-web/series", "view", "user", "list"),
    Rule("GET", "/dicom-web/instances", "view", "user", "list"),
    Rule("POST", "/dicom-web/studies", "store", "user", "store", "upload"),
    # The study may be new: what it may hold already is judged where the body is read.
    Rule("POST", "/dicom-web/studies/{study}", "store", "user", "store", "upload"),
    _image(""),
    _image("/metadata"),
    _image("/series"),
    _image("/instances"),
    _image(_SERIES),
    _image(_SERIES + "/metadata"),
    _image(_SERIES + "/instances"),
    _image(_SERIES + "/rendered"),
    _image(_SERIES + "/thumbnail"),
    _image(_INSTANCE),
    _image(_INSTANCE + "/metadata"),
    _image(_INSTANCE + "/rendered"),
    _image(_INSTANCE + "/thumbnail"),
    _image(_INSTANCE + "/frames/{frames}"),
    _image(_INSTANCE + "/frames/{frames}/rendered"),
    _image(_INSTANCE + "/frames/{frames}/thumbnail"),
    _image(_INSTANCE + "/bulk/{rest}"),
    # Orthanc's own pages.
    Rule("GET", "/explorer", "explorer", "explorer"),
    Rule("GET", "/explorer/{rest}", "explorer", "explorer", "explorer"),
    Rule("POST", "/explorer/{rest}", "explorer", "explorer", "explorer-write", "upload"),
    Rule("PUT", "/explorer/{rest}", "explorer", "explorer", "explorer-write", "document"),
    Rule("DELETE", "/explorer/{rest}", "explorer", "explorer", "explorer-write", "small"),
    # Pages and the viewer's files; they name no patient.
    Rule("GET", "/login", scope="public"),
    Rule("GET", "/login/{name}.css", scope="public"),
    Rule("GET", "/login/{name}.js", scope="public"),
)
_VIEWER: Final = Rule("GET", "/{rest}", scope="page")
# Below these nothing is the viewer's, so that an unknown path is unknown there.
ROOMS: Final = ("/api", "/dicom-web", "/explorer", "/login")
_PLAIN: Final = re.compile(r"/[A-Za-z0-9_.~!$&'()*+,;=:@|^ /-]*\Z")


def _compiled(pattern: str) -> re.Pattern[str]:
    places = re.split(r"\{([a-z]+)\}", pattern)
    literal = (re.escape(text) for text in places[::2])
    named = [*(_PLACES[name] for name in places[1::2]), ""]
    return re.compile("".join(a + b for a, b in zip(literal, named, strict=True)) + r"\Z")


_TABLE: Final = tuple((rule, _compiled(rule.pattern)) for rule in RULES)
# Most paths could be one of very few rules: those with as many segments, and those of any length.
_BY_SEGMENTS: Final = {
    count: tuple(
        one for one in _TABLE if one[0].pattern.count("/") == count or "{rest}" in one[0].pattern
    )
    for count in range(16)
}


@dataclass(frozen=True, slots=True)
class Match:
    """What the table says of a request: `methods` where the path is known, `rule` if allowed."""

    rule: Rule | None
    study: str
    methods: tuple[str, ...]


def room_of(path: str) -> str:
    """Which of ROOMS a path lies in; "" for the viewer's."""
    for room in ROOMS:
        if path == room or path.startswith(room + "/"):
            return room
    return ""


def match(method: str, path: str) -> Match:
    """The rule of a request; a path that could mean two things to two readers has none."""
    if not _PLAIN.match(path) or "//" in path or "/." in path:
        return Match(None, "", ())
    if not room_of(path):
        return Match(_VIEWER if method == "GET" else None, "", ("GET",))
    if path.endswith("/") and not path.startswith("/explorer/"):
        path = path[:-1]
    methods = []
    for rule, pattern in _BY_SEGMENTS.get(path.count("/"), _TABLE):
        found = pattern.match(path)
        if found:
            if rule.method == method:
                return Match(rule, found.groupdict().get("study", ""), (method,))
            methods.append(rule.method)
    return Match(None, "", tuple(methods))
