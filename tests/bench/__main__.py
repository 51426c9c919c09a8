"""`python -m tests.bench [NAME ...]`: every benchmark, one after another, as JSON lines."""

from __future__ import annotations

import importlib
import sys

BENCHES = (
    "read",
    "dynamic",
    "write",
    "agatston",
    "inference",
    "fusion",
    "perfusion",
    "perfusion_study",
    "ingest",
    "loop",
    "memory",
    "load",
    "records",
    "gateway",
    "viewer",
    "opening",
)

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        importlib.import_module(f"tests.bench.{name}").main()
