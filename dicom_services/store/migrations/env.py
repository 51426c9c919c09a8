"""Runs migrations on the connection that database.py hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # SQLite can undo changes of tables as well, though Alembic does not expect it.
    transactional_ddl=True,
)
context.run_migrations()
