"""What database and audit name a patient or study by: keyed digests, never the identifiers."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from dicom_services.errors import ConfigError

_LEAST_BYTES: Final = 32


class PatientKeys:
    """HMAC-SHA-256 under a secret of its own, so that nobody can try identifiers without it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _LEAST_BYTES:
            raise ConfigError("secret_short", name="patient_key")
        self._secret = secret

    def patient(self, patient_id: str) -> str:
        """32 hexadecimal digits; spaces at the ends are not significant (PS3.5, LO)."""
        return self._key("patient", patient_id.strip(" "))

    def study(self, study_uid: str) -> str:
        """32 hexadecimal digits; padding of a UID is not significant."""
        return self._key("study", study_uid.strip(" \0"))

    def _key(self, kind: str, text: str) -> str:
        named = f"radloop {kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, named, hashlib.sha256).hexdigest()[:32]
