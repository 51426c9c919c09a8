"""`python -m tests.hostile make|run|port`: the hostile corpus and the abuse of the DICOM port."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_services.data_folder import DataFolder
from dicom_services.stack import connect
from tests.hostile import port, runner
from tests.hostile.corpus import CLASSES, cases

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "environments" / "development.toml"
SHARED = Path(os.environ.get("RADLOOP_TEST_DATA", ROOT.parent / "shared" / "data"))


def main() -> int:
    """Parse, run, print one JSON line a part; 1 where something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the corpus into a folder")
    make.add_argument("out", type=Path)
    run = commands.add_parser("run", help="send the corpus through a stack of its own")
    run.add_argument("--routes", default="store,send,analyze")
    abuse = commands.add_parser("port", help="abuse the DICOM port of a stack of its own")
    abuse.add_argument("--associations", type=int, default=10_000)
    for one in (make, run):
        one.add_argument("--count", type=int, default=1500)
    for one in (make, run, abuse):
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--data", type=Path, help="folder of a running stack to use")
    told = parser.parse_args()
    if told.command == "make":
        return _make(told.out, told.seed, told.count)
    with _stack(told.data) as folder:
        if told.command == "port":
            documents = [port.abuse(folder, told.seed, told.associations).document()]
            print(json.dumps({"seed": told.seed, **documents[0]}), flush=True)
        else:
            documents = list(_run(folder, told.seed, told.count, told.routes.split(",")))
    return int(any(document["faults"] for document in documents))


def _make(out: Path, seed: int, count: int) -> int:
    for case in cases(seed, count, SHARED):
        folder = out / case.kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.number:04d}.dcm").write_bytes(case.file)
    print(json.dumps({"files": count, "classes": len(CLASSES), "seed": seed}))
    return 0


def _run(
    folder: DataFolder, seed: int, count: int, routes: list[str]
) -> Iterator[dict[str, object]]:
    def say(report: runner.Report) -> dict[str, object]:
        document = {"seed": seed, "classes": len(CLASSES), **report.document()}
        print(json.dumps(document), flush=True)
        return document

    if "analyze" in routes:
        # First, while this process has few threads and little memory to fork.
        yield say(runner.by_analyze(cases(seed, count, SHARED)))
    if "store" in routes:
        report, stored = runner.by_store(cases(seed, count, SHARED), folder)
        yield say(report)
        with connect(folder, folder.state(), timeout_s=120.0) as orthanc:
            yield say(runner.alive(folder, orthanc, stored))
    if "send" in routes:
        yield say(runner.by_send(cases(seed, count, SHARED), folder, PROFILE))


@contextmanager
def _stack(data: Path | None) -> Iterator[DataFolder]:
    """The stack in `data`, or one that lives as long as this."""
    if data is not None:
        yield DataFolder(data)
        return
    with tempfile.TemporaryDirectory(prefix="hostile-stack-") as home:
        folder = DataFolder(Path(home, "data"))
        environment = {
            **os.environ,
            "RADLOOP_DATA": str(folder.home),
            "RADLOOP_CONFIG": str(PROFILE),
        }

        def radloop(*words: str) -> None:
            command = [sys.executable, "-m", "dicom_services.cli", *words]
            subprocess.run(command, env=environment, check=True, stdout=sys.stderr)

        try:
            radloop("up")
            radloop("modality", "add", "RADLOOP", "127.0.0.1", "11112")
            yield folder
        finally:
            radloop("down")


if __name__ == "__main__":
    sys.exit(main())
