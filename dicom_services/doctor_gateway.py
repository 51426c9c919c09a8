"""Examines the gateway: who can reach it, how, whether anybody may log in, what they would see."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from dicom_services.checks import Check, check
from dicom_services.configuration import built_viewer, certificate_days, require_private
from dicom_services.data_folder import DataFolder, State
from dicom_services.errors import RadloopError
from dicom_services.ports import listeners
from dicom_services.remedies import remedy
from dicom_services.settings import GatewaySettings, Settings
from dicom_services.stack import gateway_address, gateway_version
from dicom_services.supervision import stack_processes

_RENEW_DAYS = 30


def gateway_checks(folder: DataFolder, settings: Settings) -> list[Check]:
    """What can be said whether or not the stack runs."""
    own = settings.gateway
    viewer = Path(own.viewer) if own.viewer else built_viewer()
    built = (viewer / "index.html").is_file()
    found = str(viewer) if built else "not built: the gateway shows its login and its API only"
    return [
        _encrypted(own),
        *_certificate(own),
        check(
            built, "viewer", found, "make viewer, or name a built one: [gateway] viewer", bad="WARN"
        ),
        _administrator(folder, settings),
    ]


def running_gateway_checks(folder: DataFolder, settings: Settings, state: State) -> list[Check]:
    """Whether it answers, by the address that people type."""
    address = gateway_address(settings, state)
    held = listeners(state.gateway_port)
    ours = bool(held) and held <= set(stack_processes(folder))
    found = "ours" if ours else "another program's" if held else "nobody listens"
    advice = f"read {folder.logs / 'gateway.log'}; radloop down && radloop up"
    port = check(ours, "gateway port", f"{state.gateway_port} is {found}", advice)
    version = gateway_version(settings, state)
    return [port, check(version, "gateway answers", f"{address} {version}".strip(), advice)]


def _encrypted(own: GatewaySettings) -> Check:
    name = "gateway's reach"
    try:
        require_private(own)
    except RadloopError as error:
        return Check("FAIL", name, str(error), remedy(error.code))
    if ip_address(own.host).is_loopback:
        return Check("OK", name, f"{own.host}, this machine only")
    if own.tls_certificate:
        return Check("OK", name, f"{own.host} by https")
    advice = "let a firewall admit nobody but that server, or give [gateway] tls_certificate"
    return Check("WARN", name, f"{own.host} in the clear, for a server in front of it", advice)


def _certificate(own: GatewaySettings) -> list[Check]:
    if not own.tls_certificate:
        return []
    name, advice = "certificate", remedy("gateway_certificate_expired")
    try:
        days = certificate_days(Path(own.tls_certificate))
    except RadloopError as error:
        return [Check("FAIL", name, str(error), remedy(error.code))]
    if days < 0:
        return [Check("FAIL", name, "has expired", advice)]
    return [check(days >= _RENEW_DAYS, name, f"good for {days} days", advice, bad="WARN")]


def _administrator(folder: DataFolder, settings: Settings) -> Check:
    """Whether somebody may log in, and whether one of them may do everything."""
    name, advice = "accounts", "radloop users add NAME --role admin --code"
    if not settings.database.url and not folder.database.exists():
        return Check("WARN", name, "none: nobody may log in", advice)
    from dicom_services.store.records import open_records

    try:
        records = open_records(folder.places(settings.database.url))
        try:
            users = [one for one in records.accounts.users() if not one.disabled]
        finally:
            records.close()
    except RadloopError as error:
        return Check("FAIL", name, str(error), remedy(error.code))
    admins = sum(one.role == "admin" for one in users)
    found = f"{len(users)}, of these {admins} administrators" if users else "none may log in"
    return check(admins, name, found, advice, bad="WARN")
