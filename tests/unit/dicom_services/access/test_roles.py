"""Roles: what each may do, and that what is not listed nobody may."""

from __future__ import annotations

import uuid

import pytest

from dicom_services.access.principal import Principal, may, may_see
from dicom_services.access.roles import ACTIONS, ALLOWED, ROLES, checked_role
from dicom_services.errors import InputError

TABLE = {
    "view": "admin radiologist doctor clinician",
    "report": "admin radiologist doctor clinician",
    "session": "admin radiologist doctor clinician",
    "correct": "radiologist",
    "rerun": "admin radiologist",
    "store": "admin radiologist",
    "explorer": "admin",
    "admin": "admin",
}


def somebody(role, *, all_patients=False, patients=frozenset()):
    return Principal(uuid.uuid4(), "ann", role, all_patients, patients, "cookie", "csrf")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_role_may_do_what_the_table_says(role, action):
    assert may(somebody(role), action) == (role in TABLE[action].split())


def test_every_action_has_a_rule():
    assert set(ALLOWED) == set(ACTIONS)


def test_nobody_may_do_what_has_no_rule():
    assert not any(may(somebody(role), "purge") for role in ROLES)


def test_a_role_that_is_not_one_is_refused():
    with pytest.raises(InputError, match="role_unknown"):
        checked_role("owner")


@pytest.mark.parametrize(
    ("role", "all_patients", "patients", "sees"),
    [
        ("admin", False, frozenset(), True),
        ("radiologist", True, frozenset(), True),
        ("radiologist", False, frozenset(), False),
        ("doctor", False, frozenset({"a" * 32}), True),
        ("doctor", False, frozenset({"b" * 32}), False),
        ("clinician", False, frozenset(), False),
    ],
)
def test_a_patient_is_seen_by_whom_it_is_assigned_to(role, all_patients, patients, sees):
    assert may_see(somebody(role, all_patients=all_patients, patients=patients), "a" * 32) == sees


def test_a_principal_does_not_show_its_cookie():
    assert "cookie" not in repr(somebody("doctor"))
    assert "csrf" not in repr(somebody("doctor"))
