"""Unique identifiers that are derived, never drawn, so that storing twice is storing once."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from pydicom import Dataset

_LEGAL: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+\Z")
_READABLE: Final = re.compile(r"[0-9]+(\.[0-9]+)+\Z")


def derived_uid(*parts: str) -> str:
    """A UID under 2.25 (ISO/IEC 9834-8, PS3.5 B.2) from the SHA-256 of `parts`.

    The number is the digest's first 128 bits. The parts are joined by a character that none may
    hold, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def result_uid(job: str, version: str, role: str) -> str:
    """The UID of one part of a run's result, such as the role "seg" or "sr-series".

    Parameters
    ----------
    job : str
        Job id.
    version : str
        Version of the pipeline that computed it: a job that waited through an update may give
        another result, which then must not hide behind the earlier one's UID.
    role : str
    """
    return derived_uid("radloop result", job, version, role)


def device_uid(name: str, version: str, sha256: str) -> str:
    """The UID of an algorithm, new with every version and every retraining (IHE AIR 6.5.3.2)."""
    return derived_uid("radloop device", name, version, sha256)


def tracking_uid(header: Dataset, pipeline: str, key: str) -> str:
    """The UID under which the same thing is measured again at the next examination.

    Made of the patient (Issuer of Patient ID and Patient ID), the pipeline and the key, so that
    a patient's total score carries one UID through all examinations at one institution. Where
    the source names no patient it is made of the Study Instance UID and ends with the study.

    Two limits. It is a digest without a secret: whoever knows the Patient ID and the key can
    compute it, so it is no pseudonym and an export for research must replace it, as it must
    replace every UID. And a single lesion has the same UID at follow-up only if the run is handed
    the lesion's earlier key; a key made of the lesion's place moves with the patient.
    """
    patient = _text(header, "PatientID")
    if patient:
        owner = ("patient", _text(header, "IssuerOfPatientID"), patient)
    else:
        owner = ("study", "", _text(header, "StudyInstanceUID"))
    return derived_uid("radloop tracking", *owner, pipeline, key)


def legal_uid(uid: str) -> bool:
    """Whether `uid` is formed as PS3.5 section 9.1 asks; what we write must be."""
    return len(uid) <= 64 and _LEGAL.match(uid) is not None


def usable_uid(uid: str) -> bool:
    """Whether `uid` can be referred to: as a legal one, but leading zeros are let pass.

    Anonymisers leave components such as 0113619; the archive that holds the image knows it by
    exactly this text, so a result has to repeat it.
    """
    return len(uid) <= 64 and _READABLE.match(uid) is not None


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()
