"""The pipelines of this machine, by name; a new one is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ai_nodes.pipeline import Pipeline
from ai_nodes.pipelines import calcium, perfusion

PIPELINES: Final[Mapping[str, Pipeline]] = {
    pipeline.name: pipeline for pipeline in (calcium.PIPELINE, perfusion.PIPELINE)
}
