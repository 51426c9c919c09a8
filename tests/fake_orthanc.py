"""A small stand-in for the `orthanc` module that Orthanc's interpreter offers its plugins."""

from __future__ import annotations

import json
import re
import sys
import types
import uuid
from pathlib import Path
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
        self.study_metadata: dict[str, dict[str, str]] = {}
        self.bodies: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self.read: list[str] = []
        self.storage: Path | None = None
        self.changes: list[dict[str, Any]] = []
        self.properties: dict[int, str] = {}
        self.log: list[str] = []
        self.broken = False

    def receive(
        self,
        study: str,
        series: str,
        count: int = 1,
        aet: str = "CT1",
        *,
        origin: str = "DicomProtocol",
        body: bytes = b"",
        **facts: Any,
    ) -> None:
        """`count` more instances of a series arrive, each with that body."""
        entry = self.series.setdefault(
            series, {"study": study, "instances": [], "ever": 0, "facts": facts}
        )
        self.metadata.setdefault(series, {"RemoteAET": aet})
        for _ in range(count):
            instance = f"{series}-{entry['ever']}"
            entry["ever"] += 1
            entry["instances"].append(instance)
            self.origins[instance] = origin
            self.bodies[instance] = self._keep(body)
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
        match = re.fullmatch(r"/(series|studies)/([^/]+)/metadata/([^/]+)", path)
        if match is not None and match[1] == "studies":
            self.study_metadata.setdefault(match[2], {})[match[3]] = body.decode()
        elif match is not None and match[2] in self.series:
            self.metadata[match[2]][match[3]] = body.decode()
        else:
            raise OrthancException(17, "Unknown resource")
        return b""

    def RestApiDelete(self, path: str) -> None:  # noqa: N802
        self._ask()
        match = re.fullmatch(r"/instances/((.+)-\d+)", path)
        if match is None or match[1] not in self.bodies:
            raise OrthancException(17, "Unknown resource")
        del self.bodies[match[1]]
        self.series[match[2]]["instances"].remove(match[1])
        if not self.series[match[2]]["instances"]:
            del self.series[match[2]]

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
        if match := re.fullmatch(r"/studies/([^/]+)/metadata\?expand", path):
            return self.study_metadata.get(match[1], {})
        if match := re.fullmatch(r"/instances\?expand&since=(\d+)&limit=(\d+)", path):
            since, limit = int(match[1]), int(match[2])
            return [self._described(one) for one in sorted(self.bodies)[since : since + limit]]
        if match := re.fullmatch(r"/instances/([^/]+)/metadata\?expand", path):
            return {"Origin": self._of(match[1], self.origins)}
        if match := re.fullmatch(r"/instances/([^/]+)/simplified-tags", path):
            self.read.append(match[1])
            return self._of(match[1].rpartition("-")[0], self.series)["facts"]
        if match := re.fullmatch(r"/instances/([^/]+)", path):
            self._of(match[1], self.bodies)
            return self._described(match[1])
        raise OrthancException(17, "Unknown resource")

    def _described(self, instance: str) -> dict[str, Any]:
        return {
            "ID": instance,
            "FileUuid": self.bodies[instance],
            "MainDicomTags": {"SOPInstanceUID": f"1.2.{instance.rpartition('-')[2]}"},
            "ParentSeries": instance.rpartition("-")[0],
        }

    def _keep(self, body: bytes) -> str:
        name = str(uuid.uuid4())
        if self.storage is not None:
            place = self.storage / name[:2] / name[2:4] / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(body)
        return name

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
