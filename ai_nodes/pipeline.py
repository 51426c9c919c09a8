"""What a pipeline is: a named function from a study to findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_services.domain.card import ModelCard
from dicom_services.domain.findings import Code, Finding
from dicom_services.domain.volume import Study

Settings = dict[str, float | int | str | bool]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline opens no file, socket or clock and does not know DICOM.

    Parameters
    ----------
    name, version : str
        The version changes whenever the same input may give another result.
    title : str
        What a reader sees as the name of the result, at most 40 characters.
    procedure : Code
        The imaging procedure its report speaks of.
    card : ModelCard
        What its results say about the algorithm.
    run : callable
        Study, the rule's settings and a region given by hand, (k, j, i) bool or None, to findings;
        raises `InputError` for what does not fit.
    headline : callable
        Findings to one line of numbers and categories, as lists and Orthanc Explorer show it.
    warm : callable
        Loads whatever the first job should not have to wait for.
    dynamic : bool
        Whether its volumes are (t, k, j, i); a series of several times is refused otherwise.
    models : tuple of str
        Names in config/models.toml of what it loads.
    after_results : bool
        Whether it reads what the jobs before it brought, `Study.earlier`.
    """

    name: str
    version: str
    title: str
    procedure: Code
    card: ModelCard
    run: Callable[[Study, Settings, NDArray[np.bool_] | None], tuple[Finding, ...]]
    headline: Callable[[Sequence[Finding]], str]
    warm: Callable[[], None]
    dynamic: bool = False
    models: tuple[str, ...] = ()
    after_results: bool = False
