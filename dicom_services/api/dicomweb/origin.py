"""The address by which the client reached us: what URLs in answers begin with."""

from __future__ import annotations

import re
from typing import Final

from dicom_services.api.dicomweb.answers import Scope, header
from dicom_services.api.dicomweb.paths import PREFIX

_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")


def forwarded(scope: Scope) -> dict[str, str]:
    """The header by which Orthanc's plugin learns it; the guard has checked the host."""
    host = _host(scope)
    return {"Forwarded": f"host={host};proto={_scheme(scope)}"} if host else {}


def base_url(scope: Scope) -> str:
    """What RetrieveURL begins with."""
    return f"{_scheme(scope)}://{_host(scope) or 'localhost'}{PREFIX}"


def _host(scope: Scope) -> str:
    host = header(scope, b"host")
    return host if _HOST.match(host) else ""


def _scheme(scope: Scope) -> str:
    return "https" if scope.get("scheme") == "https" else "http"
