"""The command line: exit codes, messages, and what it does not load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_services import remedies

ROOT = Path(__file__).resolve().parents[3]


def run(*words: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicom_services.cli", *words],
        env={
            **os.environ,
            "RADLOOP_DATA": str(tmp_path / "data"),
            "RADLOOP_CONFIG": "",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path):
    program = (
        "import sys; sys.argv = ['radloop', '--help']\n"
        "from dicom_services.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'pydantic', 'httpx', 'pynetdicom', 'pydicom', 'numpy', 'redis', 'ai_nodes'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = ("up", "down", "status", "doctor", "modality", "send", "jobs", "routes", "analyze")
    for name in (*names, "quarantine", "gate"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["status"], 4, "stack_absent\n  radloop up"),
        (["jobs"], 4, "stack_absent"),
        (["jobs", "show", "abcdef"], 4, "stack_absent"),
        (["modality", "add", "CT1", "10.0.0.1", "104"], 4, "stack_absent"),
        (["send", "/nowhere", "--port", "11112"], 3, "not_found"),
        (["routes", "explain", "/nowhere"], 3, "not_found"),
        (["gate", "/nowhere"], 3, "not_found"),
        (["gate"], 2, "Missing argument"),
        (["quarantine", "show", "20260101"], 7, "quarantine_unknown"),
        (["quarantine", "release", "20260101"], 7, "quarantine_unknown"),
        (["quarantine", "purge"], 2, "purge_what\n  name ids, or say --older-than DAYS or --all"),
        (["status", "--no-such-option"], 2, "No such option"),
        (["no-such-command"], 2, "No such command"),
        ([], 2, ""),
    ],
)
def test_expected_errors_end_with_their_code_and_no_traceback(tmp_path, words, code, message):
    done = run(*words, tmp_path=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_down_where_nothing_ever_ran_is_no_error(tmp_path):
    done = run("down", tmp_path=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing was running\n")


def test_wrong_setting_is_named_with_its_remedy(tmp_path):
    site = tmp_path / "site.toml"
    site.write_text("[queue]\nretires = 1\n")
    done = run("up", tmp_path=tmp_path, RADLOOP_CONFIG=str(site))
    assert done.returncode == 2
    assert "settings key=queue.retires" in done.stderr
    assert remedies.remedy("settings") in done.stderr
    assert not (tmp_path / "data").exists()


def test_command_of_an_absent_package_says_how_to_get_it(tmp_path):
    # A None in sys.modules is what an uninstalled package looks like to an import.
    program = (
        "import sys; sys.modules['ai_nodes.cli'] = None\n"
        "sys.argv = ['radloop', 'analyze', '--help']\n"
        "from dicom_services.cli import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "nodes_missing" in done.stderr
    assert "pip install 'radloop[nodes]'" in done.stderr


def test_routes_are_explained_clause_by_clause_without_the_patient(tmp_path, shared_data):
    source = shared_data / "chest-ct"
    done = run("routes", "explain", str(source), "--json", tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["modality"] for one in told["series"]] == ["CT", "CT"]
    for series in told["series"]:
        assert {"rule", "matched", "selected", "why", "clauses"} <= set(series["rules"][0])
    plain = run("routes", "explain", str(source), tmp_path=tmp_path).stdout
    assert "Modality is 'CT'" in plain
    assert "true" in plain


def test_every_remedy_is_one_line():
    assert all("\n" not in text and text for text in remedies._REMEDIES.values())
    assert remedies.remedy("no_such_code") == ""
