"""`python -m tests.fuzz TARGET --minutes M`: coverage-guided where atheris is there, else blind."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

FINDS: Final = Path(__file__).parent / "finds"
MOST_S: Final = 1.0
MOST_MB: Final = 512
"""Beyond what the interpreter and its libraries have before the first input."""
_INSTRUMENTED: Final = ("dicom_services", "ai_nodes", "orthanc_plugins")


def main() -> int:
    """Parse; each target in a process of its own, so that its end is a find and not ours."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.child:
        return _child(told.target, told.minutes * 60.0, told.seed, told.corpus)
    from tests.fuzz.targets import TARGETS

    names = list(TARGETS) if told.all else [told.target]
    if any(name not in TARGETS for name in names):
        parser.error("TARGET is one of " + ", ".join(TARGETS))
    return int(sum(_fuzz(name, told.minutes, told.seed) for name in names) > 0)


def _fuzz(name: str, minutes: float, seed: int) -> int:
    """Run one target; how many finds, told as a JSON line."""
    folder = FINDS / name
    before = set(folder.glob("*")) if folder.is_dir() else set()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus:
        words = [sys.executable, "-m", "tests.fuzz", name, "--child", "--minutes", str(minutes)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [*words, "--seed", str(seed), "--corpus", corpus],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        units = sum(1 for _ in Path(corpus).iterdir())
    said = done.stdout.decode("utf-8", "replace")
    new = sorted(set(folder.glob("*")) - before) if folder.is_dir() else []
    for find in new:
        sys.stderr.write(f"{find}\n")
    if new or done.returncode:
        sys.stderr.write(said[-3000:] + "\n")
    runs = [line.split()[1] for line in said.splitlines() if line.startswith("Done ")]
    document = {
        "target": name,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "runs": int(runs[-1]) if runs else None,
        "corpus": units,
        "finds": len(new),
        "exit": done.returncode,
    }
    print(json.dumps(document), flush=True)
    return len(new) or done.returncode


def _child(name: str, seconds: float, seed: int, corpus: Path) -> int:
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None:
        from tests.fuzz.targets import TARGETS, run

        _write_seeds(TARGETS[name].seeds(), corpus)
        return _blind(name, run, TARGETS[name].seeds(), seconds, seed)
    with atheris.instrument_imports(include=list(_INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS, run
    _write_seeds(TARGETS[name].seeds(), corpus)
    folder = FINDS / name
    folder.mkdir(parents=True, exist_ok=True)
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    words = [
        sys.argv[0],
        f"-max_total_time={int(seconds)}",
        f"-timeout={int(MOST_S)}",
        f"-rss_limit_mb={own_mb + MOST_MB}",
        f"-artifact_prefix={folder}/",
        f"-seed={seed}",
        "-max_len=20000",
        "-print_final_stats=0",
        str(corpus),
    ]

    def one(data: bytes) -> None:
        try:
            run(name, data)
        except BaseException:
            # libFuzzer's own timer may end the process before it has written the input.
            _keep(name, data, "crash")
            raise

    atheris.Setup(words, one)
    atheris.Fuzz()
    return 0


def _write_seeds(seeds: list[bytes], corpus: Path) -> None:
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for data in seeds:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _blind(name: str, run: object, seeds: list[bytes], seconds: float, seed: int) -> int:
    """Mutation without coverage, for machines without atheris."""
    generator, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = bytearray(generator.choice(seeds))
        for _ in range(generator.randrange(1, 9)):
            at = generator.randrange(len(data) + 1)
            piece = generator.choice((generator.randbytes(4), b"\xff\xff\xff\xff", bytes(4), b""))
            data[at : at + generator.choice((0, 1, 4))] = piece
        count += 1
        start = time.process_time()
        try:
            run(name, bytes(data))  # type: ignore[operator]
            if time.process_time() - start > MOST_S:
                _keep(name, bytes(data), "timeout")
        except BaseException as error:  # noqa: BLE001 - each is a find
            _keep(name, bytes(data), "crash")
            sys.stderr.write(f"{type(error).__name__}\n")
    print(f"Done {count} runs")
    return 0


def _keep(name: str, data: bytes, kind: str) -> None:
    folder = FINDS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}-{hashlib.sha1(data).hexdigest()}").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
