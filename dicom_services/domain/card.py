"""What a result says of the algorithm that made it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Name, version, digest and origin of an algorithm or model.

    Parameters
    ----------
    name, version : str
        The version changes with every change of rule or weights.
    sha256 : str
        Digest of the weights; for a rule, of its name and version.
    family : str
        "rule" or "model".
    intended_use, trained_on : str
        Plain sentences, shown to the reader.
    metrics : dict of str to float
    """

    name: str
    version: str
    sha256: str
    family: str
    intended_use: str
    trained_on: str
    metrics: dict[str, float] = field(default_factory=dict)
