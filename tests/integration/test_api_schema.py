"""The API's own document, and thousands of generated requests: none of them ends in a 500."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from dicom_services.settings import read_settings
from dicom_services.stack import gateway_address
from tests import pacs
from tests.integration.conftest import Stack

PASSWORD = "a long and honest password 1"
CHECKS = (
    "not_a_server_error,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance"
)


@pytest.fixture(scope="module")
def token(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bearer token of a radiologist of all patients."""
    file = tmp_path_factory.mktemp("secret") / "password"
    file.write_text(PASSWORD)
    words = ("users", "add", "reader", "--role", "radiologist", "--all-patients")
    stack.radloop(*words, "--password-file", str(file))
    answer = httpx.post(
        f"{address(stack)}/api/token", json={"name": "reader", "password": PASSWORD}
    )
    return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def study(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A study with a result: what the paths of the API name."""
    folder = tmp_path_factory.mktemp("phantom")
    stack.radloop("phantom", str(folder))
    stack.send(folder)
    uid = pacs_study(folder)
    view = pacs.ended(stack.orthanc, uid)
    job = pacs.jobs(view)[0]
    series = stack.orthanc.get_json(f"/series/{job['series']}")["MainDicomTags"]
    report = next(one for one in job["results"] if one["modality"] == "SR")
    instance = stack.orthanc.instances_of(report["series"])[0]
    sop = stack.orthanc.get_json(f"/instances/{instance}")["MainDicomTags"]["SOPInstanceUID"]
    return {"study": uid, "series": series["SeriesInstanceUID"], "job": job["job"], "sop": sop}


def pacs_study(folder: Path) -> str:
    import pydicom

    first = next(path for path in sorted(folder.iterdir()) if path.suffix == ".dcm")
    return str(pydicom.dcmread(first, stop_before_pixels=True).StudyInstanceUID)


def address(stack: Stack) -> str:
    return gateway_address(read_settings(stack.profile), stack.state)


def test_every_operation_says_which_problems_it_answers_with(stack: Stack, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    told = httpx.get(f"{address(stack)}/api/openapi.json", headers=headers).json()
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            problem = operation["responses"]["4XX"]["content"]
            assert "application/problem+json" in problem, (method, path)
            assert operation.get("summary") or operation.get("description"), (method, path)


@pytest.mark.parametrize("real", [True, False], ids=["a study that is there", "made-up names"])
def test_generated_requests_never_end_in_a_server_error(
    stack: Stack, token: str, study: dict[str, str], tmp_path: Path, real: bool
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    document = httpx.get(f"{address(stack)}/api/openapi.json", headers=headers).json()
    del document["paths"]["/api/studies/{study}/events"]
    if real:
        named = json.dumps(document)
        for name, value in study.items():
            named = named.replace("{" + name + "}", value)
        document = json.loads(named)
        for methods in document["paths"].values():
            for operation in methods.values():
                kept = [one for one in operation.get("parameters", []) if one["in"] != "path"]
                operation["parameters"] = kept
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(document))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(schema)),
            *("--url", address(stack), "--checks", CHECKS, "--phases", "coverage,fuzzing"),
            *("--max-examples", "25", "--seed", "1", "--no-color", "--warnings", "off"),
            *("--suppress-health-check", "all", "--generation-database", "none"),
            *("-H", f"Authorization: Bearer {token}"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
