"""Modalities that may send to us: who they are, from which address, and what they may do."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dicom_services.data_folder import write_private
from dicom_services.errors import ConfigError, CorruptError, MissingError

# PS3.5 table 6.2-1, AE: printable, no backslash, at most 16, spaces at the ends not significant.
_AET: Final = re.compile(
    r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?\Z"
)


@dataclass(frozen=True, slots=True)
class Modality:
    """A registered DICOM peer.

    Parameters
    ----------
    aet : str
        Its AE title; Orthanc refuses any other.
    address : str
        Its IP address; the front compares it with where an association comes from.
    port : int
        Where it listens, 1 to 65535; matters only when something is sent to it.
    query : bool
        Whether it may also find and retrieve; otherwise it may only echo and store.
    quiet_s : float or None
        Seconds of silence until a series from it counts as complete; None for the default.

    Raises
    ------
    ConfigError
        `modality_aet`, `modality_host`, `modality_port` or `modality_quiet`.
    """

    aet: str
    address: str
    port: int
    query: bool = False
    quiet_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.aet, str) or not _AET.match(self.aet):
            raise ConfigError("modality_aet")
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise ConfigError("modality_host") from None
        if type(self.port) is not int or not 1 <= self.port <= 65535:
            raise ConfigError("modality_port")
        if self.quiet_s is not None and not 0.0 < float(self.quiet_s) <= 86400.0:
            raise ConfigError("modality_quiet")

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def name(self) -> str:
        """Its name in Orthanc, which takes letters, digits and dashes only."""
        plain = re.sub(r"[^A-Za-z0-9-]", "-", self.aet)
        if plain == self.aet:
            return plain
        return f"{plain}-{hashlib.sha256(self.aet.encode()).hexdigest()[:6]}"

    def alias(self, stack: Path) -> tuple[str, int]:
        """Address and port that stand for it towards the Orthanc of that stack, both ways.

        Orthanc's DICOM port is open to the network; knowing its modalities by addresses of this
        machine only, it refuses whoever does not come through the front. Two stacks on a machine
        have different aliases for the same modality; the port is none that services use.
        """
        digest = hashlib.sha256(f"{stack}\0{self.aet}".encode()).digest()
        address = f"127.{1 + digest[0] % 254}.{digest[1]}.{1 + digest[2] % 254}"
        return address, 20_000 + int.from_bytes(digest[3:7], "big") % 10_000

    def for_orthanc(self, stack: Path) -> dict[str, Any]:
        """Its entry under DicomModalities: may store and echo, and no more than it needs."""
        host, port = self.alias(stack)
        return {
            "AET": self.aet,
            "Host": host,
            "Port": port,
            "AllowEcho": True,
            "AllowStore": True,
            "AllowFind": self.query,
            "AllowGet": self.query,
            "AllowMove": self.query,
            "AllowNAction": self.query,
            "AllowNEventReport": self.query,
        }


def resolve(host: str) -> str:
    """The address of a host, IPv4 first, for Orthanc listens there; `modality_host` if unknown."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ConfigError("modality_host") from None
    addresses = sorted((family != socket.AF_INET, str(name[0])) for family, _, _, _, name in found)
    if not addresses:
        raise ConfigError("modality_host")
    return addresses[0][1]


def read_modalities(path: Path) -> tuple[Modality, ...]:
    """All registered ones, by AE title; none where the file is not there yet."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    try:
        return tuple(Modality(**entry) for entry in json.loads(text))
    except (ValueError, TypeError, ConfigError):
        raise CorruptError("modalities_file") from None


def write_modalities(path: Path, modalities: Iterable[Modality]) -> None:
    """Keep them, by AE title."""
    entries = [asdict(modality) for modality in sorted(modalities, key=lambda one: one.aet)]
    write_private(path, json.dumps(entries, indent=2) + "\n")


def with_modality(known: Iterable[Modality], added: Modality) -> tuple[Modality, ...]:
    """`known` and `added`, which replaces an earlier entry of its AE title."""
    return (*(one for one in known if one.aet != added.aet), added)


def without_modality(known: Iterable[Modality], aet: str) -> tuple[Modality, ...]:
    """`known` without one; `modality_unknown` where it is not among them."""
    known = tuple(known)
    left = tuple(one for one in known if one.aet != aet)
    if len(left) == len(known):
        raise MissingError("modality_unknown")
    return left


def active(known: Iterable[Modality], *, dicom_listen: bool) -> tuple[Modality, ...]:
    """Those Orthanc is told of: all with `--dicom-listen`, else only those on this machine."""
    return tuple(one for one in known if dicom_listen or one.loopback)
