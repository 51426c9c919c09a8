"""Who is asking, and the two questions everything asks about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from dicom_services.access.roles import ALLOWED, Action, Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A user who has proved who they are.

    `session` is the value of the cookie and `csrf` what belongs to it; both are "" where a bearer
    token was shown. Neither appears in `repr`, so that no log ever holds one.
    """

    user: UUID
    name: str
    role: Role
    all_patients: bool
    patients: frozenset[str]
    session: str = field(default="", repr=False)
    csrf: str = field(default="", repr=False)
    display_name: str = ""
    expires_at: datetime | None = None
    """When this session ends if nothing more is asked; None for bearer tokens."""


def may(principal: Principal, action: Action) -> bool:
    """Whether the role allows it at all."""
    return principal.role in ALLOWED.get(action, frozenset())


def may_see(principal: Principal, patient_key: str) -> bool:
    """Whether this patient is theirs; admins see all."""
    if principal.role == "admin" or principal.all_patients:
        return True
    return patient_key in principal.patients
