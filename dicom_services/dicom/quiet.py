"""Silence for pydicom's warnings: they quote values and file names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning out of the block; what matters in them is checked by us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
