"""Silence for pydicom's warnings and log: they quote values and file names."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PYDICOM: Final = logging.getLogger("pydicom")


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning out of the block; what matters in them is checked by us."""
    level = _PYDICOM.level
    _PYDICOM.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _PYDICOM.setLevel(level)
