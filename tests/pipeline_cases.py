"""For each pipeline a small study whose answer is known; `test_registry.py` asks for every one.

A case is made on the spot from the phantoms, in a second or two: it shows that the pipeline runs
and says what it should, not how well. That is what its own test is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ai_nodes.pipeline import Settings
from dicom_services.domain.findings import Finding, Measurement
from dicom_services.domain.volume import Study
from dicom_services.perfusion_phantom import PerfusionScan, perfusion_phantom
from tests.phantoms import Box, volume


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What a pipeline is given, and what must be true of what it says."""

    study: Study
    holds: Callable[[tuple[Finding, ...]], bool]
    settings: Settings = field(default_factory=dict)
    region: NDArray[np.bool_] | None = None


def measured(findings: tuple[Finding, ...], value: str, method: str = "") -> list[float]:
    """Values of the measurements of one concept and method, by their codes."""
    return [
        one.value
        for one in findings
        if isinstance(one, Measurement)
        and one.what.value == value
        and (not method or (one.method is not None and one.method.value == method))
    ]


def calcium() -> Case:
    """4 x 4 pixels of 0.25 mm2 at 250 HU: 4 mm2 times weight 2 is 8 (Agatston 1990)."""
    ct = volume([Box(at=(1, 10, 10), size=(1, 4, 4), hu=250.0)])
    return Case(
        Study("1.2", (ct,)),
        lambda findings: 8.0 in measured(findings, "112058", "112055"),
        {"region": "everything"},
    )


def perfusion() -> Case:
    """A head with a stroke: what has Tmax above 6 s is what was planted, to 3 %."""
    scan = PerfusionScan("DSC", shape=(3, 48, 48), pixel_mm=4.4)
    phantom = perfusion_phantom(scan)
    planted_ml = phantom.volume_ml(np.nan_to_num(phantom.delay) > 6.0)

    def holds(findings: tuple[Finding, ...]) -> bool:
        hypoperfused_ml = measured(findings, "118565006")[0]
        return planted_ml > 20.0 and abs(hypoperfused_ml / planted_ml - 1.0) < 0.03

    return Case(Study("1.2", (phantom.volume,)), holds)


CASES: Final[Mapping[str, Callable[[], Case]]] = {
    "calcium": calcium,
    "perfusion": perfusion,
}
