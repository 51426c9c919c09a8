"""The same real stack as the integration tests use."""

from __future__ import annotations

from tests.integration.conftest import stack as stack
