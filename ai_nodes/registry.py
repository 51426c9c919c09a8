"""The pipelines of this machine, by name; a new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from ai_nodes.pipeline import Pipeline

_FILES: Final = (
    "calcium",
    "perfusion",
)
"""Of ai_nodes/pipelines; each holds a `PIPELINE` of the same name."""


def _pipeline(name: str) -> Pipeline:
    found = import_module(f"ai_nodes.pipelines.{name}").PIPELINE
    if not isinstance(found, Pipeline) or found.name != name:
        raise TypeError(f"ai_nodes/pipelines/{name}.py holds no pipeline of that name")
    return found


PIPELINES: Final[Mapping[str, Pipeline]] = {name: _pipeline(name) for name in _FILES}
