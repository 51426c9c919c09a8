"""`radloop users` with a running stack: the patient of a study in the archive."""

from __future__ import annotations

import json

from pydicom import dcmread

from dicom_services.access.patients import PatientKeys
from dicom_services.cli_options import records_of
from dicom_services.store.records import secret_keys


def test_the_patient_of_a_study_in_the_archive_is_assigned(stack, tmp_path):
    stack.radloop("phantom", str(tmp_path / "phantom"))
    stack.send(tmp_path / "phantom")
    header = dcmread(next((tmp_path / "phantom").rglob("*.dcm")), stop_before_pixels=True)
    stack.radloop("users", "add", "bob", "--role", "doctor", "--code")
    stack.radloop("users", "assign", "bob", "--study", header.StudyInstanceUID)
    keys = PatientKeys(secret_keys(stack.folder.secret("patient_key"))[0])
    records = records_of(stack.folder)
    assert records.accounts.assigned("bob") == {keys.patient(header.PatientID)}
    records.close()
    for pattern in ("1.2.3", "*", "", f"{header.StudyInstanceUID}\\1.2.3", "?" * 20):
        told = stack.radloop("users", "assign", "bob", "--study", pattern, code=7)
        assert "study_unknown" in told
    (bob,) = json.loads(stack.radloop("users", "list", "--json"))
    assert bob["patients"] == 1
    shown = stack.radloop("audit", "show")
    assert header.PatientID not in shown
    assert header.StudyInstanceUID not in shown
    assert "whole" in stack.radloop("audit", "verify")
