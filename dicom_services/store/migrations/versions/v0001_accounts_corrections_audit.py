"""Accounts, corrections and the audit; what was said or done is added and never changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dicom_services.store.tables import UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = ("corrections", "audit")
# INSERT OR REPLACE is a deletion that fires no trigger unless a connection asks for it.
_NO_REPLACING = (
    "CREATE TRIGGER corrections_no_insert BEFORE INSERT ON corrections BEGIN "
    "SELECT RAISE(ABORT, 'append-only') FROM corrections WHERE id = NEW.id; END",
    "CREATE TRIGGER audit_no_insert BEFORE INSERT ON audit BEGIN "
    "SELECT RAISE(ABORT, 'append-only') FROM audit WHERE seq = NEW.seq; END",
)


def upgrade() -> None:
    """Make the tables and what keeps two of them append-only."""
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("display_name", sa.String(100), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("all_patients", sa.Boolean(), nullable=False),
        sa.Column("password", sa.String(200), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        _user(),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
    )
    op.create_index("sessions_of_user", "sessions", ["user_id"])
    op.create_table(
        "login_codes",
        sa.Column("id", sa.String(64), primary_key=True),
        _user(),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=False),
        sa.Column("used_at", UtcTime(), nullable=True),
    )
    op.create_index("login_codes_of_user", "login_codes", ["user_id"])
    op.create_table(
        "login_tries",
        sa.Column("name_key", sa.String(64), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
    )
    op.create_table(
        "assignments",
        _user(key=True),
        sa.Column("patient_key", sa.String(32), primary_key=True),
        sa.Column("created_at", UtcTime(), nullable=False),
    )
    op.create_table(
        "corrections",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("study_key", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        _user("author_id"),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("made_at", UtcTime(), nullable=False),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("study_key", "seq", name="corrections_in_study"),
    )
    op.create_table(
        "correction_deliveries",
        sa.Column(
            "correction_id",
            sa.Uuid(),
            sa.ForeignKey("corrections.id", ondelete="RESTRICT"),
            primary_key=True,
        ),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("stored_at", UtcTime(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor_id", sa.String(36), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("study_key", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("facts", sa.String(), nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("mac", sa.String(64), nullable=False),
    )
    op.create_index("audit_of_user", "audit", ["actor"])
    op.create_index("audit_of_study", "audit", ["study_key"])
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_in_postgresql()
    else:
        _refuse_changes_in_sqlite()


def downgrade() -> None:
    """Take everything away."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    if not postgresql:
        # SQLite deletes the rows of a table that it drops, which the triggers would refuse.
        for table in _APPEND_ONLY:
            for change in ("update", "delete", "insert"):
                op.execute(f"DROP TRIGGER {table}_no_{change}")
    for table in (
        *("audit", "correction_deliveries", "corrections", "assignments"),
        *("login_tries", "login_codes", "sessions", "users"),
    ):
        op.drop_table(table)
    if postgresql:
        op.execute("DROP FUNCTION radloop_append_only()")


def _refuse_changes_in_sqlite() -> None:
    for table in _APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'append-only'); END"
            )
    for line in _NO_REPLACING:
        op.execute(line)


def _refuse_changes_in_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION radloop_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'append-only' USING ERRCODE = 'integrity_constraint_violation'; "
        "END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION radloop_append_only()"
        )


def _user(name: str = "user_id", *, key: bool = False) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.Uuid(),
        sa.ForeignKey("users.id", ondelete="RESTRICT"),
        primary_key=key,
        nullable=False,
    )
