"""Orthanc's configuration: what is fixed, and why; what a site chooses comes from the settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from dicom_services.data_folder import DataFolder, State
from dicom_services.errors import ConfigError
from dicom_services.modalities import Modality, active
from dicom_services.orthanc import FINDINGS
from dicom_services.settings import OrthancSettings, read_secret

BINARY: Final = Path("/usr/sbin/Orthanc")
PLUGINS: Final = Path("/usr/share/orthanc/plugins")
NEEDED_PLUGINS: Final = ("libOrthancPython.so", "libOrthancDicomWeb.so")
# Decodes JPEG 2000 for previews; without it everything else works.
OPTIONAL_PLUGINS: Final = ("libOrthancGdcm.so",)
ADMIN: Final = "admin"
SERVICE: Final = "radloop"
METADATA: Final = {"radloop": 4001}
ATTACHMENTS: Final = {FINDINGS: 4002}


def orthanc_config(
    folder: DataFolder,
    state: State,
    settings: OrthancSettings,
    modalities: Iterable[Modality],
) -> dict[str, Any]:
    """The whole of orthanc.json.

    Raises
    ------
    ConfigError
        `orthanc_plugins_missing` when a shared library that we need is not installed.
    """
    libraries = [PLUGINS / name for name in (*NEEDED_PLUGINS, *OPTIONAL_PLUGINS)]
    if not all((PLUGINS / name).exists() for name in NEEDED_PLUGINS):
        raise ConfigError("orthanc_plugins_missing")
    return {
        "Name": "radloop",
        "StorageDirectory": str(folder.home / "orthanc"),
        "IndexDirectory": str(folder.home / "orthanc"),
        "TemporaryDirectory": str(folder.home / "scratch"),
        "Plugins": [str(path) for path in libraries if path.exists()],
        "PythonScript": str(folder.plugin_path / "orthanc_plugins" / "plugin.py"),
        "PythonVerbose": False,
        **_access(folder, state),
        **_dicom(folder, state, settings, modalities),
        **_storage(),
        "UserMetadata": dict(METADATA),
        "UserContentType": dict(ATTACHMENTS),
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": True,
            "WadoRoot": "/wado",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
        # Unrestricted, this plugin brings Orthanc down on JPEG-LS and RLE.
        "Gdcm": {
            "Enable": True,
            "RestrictTransferSyntaxes": ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"],
        },
    }


def _access(folder: DataFolder, state: State) -> dict[str, Any]:
    """HTTP: this machine only, and only with a password; nothing that runs code or writes files."""
    return {
        "HttpPort": state.http_port,
        "RemoteAccessAllowed": False,
        # Without this line registered users mean nothing while remote access is off.
        "AuthenticationEnabled": True,
        "RegisteredUsers": {
            ADMIN: read_secret(folder.secret("orthanc_admin")),
            SERVICE: read_secret(folder.secret("orthanc_service")),
        },
        "ExecuteLuaEnabled": False,
        "RestApiWriteToFileSystemEnabled": False,
        "WebDavEnabled": False,
        # An error's details may repeat what a file said.
        "HttpDescribeErrors": False,
        # 48 ms of processor an instance for nothing: pixels hardly shrink on loopback.
        "HttpCompressionEnabled": False,
        # Empty would mean the configuration's own folder.
        "HttpsCACertificates": "/etc/ssl/certs/ca-certificates.crt",
    }


def _dicom(
    folder: DataFolder, state: State, settings: OrthancSettings, modalities: Iterable[Modality]
) -> dict[str, Any]:
    """DICOM: registered modalities only, and only through the front, by their aliases."""
    told = active(modalities, dicom_listen=state.dicom_listen)
    return {
        "DicomAet": settings.aet,
        # Behind the front, which alone knows its modalities by their own address.
        "DicomPort": state.orthanc_dicom_port,
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "StrictAetComparison": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowFindWorklist": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": False,
        "DicomModalities": {one.name: one.for_orthanc(folder.home) for one in told},
        "DicomModalitiesInDatabase": False,
        "OrthancPeersInDatabase": False,
        # Four silent connections must not block the fifth.
        "DicomScpTimeout": 10,
        "DicomThreadsCount": settings.dicom_threads,
        "MaximumPduLength": 131072,
        # SEG of the label map kind is younger than this Orthanc; a registered peer may send it.
        "UnknownSopClassAccepted": True,
        # Bounds of one query; also of REST searches, hence above what a series can hold.
        "LimitFindResults": 10000,
        "LimitFindInstances": 100000,
    }


def _storage() -> dict[str, Any]:
    """Storage: nothing is overwritten, recycled or acknowledged before it is on the disk."""
    return {
        "OverwriteInstances": False,
        # A limit would delete the oldest patients; doctor watches the disk instead.
        "MaximumStorageSize": 0,
        "MaximumPatientCount": 0,
        "StorageCompression": False,
        # Acknowledged is on disk; the disk was not what limits receiving.
        "SyncStorageArea": True,
        "StoreMD5ForAttachments": True,
        "DefaultEncoding": "Utf8",
        # Not used: our plugin decides when a series is complete, Orthanc forgets at a restart.
        "StableAge": 60,
    }
