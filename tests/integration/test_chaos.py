"""The short form of `make chaos`: ten studies, six faults, and the same verdict by set equality."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = (
    "orthanc_kill",
    "redis_kill",
    "front_kill",
    "horse_kill",
    "worker_kill",
    "disk_full_orthanc",
    "dicom_cut",
    "http_cut",
)


def test_six_faults_lose_change_and_double_nothing_of_ten_studies():
    command = [sys.executable, "-m", "tests.chaos", "--studies", "10", "--kills", "6"]
    command += ["--seed", "11", "--minutes", "3", "--faults", ",".join(FAULTS)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False
    )
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["passed"], done.stdout[-4000:] + done.stderr[-2000:]
    assert verdict["kills"] == 6
    assert verdict["stored"] == verdict["sent"] == verdict["acknowledged"]
    assert verdict["violations"] == {}
    assert done.returncode == 0
