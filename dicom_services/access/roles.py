"""The four roles and what each may do; who may see which patient is principal.py's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from dicom_services.errors import InputError

Role = Literal["admin", "radiologist", "doctor", "clinician"]
Action = Literal["view", "report", "correct", "rerun", "store", "explorer", "session", "admin"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
_ALL: Final[frozenset[Role]] = frozenset(ROLES)

# What is absent here nobody may do.
ALLOWED: Final[Mapping[Action, frozenset[Role]]] = MappingProxyType(
    {
        "view": _ALL,
        "report": _ALL,
        "session": _ALL,
        "correct": frozenset[Role]({"radiologist"}),
        "rerun": frozenset[Role]({"radiologist", "admin"}),
        "store": frozenset[Role]({"radiologist", "admin"}),
        "explorer": frozenset[Role]({"admin"}),
        "admin": frozenset[Role]({"admin"}),
    }
)


def checked_role(text: str) -> Role:
    """The role of that name.

    Raises
    ------
    InputError
        `role_unknown`.
    """
    for role in ROLES:
        if role == text:
            return role
    raise InputError("role_unknown")
