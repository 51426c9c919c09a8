"""Writes the bill of materials: every Python package of this environment and every Debian package.

    python .ci/sbom.py [out/sbom.json]

CycloneDX 1.6, JSON. The Debian packages are those of `.ci/system-packages` with all that they
depend on, because that is where DCMTK, Orthanc and Redis are. Equal environments give equal files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
FIELDS = "${Package}\t${Version}\t${Architecture}\t${Provides}\t${Pre-Depends}, ${Depends}\n"


@dataclass(frozen=True)
class Package:
    """One installed Debian package."""

    name: str
    version: str
    architecture: str
    needs: tuple[tuple[str, ...], ...]
    """Each a choice of names, the first installed one counts."""

    @property
    def purl(self) -> str:
        """The package URL, which scanners look up."""
        version = quote(self.version, safe="")
        return f"pkg:deb/debian/{quote(self.name)}@{version}?arch={self.architecture}"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def names_in(field: str) -> tuple[str, ...]:
    """Names of a relation without versions and architectures."""
    return tuple(re.sub(r"[\s(:\[].*", "", one.strip()) for one in field.split("|"))


def installed() -> dict[str, Package]:
    """Every installed Debian package, by its name and by the names it provides."""
    found: dict[str, Package] = {}
    virtual: dict[str, Package] = {}
    for line in run("dpkg-query", "-W", "-f", "${db:Status-Status} " + FIELDS).splitlines():
        state, _, rest = line.partition(" ")
        if state != "installed":
            continue
        name, version, architecture, provides, needs = rest.split("\t")
        relations = tuple(names_in(one) for one in needs.split(",") if one.strip())
        found[name] = Package(name, version, architecture, relations)
        virtual.update({names_in(one)[0]: found[name] for one in provides.split(",") if one})
    return virtual | found


def closure(wanted: list[str], known: dict[str, Package]) -> list[Package]:
    """The named packages and everything they need, as far as it is installed."""
    todo, reached = list(wanted), dict[str, Package]()
    while todo:
        package = known.get(todo.pop())
        if package is None or package.name in reached:
            continue
        reached[package.name] = package
        for choice in package.needs:
            todo += [name for name in choice if name in known][:1]
    return [reached[name] for name in sorted(reached)]


def debian() -> list[dict[str, str]]:
    """Components of `.ci/system-packages`; none where dpkg is not what installs packages."""
    script = (ROOT / ".ci/system-packages").read_text()
    listed = re.search(r"^packages=\((.*?)\)", script, re.M | re.S)
    wanted = listed.group(1).split() if listed else []
    return [
        {
            "type": "library",
            "bom-ref": package.purl,
            "name": package.name,
            "version": package.version,
            "purl": package.purl,
        }
        for package in closure(wanted, installed())
    ]


def python() -> dict[str, Any]:
    """What cyclonedx-py says about this environment."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += ["--sv", "1.6", "--of", "JSON", "--pyproject", str(ROOT / "pyproject.toml")]
    return dict(json.loads(run(*command, sys.executable)))


def without_places(part: dict[str, Any]) -> dict[str, Any]:
    """The same without the folder it was installed from, which is nobody else's business."""
    references = part.get("externalReferences", [])
    kept = [one for one in references if not one.get("url", "").startswith("file:")]
    return part | {"externalReferences": kept} if references else part


def main(arguments: list[str]) -> None:
    target = Path(arguments[0]) if arguments else ROOT / "out" / "sbom.json"
    bill = python()
    bill["components"] = [without_places(one) for one in bill["components"]] + debian()
    about = bill["metadata"]
    about["component"] = without_places(about["component"])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    print(f"{target}: {len(bill['components'])} components")


if __name__ == "__main__":
    main(sys.argv[1:])
