"""The short form of `make chaos`: ten studies, six faults, and the same verdict by set equality."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.chaos.corpus import ChaosStudy, make_corpus
from tests.chaos.judge import Verdict, judge
from tests.chaos.modality import Account, Modality
from tests.integration.conftest import SENDER, Stack
from tests.pacs import ended, jobs, view_of

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


@pytest.fixture(scope="module")
def sent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[ChaosStudy, set[str]]:
    """One study that went through undisturbed, and what was acknowledged of it."""
    (study,) = make_corpus(tmp_path_factory.mktemp("corpus"), 1, seed=5)
    account = Account()
    sender = Modality(SENDER, "RADLOOP", stack.dicom_port, account, threading.Event())
    assert sender.send(study, random.Random(5))
    ended(stack.orthanc, study.uid)
    return study, account.acknowledged


def verdict_of(stack: Stack, sent: tuple[ChaosStudy, set[str]]) -> dict[str, list[str]]:
    verdict = Verdict()
    judge(stack.orthanc, [sent[0]], sent[1], verdict)
    return verdict.violations


def test_the_judge_finds_nothing_where_nothing_was_done(stack, sent):
    assert verdict_of(stack, sent) == {}


def test_the_judge_sees_what_was_lost_and_what_was_added(stack, sent, tmp_path):
    study, _ = sent
    (stranger,) = make_corpus(tmp_path, 1, seed=6)
    told = stack.orthanc
    series = view_of(told, study.uid)["series"]
    report = next(
        r["series"] for r in jobs({"series": series})[0]["results"] if r["modality"] == "SR"
    )
    told.delete("series", report)
    told.delete("instances", told.find("instances", {"SOPInstanceUID": study.images[3].sop})[0])
    told.stow([stranger.images[0].path.read_bytes()])
    found = verdict_of(stack, sent)
    assert found["lost"] == [study.images[3].sop]
    assert found["stranger"] == [stranger.images[0].sop]
    assert len(found["result_series_missing"]) == 1
    assert len(found["result_named_but_missing"]) == 1
