"""A fresh SQLite store for each test."""

from __future__ import annotations

import pytest

from dicom_services.store.database import migrate, open_database
from tests.records import Store


@pytest.fixture
def store(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'radloop.db'}")
    migrate(engine)
    yield Store(engine, tmp_path)
    engine.dispose()
