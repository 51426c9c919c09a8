"""Seals what readers said and drew: AES-256-GCM, bound to its row, under keys that can change."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dicom_services.errors import ConfigError, CorruptError

_FORM: Final = b"\x01"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
# NIST SP 800-38D, 8.2.2: random 96-bit nonces are good for 2^32 messages under one key.
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = len(_FORM) + _KEY_ID_BYTES + _NONCE_BYTES


class Vault:
    """Seals with the first key, opens with any.

    Parameters
    ----------
    keys : sequence of 32 bytes
        Newest first; older ones stay as long as anything is sealed with them.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ConfigError("secret_short", name="vault_key")
        self._keys: Mapping[bytes, bytes] = MappingProxyType({_key_id(key): key for key in keys})
        self._seals = {known: AESGCM(_derived(key, b"seal")) for known, key in self._keys.items()}
        self._current = _key_id(keys[0])

    @property
    def key_id(self) -> str:
        """Of the key that seals now: eight hexadecimal digits."""
        return self._current.hex()

    def seal(self, purpose: str, row_id: str, plaintext: bytes) -> bytes:
        """`plaintext`, readable only for this purpose ("table.column") in this row."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound = _bound(purpose, row_id, self._current)
        sealed = self._seals[self._current].encrypt(nonce, plaintext, bound)
        return _FORM + self._current + nonce + sealed

    def open(self, purpose: str, row_id: str, sealed: bytes) -> bytes:
        """What was sealed.

        Raises
        ------
        CorruptError
            `sealed_altered`; `sealed_key_unknown` when its key is not among ours.
        """
        if len(sealed) < _HEAD_BYTES + _TAG_BYTES or sealed[:1] != _FORM:
            raise CorruptError("sealed_altered")
        key_id = sealed[1 : 1 + _KEY_ID_BYTES]
        if key_id not in self._seals:
            raise CorruptError("sealed_key_unknown")
        nonce = sealed[1 + _KEY_ID_BYTES : _HEAD_BYTES]
        bound = _bound(purpose, row_id, key_id)
        try:
            return self._seals[key_id].decrypt(nonce, sealed[_HEAD_BYTES:], bound)
        except InvalidTag:
            raise CorruptError("sealed_altered") from None

    def reader_key(self, user: UUID) -> bytes:
        """32 bytes for what a user's browser keeps; the same each time, and no other user's."""
        return self.reader_keys(user)[self.key_id]

    def reader_keys(self, user: UUID) -> dict[str, bytes]:
        """The same under each key, newest first: a browser may hold what an older one sealed."""
        return {
            known.hex(): _derived(key, b"reader", user.bytes) for known, key in self._keys.items()
        }


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"radloop vault key id\0" + key).digest()[:_KEY_ID_BYTES]


def _derived(key: bytes, use: bytes, whose: bytes = b"") -> bytes:
    expand = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"radloop vault\0" + use + b"\0" + whose)
    return expand.derive(key)


def _bound(purpose: str, row_id: str, key_id: bytes) -> bytes:
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    parts = (purpose.encode(), row_id.encode(), key_id)
    return _FORM + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
