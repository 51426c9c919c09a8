"""A small stand-in for the `orthanc` module that Orthanc's interpreter offers its plugins."""

from __future__ import annotations

import json
import re
import sys
import types
from typing import Any


class OrthancException(Exception):
    """What the real module raises for everything."""


class FakeOrthanc(types.ModuleType):
    """Studies, series, metadata, changes and global properties, in memory."""

    OrthancException = OrthancException

    def __init__(self) -> None:
        super().__init__("orthanc")
        self.series: dict[str, dict[str, Any]] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.changes: list[dict[str, Any]] = []
        self.properties: dict[int, str] = {}
        self.log: list[str] = []
        self.broken = False

    def receive(
        self, study: str, series: str, count: int = 1, aet: str = "CT1", **facts: Any
    ) -> None:
        """`count` more instances of a series arrive."""
        entry = self.series.setdefault(series, {"study": study, "instances": [], "facts": facts})
        self.metadata.setdefault(series, {"RemoteAET": aet})
        for _ in range(count):
            instance = f"{series}-{len(entry['instances'])}"
            entry["instances"].append(instance)
            self.changes.append(
                {
                    "ChangeType": "NewInstance",
                    "ID": instance,
                    "Seq": len(self.changes) + 1,
                    "Date": "20260102T030405",
                }
            )

    def RestApiGet(self, path: str) -> bytes:  # noqa: N802 - its name in Orthanc
        self._ask()
        return json.dumps(self._answer(path)).encode()

    def RestApiPut(self, path: str, body: bytes) -> bytes:  # noqa: N802
        self._ask()
        match = re.fullmatch(r"/series/([^/]+)/metadata/([^/]+)", path)
        if match is None or match[1] not in self.series:
            raise OrthancException(17, "Unknown resource")
        self.metadata[match[1]][match[2]] = body.decode()
        return b""

    def GetGlobalProperty(self, number: int, default: str) -> str:  # noqa: N802
        return self.properties.get(number, default)

    def SetGlobalProperty(self, number: int, value: str) -> None:  # noqa: N802
        self.properties[number] = value

    def LogWarning(self, text: str) -> None:  # noqa: N802
        self.log.append(text)

    def _answer(self, path: str) -> Any:
        if match := re.fullmatch(r"/changes\?since=(\d+)&limit=(\d+)", path):
            since, limit = int(match[1]), int(match[2])
            page = self.changes[since : since + limit]
            last = since + len(page)
            return {"Changes": page, "Last": last, "Done": last == len(self.changes)}
        if path == "/changes?last":
            return {"Last": len(self.changes)}
        if path == "/series":
            return list(self.series)
        if match := re.fullmatch(r"/series/([^/]+)/metadata\?expand", path):
            return self._of(match[1], self.metadata)
        if match := re.fullmatch(r"/series/([^/]+)", path):
            entry = self._of(match[1], self.series)
            return {"Instances": entry["instances"], "ParentStudy": entry["study"]}
        if match := re.fullmatch(r"/studies/([^/]+)", path):
            found = [name for name, one in self.series.items() if one["study"] == match[1]]
            return {"Series": found}
        if match := re.fullmatch(r"/instances/([^/]+?)-(\d+)(/simplified-tags)?", path):
            entry = self._of(match[1], self.series)
            return entry["facts"] if match[3] else {"ParentSeries": match[1]}
        raise OrthancException(17, "Unknown resource")

    def _ask(self) -> None:
        if self.broken:
            raise OrthancException(-1, "Internal error")

    def _of(self, name: str, table: dict[str, Any]) -> Any:
        if name not in table:
            raise OrthancException(17, "Unknown resource")
        return table[name]


def install() -> FakeOrthanc:
    """Put a new one where `import orthanc` finds it."""
    fake = FakeOrthanc()
    sys.modules["orthanc"] = fake
    return fake
